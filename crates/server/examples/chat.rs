//! A chat with rooms: golem's "Building a chat application".
//!
//! ```text
//! cargo run --example chat
//! ```

use serde::Deserialize;
use throng::{Config, Connection, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

#[derive(Deserialize)]
struct RoomRequest {
    name: String,
}

#[derive(Deserialize)]
struct RoomMessage {
    to: String,
    msg: String,
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("chat"))?;
    let mut router = Router::new();

    let rooms = server.rooms();
    router.on("join", move |conn: &Connection, room: RoomRequest| {
        rooms.join(conn, &room.name)
    });

    let rooms = server.rooms();
    router.on("leave", move |conn: &Connection, room: RoomRequest| {
        rooms.leave(conn, &room.name)
    });

    let rooms = server.rooms();
    router.on("msg", move |_: &Connection, message: RoomMessage| {
        rooms.emit(&message.to, "msg", &message.msg)
    });

    demo::serve(server, router)
}
