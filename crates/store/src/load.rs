//! From the frames of the log to rooms, and to the index that goes on from there.
//!
//! Steps come in the order in which they were written: an entry counts as it was put last, if it was not
//! removed since. What does not fit together in the end is damage, and said: frames have checksums, but
//! a room that was put together wrongly would be worse than none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{Bounds, EntryKey, Head, Kind, decode_keys, decode_publications};
use crate::error::Damage;
use crate::frame::{Step, Written};
use crate::index::{Entry, KeyEntry, Location, Room, Rooms};
use crate::record::{RoomRecord, StoredKey, StoredPublication};

/// Everything that is in the log.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) rooms: Rooms,
    pub(crate) records: Vec<RoomRecord>,
    pub(crate) commits: u64,
}

/// Takes the frames in, one after the other.
#[derive(Debug)]
pub(crate) struct Loader {
    /// Whether what rooms hold is wanted.
    everything: bool,
    rooms: BTreeMap<u64, UnderWay>,
    commits: u64,
}

/// What is known of a room until now.
#[derive(Debug, Default)]
struct UnderWay {
    head: Option<(Head, Location)>,
    bounds: Option<(Bounds, Location)>,
    publications: BTreeMap<u64, Raw>,
    keys: BTreeMap<u64, Raw>,
}

/// An entry as it was read. What is in it is only taken out when it is certain that it was not removed.
#[derive(Debug)]
struct Raw {
    /// The offset of the last in it.
    last: u64,
    /// Nothing, if it is not wanted.
    value: Box<[u8]>,
    at: Location,
}

impl Loader {
    /// One that also hands over what the rooms hold.
    pub(crate) fn of_everything() -> Self {
        Self {
            everything: true,
            ..Self::of_index()
        }
    }

    /// One that looks at everything, and keeps what the store needs to go on.
    pub(crate) fn of_index() -> Self {
        Self {
            everything: false,
            rooms: BTreeMap::new(),
            commits: 0,
        }
    }

    /// Takes in the next frame.
    ///
    /// # Errors
    ///
    /// [`Damage::Segment`] or [`Damage::Entry`] if something in it cannot be read.
    pub(crate) fn frame(&mut self, segment: u32, frame: Written<'_>) -> Result<(), Damage> {
        if frame.head.commits < self.commits {
            return Err(Damage::Segment { number: segment });
        }
        self.commits = frame.head.commits;
        for step in frame.steps() {
            let step = step.ok_or(Damage::Segment { number: segment })?;
            let room = self.rooms.entry(step.key.room).or_default();
            room.step(segment, step, self.everything)
                .ok_or_else(|| damage(step.key))?;
            if step.value.is_none() && room.is_empty() {
                self.rooms.remove(&step.key.room);
            }
        }
        Ok(())
    }

    /// Everything that was taken in. `oldest`: the oldest segment.
    ///
    /// # Errors
    ///
    /// [`Damage::Entry`] if a room makes no sense.
    pub(crate) fn finish(self, oldest: u32) -> Result<Loaded, Damage> {
        let mut loaded = Loaded {
            rooms: Rooms::new(oldest),
            records: Vec::new(),
            commits: self.commits,
        };
        for (id, under_way) in self.rooms {
            under_way.finish(id, &mut loaded, self.everything)?;
        }
        Ok(loaded)
    }
}

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.head.is_none()
            && self.bounds.is_none()
            && self.publications.is_empty()
            && self.keys.is_empty()
    }

    fn step(&mut self, segment: u32, step: Step<'_>, everything: bool) -> Option<()> {
        let at = Location {
            segment,
            bytes: step.bytes(),
        };
        let offset = step.key.offset;
        match (step.key.kind, step.value) {
            (Kind::Head, Some(value)) => self.head = Some((Head::decode(value)?, at)),
            (Kind::Bounds, Some(value)) => self.bounds = Some((Bounds::decode(value)?, at)),
            (Kind::Publications, Some(value)) => {
                let read = Raw::publications(offset, value, at, everything)?;
                self.publications.insert(offset, read);
            }
            (Kind::Keys, Some(value)) => {
                let read = Raw::keys(offset, value, at, everything)?;
                self.keys.insert(offset, read);
            }
            (Kind::Head, None) => self.head = None,
            (Kind::Bounds, None) => self.bounds = None,
            (Kind::Publications, None) => drop(self.publications.remove(&offset)),
            (Kind::Keys, None) => drop(self.keys.remove(&offset)),
        }
        Some(())
    }

    fn finish(self, id: u64, loaded: &mut Loaded, everything: bool) -> Result<(), Damage> {
        let key = |kind| EntryKey {
            room: id,
            kind,
            offset: 0,
        };
        let head = self.head.filter(|_| id < u64::MAX);
        let (head, head_at) = head.ok_or_else(|| damage(key(Kind::Head)))?;
        let bounds = self.bounds.map(|(bounds, _)| bounds).unwrap_or_default();
        let mut room = Room::new(id, head.name, head.epoch, 1);
        room.bounds = bounds;
        room.bounds_at = self.bounds.map(|(_, at)| at);
        room.head_at = Some(head_at);
        let publications = join_publications(self.publications, &mut room)
            .ok_or_else(|| damage(key(Kind::Publications)))?;
        let keys = join_keys(self.keys, &mut room).ok_or_else(|| damage(key(Kind::Keys)))?;
        let locations = [room.head_at, room.bounds_at].into_iter().flatten();
        let locations = locations
            .chain(room.entries.iter().map(|entry| entry.at))
            .chain(room.key_entries.iter().map(|entry| entry.at));
        for at in locations {
            loaded.rooms.live.claim(at);
        }
        if everything {
            loaded.records.push(RoomRecord {
                name: room.name.clone(),
                epoch: room.epoch,
                lineage: head.lineage,
                last_offset: room.last,
                publications,
                keys,
            });
        }
        // Two rooms of one name would be one too many.
        if loaded.rooms.insert(room) {
            Ok(())
        } else {
            Err(damage(key(Kind::Head)))
        }
    }
}

impl Raw {
    fn publications(first: u64, value: &[u8], at: Location, everything: bool) -> Option<Self> {
        let mut last = first.checked_sub(1)?;
        decode_publications(first, value, |offset, _, _| last = offset)?;
        (last >= first).then(|| Self::new(last, value, at, everything))
    }

    fn keys(first: u64, value: &[u8], at: Location, everything: bool) -> Option<Self> {
        let mut last = first.checked_sub(1)?;
        let mut ascending = true;
        decode_keys(value, |offset, _, _| {
            ascending &= offset > last;
            last = offset;
        })?;
        (ascending && last >= first).then(|| Self::new(last, value, at, everything))
    }

    fn new(last: u64, value: &[u8], at: Location, everything: bool) -> Self {
        let value = if everything { value } else { &[] };
        Self {
            last,
            value: Box::from(value),
            at,
        }
    }
}

/// Without holes, or none. Sets where the room's history begins and ends.
fn join_publications(
    entries: BTreeMap<u64, Raw>,
    room: &mut Room,
) -> Option<Vec<StoredPublication>> {
    room.first = match entries.first_key_value() {
        Some((&first, _)) => first.max(room.bounds.first),
        None => room.bounds.first.max(1),
    };
    room.last = room.first - 1;
    let mut held = Vec::new();
    let mut next = None;
    for (first, entry) in entries {
        // An entry of which nothing is held would have been removed.
        if next.is_some_and(|next| next != first) || entry.last < room.first {
            return None;
        }
        next = Some(entry.last.checked_add(1)?);
        room.last = entry.last;
        let at = entry.at;
        room.entries.push_back(Entry { first, at });
        decode_publications(first, &entry.value, |offset, at_ms, frame| {
            if offset >= room.first {
                held.push(StoredPublication {
                    offset,
                    at_ms,
                    frame: Arc::from(frame),
                });
            }
        })?;
    }
    held.shrink_to_fit();
    Some(held)
}

/// In order, or none. Sets which keys are remembered.
fn join_keys(entries: BTreeMap<u64, Raw>, room: &mut Room) -> Option<Vec<StoredKey>> {
    room.first_key = room.bounds.first_key;
    let mut held = Vec::new();
    let mut before = 0;
    for (first, entry) in entries {
        if first <= before || entry.last < room.first_key {
            return None;
        }
        before = entry.last;
        room.key_entries.push_back(KeyEntry {
            first,
            last: entry.last,
            at: entry.at,
        });
        decode_keys(&entry.value, |offset, at_ms, key| {
            if offset >= room.first_key {
                held.push(StoredKey {
                    key: Arc::from(key),
                    offset,
                    at_ms,
                });
            }
        })?;
    }
    Some(held)
}

fn damage(key: EntryKey) -> Damage {
    Damage::Entry {
        room: key.room,
        kind: match key.kind {
            Kind::Head => "name and epoch",
            Kind::Bounds => "bounds",
            Kind::Publications => "publications",
            Kind::Keys => "keys",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::frame::{Frame, FrameHead};
    use crate::plan::plan;
    use crate::record::{Change, Record};

    const HEAD: FrameHead = FrameHead {
        oldest: 1,
        commits: 1,
    };

    /// The steps of a batch that uses every kind of entry.
    fn steps() -> Vec<u8> {
        let record = |room, change| Record {
            room: Arc::from(room),
            change,
        };
        let publication = |offset| Change::Publication {
            epoch: 1,
            offset,
            at_ms: 7,
            frame: Arc::from(*b"frame"),
            key: Some(Arc::from("key")),
        };
        let batch = [
            record("a", publication(1)),
            record("a", publication(2)),
            record("a", Change::Trim { first: 2 }),
            record("b", publication(5)),
            record("b", Change::Forget),
        ];
        let sealed = plan(&mut Rooms::new(1), &batch, 1).seal(1, HEAD).to_vec();
        sealed[20..].to_vec()
    }

    fn load(steps: &[u8]) -> Result<Loaded, Damage> {
        let mut frame = Frame::of(steps);
        let bytes = frame.seal(1, HEAD);
        let written = Written::read(1, &mut &*bytes).expect("its checksum is right");
        let mut loader = Loader::of_everything();
        loader.frame(1, written)?;
        loader.finish(1)
    }

    #[test]
    fn steps_that_a_checksum_vouches_for_are_still_not_believed() {
        let whole = steps();
        assert_eq!(load(&whole).expect("it was just planned").records.len(), 1);
        let mut random = fastrand::Rng::with_seed(1);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut harmed = whole.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..harmed.len());
                // The ends of what a number can be break more than any in between.
                harmed[at] = [0, 1, 0x7f, 0xff, random.u8(..)][random.usize(..5)];
            }
            harmed.truncate(random.usize(whole.len() / 2..=whole.len()));
            // Anything but a panic.
            refused += u32::from(load(&harmed).is_err());
        }
        assert!(refused > 10_000, "{refused}");
    }
}
