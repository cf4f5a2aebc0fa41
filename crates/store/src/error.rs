//! Errors, and whose fault each is.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A directory that could not be opened. Trying loses nothing in it.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operator's fault: another store was put in the place of this one while it was in use.
    /// Only from [`reopen`](crate::Store::reopen).
    #[error("{} has the histories of another server in it", path.display())]
    Another {
        /// The directory.
        path: PathBuf,
    },
    /// The disk's fault, or that of a program that wrote to the files: the contents cannot be
    /// trusted. Trying again does not help.
    #[error(
        "the histories in {} are damaged: move the directory away to begin without them, or put a \
         copy of it back",
        path.display()
    )]
    Corrupted {
        /// The directory.
        path: PathBuf,
        /// The damage.
        #[source]
        damage: Damage,
    },
    /// The operator's fault: another process has the directory.
    #[error(
        "{} is in use by another process: each server needs a directory of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The system's fault: permissions, space, the disk itself. Trying again later may help.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The operator's fault: the directory has other files in it.
    #[error(
        "{} is not empty and no store: name an empty directory, or one that is not there",
        path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// The operator's fault: another version of the program wrote the store.
    #[error(
        "{} has format {found} and this program reads {supported}: use the version that wrote it, \
         or move the directory away to begin without it",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The format that this program reads.
        supported: u32,
    },
}

impl OpenError {
    /// Creates the error for a directory whose contents are not what was written.
    pub(crate) fn damaged(directory: &Path, damage: Damage) -> Self {
        Self::Corrupted {
            path: directory.to_owned(),
            damage,
        }
    }
}

/// The damage of a store that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// SQLite cannot read the file.
    #[error("SQLite says: {said}")]
    Database {
        /// SQLite's message.
        said: String,
    },
    /// There is a journal, and the file that it belongs to is empty.
    #[error("histories.sqlite is empty beside its journal")]
    EmptyFile,
    /// Entries of rooms are missing.
    #[error("{expected} publications and keys were written, and {found} are there")]
    Entries {
        /// The number of entries that are there.
        found: i64,
        /// The number of entries that were written.
        expected: i64,
    },
    /// There is a journal, and the file that it belongs to is missing.
    #[error("histories.sqlite is missing beside its journal")]
    NoFile,
    /// A row of a room is damaged or missing.
    #[error("the {kind} of room number {room} make no sense")]
    Room {
        /// The room's number in the file.
        room: i64,
        /// The kind of the row.
        kind: &'static str,
    },
    /// The row about the whole store is damaged.
    #[error("the state makes no sense")]
    State,
}

/// A batch that was not committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Another program's fault: a file became shorter that only the store writes to. The store must
    /// be [reopened](crate::Store::reopen).
    #[error("{} was made shorter by somebody else", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
    },
    /// Another program's fault: the open file is no longer the one under its name, so a restart
    /// would not find it. The store must be [reopened](crate::Store::reopen).
    #[error("{} was moved or replaced while it was in use", path.display())]
    Moved {
        /// The directory, or the file in it.
        path: PathBuf,
    },
    /// Another program's fault: the open file cannot be reached under its name. It was removed or
    /// moved, or its permissions changed. The store must be [reopened](crate::Store::reopen).
    #[error("{} cannot be reached any more", path.display())]
    Unreachable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The caller's fault: a record that no store can hold. Nothing was changed.
    #[error("record {index} of the batch has an offset that is not between 1 and 2^64 - 2")]
    Offset {
        /// The index of the record in the batch, from 0.
        index: usize,
    },
    /// The system's fault: there is no space left, or a quota is reached. The store must be
    /// [reopened](crate::Store::reopen).
    #[error("no space is left for histories")]
    Full(#[source] io::Error),
    /// The system's fault: the disk failed. The store must be [reopened](crate::Store::reopen).
    #[error("the histories could not be written")]
    Io(#[source] io::Error),
    /// The caller's fault: no [`reopen`](crate::Store::reopen) has succeeded since an earlier
    /// error. Nothing was changed.
    #[error("the store must be reopened after an error")]
    NeedsReopen,
}
