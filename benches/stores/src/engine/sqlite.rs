//! SQLite, used as a history would: publications in the order in which they came, and no second index, so
//! that a batch touches the end of one tree and not a page for each room.
//!
//! A room's first held offset is a small row. What lies below it is removed by a cursor, which walks all
//! publications over and over, a few for each that is added.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Batch, Durability, Engine, Key};

/// A database in one file, and its journal.
pub(super) struct Sqlite {
    connection: Connection,
    /// The first offset that each room holds.
    first: HashMap<u32, u64>,
    /// How many publications there are, held or not.
    rows: i64,
    /// The number of the next publication.
    next: i64,
    /// Up to which one the cursor has come.
    cursor: i64,
}

impl Sqlite {
    pub(super) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let connection = Connection::open(directory.join("histories.sqlite"))?;
        connection.set_prepared_statement_cache_capacity(32);
        // Before the journal is one: its index is then in memory, and no file that is mapped.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
        let synchronous = match durability {
            Durability::Buffered => "NORMAL",
            Durability::Synced => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        ensure!(sound == "ok", "damaged: {sound}");
        connection.execute_batch(SCHEMA)?;
        let rows = connection
            .query_row("SELECT rows FROM state", [], |row| row.get(0))
            .optional()?;
        let next: Option<i64> =
            connection.query_row("SELECT max(seq) FROM publications", [], |row| row.get(0))?;
        let mut first = HashMap::new();
        let mut statement = connection.prepare("SELECT room, first, crc FROM bounds")?;
        let mut bounds = statement.query([])?;
        while let Some(row) = bounds.next()? {
            let (room, held) = (row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned());
            let crc: u32 = row.get(2)?;
            ensure!(
                crc == bound_crc(room, held),
                "damaged: the bound of room {room}"
            );
            first.insert(room, held);
        }
        drop(bounds);
        drop(statement);
        Ok(Self {
            connection,
            first,
            rows: rows.unwrap_or_default(),
            next: next.unwrap_or_default() + 1,
            cursor: 0,
        })
    }
}

impl Engine for Sqlite {
    fn commit(&mut self, batch: &Batch) -> Result<()> {
        // What is in memory follows once the batch is there: it may be refused, and tried again.
        let mut moved: HashMap<u32, u64> = HashMap::new();
        for key in &batch.removes {
            moved.insert(key.room, key.offset + 1);
        }
        let changes = self.connection.transaction()?;
        let mut next = self.next;
        let mut insert = changes.prepare_cached(
            "INSERT INTO publications (seq, room, offset, frame, crc) VALUES (?, ?, ?, ?, ?)",
        )?;
        for (key, frame) in &batch.puts {
            let crc = publication_crc(next, *key, frame);
            let offset = key.offset.cast_signed();
            insert.execute(params![next, key.room, offset, frame, crc])?;
            next += 1;
        }
        drop(insert);
        for (&room, &first) in &moved {
            let sql = "INSERT OR REPLACE INTO bounds (room, first, crc) VALUES (?, ?, ?)";
            let mut replace = changes.prepare_cached(sql)?;
            replace.execute(params![room, first.cast_signed(), bound_crc(room, first)])?;
        }
        let mut cursor = self.cursor;
        let removed = sweep(&changes, &self.first, &mut cursor, batch.puts.len())?;
        let rows = self.rows + i64::try_from(batch.puts.len())? - removed;
        changes
            .prepare_cached("INSERT OR REPLACE INTO state (id, rows) VALUES (1, ?)")?
            .execute([rows])?;
        changes.commit()?;
        self.first.extend(moved);
        (self.rows, self.next, self.cursor) = (rows, next, cursor);
        Ok(())
    }

    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()> {
        let mut rooms: BTreeMap<u32, Vec<(u64, Box<[u8]>)>> = BTreeMap::new();
        let mut select = self
            .connection
            .prepare("SELECT seq, room, offset, frame, crc FROM publications ORDER BY seq")?;
        let mut publications = select.query([])?;
        let mut rows = 0;
        while let Some(row) = publications.next()? {
            let seq = row.get(0)?;
            let key = Key {
                room: row.get(1)?,
                offset: row.get::<_, i64>(2)?.cast_unsigned(),
            };
            let frame = row.get_ref(3)?.as_blob()?;
            let crc: u32 = row.get(4)?;
            ensure!(crc == publication_crc(seq, key, frame), "damaged: {key:?}");
            rows += 1;
            let first = self.first.get(&key.room);
            if first.is_none_or(|&first| key.offset >= first) {
                let held = rooms.entry(key.room).or_default();
                held.push((key.offset, Box::from(frame)));
            }
        }
        ensure!(
            rows == self.rows,
            "damaged: {rows} publications, and not {}",
            self.rows
        );
        for (room, held) in rooms {
            let mut next = held.first().map_or(1, |(offset, _)| *offset);
            for (offset, frame) in held {
                ensure!(offset == next, "damaged: publication {next} is missing");
                next += 1;
                visit(Key { room, offset }, &frame);
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// Looks at the next publications, removes those that are not held, and says how many they were.
fn sweep(
    changes: &Transaction<'_>,
    first: &HashMap<u32, u64>,
    cursor: &mut i64,
    added: usize,
) -> Result<i64> {
    if first.is_empty() {
        return Ok(0);
    }
    let mut dead = Vec::new();
    let mut select = changes.prepare_cached(
        "SELECT seq, room, offset FROM publications WHERE seq > ? ORDER BY seq LIMIT ?",
    )?;
    let limit = i64::try_from(added * LOOKS + LOOKS)?;
    let mut looked = 0;
    let mut rows = select.query(params![*cursor, limit])?;
    while let Some(row) = rows.next()? {
        let (seq, room) = (row.get(0)?, row.get(1)?);
        let offset = row.get::<_, i64>(2)?.cast_unsigned();
        *cursor = seq;
        looked += 1;
        if first.get(&room).is_some_and(|&first| offset < first) {
            dead.push(seq);
        }
    }
    if looked < limit {
        *cursor = 0;
    }
    let mut delete = changes.prepare_cached("DELETE FROM publications WHERE seq = ?")?;
    for seq in &dead {
        delete.execute([seq])?;
    }
    let free: i64 = changes.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let pages: i64 = changes.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if free > FREE_PAGES_MIN && free > pages / 2 {
        changes.execute_batch("PRAGMA incremental_vacuum(256)")?;
    }
    Ok(i64::try_from(dead.len())?)
}

fn publication_crc(seq: i64, key: Key, frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(&key.bytes());
    hasher.update(frame);
    hasher.finalize()
}

fn bound_crc(room: u32, first: u64) -> u32 {
    let key = Key {
        room,
        offset: first,
    };
    crc32fast::hash(&key.bytes())
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS publications
        (seq INTEGER PRIMARY KEY, room INTEGER, offset INTEGER, crc INTEGER, frame BLOB) STRICT;
    CREATE TABLE IF NOT EXISTS bounds (room INTEGER PRIMARY KEY, first INTEGER, crc INTEGER) STRICT;
    CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, rows INTEGER) STRICT;
";

/// What the journal is cut to when it has been brought into the file.
const WAL_BYTES_MAX: i64 = 8 << 20;

/// How many publications are looked at for each that is added.
const LOOKS: usize = 3;

/// Below so many free pages the file is not made shorter.
const FREE_PAGES_MIN: i64 = 1024;
