//! What the benches measure: a chat's messages, and cores without sockets.
//!
//! Owns nothing of Throng: each helper only puts `proto` and `rooms` together as the server does,
//! so that what is counted and timed is their code. The benches themselves are beside this crate's
//! `src`: `micro` (times), `instructions` (instruction counts), `src/bin/growth` (how cost grows).

pub mod chat;
pub mod cores;

pub use chat::Relay;
pub use cores::Core;
