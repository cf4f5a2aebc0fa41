//! Rooms and their members: state without I/O and without a clock.
//!
//! ```text
//! publish(name) ──▶ RoomTable ──one Deliver a core──▶ Mailbox ──▶ LocalRooms ──▶ Outbox ──▶ socket
//!                   (table.rs)                      (mailbox.rs)  (local.rs)   (outbox.rs)
//! ```
//!
//! Each level sends one copy down, and only where somebody listens. The table knows which *cores*
//! have members of a room; a core knows which of its *connections* they are.
//!
//! Everything that orders a room happens under the lock of the room's shard: a publication is
//! pushed to the mailboxes of the cores, and so is the [`Command::Attach`] that makes a connection
//! a member. So a mailbox is a log: what was published before the `Attach` is before it, what was
//! published after comes after, on every core in the same order.
//!
//! Lock order: shard, then mailbox. Nothing else is locked while a shard is, and nobody is woken
//! before both are released.

mod allocation;
mod backpressure;
mod batch;
mod class;
mod delivery;
mod disconnect;
mod error;
mod gap;
mod handle;
mod history;
mod id;
mod journal;
mod key;
mod local;
#[cfg(all(test, loom))]
mod loom_tests;
mod mailbox;
mod members;
mod outbox;
mod position;
mod publication;
mod queue;
mod recovery;
mod room;
mod shard;
mod slots;
mod sync;
mod table;
mod time;

pub use allocation::allocated_bytes;
pub use backpressure::{Backpressure, Full};
pub use class::{Classes, HistoryLimits, RoomClass, SlowConsumer, SlowConsumerError};
pub use delivery::{Delivery, EventKind};
pub use disconnect::Disconnect;
pub use error::{EmitError, JoinError, Lacks, NameError, Overloaded, PublishError};
pub use handle::RoomHandle;
pub use id::{
    Audience, ConnectionId, CoreId, RoomId, SHARD_COUNT_MAX, SLOT_COUNT_MAX, Slot, WIRE_COUNT_MAX,
    Wire, WireSet,
};
pub use journal::{Change, Entry, Journal, RoomImage, WriteOrder};
pub use key::{RoomKey, Space};
pub use local::LocalRooms;
pub use local::effect::Effect;
pub use local::flush::FlushQueue;
pub use local::outboxes::{LocalCounts, LocalLimits};
pub use local::overflow::Overflow;
pub use mailbox::{Command, Joined, Mailbox};
pub use outbox::{Outbox, PushError, Span, Tag};
pub use position::{Ancestor, Epoch, EpochError, StreamPosition};
pub use publication::{Acknowledge, KEY_LEN_MAX, Outgoing, Publication, Published};
pub use queue::{Pushed, Queue, Weigh};
pub use recovery::{Recovery, Since};
pub use slots::Slots;
pub use table::past::{Past, PastLimits};
pub use table::totals::Totals;
pub use table::{JoinRequest, RoomTable, TableConfig};
pub use time::Moment;
