//! From records to the entries that are put into the log and removed from it.
//!
//! Planning changes the index. A batch that then is not written leaves an index that says more than there
//! is, so the store reads everything anew before it plans again.

use std::sync::Arc;

use crate::codec::{
    EntryKey, Kind, PUBLICATION_OVERHEAD_BYTES, encode_head, encode_key, encode_publication,
};
use crate::error::{CommitError, Flaw};
use crate::frame::Frame;
use crate::index::{Entry, KeyEntry, Live, Location, Pending, Room, Rooms};
use crate::record::{Ancestor, Change, Record};
use crate::store::BATCH_BYTES_MAX;

/// Says whether the batch can be planned.
///
/// # Errors
///
/// [`CommitError::Flawed`] and [`CommitError::TooLarge`].
pub(crate) fn check(records: &[Record]) -> Result<(), CommitError> {
    let mut bytes: usize = 0;
    for (index, record) in records.iter().enumerate() {
        if let Some(flaw) = flaw(record) {
            return Err(CommitError::Flawed { index, flaw });
        }
        bytes = bytes.saturating_add(record_bytes(record));
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(CommitError::TooLarge {
            bytes,
            bytes_max: BATCH_BYTES_MAX,
        });
    }
    Ok(())
}

fn flaw(record: &Record) -> Option<Flaw> {
    let offset = |offset: u64| !(1..u64::MAX).contains(&offset);
    match &record.change {
        Change::Epoch { lineage, .. } if u16::try_from(lineage.len()).is_err() => {
            Some(Flaw::LineageTooLong)
        }
        Change::Publication { offset: at, .. } if offset(*at) => Some(Flaw::Offset),
        Change::Trim { first } if offset(*first) => Some(Flaw::Offset),
        Change::Publication { key: Some(key), .. } if u16::try_from(key.len()).is_err() => {
            Some(Flaw::KeyTooLong)
        }
        _ => None,
    }
}

fn record_bytes(record: &Record) -> usize {
    let change = match &record.change {
        Change::Epoch { lineage, .. } => size_of_val(lineage.as_slice()),
        Change::Publication { frame, key, .. } => {
            frame.len() + key.as_ref().map_or(0, |key| key.len()) + 2 * PUBLICATION_OVERHEAD_BYTES
        }
        Change::ExpireKeys { .. } | Change::Forget | Change::Trim { .. } => 0,
    };
    record.room.len() + change
}

/// Plans a batch that was [checked](check), to be appended to the segment.
pub(crate) fn plan(rooms: &mut Rooms, records: &[Record], segment: u32) -> Frame {
    let mut planner = Planner {
        records,
        rooms,
        to: To {
            frame: Frame::new(),
            segment,
        },
        touched: Vec::new(),
    };
    for (index, record) in records.iter().enumerate() {
        let index = u32::try_from(index).expect("a record takes a byte, and a batch has few");
        planner.record(index, record);
    }
    planner.finish()
}

struct Planner<'a> {
    records: &'a [Record],
    rooms: &'a mut Rooms,
    to: To,
    /// The rooms that the batch changes, in the order in which it first did.
    touched: Vec<u64>,
}

/// Where the steps go.
struct To {
    frame: Frame,
    segment: u32,
}

impl To {
    fn put(
        &mut self,
        key: EntryKey,
        live: &mut Live,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Location {
        let at = Location {
            segment: self.segment,
            bytes: self.frame.put(key, encode),
        };
        live.claim(at);
        at
    }

    fn remove(&mut self, key: EntryKey, at: Location, live: &mut Live) {
        self.frame.remove(key);
        live.release(at);
    }
}

impl Planner<'_> {
    fn record(&mut self, index: u32, record: &Record) {
        let name = &record.room;
        match &record.change {
            Change::Epoch { epoch, lineage } => self.epoch(name, *epoch, lineage),
            Change::ExpireKeys { first } => self.expire_keys(name, *first),
            Change::Forget => self.forget(name),
            Change::Publication {
                epoch, offset, key, ..
            } => self.publication(name, index, *epoch, *offset, key.is_some()),
            Change::Trim { first } => self.trim(name, *first),
        }
    }

    fn epoch(&mut self, name: &Arc<str>, epoch: u64, lineage: &[Ancestor]) {
        let (room, _) = self
            .rooms
            .enter(name, |id, name| Room::new(id, name, epoch, 1));
        touch(room, &mut self.touched).lineage = Some(lineage.to_vec());
        room.epoch = epoch;
    }

    fn expire_keys(&mut self, name: &str, first: u64) {
        if let Some((room, _)) = self.rooms.known(name) {
            touch(room, &mut self.touched);
            // Not those to come.
            room.first_key = room.first_key.max(first.min(room.last + 1));
        }
    }

    fn forget(&mut self, name: &str) {
        let Some(mut room) = self.rooms.remove(name) else {
            return;
        };
        let live = &mut self.rooms.live;
        empty(&mut room, &mut self.to, live);
        empty_keys(&mut room, &mut self.to, live);
        for (kind, at) in [(Kind::Bounds, room.bounds_at), (Kind::Head, room.head_at)] {
            if let Some(at) = at {
                self.to.remove(room.key(kind, 0), at, live);
            }
        }
    }

    fn publication(&mut self, name: &Arc<str>, index: u32, epoch: u64, offset: u64, keyed: bool) {
        let new = |id, name| Room::new(id, name, epoch, offset);
        let (room, live) = self.rooms.enter(name, new);
        let anew = room.epoch != epoch;
        if anew {
            empty(room, &mut self.to, live);
            empty_keys(room, &mut self.to, live);
            room.epoch = epoch;
            room.first = offset;
        } else if offset <= room.last {
            return;
        } else if offset > room.last + 1 {
            empty(room, &mut self.to, live);
            room.first = offset;
        }
        room.last = offset;
        let unknown = room.head_at.is_none();
        let pending = touch(room, &mut self.touched);
        pending.publications.push(index);
        if keyed {
            pending.keys.push(index);
        }
        if anew {
            pending.lineage = Some(Vec::new());
        } else if unknown {
            pending.lineage.get_or_insert_default();
        }
    }

    fn trim(&mut self, name: &str, first: u64) {
        let Some((room, _)) = self.rooms.known(name) else {
            return;
        };
        touch(room, &mut self.touched);
        room.first = room.first.max(first);
        if first > room.last + 1 {
            touch(room, &mut self.touched).publications.clear();
            room.last = first - 1;
        }
    }

    fn finish(mut self) -> Frame {
        for &id in &self.touched {
            // It may have been forgotten since.
            if let Some((room, live)) = self.rooms.by_id(id) {
                finish_room(room, live, self.records, &mut self.to);
            }
        }
        self.to.frame
    }
}

/// What the batch adds to the room, which it is noted to change.
fn touch<'a>(room: &'a mut Room, touched: &mut Vec<u64>) -> &'a mut Pending {
    room.pending.get_or_insert_with(|| {
        touched.push(room.id);
        Box::default()
    })
}

/// Removes every publication, written or not.
fn empty(room: &mut Room, to: &mut To, live: &mut Live) {
    while let Some(entry) = room.entries.pop_front() {
        to.remove(room.key(Kind::Publications, entry.first), entry.at, live);
    }
    if let Some(pending) = &mut room.pending {
        pending.publications.clear();
    }
}

/// Removes every key, written or not.
fn empty_keys(room: &mut Room, to: &mut To, live: &mut Live) {
    while let Some(entry) = room.key_entries.pop_front() {
        to.remove(room.key(Kind::Keys, entry.first), entry.at, live);
    }
    if let Some(pending) = &mut room.pending {
        pending.keys.clear();
    }
    room.first_key = 0;
}

/// Plans what all the batch's changes of a room come to.
fn finish_room(room: &mut Room, live: &mut Live, records: &[Record], to: &mut To) {
    while let Some(entry) = room.pop_entry() {
        to.remove(room.key(Kind::Publications, entry.first), entry.at, live);
    }
    while let Some(entry) = room.pop_key_entry() {
        to.remove(room.key(Kind::Keys, entry.first), entry.at, live);
    }
    let unwritten = room.last_written() + 1;
    let pending = room.pending.take().unwrap_or_default();
    put_publications(room, live, &pending, unwritten, records, to);
    put_keys(room, live, &pending, records, to);
    if let Some(lineage) = &pending.lineage {
        put_head(room, live, lineage, to);
    }
    if let Some(bounds) = room.stale_bounds() {
        let at = to.put(room.key(Kind::Bounds, 0), live, |out| bounds.encode(out));
        room.bounds = bounds;
        if let Some(at) = room.bounds_at.replace(at) {
            live.release(at);
        }
    }
}

fn put_head(room: &mut Room, live: &mut Live, lineage: &[Ancestor], to: &mut To) {
    let at = to.put(room.key(Kind::Head, 0), live, |out| {
        encode_head(room.epoch, lineage, &room.name, out);
    });
    if let Some(at) = room.head_at.replace(at) {
        live.release(at);
    }
}

/// `unwritten`: the offset of the first that is pending.
fn put_publications(
    room: &mut Room,
    live: &mut Live,
    pending: &Pending,
    unwritten: u64,
    records: &[Record],
    to: &mut To,
) {
    let trimmed = usize::try_from(room.first.saturating_sub(unwritten)).unwrap_or(usize::MAX);
    let Some(held @ [_, ..]) = pending.publications.get(trimmed..) else {
        return;
    };
    let first = unwritten + trimmed as u64;
    let at = to.put(room.key(Kind::Publications, first), live, |out| {
        for &index in held {
            if let Change::Publication { at_ms, frame, .. } = &records[index as usize].change {
                encode_publication(*at_ms, frame, out);
            }
        }
    });
    room.entries.push_back(Entry { first, at });
}

fn put_keys(room: &mut Room, live: &mut Live, pending: &Pending, records: &[Record], to: &mut To) {
    let keys = pending.keys.iter().filter_map(|&index| {
        let Change::Publication {
            offset,
            at_ms,
            key: Some(key),
            ..
        } = &records[index as usize].change
        else {
            return None;
        };
        Some((*offset, *at_ms, &**key))
    });
    let mut keys = keys
        .filter(|(offset, ..)| *offset >= room.first_key)
        .peekable();
    let Some(&(first, ..)) = keys.peek() else {
        return;
    };
    let mut last = first;
    let at = to.put(room.key(Kind::Keys, first), live, |out| {
        for (offset, at_ms, key) in keys {
            last = offset;
            encode_key(offset, at_ms, key, out);
        }
    });
    room.key_entries.push_back(KeyEntry { first, last, at });
}
