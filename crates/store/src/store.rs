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
    /// How much of what was ever reported as committed is there. Stays so for the next to open it until something
    /// is committed, if only an empty batch: whoever is told that something is missing commits what follows from
    /// that as one batch.
    pub vouched: Vouched,
    /// The time when it was last written to, as far as that was [noted](Store::note_time).
    pub clock: Option<Clock>,
    /// Files that others could read.
    pub tightened: Tightened,
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
    identity: i64,
    clock: Clock,
    /// Nothing after an error, until it is opened again.
    open: Option<Open>,
}

/// What is open.
struct Open {
    connection: Connection,
    witness: Witness,
    footing: Footing,
    /// Whether the witness speaks of something else than what is there, until the next commit.
    is_doubted: bool,
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
        directory::prepare(path)?;
        let (connection, loaded) = attach(path, options, true)?;
        let witness = open_witness(path)?;
        // Only now is it known whose they are.
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
        store.begin(connection, witness, (known, vouched))?;
        Ok(Opened {
            rooms: loaded.records,
            clean: loaded.state.closed,
            store,
            vouched,
            clock,
            tightened,
        })
    }

    /// Says in the files that they are in use.
    fn begin(
        &mut self,
        connection: Connection,
        mut witness: Witness,
        (known, vouched): (Option<i64>, Vouched),
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
            // The next batch has a number that none has had.
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

    /// Commits the records in place of all that there is: with one transaction, so that at any moment there is all of
    /// the one or all of the other. The disk must have the space for both.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit), but for [`Offset`](CommitError::Offset): such a record is ignored.
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

    /// Changes the database, and reports that only if it is where the next process will look for it, with a witness.
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

    /// Says what time it is. It is written with the next batch, and handed over by the next to open the store.
    pub const fn set_time(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Says what time it is, and writes that down at once, without waiting for the disk: so that time passes also
    /// where nothing is committed.
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

    /// Whether there is no room.
    pub fn is_empty(&self) -> bool {
        self.rooms.len() == 0
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
    /// given, and only a full copy of all rooms mends that: [`replace`](Self::replace) it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
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
        // The disk must take what it is given, or the next batch would fail as the last one did.
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
        self.begin(connection, witness, (loaded.identity, vouched))?;
        Ok(u64::try_from(lost).unwrap_or_default())
    }

    /// Syncs, and says in the file that it was closed.
    ///
    /// # Errors
    ///
    /// As for [`sync`](Self::sync). It is then as if it had been dropped.
    pub fn close(mut self) -> Result<(), CommitError> {
        let mut open = self.open.take().ok_or(CommitError::NeedsReopen)?;
        open.footing.check_before()?;
        open.witness.note(self.clock).map_err(CommitError::Io)?;
        mark(&open.connection, self.state, true)
            .and_then(|()| database::close(open.connection))
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

    /// Does something with what is open, which is closed after an error.
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

/// Says in the file whether it is closed, so that a loss of power does not change that.
fn mark(connection: &Connection, state: State, closed: bool) -> rusqlite::Result<()> {
    set_durability(connection, Durability::Synced)?;
    State { closed, ..state }.write(connection)
}

/// Says whether the batch can be written.
fn check(records: &[Record]) -> Result<(), CommitError> {
    match records.iter().position(|record| !is_sound(record)) {
        Some(index) => Err(CommitError::Offset { index }),
        None => Ok(()),
    }
}

/// Whether a store could hold it.
fn is_sound(record: &Record) -> bool {
    match record.change {
        Change::Publication { offset, .. } => (1..u64::MAX).contains(&offset),
        Change::Trim { first } => (1..u64::MAX).contains(&first),
        Change::Epoch { .. } | Change::ExpireKeys { .. } | Change::Forget => true,
    }
}
