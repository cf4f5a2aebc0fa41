//! Whether anything is lost in silence when the network fails.
//!
//! [`network`] is a network that fails, [`client`] is what a client of `throng.v1` does about it, and
//! [`verdict`] says from what all of them [recorded](record) whether they were given what was promised.
//! [`golem`] is a client that does nothing about it, to compare with. The binary puts them around a real
//! server; docs/faults.md says how to read what it prints.
//!
//! It depends on nothing else of this repository: what it knows of the wire it knows from
//! docs/protocol.md, so that it shares none of the server's mistakes.

pub mod client;
pub mod golem;
pub mod network;
pub mod record;
pub mod verdict;
