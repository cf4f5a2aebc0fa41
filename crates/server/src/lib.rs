//! Throng: one message in, the same bytes out to every member of a room.
//!
//! A chat, as golem's tutorial has it; `cargo run --example chat` is the same with a page:
//!
//! ```
//! use serde::Deserialize;
//! use throng::{Config, Connection, Router, Server};
//!
//! #[derive(Deserialize)]
//! struct RoomRequest {
//!     name: String,
//! }
//!
//! #[derive(Deserialize)]
//! struct RoomMessage {
//!     to: String,
//!     msg: String,
//! }
//!
//! let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
//! let server = Server::bind(config)?;
//! let mut router = Router::new();
//!
//! let rooms = server.rooms();
//! router.on("join", move |conn: &Connection, room: RoomRequest| {
//!     rooms.join(conn, &room.name)
//! });
//!
//! let rooms = server.rooms();
//! router.on("leave", move |conn: &Connection, room: RoomRequest| {
//!     rooms.leave(conn, &room.name)
//! });
//!
//! let rooms = server.rooms();
//! router.on("msg", move |_: &Connection, message: RoomMessage| {
//!     rooms.emit(&message.to, "msg", &message.msg)
//! });
//!
//! # server.stop().drain();
//! server.serve(router)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Clients speak text messages `event json`: `join {"name":"lobby"}`, `msg
//! {"to":"lobby","msg":"hi"}`.
//!
//! # How it works
//!
//! Each core has a thread that owns its connections: it reads, calls the handlers, and writes, and
//! shares nothing with the other cores but a table of rooms and mailboxes. So a handler runs on its
//! connection's core, and must not block: it would hold up every connection there. What it sends
//! goes out in the same turn. One that must wait is async, and holds up its own connection alone.
//!
//! # What there is, in the order of a program
//!
//! - [`Config`]: where to listen, limits and timeouts ([`Limits`], [`Timeouts`]), which pages may
//!   connect ([`Origins`]), what rooms keep and what becomes of slow members ([`Classes`],
//!   [`History`]).
//! - [`Server`]: binds, serves and [stops](Stop); gives the handles to rooms and to its
//!   [configuration](Handle).
//! - [`Router`], [`Action`]: which function handles which event, and what hooks are asked before
//!   anything is done: its table has the [signatures](Handler), with [`Data`] and [`FromData`] for
//!   what serde does not say; what comes before handlers, and the hooks for connections.
//! - [`Request`], [`Rejection`]: what a connection is made of, and how it is refused.
//! - [`Connection`]: a handle to one connection, with the application's own state.
//! - [`RoomManager`], [`Room`], [`Hub`]: rooms by name, a room without one, everybody.
//! - [`Refusal`], [`Code`]: what a handler answers otherwise.
//! - [`Protocol`]: other ways to write an event than `event json`, also several at a time.
//! - [`Page`], [`Server::fallback`], [`Server::mount`]: other HTTP on the same port, or the
//!   WebSocket in another server of hyper's or axum's.
//!
//! # Events and publications
//!
//! [`RoomManager::emit`] sends an event to whoever is in a room now. [`RoomManager::publish`] also
//! gives it a place in the room's history, if rooms of its [class](RoomClass) have one: clients of
//! the subprotocol throng.v1 ([`Router::serve_throng_v1`]) that lost their connection get it when
//! they are back. Both are written once for each protocol that members speak, and once only,
//! however many members there are.
//!
//! What one thread sends to a room arrives in its order, at all members alike.
//!
//! # From elsewhere
//!
//! All handles are `Send + Sync`, cheap to clone, and work from any thread and any runtime. Nothing
//! waits. A handler that sends too much is held back by not reading from its connection; whoever
//! else does gets [`Overloaded`], nothing was done, and it may try again.
//!
//! # When something is wrong
//!
//! - a message that is no event, an event without a handler, data that is not what it takes: an
//!   `error` event to its sender, with a code; it is counted.
//! - a handler returns an error: the same, with the code of its [`Refusal`].
//! - a handler or hook panics: its connection is closed with 1011, the log says which event it was;
//!   nobody else notices.
//! - a frame that RFC 6455 forbids, a message over the limit: the connection is closed with 1002,
//!   1007 or 1009.
//! - a member does not take what it is sent: what the [class](SlowConsumer) of the room says: it is
//!   closed with 4102, or told which publications it was not sent.
//! - a host or an origin that is not allowed, a limit of connections, a hook that refuses: an
//!   answer over HTTP: 403, 503, or what the [`Rejection`] says.
//!
//! What is bounded, and what happens at each bound, is in [`Limits`], [`Timeouts`], [`RoomClass`]
//! and [`History`]. What is counted is at `/metrics`.
//!
//! # Features
//!
//! - `uring`, on by default: on Linux, writes to many sockets in one system call ([`FlushMode`]).
//!   Adds the crate `io-uring`.
//! - `disk`: histories that outlive the process, `Disk` in [`History`]. Adds SQLite, which a C
//!   compiler builds.
//! - `messagepack`: the protocol `MessagePack`. Adds the crate `rmp-serde`.
//!
//! Without `uring` frames are written with one system call a member, and a server that demands
//! io_uring is refused by [`Server::bind`]. Without `disk` there is no way to ask for it: the types
//! are missing.

mod accept;
mod affinity;
mod app;
mod clock;
mod code;
mod config;
mod core;
mod engine;
#[cfg(feature = "disk")]
mod journal;
#[cfg(not(feature = "disk"))]
#[path = "no_journal.rs"]
mod journal;
mod kernel;
mod live;
mod log_limit;
mod metrics;
mod panics;
mod running;
mod said;
mod server;
mod wire;

pub use accept::answer::Page;
pub use accept::hosts::{Hosts, HostsError};
pub use accept::listen::ListenError;
pub use accept::mount::Mount;
pub use accept::origin::{Origins, OriginsError};
pub use app::connection::Connection;
pub use app::data::{Data, FromData, RawMessage};
pub use app::error::{EmitError, JoinError, PublishError};
pub use app::handler::{Async, Custom, Handler, Outcome, Output, Reply, Unread};
pub use app::hub::Hub;
pub use app::manager::{PublishOptions, Receipt, RoomManager};
pub use app::refusal::{Refusal, RefusalCode};
pub use app::request::{Rejection, Request, cookie};
pub use app::room::Room;
pub use app::router::Router;
pub use code::Code;
pub use config::{
    Config, ConnectionsMax, ConnectionsMaxError, Drain, FlushMode, FlushModeError, History, Limits,
    ListenAddress, ListenAddressError, Timeouts,
};
#[cfg(feature = "disk")]
pub use config::{Disk, Fsync, FsyncError, OnFailure, OnFailureError};
#[cfg(feature = "disk")]
pub use journal::{RestoreError, restore_histories};
pub use live::Handle;
pub use proto::event::{EncodeError, ParseError};
pub use proto::{CloseCode, Json};
pub use rooms::{
    Classes, ConnectionId, Disconnect, Epoch, HistoryLimits, NameError, Overloaded, RoomClass,
    SlowConsumer, SlowConsumerError, StreamPosition,
};
pub use running::{Running, ServeError, Stop};
pub use server::{BindError, Server};
#[cfg(feature = "messagepack")]
pub use wire::messagepack::MessagePack;
pub use wire::protocol::{Mode, Protocol, ProtocolError};
pub use wire::request::Action;

/// Returns an error with its causes, in one sentence.
fn explain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
