//! Whether anything is lost in silence when the network fails.
//!
//! [`network`] is a network that fails, [`client`] records what the client library does about it,
//! and [`verdict`] says from what all of them [recorded](record) whether they were given what was
//! promised. [`golem`] is a client that does nothing about it, to compare with. The binary puts
//! them around a real server; docs/faults.md says how to read what it prints.
//!
//! Of this repository it depends on the client alone: what both know of the wire they know from
//! docs/protocol.md, so that they share none of the server's mistakes.

pub mod client;
pub mod golem;
pub mod network;
pub mod record;
pub mod verdict;
mod wire;
