//! The store of rooms' histories: everything that a server holds in memory, mirrored on disk.
//!
//! A server answers from its memory. Behind it, one thread writes the changes in batches. After a
//! restart the [`Store`] gives everything back: after a clean end, after `kill -9`, after a loss of
//! power. Nothing reads the store while the server runs.
//!
//! ```text
//!   open ──▶ rooms, once          commit, commit, commit … ──▶ close
//!                                        │ error
//!                                        ▼
//!                                     reopen, commit again
//! ```
//!
//! Guarantees:
//!
//! - A [`commit`](Store::commit) is stored as a whole or not at all, and the store has a prefix of
//!   what was committed: no later batch without the earlier ones.
//! - A batch that was reported survives the process, however that ends. A batch that was committed
//!   with [`Durability::Synced`], or had a [`sync`](Store::sync) after it, survives a loss of
//!   power.
//! - The offsets of a room's publications have no holes.
//! - One process has a directory. Bytes that changed on the disk are found and reported, never
//!   handed out.
//! - After an error the caller can find out what is stored: [`reopen`](Store::reopen) says whether
//!   the batch is.
//! - A commit is reported only while the files are under their names, where the next process looks
//!   for them.
//! - Opening notices when reported batches are missing: a [witness](Vouched) beside the database
//!   has their number. If the whole directory was set back, nothing inside it can tell.
//!
//! The store is a table in SQLite; ARCHITECTURE.md says what else was measured, and why this was
//! chosen. Entries are appended behind all others (`write.rs`), in one transaction for each batch,
//! and deleted in place when they are no longer held (`sweep.rs`). SQLite's journal makes batches
//! atomic. Checksums and counts of our own say whether the disk gave back what it was given
//! (`database.rs`, `load.rs`).
//!
//! # Batches
//!
//! A commit writes the pages that it touches, at least three of 4 KiB, so few large batches cost
//! less than many small ones. A writer should take everything that waits, up to a thousand records
//! or a mebibyte, and wait some ten milliseconds for more. If the process is killed, it loses what
//! arrived in that time. A server that acknowledges publications only when they are safe commits
//! such batches with [`Durability::Synced`], and acknowledges a whole batch at once. Others commit
//! [`Buffered`](Durability::Buffered) and [`sync`](Store::sync) every second.
//!
//! # Cost
//!
//! *Memory*: for each room its name twice and less than 200 bytes; SQLite's cache of 2 MiB.
//!
//! *Disk*: the journal, which is as long as [`Options::journal_bytes`] or the longest batch, and a
//! file of at most about twice what is held, as `tests/growth.rs` checks; after many rooms were
//! forgotten at once, some commits later. A publication takes some 30 bytes beside its frame.
//!
//! *Time*: a commit writes to the journal and to the witness; if it is to be synced, it waits for
//! the disk once for each. A long journal is copied into the file, which waits for the disk twice.
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
