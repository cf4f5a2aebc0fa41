//! A protocol of the application's own: golem's "Custom protocol using BSON".
//!
//! ```text
//! cargo run --example protocol
//! ```

use std::borrow::Cow;

use bson::{RawBsonRef, RawDeserializer, RawDocument};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};
use throng::{Config, Connection, EmitError, Protocol, ProtocolError, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

/// Events as BSON documents `{ e: event, d: data }`, in binary messages. `d` is a document too, and
/// an event without data has none.
struct BsonProtocol;

/// An event to be written.
#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    e: &'a str,
    d: &'a T,
}

/// A document with nothing in it: its length, and its end.
const NOTHING: &[u8] = &[5, 0, 0, 0, 0];

/// Maximum depth to which data may nest. Whoever reads a document calls itself for each level, and
/// a peer could send thousands of them in one message.
const DEPTH_MAX: usize = 32;

impl Protocol for BsonProtocol {
    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
        check(message, DEPTH_MAX)?;
        let document = RawDocument::from_bytes(message)?;
        let data = match document.get("d")? {
            Some(RawBsonRef::Document(data)) => data.as_bytes(),
            Some(RawBsonRef::Null) | None => NOTHING,
            Some(_) => return Err("the data of an event is a document".into()),
        };
        Ok((document.get_str("e")?.into(), data))
    }

    fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
    where
        D: DeserializeSeed<'m>,
    {
        Ok(seed.deserialize(RawDeserializer::new(data)?)?)
    }

    fn encode<T>(&self, event: &str, data: &T, message: &mut Vec<u8>) -> Result<(), ProtocolError>
    where
        T: Serialize + ?Sized,
    {
        let envelope = Envelope { e: event, d: data };
        message.extend(bson::serialize_to_vec(&envelope)?);
        Ok(())
    }
}

/// Looks at every length, type and text of a document, and at how deep it goes.
fn check(document: &[u8], depth_left: usize) -> Result<(), ProtocolError> {
    let depth_left = depth_left.checked_sub(1).ok_or("nests too deep")?;
    for element in RawDocument::from_bytes(document)? {
        let (_, value) = element?;
        match value {
            RawBsonRef::Array(array) => check(array.as_bytes(), depth_left)?,
            RawBsonRef::Document(document) => check(document.as_bytes(), depth_left)?,
            RawBsonRef::JavaScriptCodeWithScope(code) => check(code.scope.as_bytes(), depth_left)?,
            _ => {}
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Hello {
    to: String,
    from: String,
}

#[derive(Serialize)]
struct Answer {
    msg: &'static str,
}

/// Greets as the example `simple` does: handlers do not know which protocol they are called by.
fn hello(conn: &Connection, hello: Hello) -> Result<(), EmitError> {
    tracing::info!("hello from {} to {}", hello.from, hello.to);
    let msg = "Thanks, client!";
    conn.emit("answer", &Answer { msg })
}

fn poke(conn: &Connection) -> Result<(), EmitError> {
    tracing::info!("poked");
    let msg = "Ouch I am sensible!";
    conn.emit("answer", &Answer { msg })
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("protocol"))?;
    let mut router = Router::new();
    router.set_protocol(BsonProtocol);
    router.on("hello", hello);
    router.on("poke", poke);
    demo::serve(server, router)
}
