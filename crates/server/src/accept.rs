//! Who comes in: sockets that are accepted, and HTTP until a connection is a WebSocket.

pub(crate) mod acceptor;
pub(crate) mod admission;
pub(crate) mod answer;
pub(crate) mod authority;
pub(crate) mod crowd;
pub(crate) mod descriptors;
pub(crate) mod fallback;
pub(crate) mod hosts;
pub(crate) mod http;
pub(crate) mod line;
pub(crate) mod listen;
pub(crate) mod mount;
pub(crate) mod opening;
pub(crate) mod origin;
mod rules;
pub(crate) mod stream;
pub(crate) mod visit;
