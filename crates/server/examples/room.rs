//! One room without a name: golem's "Using rooms".
//!
//! ```text
//! cargo run --example room
//! ```

use serde::{Deserialize, Serialize};
use throng::{Config, Connection, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

#[derive(Deserialize, Serialize)]
struct RoomMessage {
    msg: String,
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("room"))?;
    let mut router = Router::new();
    let room = server.room();

    let joined = room.clone();
    router.on("join", move |conn: &Connection| {
        tracing::info!("somebody joined");
        joined.join(conn)
    });

    router.on("msg", move |_: &Connection, message: RoomMessage| {
        tracing::info!("{:?} to all members", message.msg);
        room.emit("msg", &message)
    });

    // Who goes leaves the room: there is no need for a hook on ends.
    demo::serve(server, router)
}
