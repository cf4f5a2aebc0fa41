//! The store: opening, committing, closing.

use std::borrow::Borrow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::database::{
    self, State, commit_error, open_error, read_error, set_durability, shorten_journal,
};
use crate::directory::{self, FILE, Tightened};
use crate::error::{CommitError, OpenError};
use crate::footing::Footing;
use crate::load::{Loaded, load};
use crate::options::{Durability, Options};
use crate::record::{Change, Record, RoomRecord};
use crate::rooms::Rooms;
use crate::sweep::Sweeper;
use crate::witness::{Clock, Vouched, WITNESS, Witness};
use crate::write::Writer;

/// An open store, with its contents.
#[derive(Debug)]
pub struct Opened {
    /// The store to commit to.
    pub store: Store,
    /// All rooms, in the order in which they last began.
    pub rooms: Vec<RoomRecord>,
    /// True if the store was closed, or is new. If not, it may have lost changes: those that were
    /// not committed when the process ended, and after a loss of power those that were not synced.
    pub clean: bool,
    /// The part that is there of everything that was ever reported as committed. Stays the same for
    /// the next process until something is committed, even an empty batch. If something is missing,
    /// commit everything that follows from that as one batch.
    pub vouched: Vouched,
    /// The time of the last write, as far as that was [noted](Store::note_time).
    pub clock: Option<Clock>,
    /// The files that other users could read.
    pub tightened: Tightened,
}

/// Histories on disk. One thread owns it, and every call may wait for the disk.
///
/// If it is dropped without [`close`](Self::close), everything that was committed stays, and the
/// next process is told that the store was not closed.
pub struct Store {
    path: PathBuf,
    options: Options,
    rooms: Rooms,
    /// The state after the last batch, whether or not that succeeded.
    state: State,
    /// The sequence number of the next entry.
    next_seq: i64,
    sweeper: Sweeper,
    /// The durability that the connection is set to, if that is known.
    durability: Option<Durability>,
    identity: i64,
    clock: Clock,
    /// None after an error, until the store is reopened.
    open: Option<Open>,
}

/// The open files.
struct Open {
    connection: Connection,
    witness: Witness,
    footing: Footing,
    /// True until the next commit if the witness disagrees with the database.
    is_doubted: bool,
}

impl Store {
    /// Opens the store in a directory and reads all of it. Creates the directory if it does not
    /// exist.
    ///
    /// Takes as long as reading the contents twice: once to check them. Needs the memory of what is
    /// handed over. Batches that a crash left half written are not there.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the directory may be opened again, with the same contents.
    pub fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
        directory::prepare(path)?;
        let (connection, loaded) = attach(path, options, true)?;
        let witness = open_witness(path)?;
        // Only now is it known that the files are ours.
        let tightened = directory::tighten(path)?;
        let (commits, known) = (loaded.state.commits, loaded.identity);
        let vouched = witness.compare(known.unwrap_or_default(), commits, known.is_some());
        let clock = witness.clock();
        let mut store = Self {
            path: path.to_owned(),
            options: options.clone(),
            rooms: loaded.rooms,
            state: loaded.state,
            next_seq: loaded.next_seq,
            sweeper: Sweeper::default(),
            durability: None,
            identity: 0,
            clock: clock.unwrap_or_default(),
            open: None,
        };
        store.begin(connection, witness, known, vouched)?;
        Ok(Opened {
            rooms: loaded.records,
            clean: loaded.state.closed,
            store,
            vouched,
            clock,
            tightened,
        })
    }

    /// Marks the files as in use.
    fn begin(
        &mut self,
        connection: Connection,
        mut witness: Witness,
        known: Option<i64>,
        vouched: Vouched,
    ) -> Result<(), OpenError> {
        let sqlite = |error| open_error(&self.path, error);
        mark(&connection, self.state, false).map_err(sqlite)?;
        self.state.closed = false;
        self.identity = match known {
            Some(identity) => identity,
            None => {
                let changes = connection.unchecked_transaction().map_err(sqlite)?;
                let identity = database::draw_identity(&changes).map_err(sqlite)?;
                changes.commit().map_err(sqlite)?;
                identity
            }
        };
        let is_doubted = matches!(vouched, Vouched::AllBut { .. } | Vouched::Nothing);
        let io_error = |source| OpenError::Io {
            path: self.path.clone(),
            source,
        };
        if is_doubted {
            // The next batch gets a number that no batch has had.
            self.state.commits = self.state.commits.max(witness.commits());
        } else {
            let commits = self.state.commits;
            let written = witness.write(self.identity, commits, self.clock, Durability::Synced);
            written.map_err(io_error)?;
        }
        let footing = Footing::new(&self.path).map_err(io_error)?;
        if database::has_moved(&connection).map_err(sqlite)? {
            return Err(io_error(io::ErrorKind::NotFound.into()));
        }
        self.open = Some(Open {
            connection,
            witness,
            footing,
            is_doubted,
        });
        Ok(())
    }

    /// Commits the batch, all of it or nothing, after everything that was committed before.
    ///
    /// Waits for the disk now and then, when the journal is long enough.
    ///
    /// # Errors
    ///
    /// [`Offset`](CommitError::Offset) and [`NeedsReopen`](CommitError::NeedsReopen) change
    /// nothing. After all others the batch may or may not be stored, and the store must be
    /// [reopened](Self::reopen), which says whether it is.
    pub fn commit(
        &mut self,
        records: &[Record],
        durability: Durability,
    ) -> Result<(), CommitError> {
        let open = self.open.as_ref().ok_or(CommitError::NeedsReopen)?;
        check(records)?;
        let changes_something = !records.is_empty() || open.is_doubted;
        if !changes_something && durability == Durability::Buffered {
            return Ok(());
        }
        self.transact(durability, changes_something, |store, changes| {
            store.write(changes, records)?;
            let removed = store.sweeper.sweep(changes, &store.rooms, records.len())?;
            store.state.entries -= removed;
            Ok(())
        })
    }

    /// Replaces everything by the records, in one transaction: at any moment the store has all of
    /// the old or all of the new. The disk must have the space for both.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit), except for [`Offset`](CommitError::Offset): such a record
    /// is ignored.
    pub fn replace(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        durability: Durability,
    ) -> Result<(), CommitError> {
        self.transact(durability, true, |store, changes| {
            database::clear(changes)?;
            store.rooms = Rooms::default();
            store.sweeper = Sweeper::default();
            store.state.entries = 0;
            store.write(changes, records.into_iter().filter(is_sound))
        })
    }

    /// Changes the database and writes the witness. Succeeds only if the next process will find
    /// both.
    fn transact(
        &mut self,
        durability: Durability,
        changes_something: bool,
        change: impl FnOnce(&mut Self, &Connection) -> rusqlite::Result<()>,
    ) -> Result<(), CommitError> {
        self.with_open(|store, open| {
            open.footing.check_before()?;
            store.state.commits += i64::from(changes_something);
            store
                .change(&mut open.connection, durability, change)
                .map_err(commit_error)?;
            open.footing.check_after()?;
            let (identity, commits) = (store.identity, store.state.commits);
            let said = open
                .witness
                .write(identity, commits, store.clock, durability);
            said.map_err(CommitError::Io)?;
            open.is_doubted = false;
            Ok(())
        })
    }

    fn change(
        &mut self,
        connection: &mut Connection,
        durability: Durability,
        change: impl FnOnce(&mut Self, &Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        if self.durability != Some(durability) {
            set_durability(connection, durability)?;
            self.durability = Some(durability);
        }
        let changes = connection.transaction()?;
        change(self, &changes)?;
        self.state.write(&changes)?;
        changes.commit()?;
        shorten_journal(
            connection,
            &self.path,
            self.options.journal_bytes.saturating_mul(4),
        )
    }

    fn write<R: Borrow<Record>>(
        &mut self,
        changes: &Connection,
        records: impl IntoIterator<Item = R>,
    ) -> rusqlite::Result<()> {
        let (state, next_seq) = (&mut self.state, &mut self.next_seq);
        Writer::new(changes, &mut self.rooms, state, next_seq)?.write(records)
    }

    /// Sets the time. It is written with the next batch, and handed to the next process that opens
    /// the store.
    pub const fn set_time(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Sets the time and writes it at once, without waiting for the disk, so that time passes even
    /// if nothing is committed.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn note_time(&mut self, clock: Clock) -> Result<(), CommitError> {
        self.clock = clock;
        self.with_open(|_, open| {
            open.footing.check_before()?;
            open.witness.note(clock).map_err(CommitError::Io)
        })
    }

    /// Returns whether the store has no rooms.
    pub fn is_empty(&self) -> bool {
        self.rooms.len() == 0
    }

    /// Makes everything that was committed survive a loss of power. Waits for the disk.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit). What was buffered since the last sync may be lost.
    pub fn sync(&mut self) -> Result<(), CommitError> {
        self.commit(&[], Durability::Synced)
    }

    /// Opens the store again after an error, and returns how many of the last batches are missing.
    /// Costs as much as opening. If it fails, try again; until it succeeds, nothing can be
    /// committed.
    ///
    /// 0: none is missing, not even the one whose commit failed. 1: that one is missing; commit it
    /// again. More: the disk has lost buffered batches. The store is then older than the server's
    /// memory, and only a full copy of all rooms repairs it: [`replace`](Self::replace) it.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn reopen(&mut self) -> Result<u64, OpenError> {
        self.open = None;
        let path = &self.path;
        directory::check_names(path)?;
        let (connection, loaded) = attach(path, &self.options, false)?;
        let is_ours = loaded.identity == Some(self.identity) || loaded.state.commits == 0;
        if !is_ours {
            return Err(OpenError::Another {
                path: path.to_owned(),
            });
        }
        let witness = open_witness(path)?;
        // The disk must take data, or the next batch would fail as the last one did.
        shorten_journal(&connection, path, 0).map_err(|error| open_error(path, error))?;
        let found = loaded.state.commits;
        let lost = self.state.commits.saturating_sub(found);
        let identity = loaded.identity.unwrap_or_default();
        let vouched = witness.compare(identity, found, true);
        self.rooms = loaded.rooms;
        self.state = loaded.state;
        self.next_seq = loaded.next_seq;
        self.sweeper = Sweeper::default();
        self.durability = None;
        self.begin(connection, witness, loaded.identity, vouched)?;
        Ok(u64::try_from(lost).unwrap_or_default())
    }

    /// Syncs, and marks the store as closed.
    ///
    /// # Errors
    ///
    /// As for [`sync`](Self::sync); the store is as if it had been dropped.
    pub fn close(mut self) -> Result<(), CommitError> {
        let mut open = self.open.take().ok_or(CommitError::NeedsReopen)?;
        open.footing.check_before()?;
        open.witness.note(self.clock).map_err(CommitError::Io)?;
        mark(&open.connection, self.state, true)
            .and_then(|()| database::close(open.connection))
            .map_err(commit_error)
    }

    /// Returns the bytes that the store takes on disk. Asks the file system about each file.
    ///
    /// # Errors
    ///
    /// The system's error, if the directory cannot be read.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A file that was removed since takes nothing. `stat` counts in 512 bytes on every file
            // system.
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file);
            bytes += metadata.map_or(0, |metadata| metadata.blocks() * 512);
        }
        Ok(bytes)
    }

    /// Calls a function with the open files, which are closed if it fails.
    fn with_open(
        &mut self,
        call: impl FnOnce(&mut Self, &mut Open) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut open = self.open.take().ok_or(CommitError::NeedsReopen)?;
        call(self, &mut open)?;
        self.open = Some(open);
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

fn open_witness(path: &Path) -> Result<Witness, OpenError> {
    Witness::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::ResourceBusy => OpenError::InUse {
            path: path.to_owned(),
        },
        _ => OpenError::Io {
            path: path.join(WITNESS),
            source,
        },
    })
}

/// Marks the store as closed or not, so that the mark survives a loss of power.
fn mark(connection: &Connection, state: State, closed: bool) -> rusqlite::Result<()> {
    set_durability(connection, Durability::Synced)?;
    State { closed, ..state }.write(connection)
}

/// Checks that the batch can be written.
fn check(records: &[Record]) -> Result<(), CommitError> {
    match records.iter().position(|record| !is_sound(record)) {
        Some(index) => Err(CommitError::Offset { index }),
        None => Ok(()),
    }
}

/// Returns whether a store can hold the record.
fn is_sound(record: &Record) -> bool {
    match record.change {
        Change::Publication { offset, .. } => (1..u64::MAX).contains(&offset),
        Change::Trim { first } => (1..u64::MAX).contains(&first),
        Change::Epoch { .. } | Change::ExpireKeys { .. } | Change::Forget => true,
    }
}
