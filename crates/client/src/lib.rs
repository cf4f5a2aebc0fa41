//! A client of Throng: rooms over one WebSocket that comes back.
//!
//! Publications come in order, each once, also over lost connections, and what is missing is said.
//! The client speaks throng.v1, as docs/protocol.md has it, and shares no code with the server.
//!
//! ```text
//! application ── Connection, Room, streams ──┐
//!                                            ├── session: rooms, publications, questions
//! socket ─────── driver, one task ───────────┘
//! ```
//!
//! [`Connection::open`] starts a task that connects, and connects again. Handles may be cloned and
//! sent to other tasks.
//!
//! # What is guaranteed
//!
//! - **Every publication is delivered once, in the order of the room, or its absence is told.**
//!   Every new connection joins the rooms again from the last offset that came. A [`Gap`] says what
//!   is missing, before the publication behind it.
//! - **A publication whose [`Publishing`] has resolved with an [`Ack`] was taken by the server
//!   once**, however often it was sent: it is sent again with the same key until it is
//!   acknowledged.
//! - **A publication that has failed says what is known.** [`PublishError::Unknown`]: it may have
//!   been delivered or not. Any other error: it was not.
//! - **A room gets an application's publications in the order of the calls**, with
//!   [`Options::publishes_in_flight_max`] of 1.
//! - **Everything that is awaited settles**, also when the connection is closed, when its last
//!   handle goes, and when the runtime ends.
//!
//! Different rooms have no common order. Ephemeral events ([`Room::emit`]) have no order towards
//! publications, and are delivered once or not at all.
//!
//! # What is bounded
//!
//! | what | bound | at the bound |
//! |---|---|---|
//! | unacknowledged publications | [`Options::publishes_max`] | [`PublishError::FullCount`] |
//! | their data as JSON | [`Options::publish_bytes_max`] | [`PublishError::FullBytes`] |
//! | one message | the server's limit | [`Refused`], code `too_large` |
//! | events that a stream holds | its `buffer_max` | it ends with [`StreamError::Lagged`] |
//! | questions for history | 128 | [`HistoryError::Full`] |
//! | bytes that wait for the socket, for emitting | 1 MiB | [`EmitError::Busy`] |
//! | an attempt to connect | [`Options::connect_timeout`] | given up, then the next |
//! | silence | [`Options::keepalive`], then [`Options::pong_timeout`] | given up, then the next |
//!
//! Reading never waits for the application: a slow reader lags, and the connection goes on.
//!
//! # Coming back
//!
//! A lost connection is opened again after a random part of 0.5 s; the ceiling doubles with every
//! failure up to 30 s ([`Pauses`]). A pause that the server asks for, in the reason of a close code
//! from 4100 to 4199, in a `drain` or in a `Retry-After`, is added, up to 5 minutes of it. The
//! client does not come back by itself after 1000, 1002, 1003, 1007, 1008, 1010 and 4000 to 4099,
//! nor from a server that does not speak throng.v1 or answers with a 4xx status. What waits has
//! failed then, and the rooms stay wanted: [`Connection::reconnect`] joins them again.

mod backoff;
mod connection;
mod driver;
mod exchange;
mod feed;
mod histories;
mod membership;
mod notice;
mod options;
mod outbox;
mod outcome;
mod position;
mod publication;
mod refused;
mod room;
mod session;
mod shared;
mod status;
mod streams;
mod wire;

pub use backoff::{Backoff, Pauses};
pub use connection::{Connection, OpenError, PingError};
pub use feed::StreamError;
pub use histories::{History, HistoryError};
pub use membership::{JoinError, Start};
pub use notice::{Notice, Violation};
pub use options::{Connector, Direction, Options, Tap, Transport};
pub use outcome::{Ack, PublishError, Unpublished};
pub use position::Position;
pub use publication::{Emission, Gap, GapReason, Joined, Json, Publication, RoomEvent};
pub use refused::{Closed, Refused};
pub use room::{EmitError, Publishing, Room};
pub use status::{End, State, Status};
pub use streams::{NoticeStream, Publications, RoomEvents};
pub use wire::{Hello, Limits};
