//! A state for each connection, and methods on it: golem's "Using an extended connection type".
//!
//! ```text
//! cargo run --example extended_connection
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use throng::{Config, Connection, EmitError, Request, Router};

#[macro_use]
#[path = "support/demo.rs"]
mod demo;

/// State of a connection for as long as it lives. Handlers share it, so what changes is atomic.
struct Visitor {
    counter: AtomicU32,
}

impl Visitor {
    /// Makes the state from the request that opened the connection, which this one has no use for.
    fn new(_: &Request) -> Self {
        let counter = AtomicU32::new(1);
        Self { counter }
    }

    /// Counts one more event; returns how many there are.
    fn count(&self) -> u32 {
        1 + self.counter.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Deserialize)]
struct Hello {
    to: String,
    from: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    msg: &'a str,
}

/// Methods that a connection of this program has besides.
trait Answering {
    fn answer(&self, msg: &str) -> Result<(), EmitError>;
}

impl Answering for Connection<Visitor> {
    fn answer(&self, msg: &str) -> Result<(), EmitError> {
        self.emit("answer", &Answer { msg })
    }
}

fn hello(conn: &Connection<Visitor>, hello: Hello) -> Result<(), EmitError> {
    let counter = conn.state().count();
    tracing::info!(
        "hello from {} to {}, counter {counter}",
        hello.from,
        hello.to
    );
    conn.answer("Thanks, client!")
}

fn poke(conn: &Connection<Visitor>) -> Result<(), EmitError> {
    let counter = conn.state().count();
    tracing::info!("poked, counter {counter}");
    conn.answer("Ouch I am sensible!")
}

fn main() -> demo::Result {
    let server = demo::bind(Config::default(), page!("simple"))?;
    let mut router = Router::with_state(Visitor::new);
    router.on("hello", hello);
    router.on("poke", poke);
    demo::serve(server, router)
}
