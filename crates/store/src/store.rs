//! The store: opening, committing, closing.

use std::io;
use std::path::Path;

use crate::collect::collect;
use crate::directory::Directory;
use crate::error::{CommitError, Damage, OpenError};
use crate::frame::FrameHead;
use crate::index::Rooms;
use crate::load::{Loaded, Loader};
use crate::log::{Found, Log, LogError};
use crate::plan::{check, plan};
use crate::record::{Record, RoomRecord};

/// How a store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a file of the log becomes, in bytes, before the next is begun. The shorter, the sooner what is
    /// no longer held is given back, and the more often the disk is waited for. 8 MiB by default; at least
    /// 1 KiB and at most 256 MiB, for it is read as a whole.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
        }
    }
}

/// What opening gives.
#[derive(Debug)]
pub struct Opened {
    /// The store, to commit to.
    pub store: Store,
    /// Every room, in the order in which the store got to know them.
    pub rooms: Vec<RoomRecord>,
    /// Whether it was closed, or is new. If not, there may have been more than there is now: what was not
    /// committed when the process ended, and after a loss of power what was not synced.
    pub clean: bool,
}

/// What a batch that was reported as committed outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends: the kernel has it. Costs one system call.
    Buffered,
    /// A loss of power too: the disk has it, and all that was committed before. Waits for the disk.
    Synced,
}

/// Histories on disk. One thread has it, and everything that it does may wait for the disk.
///
/// Dropped without [`close`](Self::close), what was committed stays, and the next to open it is told that
/// it was not closed.
pub struct Store {
    directory: Directory,
    options: Options,
    rooms: Rooms,
    /// How many batches there were, ever, with the last one whether or not it succeeded.
    commits: u64,
    /// Nothing after an error, until it is opened again.
    log: Option<Log>,
}

impl Store {
    /// Opens the store in a directory, which is created if it is not there, and reads all of it.
    ///
    /// Takes as long as to read what is held. Needs the memory of what is handed over, and of one file of the
    /// log. What a crash left half written is not there.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What is in the directory is as it was, and may be opened again.
    pub fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
        let directory = Directory::take(path)?;
        let closed_with = directory.closed_with()?;
        let new = !directory.data().exists();
        let (found, loaded) = load(&directory, Loader::of_everything())?;
        if let Some(closed_with) = closed_with
            && loaded.commits != closed_with
        {
            return Err(directory.damaged(Damage::Shorter {
                found: loaded.commits,
                closed_with,
            }));
        }
        // Until here nothing was changed: another try must find the same.
        let log = found.open().map_err(|error| directory.io_error(error))?;
        directory
            .mark(None)
            .map_err(|error| directory.io_error(error))?;
        let store = Self {
            directory,
            options: options.clone(),
            rooms: loaded.rooms,
            commits: loaded.commits,
            log: Some(log),
        };
        Ok(Opened {
            store,
            rooms: loaded.records,
            clean: new || closed_with.is_some(),
        })
    }

    /// Commits the batch, all of it or nothing, after all that was committed before.
    ///
    /// Needs the memory of the batch once more while it is written. Now and then it waits for the disk, when a
    /// file of the log is full or given back.
    ///
    /// # Errors
    ///
    /// [`Flawed`](CommitError::Flawed), [`TooLarge`](CommitError::TooLarge) and
    /// [`NeedsReopen`](CommitError::NeedsReopen) have changed nothing. After [`Full`](CommitError::Full)
    /// and [`Io`](CommitError::Io) the batch may or may not be there, and the store must be
    /// [reopened](Self::reopen), which says whether it is.
    pub fn commit(
        &mut self,
        records: &[Record],
        durability: Durability,
    ) -> Result<(), CommitError> {
        if self.log.is_none() {
            return Err(CommitError::NeedsReopen);
        }
        check(records)?;
        self.with_log(|store, log| {
            if !records.is_empty() {
                store.append(log, records)?;
            }
            match durability {
                Durability::Buffered => Ok(()),
                Durability::Synced => log.sync(),
            }
        })
    }

    /// Makes everything that was committed outlive a loss of power. Waits for the disk.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit). What was buffered since the last sync may be lost.
    pub fn sync(&mut self) -> Result<(), CommitError> {
        self.with_log(|_, log| log.sync())
    }

    /// Opens it again after an error, and says how many of the last batches are not there. Costs what opening
    /// costs. If it does not succeed it may be tried again; until then nothing can be committed.
    ///
    /// 0: all are there, with the one whose commit failed. 1: that one is not; commit it again. More: the
    /// disk has lost what was only buffered. What the store holds is then older than what it was
    /// given, and only a full copy of each room mends that: [`Forget`](crate::Change::Forget) it, and commit
    /// all that is held of it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn reopen(&mut self) -> Result<u64, OpenError> {
        self.log = None;
        let (found, loaded) = load(&self.directory, Loader::of_index())?;
        let log = found.open();
        self.log = Some(log.map_err(|error| self.directory.io_error(error))?);
        let lost = self.commits.saturating_sub(loaded.commits);
        self.rooms = loaded.rooms;
        self.commits = loaded.commits;
        Ok(lost)
    }

    /// Syncs, and says in the directory that it was closed.
    ///
    /// # Errors
    ///
    /// As for [`sync`](Self::sync). It is then as if it had been dropped.
    pub fn close(mut self) -> Result<(), CommitError> {
        self.with_log(|store, log| {
            log.sync()?;
            store.directory.mark(Some(store.commits))
        })
    }

    /// What it takes on the disk now, in bytes. Asks the file system about each file.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        self.directory.disk_bytes()
    }

    fn append(&mut self, log: &mut Log, records: &[Record]) -> io::Result<()> {
        let segment_bytes = self.options.segment_bytes.clamp(1 << 10, 256 << 20);
        self.commits += 1;
        let commits = self.commits;
        log.rotate(segment_bytes)?;
        let mut frame = plan(&mut self.rooms, records, log.newest());
        let oldest = log.oldest();
        log.append(&mut frame, FrameHead { oldest, commits })?;
        collect(log, &mut self.rooms, commits, segment_bytes)
    }

    /// Does something with the log, which is gone after an error.
    fn with_log(
        &mut self,
        call: impl FnOnce(&mut Self, &mut Log) -> io::Result<()>,
    ) -> Result<(), CommitError> {
        let mut log = self.log.take().ok_or(CommitError::NeedsReopen)?;
        call(self, &mut log).map_err(commit_error)?;
        self.log = Some(log);
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.directory.path())
            .field("rooms", &self.rooms.len())
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

fn load(directory: &Directory, mut loader: Loader) -> Result<(Found, Loaded), OpenError> {
    let found = Found::read(&directory.data(), |segment, frame| {
        loader.frame(segment, frame)
    });
    let found = found.map_err(|error| match error {
        LogError::Damaged(damage) => directory.damaged(damage),
        LogError::Io(error) => directory.io_error(error),
    })?;
    let loaded = loader.finish(found.oldest());
    Ok((found, loaded.map_err(|damage| directory.damaged(damage))?))
}

fn commit_error(error: io::Error) -> CommitError {
    match error.kind() {
        io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => {
            CommitError::Full(error)
        }
        _ => CommitError::Io(error),
    }
}

/// The most that one batch may have. Its frame is in memory as a whole, when it is written and when it is
/// read.
pub const BATCH_BYTES_MAX: usize = 32 << 20;
