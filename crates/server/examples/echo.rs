//! Echoes every message on every path: what a conformance suite is run against.
//!
//! ```text
//! cargo run --release --example echo -- 127.0.0.1:9001
//! ```
//!
//! It shows the level below events, [`throng::Router::on_message`], and raises the limits to what
//! the Autobahn testsuite sends: messages of 16 MiB, 65,536 fragments.

use throng::{Config, Connection, FlushMode, Limits, Origins, RawMessage, Router, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let flush = std::env::var("THRONG_FLUSH").map_or(Ok(FlushMode::Auto), |mode| mode.parse())?;
    let server = Server::bind(Config {
        listen: vec![address.parse()?],
        path: None,
        // Suites come from anywhere.
        origins: Origins::any(),
        flush,
        limits: Limits {
            message_bytes_max: 16 << 20,
            fragments_max: 1 << 17,
            outbox_bytes_max: 64 << 20,
            mailbox_bytes_max: 64 << 20,
            ..Limits::default()
        },
        ..Config::default()
    })?;
    let mut router = Router::new();
    router.on_message(|conn: &Connection, message| match message {
        // Never refused: this is the thread of the connection's core.
        RawMessage::Binary(payload) => _ = conn.send_binary(payload),
        RawMessage::Text(text) => _ = conn.send_text(text),
    });
    for address in server.addresses() {
        #[expect(clippy::print_stderr, reason = "an example has no logger")]
        {
            eprintln!("listening on {address}");
        }
    }
    Ok(server.serve(router)?)
}
