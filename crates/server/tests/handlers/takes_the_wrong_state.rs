//! A handler for connections of another router.

use throng::{Connection, Router};

struct Player;

fn main() {
    let mut router = Router::with_state(|_| Player);
    router.on("roll", |_: &Connection| {});
}
