//! One server, two protocols: MessagePack with clients that ask for the subprotocol `msgpack`, JSON
//! with all others, in the same room.
//!
//! ```text
//! cargo run --example messagepack --features messagepack
//! ```

use serde::{Deserialize, Serialize};
use throng::{Config, Connection, EmitError, MessagePack, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

#[derive(Deserialize, Serialize)]
struct Reading {
    sensor: String,
    values: Vec<f64>,
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("messagepack"))?;
    let mut router = Router::new();
    router.serve_protocol("msgpack", MessagePack);

    let rooms = server.rooms();
    router.on("watch", move |conn: &Connection| {
        rooms.join(conn, "readings")
    });

    let rooms = server.rooms();
    router.on("reading", move |_: &Connection, reading: Reading| {
        // Written once for each of the two protocols, however many watch.
        rooms.emit("readings", "reading", &reading)
    });

    router.on(
        "average",
        |conn: &Connection, reading: Reading| -> Result<(), EmitError> {
            let count = reading.values.len().max(1) as f64;
            let average = reading.values.iter().sum::<f64>() / count;
            conn.emit("average", &average)
        },
    );
    demo::serve(server, router)
}
