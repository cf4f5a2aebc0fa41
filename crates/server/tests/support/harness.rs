//! A server in this process, and peers to talk to it with.
//!
//! Tests read as transcripts: what a peer does is a blocking call, and so is waiting for what it
//! gets. Whoever waits does so for [`TIMEOUT`] at most, then the test fails.
//!
//! - [`TestServer`] is a server on a port of its own, with the chat of the crate's first page.
//! - [`Client`] speaks WebSocket by tokio-tungstenite, which nobody here wrote.
//! - [`Throng`] is a client that speaks throng.v1.
//! - [`Raw`] is a bare TCP connection, for what no decent peer sends.

#![allow(
    dead_code,
    unused_imports,
    reason = "each file of tests uses its own part of this"
)]

mod chat;
mod client;
mod gate;
mod http;
mod kernel;
mod raw;
mod seed;
mod server;
mod throng_client;
mod time;

pub(crate) use chat::add_signals_to;
pub(crate) use chat::add_to as add_chat_to;
pub(crate) use client::Client;
pub(crate) use gate::Gate;
pub(crate) use http::{Reply, exchange, get};
pub(crate) use kernel::queued;
pub(crate) use raw::{Raw, close, opcode, text};
pub(crate) use seed::seed;
pub(crate) use server::{MODES, TestServer, config, for_each_flush_mode};
pub(crate) use throng_client::{Throng, split};
pub(crate) use time::{TIMEOUT, now, until};
