//! The ways to take an event's data: typed, as it came, read by a type of one's own, not at all.
//!
//! ```text
//! cargo run --example data
//! ```

use serde::{Deserialize, Serialize};
use throng::{Config, Connection, Data, EmitError, FromData, Refusal, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

#[derive(Deserialize, Serialize)]
struct ChatMessage {
    msg: String,
}

/// Reads typed data with serde, and sends it back.
fn json(conn: &Connection, message: ChatMessage) -> Result<(), EmitError> {
    tracing::info!("JSON: {}", message.msg);
    conn.emit("json", &message)
}

/// Sends back the bytes as they came: nothing reads them, and they need not even be JSON.
fn raw(conn: &Connection, data: Data<'_>) -> Result<(), EmitError> {
    tracing::info!("raw: {}", String::from_utf8_lossy(data.as_bytes()));
    conn.emit("raw", "Raw byte array received.")
}

/// A text that takes its bytes as they are, quotes and all.
struct Text(String);

impl FromData for Text {
    fn from_data(data: Data<'_>) -> Result<Self, Refusal> {
        let text = String::from_utf8(data.as_bytes().to_vec());
        text.map(Self)
            .map_err(|error| Refusal::new("bad_data", error.to_string()))
    }
}

/// Takes data that says by its type how it is read.
fn custom(conn: &Connection, Text(text): Text) -> Result<(), EmitError> {
    tracing::info!("custom: {text}");
    conn.emit("custom", "Custom handler use to receive data.")
}

/// Takes no data.
fn nodata(conn: &Connection) -> Result<(), EmitError> {
    tracing::info!("no data");
    let msg = "Hi from nodata!".to_owned();
    conn.emit("json", &ChatMessage { msg })
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("data"))?;
    let mut router = Router::new();
    router.on("json", json);
    router.on("raw", raw);
    router.on("custom", custom);
    router.on("nodata", nodata);
    router.on_close(|_: &Connection, _| tracing::info!("a client has gone"));
    demo::serve(server, router)
}
