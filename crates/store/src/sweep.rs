//! Deletion of entries that are no longer held.
//!
//! A cursor walks all entries over and over, a few for each entry that is added, and deletes the
//! dead ones on its way. So entries are deleted where they lie together, a page at a time, and need
//! no index. Where most are dead, the cursor goes on for a while.

use rusqlite::{Connection, params};

use crate::rooms::Rooms;

/// The entries that the cursor visits for each record: with two, a pass ends before as many entries
/// have died as are held.
const LOOKS: usize = 2;

/// The entries that the cursor visits at once: fewer are saved up until there are so many.
const LOOKS_MIN: usize = 200;

/// The most entries that the cursor visits for one batch where most are dead: some ten
/// milliseconds.
const LOOKS_MAX: usize = 10_000;

/// The free pages below which the file is not made shorter.
const FREE_PAGES_MIN: i64 = 256;

/// The pages by which the file is made shorter at a time.
const PAGES_GIVEN_BACK: i64 = 1024;

/// The cursor.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    /// The last entry that was visited.
    last: i64,
    /// The visits that are due.
    owed: usize,
}

impl Sweeper {
    /// Deletes dead entries in the open transaction, which has so many records; returns how many.
    pub(crate) fn sweep(
        &mut self,
        connection: &Connection,
        rooms: &Rooms,
        records: usize,
    ) -> rusqlite::Result<i64> {
        self.owed += records.saturating_mul(LOOKS);
        if self.owed < LOOKS_MIN {
            return Ok(0);
        }
        let looks = std::mem::take(&mut self.owed);
        let mut removed = 0;
        let mut looked = 0;
        let mut delete = connection.prepare_cached("DELETE FROM entries WHERE seq = ?")?;
        loop {
            let dead = self.find(connection, rooms, looks)?;
            for seq in &dead {
                delete.execute([seq])?;
            }
            removed += dead.len();
            looked += looks;
            if dead.len() < looks.div_ceil(2) || looked >= LOOKS_MAX {
                break;
            }
        }
        give_back(connection)?;
        Ok(i64::try_from(removed).unwrap_or(i64::MAX))
    }

    /// Returns the dead entries among the next ones. Starts over behind the last.
    fn find(
        &mut self,
        connection: &Connection,
        rooms: &Rooms,
        looks: usize,
    ) -> rusqlite::Result<Vec<i64>> {
        let mut dead = Vec::new();
        let mut looked = 0;
        let sql = "SELECT seq, room, offset, key IS NOT NULL FROM entries WHERE seq > ?
            ORDER BY seq LIMIT ?";
        let mut select = connection.prepare_cached(sql)?;
        let limit = i64::try_from(looks).unwrap_or(i64::MAX);
        let mut entries = select.query(params![self.last, limit])?;
        while let Some(row) = entries.next()? {
            let seq = row.get(0)?;
            let offset = row.get::<_, i64>(2)?.cast_unsigned();
            if rooms.is_dead(row.get(1)?, offset, row.get(3)?) {
                dead.push(seq);
            }
            self.last = seq;
            looked += 1;
        }
        if looked < looks {
            self.last = 0;
        }
        Ok(dead)
    }
}

/// Makes the file shorter if much of it is free. Keeps a little for the next publications.
fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let count = |pragma| -> rusqlite::Result<i64> {
        let mut select = connection.prepare_cached(pragma)?;
        select.query_row([], |row| row.get(0))
    };
    let free = count("PRAGMA freelist_count")?;
    if free <= FREE_PAGES_MIN || free <= count("PRAGMA page_count")? / 4 {
        return Ok(());
    }
    let mut vacuum =
        connection.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})"))?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {}
    Ok(())
}
