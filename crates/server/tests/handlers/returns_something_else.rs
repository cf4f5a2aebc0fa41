//! A handler whose result is no answer.

use throng::{Connection, Router};

fn main() {
    Router::new().on("roll", |_: &Connection| 6);
}
