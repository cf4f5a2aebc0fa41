//! The durable side of rooms' histories: what a server holds in memory, mirrored on disk.
//!
//! A server keeps its histories in memory and answers from there. Behind it, one thread writes what
//! changed, in batches, and after a restart the [`Store`] gives everything back: after a clean end, after
//! `kill -9`, after a loss of power. It is never read while the server runs.
//!
//! ```text
//!   open ──▶ rooms, once          commit, commit, commit … ──▶ close
//!                                        │ error
//!                                        ▼
//!                                     reopen, commit again
//! ```
//!
//! What always holds:
//!
//! - A [`commit`](Store::commit) is there as a whole or not at all, and what is there is a prefix of what
//!   was committed: no later batch without the earlier.
//! - A batch that was reported outlives the process, however that ends. One that was committed with
//!   [`Durability::Synced`], or had a [`sync`](Store::sync) after it, outlives a loss of power.
//! - The offsets of a room's publications have no holes.
//! - One process has a directory. Bytes that changed on the disk are found and said, never handed out.
//! - After an error it is known what is there: [`reopen`](Store::reopen) says whether the batch is.
//!
//! It is a log of its own and no database: ARCHITECTURE.md says which were measured, and why so.
//! Everything is appended, in frames with a checksum (`frame.rs`), to numbered files (`log.rs`), of which the
//! oldest is forgotten when what it still holds has been appended again (`collect.rs`). What a frame does is
//! put entries (`codec.rs`) and remove them; an index in memory (`index.rs`) says which are live.
//!
//! # Batches
//!
//! What a room adds in one batch is one entry, and a commit is one `write`, so few large batches cost less than
//! many small ones; a batch of one costs several times as much for each record. A writer does well to take
//! what is waiting, up to a thousand records or a mebibyte, and to wait some ten milliseconds for more: as
//! long a piece as that is lost when the process is killed. Whoever acknowledges a publication only when it
//! is safe commits such batches with [`Durability::Synced`], and acknowledges all of a batch at once. Others
//! commit [`Buffered`](Durability::Buffered) and [`sync`](Store::sync) every second.
//!
//! # Cost
//!
//! *Memory*: for each room its name and less than 550 bytes; 16 bytes for each batch that has publications of the
//! room which are still held, 24 for each that has keys of it. While it writes, the batch once more; while
//! it forgets a file, now and then, two such files.
//!
//! *Disk*: at most twice what is held and three files of [`Options::segment_bytes`], which
//! `tests/growth.rs` proves; after many rooms were forgotten at once, a few commits later. An entry takes 21
//! bytes beside what is in it, a publication in it 12.
//!
//! *Time*: a commit is one `write`. A file that is full is synced, and so is the word that one is
//! forgotten: two waits for the disk for each [`Options::segment_bytes`] written.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//!
//! use store::{Change, Durability, Options, Record, Store};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let mut opened = Store::open(path, &Options::default())?;
//! assert!(opened.rooms.is_empty());
//!
//! let publication = Change::Publication {
//!     epoch: 7,
//!     offset: 1,
//!     at_ms: 1_732_270_000_000,
//!     frame: Arc::from(*b"hello"),
//!     key: None,
//! };
//! let record = Record { room: Arc::from("lobby"), change: publication };
//! opened.store.commit(&[record], Durability::Synced)?;
//! opened.store.close()?;
//!
//! let opened = Store::open(path, &Options::default())?;
//! assert!(opened.clean);
//! assert_eq!(&*opened.rooms[0].publications[0].frame, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
mod collect;
mod directory;
mod error;
mod frame;
mod index;
mod load;
mod log;
mod plan;
mod record;
mod store;

pub use error::{CommitError, Damage, Flaw, OpenError};
pub use record::{Ancestor, Change, Record, RoomRecord, StoredKey, StoredPublication};
pub use store::{BATCH_BYTES_MAX, Durability, Opened, Options, Store};
