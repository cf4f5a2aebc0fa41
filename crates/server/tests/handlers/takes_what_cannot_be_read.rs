//! Data of a type that serde knows nothing of.

use throng::{Connection, Router};

struct Dice {
    _sides: u32,
}

fn main() {
    Router::new().on("roll", |_: &Connection, _: Dice| {});
}
