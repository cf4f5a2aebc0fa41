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
//! - A commit is reported only while the files are under their names, where the next process looks for them.
//! - What was reported and is not there any more is found by opening: a [witness](Vouched) beside the database
//!   says how many batches there were. A directory that was set back as a whole cannot be told from the inside.
//!
//! It is a table in SQLite: ARCHITECTURE.md says what else was measured, and why so. Entries are added behind
//! all others (`write.rs`), in one transaction for each batch, and removed where they lie when they are no
//! longer held (`sweep.rs`). SQLite's journal makes that whole; checksums and counts of ours say whether the disk
//! gave back what it was given (`database.rs`, `load.rs`).
//!
//! # Batches
//!
//! A commit writes the pages that it touches, at the least three of 4 KiB, so few large batches cost less than
//! many small ones. A writer does well to take what is waiting, up to a thousand records or a mebibyte, and to
//! wait some ten milliseconds for more: as long a piece as that is lost when the process is killed. Whoever
//! acknowledges a publication only when it is safe commits such batches with [`Durability::Synced`], and
//! acknowledges all of a batch at once. Others commit [`Buffered`](Durability::Buffered) and
//! [`sync`](Store::sync) every second.
//!
//! # Cost
//!
//! *Memory*: for each room its name twice and less than 200 bytes; SQLite's cache of 2 MiB.
//!
//! *Disk*: the journal, which is as long as [`Options::journal_bytes`] or the longest batch, and a file of about
//! twice what is held at most, which `tests/growth.rs` watches; after many rooms were forgotten at once, some
//! commits later. A publication takes some 30 bytes beside its frame.
//!
//! *Time*: a commit is written to the journal and to the witness, and waits for the disk, once for each, if it is to
//! be synced. When the journal
//! is long enough it is brought into the file, and that waits for the disk twice.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//!
//! use throng_store::{Change, Durability, Options, Record, Store};
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

mod database;
mod directory;
mod error;
mod footing;
mod load;
mod modes;
mod options;
mod record;
mod rooms;
mod store;
mod sweep;
mod witness;
mod write;

pub use directory::Tightened;
pub use error::{CommitError, Damage, OpenError};
pub use options::{Durability, Options};
pub use record::{Ancestor, Change, Record, RoomRecord, StoredKey, StoredPublication};
pub use store::{Opened, Store};
pub use witness::{Clock, Vouched};
