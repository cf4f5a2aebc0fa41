//! What the databases are asked to do: the same for each, in the vocabulary of a history.

mod fjall;
mod heed;
mod redb;
mod throng;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

/// A place in a room's history; in this order the databases keep their entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The room's number.
    pub room: u32,
    /// The publication's offset in it.
    pub offset: u64,
}

/// One atomic change.
#[derive(Default)]
pub struct Batch {
    /// Publications to add.
    pub puts: Vec<(Key, Vec<u8>)>,
    /// Publications that fell out of their room's window.
    pub removes: Vec<Key>,
}

/// How long a commit that was reported must live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Through the end of the process, however it ends: the kernel has it.
    Buffered,
    /// Through a loss of power: the disk has it.
    Synced,
}

/// One of the databases, open.
pub trait Engine {
    /// Commits the batch, all of it or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<()>;

    /// Calls `visit` with every entry, in the order of their keys.
    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()>;

    /// Ends it as a server that is stopped would, with all that it does in the background.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Which database, and how it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A log-structured merge tree behind a journal.
    Fjall,
    /// A copy-on-write B-tree; what is only buffered is written without `fdatasync`, which after a loss
    /// of power may leave no whole tree.
    Redb,
    /// The same with its own `Durability::None`, which keeps what is only buffered in the process.
    RedbNone,
    /// LMDB, a copy-on-write B-tree mapped into memory; what is only buffered with `MDB_NOSYNC`, which
    /// after a loss of power may leave no whole tree.
    Heed,
    /// `crates/store`: SQLite, a B-tree behind a write-ahead log, with what a history needs around it.
    Throng,
}

impl Kind {
    /// Creates the database in the directory, or opens what is there.
    pub fn open(self, directory: &Path, durability: Durability) -> Result<Box<dyn Engine>> {
        Ok(match self {
            Self::Fjall => Box::new(fjall::Fjall::open(directory, durability)?),
            Self::Redb => Box::new(redb::Redb::open(directory, durability, false)?),
            Self::RedbNone => Box::new(redb::Redb::open(directory, durability, true)?),
            Self::Heed => Box::new(heed::Heed::open(directory, durability)?),
            Self::Throng => Box::new(throng::Throng::open(directory, durability)?),
        })
    }

    /// Those of a list that are asked for: all, if none is.
    pub fn asked(of: &[Self], only: &[Self]) -> Vec<Self> {
        let asked = |kind: &&Self| only.is_empty() || only.contains(kind);
        of.iter().filter(asked).copied().collect()
    }

    /// What it is called in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::RedbNone => "redb-none",
            Self::Heed => "heed",
            Self::Throng => "throng",
        }
    }
}

impl Durability {
    /// What it is called in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Synced => "synced",
        }
    }
}

impl Key {
    /// Sorted as bytes, keys are sorted by room and offset.
    fn bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..4].copy_from_slice(&self.room.to_be_bytes());
        bytes[4..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let bytes: [u8; KEY_BYTES] = bytes.try_into()?;
        let (room, offset) = bytes.split_at(4);
        Ok(Self {
            room: u32::from_be_bytes(room.try_into()?),
            offset: u64::from_be_bytes(offset.try_into()?),
        })
    }
}

const KEY_BYTES: usize = 12;
