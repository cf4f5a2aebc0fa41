//! What may go wrong, and whose fault it is.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a directory could not be opened. Nothing in it is lost by trying.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk's fault, or of something that wrote to the files: what is there cannot be trusted. It
    /// will not be better the next time.
    #[error(
        "the histories in {} are damaged: move the directory away to begin without them, or put a \
         copy of it back",
        path.display()
    )]
    Corrupted {
        /// The directory.
        path: PathBuf,
        /// What was found.
        #[source]
        damage: Damage,
    },
    /// The operator's: another process has it.
    #[error(
        "{} is in use by {}: each server needs a directory of its own",
        path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, if it said.
        holder: Option<u32>,
    },
    /// The system's: rights, space, the disk itself. May be better the next time.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operator's: the directory has files of something else in it.
    #[error("{} is not empty and no store: name an empty directory, or one that is not there", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// The operator's: another version of the program wrote it.
    #[error(
        "{} has format {found} and this program reads {supported}: use the version that wrote it, or \
         move the directory away to begin without it",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// The format that is there.
        found: u32,
        /// The one that can be read.
        supported: u32,
    },
}

/// What is wrong with a store that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// An entry cannot be read, or contradicts another.
    #[error("the {kind} of room number {room} make no sense")]
    Entry {
        /// The room's number in the log.
        room: u64,
        /// What the entry is.
        kind: &'static str,
    },
    /// A file that every store has cannot be read.
    #[error("the file {name} makes no sense")]
    File {
        /// Its name in the directory.
        name: &'static str,
    },
    /// A file of the log is gone.
    #[error("file {number} of the log is missing")]
    Missing {
        /// The file's number.
        number: u32,
    },
    /// A file of the log has changed.
    #[error("file {number} of the log is not what was written")]
    Segment {
        /// The file's number.
        number: u32,
    },
    /// It was closed with more than there is now.
    #[error("{closed_with} commits were there when it was closed, and {found} are now")]
    Shorter {
        /// How many there are.
        found: u64,
        /// How many there were.
        closed_with: u64,
    },
}

/// Why a batch was not committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The caller's fault: a record that no store could hold. Nothing was changed.
    #[error("record {index} of the batch: {flaw}")]
    Flawed {
        /// Which record, from 0.
        index: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The system's: there is no space left, or no more is allowed. The store must be
    /// [reopened](crate::Store::reopen).
    #[error("no space is left for histories")]
    Full(#[source] io::Error),
    /// The system's: the disk did not do what it was asked. The store must be
    /// [reopened](crate::Store::reopen).
    #[error("the histories could not be written")]
    Io(#[source] io::Error),
    /// The caller's: an earlier error was not followed by a [`reopen`](crate::Store::reopen) that
    /// succeeded. Nothing was changed.
    #[error("the store must be reopened after an error")]
    NeedsReopen,
    /// The caller's: nothing was changed, and the batch can be cut in pieces.
    #[error("a batch of {bytes} bytes, and {bytes_max} are allowed")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// What it may.
        bytes_max: usize,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// A key has more than 65,535 bytes.
    #[error("its key is too long")]
    KeyTooLong,
    /// There are more than 65,535 epochs.
    #[error("its lineage is too long")]
    LineageTooLong,
    /// An offset is 0, or the largest there is.
    #[error("its offset is not between 1 and 2^64 - 2")]
    Offset,
}
