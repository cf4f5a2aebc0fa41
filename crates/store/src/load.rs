//! From rows to rooms.
//!
//! Checksums prove that a row is what was written, counts that no row is missing, and offsets
//! without holes that rows belong together. Everything else is reported as damage: a room that was
//! put together wrongly would be worse than none.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::database::{self, ReadError, State};
use crate::error::Damage;
use crate::record::{RoomRecord, StoredKey, StoredPublication};
use crate::rooms::{Room, Rooms};
use crate::write::{bounds_crc, decode_lineage, entry_crc, room_crc};

/// The contents of the file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) rooms: Rooms,
    /// The rooms, in the order of their numbers.
    pub(crate) records: Vec<RoomRecord>,
    pub(crate) state: State,
    /// The sequence number of the next entry.
    pub(crate) next_seq: i64,
    /// None if only versions of the program without a witness have had the store.
    pub(crate) identity: Option<i64>,
}

/// A room whose entries are being read.
struct UnderWay {
    id: i64,
    room: Room,
    record: RoomRecord,
}

/// Reads the file. `everything`: also the contents of rooms, and not only their bounds.
pub(crate) fn load(connection: &Connection, everything: bool) -> Result<Loaded, ReadError> {
    let state = State::read(connection)?;
    let mut under_way = read_rooms(connection)?;
    let next_seq = read_entries(connection, state, &mut under_way, everything)?;
    let mut loaded = Loaded {
        rooms: Rooms::default(),
        records: Vec::with_capacity(under_way.len()),
        state,
        next_seq,
        identity: database::identity(connection)?,
    };
    for UnderWay { id, room, record } in under_way {
        if !loaded.rooms.insert(&record.name, id, room) || id >= state.next_room {
            return Err(damage(id, "name and epoch"));
        }
        loaded.records.push(record);
    }
    Ok(loaded)
}

fn read_rooms(connection: &Connection) -> Result<Vec<UnderWay>, ReadError> {
    let mut rooms = Vec::new();
    let sql = "SELECT id, name, epoch, lineage, rooms.crc, first, first_key, bounds.crc
        FROM rooms LEFT JOIN bounds ON room = id ORDER BY id";
    let mut select = connection.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let name: Arc<str> = row.get(1)?;
        let epoch = row.get::<_, i64>(2)?.cast_unsigned();
        let lineage: Vec<u8> = row.get(3)?;
        if row.get::<_, u32>(4)? != room_crc(id, &name, epoch, &lineage) {
            return Err(damage(id, "name and epoch"));
        }
        let first = row.get::<_, i64>(5)?.cast_unsigned();
        let first_key = row.get::<_, i64>(6)?.cast_unsigned();
        if first == 0 || row.get::<_, u32>(7)? != bounds_crc(id, first, first_key) {
            return Err(damage(id, "bounds"));
        }
        let mut room = Room::new(epoch, first);
        room.first_key = first_key;
        let record = RoomRecord {
            name,
            epoch,
            lineage: decode_lineage(&lineage),
            last_offset: room.last,
            publications: Vec::new(),
            keys: Vec::new(),
        };
        rooms.push(UnderWay { id, room, record });
    }
    Ok(rooms)
}

/// Reads the entries; returns the sequence number of the next one.
fn read_entries(
    connection: &Connection,
    state: State,
    rooms: &mut [UnderWay],
    everything: bool,
) -> Result<i64, ReadError> {
    let indices = rooms.iter().enumerate();
    let indices: HashMap<i64, usize> = indices.map(|(index, room)| (room.id, index)).collect();
    let mut found = 0;
    let mut last_seq = 0;
    let sql = "SELECT seq, room, offset, at_ms, key, frame, crc FROM entries ORDER BY seq";
    let mut select = connection.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (seq, id) = (row.get(0)?, row.get(1)?);
        let offset = row.get::<_, i64>(2)?.cast_unsigned();
        let at_ms = row.get::<_, i64>(3)?.cast_unsigned();
        let key = row.get_ref(4)?.as_str_or_null().map_err(column)?;
        let frame = row.get_ref(5)?.as_blob_or_null().map_err(column)?;
        if row.get::<_, u32>(6)? != entry_crc(seq, id, offset, at_ms, key, frame) {
            return Err(damage(id, "publications"));
        }
        found += 1;
        last_seq = seq;
        let Some(under_way) = indices.get(&id).and_then(|&index| rooms.get_mut(index)) else {
            continue;
        };
        match key {
            Some(key) => under_way.key(offset, at_ms, key, everything),
            None => under_way
                .publication(offset, at_ms, frame.unwrap_or_default(), everything)
                .ok_or_else(|| damage(id, "publications"))?,
        }
    }
    if found == state.entries {
        Ok(last_seq + 1)
    } else {
        let expected = state.entries;
        Err(ReadError::Damaged(Damage::Entries { found, expected }))
    }
}

impl UnderWay {
    /// Adds a publication; none if one before it is missing.
    fn publication(
        &mut self,
        offset: u64,
        at_ms: u64,
        frame: &[u8],
        everything: bool,
    ) -> Option<()> {
        if offset < self.room.first {
            return Some(());
        }
        if offset != self.room.last + 1 {
            return None;
        }
        self.room.last = offset;
        self.record.last_offset = offset;
        if everything {
            self.record.publications.push(StoredPublication {
                offset,
                at_ms,
                frame: Arc::from(frame),
            });
        }
        Some(())
    }

    fn key(&mut self, offset: u64, at_ms: u64, key: &str, everything: bool) {
        if everything && offset >= self.room.first_key {
            self.record.keys.push(StoredKey {
                key: Arc::from(key),
                offset,
                at_ms,
            });
        }
    }
}

fn damage(room: i64, kind: &'static str) -> ReadError {
    ReadError::Damaged(Damage::Room { room, kind })
}

/// Converts the error of a value whose type its column does not have.
fn column(error: rusqlite::types::FromSqlError) -> ReadError {
    ReadError::Damaged(Damage::Database {
        said: error.to_string(),
    })
}
