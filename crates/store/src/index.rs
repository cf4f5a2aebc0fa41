//! What the store remembers of what it wrote, so that it never has to look there to write.
//!
//! A room's publications lie in entries, one for each batch that had some. An entry reaches up to the one
//! behind it, the last to the room's last offset. `first` may lie within the first entry: what is before
//! it there is no longer held, and goes with the entry.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;

use crate::codec::{Bounds, EntryKey, Kind};
use crate::record::Ancestor;

/// Every room that the store knows.
#[derive(Debug)]
pub(crate) struct Rooms {
    by_name: HashMap<Arc<str>, u64, RandomState>,
    by_id: HashMap<u64, Room, RandomState>,
    /// The number of the next room that is new. None is given twice.
    next_id: u64,
    pub(crate) live: Live,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    /// The first offset that is held; `last + 1` if none is.
    pub(crate) first: u64,
    /// The last offset, held or not; 0 if there was none.
    pub(crate) last: u64,
    /// The first offset whose key is remembered.
    pub(crate) first_key: u64,
    /// As they were last written.
    pub(crate) bounds: Bounds,
    pub(crate) head_at: Option<Location>,
    pub(crate) bounds_at: Option<Location>,
    /// Each entry of publications.
    pub(crate) entries: VecDeque<Entry>,
    /// Each entry of keys.
    pub(crate) key_entries: VecDeque<KeyEntry>,
    /// What the batch that is being planned adds, if it changes the room.
    pub(crate) pending: Option<Box<Pending>>,
}

/// An entry of publications, by the offset of its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) first: u64,
    pub(crate) at: Location,
}

/// An entry of keys, by the offsets of its first and its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) at: Location,
}

/// In which segment an entry is, and what it takes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) bytes: u32,
}

/// What a batch adds to a room.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The lineage to write, with epoch and name, if these must be.
    pub(crate) lineage: Option<Vec<Ancestor>>,
    /// Publications, as indices of records. Without holes, and the last has the room's last offset.
    pub(crate) publications: Vec<u32>,
    /// Publications with keys, the same way.
    pub(crate) keys: Vec<u32>,
}

/// How many bytes of each segment are entries that are neither removed nor overwritten.
#[derive(Debug)]
pub(crate) struct Live {
    oldest: u32,
    bytes: VecDeque<u64>,
    total: u64,
}

impl Rooms {
    /// None. `oldest`: the oldest segment of the log.
    pub(crate) fn new(oldest: u32) -> Self {
        Self {
            by_name: HashMap::default(),
            by_id: HashMap::default(),
            next_id: 1,
            live: Live {
                oldest,
                bytes: VecDeque::new(),
                total: 0,
            },
        }
    }

    /// The room, which is inserted if it is not known.
    pub(crate) fn enter(
        &mut self,
        name: &Arc<str>,
        new: impl FnOnce(u64, Arc<str>) -> Room,
    ) -> (&mut Room, &mut Live) {
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => {
                let id = self.next_id;
                self.insert(new(id, Arc::clone(name)));
                id
            }
        };
        let room = self.by_id.get_mut(&id).expect("each name's room is there");
        (room, &mut self.live)
    }

    /// The room, if it is known.
    pub(crate) fn known(&mut self, name: &str) -> Option<(&mut Room, &mut Live)> {
        let id = self.by_name.get(name)?;
        let room = self.by_id.get_mut(id).expect("each name's room is there");
        Some((room, &mut self.live))
    }

    /// The room with the number, if there is one.
    pub(crate) fn by_id(&mut self, id: u64) -> Option<(&mut Room, &mut Live)> {
        Some((self.by_id.get_mut(&id)?, &mut self.live))
    }

    /// Adds a room, and says whether its name was new.
    pub(crate) fn insert(&mut self, room: Room) -> bool {
        self.next_id = self.next_id.max(room.id + 1);
        let new = self
            .by_name
            .insert(Arc::clone(&room.name), room.id)
            .is_none();
        self.by_id.insert(room.id, room);
        new
    }

    /// Takes a room out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Room> {
        let id = self.by_name.remove(name)?;
        self.by_id.remove(&id)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

impl Room {
    /// A room without publications, whose next one has the offset.
    pub(crate) fn new(id: u64, name: Arc<str>, epoch: u64, next_offset: u64) -> Self {
        Self {
            id,
            name,
            epoch,
            first: next_offset,
            last: next_offset - 1,
            first_key: 0,
            bounds: Bounds::default(),
            head_at: None,
            bounds_at: None,
            entries: VecDeque::new(),
            key_entries: VecDeque::new(),
            pending: None,
        }
    }

    /// The key of one of its entries.
    pub(crate) fn key(&self, kind: Kind, offset: u64) -> EntryKey {
        EntryKey {
            room: self.id,
            kind,
            offset,
        }
    }

    /// The last offset that is not of the batch under way.
    pub(crate) fn last_written(&self) -> u64 {
        let pending = self.pending.as_ref();
        self.last - pending.map_or(0, |pending| pending.publications.len() as u64)
    }

    /// Takes the first entry out if nothing in it is held.
    pub(crate) fn pop_entry(&mut self) -> Option<Entry> {
        let next = self.entries.get(1);
        let end = next.map_or_else(|| self.last_written(), |next| next.first - 1);
        if end < self.first {
            self.entries.pop_front()
        } else {
            None
        }
    }

    /// Takes the first entry of keys out if none in it is remembered.
    pub(crate) fn pop_key_entry(&mut self) -> Option<KeyEntry> {
        if self.key_entries.front()?.last < self.first_key {
            self.key_entries.pop_front()
        } else {
            None
        }
    }

    /// What must be written so that `first` and `first_key` can be told from the entries.
    pub(crate) fn stale_bounds(&self) -> Option<Bounds> {
        let bounds = self.bounds;
        let told = match self.entries.front() {
            Some(entry) => entry.first.max(bounds.first),
            None => bounds.first.max(1),
        };
        // A first key above what is told is of keys that are all gone.
        let keys = self.key_entries.front();
        let within = keys.is_some_and(|entry| entry.first < self.first_key);
        let keys_told =
            bounds.first_key == self.first_key || (bounds.first_key < self.first_key && !within);
        (told != self.first || !keys_told).then_some(Bounds {
            first: self.first,
            first_key: self.first_key,
        })
    }

    /// Where an entry is, to be changed. None, if there is none with the key.
    pub(crate) fn location(&mut self, key: EntryKey) -> Option<&mut Location> {
        match key.kind {
            Kind::Head => self.head_at.as_mut(),
            Kind::Bounds => self.bounds_at.as_mut(),
            Kind::Publications => {
                let found = self
                    .entries
                    .binary_search_by_key(&key.offset, |entry| entry.first);
                Some(&mut self.entries[found.ok()?].at)
            }
            Kind::Keys => {
                let entries = &mut self.key_entries;
                let found = entries.binary_search_by_key(&key.offset, |entry| entry.first);
                Some(&mut entries[found.ok()?].at)
            }
        }
    }
}

impl Live {
    /// An entry has been written.
    pub(crate) fn claim(&mut self, at: Location) {
        let Some(index) = self.index(at.segment) else {
            return;
        };
        if index >= self.bytes.len() {
            self.bytes.resize(index + 1, 0);
        }
        self.bytes[index] += u64::from(at.bytes);
        self.total += u64::from(at.bytes);
    }

    /// An entry has been removed or overwritten.
    pub(crate) fn release(&mut self, at: Location) {
        let index = self.index(at.segment);
        if let Some(bytes) = index.and_then(|index| self.bytes.get_mut(index)) {
            *bytes -= u64::from(at.bytes);
            self.total -= u64::from(at.bytes);
        }
    }

    /// What is live in a segment.
    pub(crate) fn of(&self, segment: u32) -> u64 {
        let bytes = self.index(segment).and_then(|index| self.bytes.get(index));
        bytes.copied().unwrap_or_default()
    }

    /// What is live in all of them.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The segments before this one, in which nothing is live, are forgotten.
    pub(crate) fn forget_before(&mut self, segment: u32) {
        let count = self.index(segment).unwrap_or_default();
        self.bytes.drain(..count.min(self.bytes.len()));
        self.oldest = segment;
    }

    fn index(&self, segment: u32) -> Option<usize> {
        segment.checked_sub(self.oldest).map(|index| index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the crate's documentation says. A list of entries begins with four.
    #[test]
    fn rooms_and_entries_take_what_they_are_said_to() {
        let named = size_of::<(Arc<str>, u64)>() + size_of::<(u64, Room)>();
        // A table that has just doubled is filled to seven sixteenths, and has a byte for each place.
        let in_tables = (named + 2) * 16 / 7;

        assert!(in_tables + 4 * size_of::<Entry>() < 550, "{in_tables}");
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<KeyEntry>(), 24);
    }
}
