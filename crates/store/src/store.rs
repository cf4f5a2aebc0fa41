//! The store: opening, committing, closing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::database::{
    self, FILE, State, commit_error, open_error, read_error, set_durability, shorten_journal,
};
use crate::error::{CommitError, OpenError};
use crate::load::{Loaded, load};
use crate::record::{Change, Record, RoomRecord};
use crate::rooms::Rooms;
use crate::sweep::Sweeper;
use crate::write::Writer;

/// How a store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the journal becomes, in bytes, before what is in it is brought into the file. The shorter, the
    /// less disk it takes, and the more often that is waited for. 4 MiB by default; at least 64 KiB and at
    /// most 1 GiB. A large batch makes it longer for a while. When it is four times as long, it is brought into
    /// the file at once, and a commit says so if the disk does not take that.
    pub journal_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_bytes: 4 << 20,
        }
    }
}

/// What opening gives.
#[derive(Debug)]
pub struct Opened {
    /// The store, to commit to.
    pub store: Store,
    /// Every room, in the order in which they last began.
    pub rooms: Vec<RoomRecord>,
    /// Whether it was closed, or is new. If not, there may have been more than there is now: what was not
    /// committed when the process ended, and after a loss of power what was not synced.
    pub clean: bool,
}

/// What a batch that was reported as committed outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends: the kernel has it.
    Buffered,
    /// A loss of power too: the disk has it, and all that was committed before. Waits for the disk.
    Synced,
}

/// Histories on disk. One thread has it, and everything that it does may wait for the disk.
///
/// Dropped without [`close`](Self::close), what was committed stays, and the next to open it is told that
/// it was not closed.
pub struct Store {
    path: PathBuf,
    options: Options,
    rooms: Rooms,
    /// With the last batch, whether or not it succeeded.
    state: State,
    /// What the next entry is called.
    next_seq: i64,
    sweeper: Sweeper,
    /// What the connection is set to, if that is known.
    durability: Option<Durability>,
    /// Nothing after an error, until it is opened again.
    connection: Option<Connection>,
}

impl Store {
    /// Opens the store in a directory, which is created if it is not there, and reads all of it.
    ///
    /// Takes as long as to read what is held, twice: once to see whether it is sound. Needs the memory of what
    /// is handed over. What a crash left half written is not there.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What is in the directory may be opened again, and gives the same.
    pub fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
        database::prepare(path)?;
        let (connection, loaded) = attach(path, options, true)?;
        let store = Self {
            path: path.to_owned(),
            options: options.clone(),
            rooms: loaded.rooms,
            state: loaded.state,
            next_seq: loaded.next_seq,
            sweeper: Sweeper::default(),
            durability: None,
            connection: Some(connection),
        };
        Ok(Opened {
            rooms: loaded.records,
            clean: store.state.closed,
            store: store.marked_open()?,
        })
    }

    /// Commits the batch, all of it or nothing, after all that was committed before.
    ///
    /// Now and then it waits for the disk, when the journal is long enough.
    ///
    /// # Errors
    ///
    /// [`Offset`](CommitError::Offset) and [`NeedsReopen`](CommitError::NeedsReopen) have changed nothing.
    /// After [`Full`](CommitError::Full) and [`Io`](CommitError::Io) the batch may or may not be there, and
    /// the store must be [reopened](Self::reopen), which says whether it is.
    pub fn commit(
        &mut self,
        records: &[Record],
        durability: Durability,
    ) -> Result<(), CommitError> {
        if self.connection.is_none() {
            return Err(CommitError::NeedsReopen);
        }
        check(records)?;
        if records.is_empty() && durability == Durability::Buffered {
            return Ok(());
        }
        self.with_connection(|store, connection| {
            if store.durability != Some(durability) {
                set_durability(connection, durability)?;
                store.durability = Some(durability);
            }
            store.state.commits += i64::from(!records.is_empty());
            let changes = connection.transaction()?;
            let state = &mut store.state;
            Writer::new(&changes, &mut store.rooms, state, &mut store.next_seq)?.write(records)?;
            let rooms = &store.rooms;
            store.state.entries -= store.sweeper.sweep(&changes, rooms, records.len())?;
            store.state.write(&changes)?;
            changes.commit()?;
            shorten_journal(
                connection,
                &store.path,
                store.options.journal_bytes.saturating_mul(4),
            )
        })
    }

    /// Makes everything that was committed outlive a loss of power. Waits for the disk.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit). What was buffered since the last sync may be lost.
    pub fn sync(&mut self) -> Result<(), CommitError> {
        self.commit(&[], Durability::Synced)
    }

    /// Opens it again after an error, and says how many of the last batches are not there. Costs what opening
    /// costs. If it does not succeed it may be tried again; until then nothing can be committed.
    ///
    /// 0: all are there, with the one whose commit failed. 1: that one is not; commit it again. More: the
    /// disk has lost what was only buffered. What the store holds is then older than what it was
    /// given, and only a full copy of each room mends that: [`Forget`](Change::Forget) it, and commit
    /// all that is held of it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn reopen(&mut self) -> Result<u64, OpenError> {
        self.connection = None;
        let (connection, loaded) = attach(&self.path, &self.options, false)?;
        // The disk must take what it is given, or the next batch would fail as the last one did.
        mark(&connection, loaded.state, false)
            .and_then(|()| shorten_journal(&connection, &self.path, 0))
            .map_err(|error| open_error(&self.path, error))?;
        let lost = self.state.commits.saturating_sub(loaded.state.commits);
        self.rooms = loaded.rooms;
        self.state = loaded.state;
        self.state.closed = false;
        self.next_seq = loaded.next_seq;
        self.sweeper = Sweeper::default();
        self.durability = None;
        self.connection = Some(connection);
        Ok(u64::try_from(lost).unwrap_or_default())
    }

    /// Syncs, and says in the file that it was closed.
    ///
    /// # Errors
    ///
    /// As for [`sync`](Self::sync). It is then as if it had been dropped.
    pub fn close(mut self) -> Result<(), CommitError> {
        let connection = self.connection.take().ok_or(CommitError::NeedsReopen)?;
        mark(&connection, self.state, true)
            .and_then(|()| database::close(connection))
            .map_err(commit_error)
    }

    /// What it takes on the disk now, in bytes. Asks the file system about each file.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // One that is gone since takes nothing. Whatever the file system's, `stat` counts in 512 bytes.
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file);
            bytes += metadata.map_or(0, |metadata| metadata.blocks() * 512);
        }
        Ok(bytes)
    }

    fn marked_open(mut self) -> Result<Self, OpenError> {
        self.state.closed = false;
        if let Some(connection) = &self.connection {
            mark(connection, self.state, false).map_err(|error| open_error(&self.path, error))?;
        }
        Ok(self)
    }

    /// Does something with the connection, which is gone after an error.
    fn with_connection(
        &mut self,
        call: impl FnOnce(&mut Self, &mut Connection) -> rusqlite::Result<()>,
    ) -> Result<(), CommitError> {
        let mut connection = self.connection.take().ok_or(CommitError::NeedsReopen)?;
        call(self, &mut connection).map_err(commit_error)?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("file", &self.path.join(FILE))
            .field("rooms", &self.rooms.len())
            .field("commits", &self.state.commits)
            .finish_non_exhaustive()
    }
}

fn attach(
    path: &Path,
    options: &Options,
    everything: bool,
) -> Result<(Connection, Loaded), OpenError> {
    let connection = database::open(path, options)?;
    let loaded = load(&connection, everything).map_err(|error| read_error(path, error))?;
    Ok((connection, loaded))
}

/// Says in the file whether it is closed, so that a loss of power does not change that.
fn mark(connection: &Connection, state: State, closed: bool) -> rusqlite::Result<()> {
    set_durability(connection, Durability::Synced)?;
    State { closed, ..state }.write(connection)
}

/// Says whether the batch can be written.
fn check(records: &[Record]) -> Result<(), CommitError> {
    let is_sound = |record: &Record| match record.change {
        Change::Publication { offset, .. } => (1..u64::MAX).contains(&offset),
        Change::Trim { first } => (1..u64::MAX).contains(&first),
        Change::Epoch { .. } | Change::ExpireKeys { .. } | Change::Forget => true,
    };
    match records.iter().position(|record| !is_sound(record)) {
        Some(index) => Err(CommitError::Offset { index }),
        None => Ok(()),
    }
}
