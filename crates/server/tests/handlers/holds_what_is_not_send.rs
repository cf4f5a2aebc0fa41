//! An async handler that keeps over a wait what cannot go to another thread.

use std::rc::Rc;

use throng::{Connection, Router};

async fn roll(conn: Connection) {
    let sides = Rc::new(6);
    std::future::ready(()).await;
    _ = conn.emit("rolled", &*sides);
}

fn main() {
    Router::new().on("roll", roll);
}
