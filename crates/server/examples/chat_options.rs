//! The chat again; who leaves the last room is disconnected, and rooms that come and go are logged.
//!
//! ```text
//! cargo run --example chat_options
//! ```

use serde::Deserialize;
use throng::{Config, Connection, Disconnect, Request, Router};

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
    rooms.on_created(|name| tracing::info!("room created: {name}"));
    rooms.on_removed(|name| tracing::info!("room removed: {name}"));

    router.on_connect(move |conn: &Connection, _: &Request| {
        tracing::info!("a client has come");
        // Refused on threads that are not the server's alone, and hooks are called on those that
        // are.
        _ = rooms.close_with_last_room(conn, true);
    });

    let rooms = server.rooms();
    router.on("join", move |conn: &Connection, room: RoomRequest| {
        tracing::info!("joining {}", room.name);
        rooms.join(conn, &room.name)
    });

    let rooms = server.rooms();
    router.on("leave", move |conn: &Connection, room: RoomRequest| {
        tracing::info!("leaving {}", room.name);
        rooms.leave(conn, &room.name)
    });

    let rooms = server.rooms();
    router.on("msg", move |_: &Connection, message: RoomMessage| {
        tracing::info!("sending to {}", message.to);
        rooms.emit(&message.to, "msg", &message.msg)
    });

    // It has left its rooms by then.
    router.on_close(|_: &Connection, why: &Disconnect| {
        tracing::info!("a client has gone: {} {}", why.code.0, why.reason);
    });
    demo::serve(server, router)
}
