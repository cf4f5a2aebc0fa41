//! From records to rows.
//!
//! Writing changes the rooms in memory. If the batch is then not committed, the rooms say more than
//! the file has, so the store reads everything again before it writes again.

use std::borrow::Borrow;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, params};

use crate::database::{State, crc};
use crate::record::{Ancestor, Change, Record};
use crate::rooms::{Room, Rooms};

/// Writes rows in the open transaction.
pub(crate) struct Writer<'a> {
    connection: &'a Connection,
    rooms: &'a mut Rooms,
    state: &'a mut State,
    next_seq: &'a mut i64,
    insert: CachedStatement<'a>,
    /// The rooms whose bounds have changed.
    moved: Vec<i64>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        rooms: &'a mut Rooms,
        state: &'a mut State,
        next_seq: &'a mut i64,
    ) -> rusqlite::Result<Self> {
        let sql = "INSERT INTO entries (seq, room, offset, at_ms, key, frame, crc)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        Ok(Self {
            connection,
            rooms,
            state,
            next_seq,
            insert: connection.prepare_cached(sql)?,
            moved: Vec::new(),
        })
    }

    /// Writes everything that the records change, except for the state.
    pub(crate) fn write<R: Borrow<Record>>(
        mut self,
        records: impl IntoIterator<Item = R>,
    ) -> rusqlite::Result<()> {
        for record in records {
            let record = record.borrow();
            self.record(&record.room, &record.change)?;
        }
        for id in std::mem::take(&mut self.moved) {
            self.rooms.update(id, |room| room.moved = false);
            if let Some(room) = self.rooms.by_id(id) {
                put_bounds(self.connection, id, room)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, name: &Arc<str>, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Epoch { epoch, lineage } => self.epoch(name, *epoch, lineage),
            Change::ExpireKeys { first } => {
                self.expire_keys(name, *first);
                Ok(())
            }
            Change::Forget => self.forget(name),
            Change::Publication { .. } => self.publication(name, change),
            Change::Trim { first } => {
                self.trim(name, *first);
                Ok(())
            }
        }
    }

    fn epoch(&mut self, name: &Arc<str>, epoch: u64, lineage: &[Ancestor]) -> rusqlite::Result<()> {
        let id = match self.rooms.known(name) {
            Some((id, _)) => id,
            None => self.begin(name, Room::new(epoch, 1)),
        };
        self.rooms.update(id, |room| room.epoch = epoch);
        put_room(self.connection, id, name, epoch, lineage)
    }

    fn expire_keys(&mut self, name: &str, first: u64) {
        if let Some((id, room)) = self.rooms.known(name) {
            // Keys to come are not forgotten.
            let first_key = room.first_key.max(first.min(room.last + 1));
            self.move_bounds(id, |room| room.first_key = first_key);
        }
    }

    fn trim(&mut self, name: &str, first: u64) {
        if let Some((id, room)) = self.rooms.known(name) {
            let first = room.first.max(first);
            self.move_bounds(id, |room| {
                room.first = first;
                room.last = room.last.max(first - 1);
            });
        }
    }

    fn forget(&mut self, name: &str) -> rusqlite::Result<()> {
        let Some(id) = self.rooms.remove(name) else {
            return Ok(());
        };
        for sql in [
            "DELETE FROM rooms WHERE id = ?",
            "DELETE FROM bounds WHERE room = ?",
        ] {
            self.connection.prepare_cached(sql)?.execute([id])?;
        }
        Ok(())
    }

    fn publication(&mut self, name: &Arc<str>, change: &Change) -> rusqlite::Result<()> {
        let &Change::Publication {
            epoch,
            offset,
            at_ms,
            ref frame,
            ref key,
        } = change
        else {
            return Ok(());
        };
        let id = match self.rooms.known(name) {
            Some((_, room)) if room.epoch == epoch && offset <= room.last => return Ok(()),
            Some((id, room)) if room.epoch == epoch => {
                if offset > room.last + 1 {
                    self.move_bounds(id, |room| {
                        room.first = offset;
                        room.last = offset - 1;
                    });
                }
                id
            }
            known => {
                if known.is_some() {
                    self.forget(name)?;
                }
                let id = self.begin(name, Room::new(epoch, offset));
                put_room(self.connection, id, name, epoch, &[])?;
                id
            }
        };
        self.rooms.update(id, |room| room.last = offset);
        self.put_entry(id, offset, at_ms, None, Some(frame))?;
        match key {
            Some(key) => self.put_entry(id, offset, at_ms, Some(key), None),
            None => Ok(()),
        }
    }

    /// Gives a room its own number.
    fn begin(&mut self, name: &Arc<str>, room: Room) -> i64 {
        let id = self.state.next_room;
        self.state.next_room += 1;
        self.rooms.insert(name, id, room);
        self.move_bounds(id, |_| ());
        id
    }

    fn move_bounds(&mut self, id: i64, change: impl FnOnce(&mut Room)) {
        let moved = &mut self.moved;
        self.rooms.update(id, |room| {
            change(room);
            if !std::mem::replace(&mut room.moved, true) {
                moved.push(id);
            }
        });
    }

    fn put_entry(
        &mut self,
        room: i64,
        offset: u64,
        at_ms: u64,
        key: Option<&str>,
        frame: Option<&[u8]>,
    ) -> rusqlite::Result<()> {
        let seq = *self.next_seq;
        let crc = entry_crc(seq, room, offset, at_ms, key, frame);
        let (offset, at_ms) = (offset.cast_signed(), at_ms.cast_signed());
        let row = params![seq, room, offset, at_ms, key, frame, crc];
        self.insert.execute(row)?;
        *self.next_seq += 1;
        self.state.entries += 1;
        Ok(())
    }
}

/// Returns the checksum of an entry.
pub(crate) fn entry_crc(
    seq: i64,
    room: i64,
    offset: u64,
    at_ms: u64,
    key: Option<&str>,
    frame: Option<&[u8]>,
) -> u32 {
    let is_key = i64::from(key.is_some());
    let numbers = [seq, room, offset.cast_signed(), at_ms.cast_signed(), is_key];
    let bytes = key.map(str::as_bytes).or(frame);
    crc(&numbers, bytes.unwrap_or_default())
}

fn put_room(
    connection: &Connection,
    id: i64,
    name: &str,
    epoch: u64,
    lineage: &[Ancestor],
) -> rusqlite::Result<()> {
    let lineage = encode_lineage(lineage);
    let crc = room_crc(id, name, epoch, &lineage);
    let sql = "INSERT OR REPLACE INTO rooms (id, name, epoch, lineage, crc) VALUES (?, ?, ?, ?, ?)";
    let mut insert = connection.prepare_cached(sql)?;
    insert.execute(params![id, name, epoch.cast_signed(), lineage, crc])?;
    Ok(())
}

/// Returns the checksum of a room's row.
pub(crate) fn room_crc(id: i64, name: &str, epoch: u64, lineage: &[u8]) -> u32 {
    crc(
        &[id, epoch.cast_signed()],
        &[name.as_bytes(), lineage].concat(),
    )
}

fn put_bounds(connection: &Connection, id: i64, room: &Room) -> rusqlite::Result<()> {
    let crc = bounds_crc(id, room.first, room.first_key);
    let (first, first_key) = (room.first.cast_signed(), room.first_key.cast_signed());
    let sql = "INSERT OR REPLACE INTO bounds (room, first, first_key, crc) VALUES (?, ?, ?, ?)";
    let mut insert = connection.prepare_cached(sql)?;
    insert.execute(params![id, first, first_key, crc])?;
    Ok(())
}

/// Returns the checksum of a room's bounds.
pub(crate) fn bounds_crc(id: i64, first: u64, first_key: u64) -> u32 {
    crc(&[id, first.cast_signed(), first_key.cast_signed()], &[])
}

fn encode_lineage(lineage: &[Ancestor]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lineage.len() * ANCESTOR_BYTES);
    for ancestor in lineage {
        bytes.extend(ancestor.epoch.to_le_bytes());
        bytes.extend(ancestor.last_offset.to_le_bytes());
        bytes.push(u8::from(ancestor.complete));
    }
    bytes
}

/// Decodes the output of [`encode_lineage`], if a checksum vouches for it.
pub(crate) fn decode_lineage(bytes: &[u8]) -> Vec<Ancestor> {
    let (ancestors, _) = bytes.as_chunks::<ANCESTOR_BYTES>();
    let ancestor = |bytes: &[u8; ANCESTOR_BYTES]| {
        let number = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        Ancestor {
            epoch: u64::from_le_bytes(number(0)),
            last_offset: u64::from_le_bytes(number(8)),
            complete: bytes[16] != 0,
        }
    };
    ancestors.iter().map(ancestor).collect()
}

const ANCESTOR_BYTES: usize = 17;
