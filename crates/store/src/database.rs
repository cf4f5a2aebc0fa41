//! The database: its setup in SQLite, its tables, and the meaning of its errors.
//!
//! ```text
//! state     one row: commits so far, entries, number of the next room, whether it was closed
//! rooms     number │ name, epoch, lineage: (epoch: i64, last: i64, complete: u8) …
//! bounds    number │ first offset held, first offset whose key is remembered
//! entries   sequence │ room, offset, time, and a key or a frame
//! identity  one row: a random number, drawn when a version with witnesses first opened the store
//! ```
//!
//! Entries are only ever added behind all others: a batch touches the end of one tree, and not a
//! page for each of its rooms. So a room's bounds are a table of their own, with short rows.
//!
//! Every row has a checksum. Without it, a changed byte would be noticed only if the row became
//! unreadable, and handed out otherwise.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, FileControl, MAIN_DB, OpenFlags, OptionalExtension as _, TransactionBehavior,
    params,
};

use crate::directory::{FILE, JOURNAL};
use crate::error::{CommitError, Damage, OpenError};
use crate::modes;
use crate::options::{Durability, Options};

/// The version of the format. Raised when older stores can no longer be read.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// "Thrg": marks a file as ours.
const APPLICATION_ID: i32 = 0x5468_7267;

const PAGE_BYTES: i64 = 4096;

const SCHEMA: &str = "
    CREATE TABLE state (id INTEGER PRIMARY KEY, commits INTEGER NOT NULL, entries INTEGER NOT NULL,
        next_room INTEGER NOT NULL, closed INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE rooms (id INTEGER PRIMARY KEY, name TEXT NOT NULL, epoch INTEGER NOT NULL,
        lineage BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE bounds (room INTEGER PRIMARY KEY, first INTEGER NOT NULL,
        first_key INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE entries (seq INTEGER PRIMARY KEY, room INTEGER NOT NULL, offset INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, key TEXT, crc INTEGER NOT NULL, frame BLOB) STRICT;
";

/// A table of its own, because earlier versions do not look at it.
const IDENTITY_SCHEMA: &str = "
    CREATE TABLE identity (id INTEGER PRIMARY KEY, identity INTEGER NOT NULL,
        crc INTEGER NOT NULL) STRICT;
";

/// The one row of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of batches, ever.
    pub(crate) commits: i64,
    /// The number of entries in the file, held or not.
    pub(crate) entries: i64,
    /// The number of the next new room. Never reused.
    pub(crate) next_room: i64,
    /// True if nobody has written since the store was closed.
    pub(crate) closed: bool,
}

impl State {
    /// The state of a new store.
    const NEW: Self = Self {
        commits: 0,
        entries: 0,
        next_room: 1,
        closed: true,
    };

    /// Reads the row.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the row is missing or damaged.
    pub(crate) fn read(connection: &Connection) -> Result<Self, ReadError> {
        let sql = "SELECT commits, entries, next_room, closed, crc FROM state";
        let (state, crc): (Self, u32) = connection.query_row(sql, [], |row| {
            let state = Self {
                commits: row.get(0)?,
                entries: row.get(1)?,
                next_room: row.get(2)?,
                closed: row.get(3)?,
            };
            Ok((state, row.get(4)?))
        })?;
        if crc == state.crc() {
            Ok(state)
        } else {
            Err(ReadError::Damaged(Damage::State))
        }
    }

    /// Writes the row, in the open transaction or in one of its own.
    pub(crate) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO state (id, commits, entries, next_room, closed, crc)
            VALUES (1, ?, ?, ?, ?, ?)";
        connection.prepare_cached(sql)?.execute(params![
            self.commits,
            self.entries,
            self.next_room,
            self.closed,
            self.crc()
        ])?;
        Ok(())
    }

    fn crc(self) -> u32 {
        let closed = i64::from(self.closed);
        crc(&[self.commits, self.entries, self.next_room, closed], &[])
    }
}

/// Opens the file in the directory, or creates it, and checks that it is ours and sound. An open
/// file keeps others out.
///
/// # Errors
///
/// [`OpenError`].
pub(crate) fn open(directory: &Path, options: &Options) -> Result<Connection, OpenError> {
    let path = directory.join(FILE);
    modes::create_file(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let connection = connect(&path).map_err(|error| open_error(directory, error))?;
    let application: i32 = number(directory, &connection, "application_id")?;
    let version: u32 = number(directory, &connection, "user_version")?;
    let set_up = || set_up(&connection, options).map_err(|error| open_error(directory, error));
    match (application, version) {
        (APPLICATION_ID, FORMAT_VERSION) => {
            set_up()?;
            check(&connection).map_err(|error| read_error(directory, error))?;
        }
        (APPLICATION_ID, found) => {
            return Err(OpenError::Version {
                path: directory.to_owned(),
                found,
                supported: FORMAT_VERSION,
            });
        }
        // Many databases have neither number. A database of somebody else has tables.
        (0, 0) if is_empty(&connection).map_err(|error| open_error(directory, error))? => {
            set_up()?;
            create(&connection).map_err(|error| open_error(directory, error))?;
        }
        _ => {
            return Err(OpenError::NotAStore {
                path: directory.to_owned(),
            });
        }
    }
    Ok(connection)
}

/// Opens the file without changing it: it may be somebody else's.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // A process that has the file has it until it ends.
    connection.busy_timeout(Duration::ZERO)?;
    // Set before there is a journal: the journal's index is then in memory, and not a mapped file,
    // whose loss would raise a signal.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // A connection that is only dropped leaves the directory as it is.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Sets up a database that is ours, or about to be.
fn set_up(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let journal_bytes = options.journal_bytes.clamp(1 << 16, 1 << 30).cast_signed();
    connection.pragma_update(None, "wal_autocheckpoint", journal_bytes / PAGE_BYTES)?;
    connection.pragma_update(None, "journal_size_limit", journal_bytes)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    set_durability(connection, Durability::Synced)
}

/// Returns whether the database has no tables.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

/// Returns whether the file under the database's name is not the open one.
pub(crate) fn has_moved(connection: &Connection) -> rusqlite::Result<bool> {
    let mut has_moved = 0;
    connection.file_control(Some(MAIN_DB), FileControl::HasMoved(&mut has_moved))?;
    Ok(has_moved != 0)
}

/// Reads the identity of the store; none if only versions without witnesses have had it.
///
/// # Errors
///
/// [`ReadError`] if it is damaged.
pub(crate) fn identity(connection: &Connection) -> Result<Option<i64>, ReadError> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'identity'";
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if count == 0 {
        return Ok(None);
    }
    let sql = "SELECT identity, crc FROM identity";
    let row = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?)));
    match row {
        Ok((identity, found)) if found == crc(&[identity], &[]) => Ok(Some(identity)),
        Ok(_) | Err(rusqlite::Error::QueryReturnedNoRows) => Err(ReadError::Damaged(Damage::State)),
        Err(error) => Err(error.into()),
    }
}

/// Gives the store an identity, in the open transaction or in ones of its own.
pub(crate) fn draw_identity(connection: &Connection) -> rusqlite::Result<i64> {
    // Keyed by the system's random numbers: nothing more is needed.
    let identity = RandomState::new().build_hasher().finish().cast_signed();
    let sql = "INSERT INTO identity (id, identity, crc) VALUES (1, ?, ?)";
    connection.execute_batch(IDENTITY_SCHEMA)?;
    connection.execute(sql, params![identity, crc(&[identity], &[])])?;
    Ok(identity)
}

/// Removes all rooms and their entries, in the open transaction.
pub(crate) fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM entries; DELETE FROM rooms; DELETE FROM bounds;")
}

/// Sets the durability of the next transactions.
pub(crate) fn set_durability(
    connection: &Connection,
    durability: Durability,
) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Buffered => "NORMAL",
        Durability::Synced => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Copies the journal into the file and truncates it, if it is longer than so many bytes.
///
/// SQLite does that by itself, but reports no error: the journal would become longer and longer.
pub(crate) fn shorten_journal(
    connection: &Connection,
    directory: &Path,
    bytes_max: u64,
) -> rusqlite::Result<()> {
    let journal = fs::metadata(directory.join(JOURNAL));
    if journal.map_or(0, |metadata| metadata.len()) <= bytes_max {
        return Ok(());
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Copies everything into the file and closes it.
pub(crate) fn close(connection: Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.close().map_err(|(_, error)| error)
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let changes = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    changes.pragma_update(None, "application_id", APPLICATION_ID)?;
    changes.pragma_update(None, "user_version", FORMAT_VERSION)?;
    changes.execute_batch(SCHEMA)?;
    draw_identity(&changes)?;
    State::NEW.write(&changes)?;
    changes.commit()
}

/// Checks that the trees are sound. Checksums cover the contents of rows.
fn check(connection: &Connection) -> Result<(), ReadError> {
    let said: Option<String> = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .optional()?;
    match said.as_deref() {
        Some("ok") => Ok(()),
        said => Err(ReadError::Damaged(Damage::Database {
            said: said.unwrap_or_default().to_owned(),
        })),
    }
}

fn number<T: rusqlite::types::FromSql>(
    directory: &Path,
    connection: &Connection,
    pragma: &str,
) -> Result<T, OpenError> {
    connection
        .pragma_query_value(None, pragma, |row| row.get(0))
        .map_err(|error| open_error(directory, error))
}

/// Returns the checksum of a row: of its numbers, and its bytes.
pub(crate) fn crc(numbers: &[i64], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(bytes);
    hasher.finalize()
}

/// A read that failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    Damaged(Damage),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Converts an error of opening for whoever named the directory.
pub(crate) fn read_error(directory: &Path, error: ReadError) -> OpenError {
    match error {
        ReadError::Damaged(damage) => OpenError::damaged(directory, damage),
        ReadError::Sqlite(error) => open_error(directory, error),
    }
}

/// Converts an error of SQLite's while the store is opened.
pub(crate) fn open_error(directory: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => OpenError::InUse {
            path: directory.to_owned(),
        },
        Some(
            Code::CannotOpen
            | Code::DiskFull
            | Code::FileLockingProtocolFailed
            | Code::NoLargeFileSupport
            | Code::OutOfMemory
            | Code::PermissionDenied
            | Code::ReadOnly
            | Code::SystemIoFailure,
        ) => OpenError::Io {
            path: directory.to_owned(),
            source: reason(&directory.join(FILE), error),
        },
        _ => OpenError::damaged(
            directory,
            Damage::Database {
                said: error.to_string(),
            },
        ),
    }
}

/// Returns the system's error where SQLite only says that it failed. Closing the file ends a lock
/// of this process, but of a connection that is gone.
fn reason(path: &Path, error: rusqlite::Error) -> io::Error {
    let tried = OpenOptions::new().read(true).write(true).open(path);
    tried.err().unwrap_or_else(|| io::Error::other(error))
}

/// Converts an error of writing.
pub(crate) fn commit_error(error: rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            // The source says the same again.
            CommitError::Full(io::Error::new(ErrorKind::StorageFull, error.to_string()))
        }
        _ => CommitError::Io(io::Error::other(error)),
    }
}
