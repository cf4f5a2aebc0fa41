//! Events with data and without: golem's "Getting started".
//!
//! ```text
//! cargo run --example simple
//! ```

use serde::{Deserialize, Serialize};
use throng::{Config, Connection, EmitError, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

/// The data of `hello`. What else a client sends with it is ignored; without these two it is told
/// so.
#[derive(Deserialize)]
struct Hello {
    to: String,
    from: String,
}

/// The data of `answer`.
#[derive(Serialize)]
struct Answer {
    msg: &'static str,
}

/// Takes what its signature says: the data, read as a `Hello`.
fn hello(conn: &Connection, hello: Hello) -> Result<(), EmitError> {
    tracing::info!("hello from {} to {}", hello.from, hello.to);
    let msg = "Thanks, client!";
    conn.emit("answer", &Answer { msg })
}

/// Takes no data; whatever comes with `poke` is not even looked at.
fn poke(conn: &Connection) -> Result<(), EmitError> {
    tracing::info!("poked");
    let msg = "Ouch I am sensible!";
    conn.emit("answer", &Answer { msg })
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("simple"))?;
    let mut router = Router::new();
    router.on("hello", hello);
    router.on("poke", poke);
    demo::serve(server, router)
}
