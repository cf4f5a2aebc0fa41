//! A server in this process, and peers to talk to it with: what the tests of the library and of the
//! program are written with.
//!
//! Tests read as transcripts: what a peer does is a blocking call, and so is waiting for what it
//! gets. Whoever waits does so for [`TIMEOUT`] at most, then the test fails.
//!
//! - [`TestServer`] is a server on a port of its own, with the chat that tests serve (`chat.rs`).
//! - [`Client`] speaks WebSocket by tokio-tungstenite, which nobody here wrote.
//! - [`Throng`] is a client that speaks throng.v1, request by request.
//! - [`Raw`] is a bare TCP connection, for what no decent peer sends.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod chat;
mod client;
mod files;
mod gate;
mod http;
mod kernel;
mod raw;
mod seed;
mod server;
mod throng_v1;
mod time;

pub use chat::add_signals_to;
pub use chat::add_to as add_chat_to;
pub use client::Client;
pub use files::raise_file_limit;
pub use gate::Gate;
pub use http::{Reply, exchange, get};
pub use kernel::{Queued, queued};
pub use raw::{Raw, close, opcode, text};
pub use seed::seed;
pub use server::{MODES, TestServer, config, for_each_flush_mode};
pub use throng_v1::{Throng, split};
pub use time::{TIMEOUT, now, until};
