//! What may go wrong, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a directory could not be opened. Nothing in it is lost by trying.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operator's: while the store was in use, another one was put in its place. Only from
    /// [`reopen`](crate::Store::reopen).
    #[error("{} has the histories of another server in it", path.display())]
    Another {
        /// The directory.
        path: PathBuf,
    },
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
        "{} is in use by another process: each server needs a directory of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
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

impl OpenError {
    /// The directory holds something that is not what was written.
    pub(crate) fn damaged(directory: &Path, damage: Damage) -> Self {
        Self::Corrupted {
            path: directory.to_owned(),
            damage,
        }
    }
}

/// What is wrong with a store that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// SQLite cannot make sense of the file.
    #[error("SQLite says: {said}")]
    Database {
        /// In its words.
        said: String,
    },
    /// There is a journal, and nothing in the file that it belongs to.
    #[error("histories.sqlite is empty beside its journal")]
    EmptyFile,
    /// Some of what rooms hold is gone.
    #[error("{expected} publications and keys were written, and {found} are there")]
    Entries {
        /// How many there are.
        found: i64,
        /// How many there should be.
        expected: i64,
    },
    /// There is a journal, and not the file that it belongs to.
    #[error("histories.sqlite is missing beside its journal")]
    NoFile,
    /// A row of a room is not what was written, or is missing.
    #[error("the {kind} of room number {room} make no sense")]
    Room {
        /// The room's number in the file.
        room: i64,
        /// What the row is.
        kind: &'static str,
    },
    /// The row on the whole of it is not what was written.
    #[error("the state makes no sense")]
    State,
}

/// Why a batch was not committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Somebody else's: a file became shorter that only the store writes to. The store must be
    /// [reopened](crate::Store::reopen).
    #[error("{} was made shorter by somebody else", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else's: what is written to is no longer what its name leads to, so a restart would not find it. The
    /// store must be [reopened](crate::Store::reopen).
    #[error("{} was moved or replaced while it was in use", path.display())]
    Moved {
        /// The directory, or the file in it.
        path: PathBuf,
    },
    /// Somebody else's: what is written to cannot be reached under its name any more: it was removed or moved, or its
    /// rights changed. The store must be [reopened](crate::Store::reopen).
    #[error("{} cannot be reached any more", path.display())]
    Unreachable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller's fault: a record that no store could hold. Nothing was changed.
    #[error("record {index} of the batch has an offset that is not between 1 and 2^64 - 2")]
    Offset {
        /// Which record, from 0.
        index: usize,
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
}
