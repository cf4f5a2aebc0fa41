//! An async handler that borrows its connection, which may be gone before it goes on.

use throng::{Connection, Router};

async fn roll(conn: &Connection) {
    _ = conn.emit("rolled", &6);
}

fn main() {
    Router::new().on("roll", roll);
}
