//! What a room keeps beside its members: its last publications, and the keys of recent ones.
//!
//! Invariants: the publications are the last ones of the room's stream, without holes; `cost_bytes`
//! is the sum of what each entry counts for; keys are in the order they were published in; no queue has many more
//! places than it needs, for which each entry counts in part.

use std::collections::VecDeque;

use hashbrown::HashTable;
use proto::SharedFrame;
use smallvec::SmallVec;

use crate::allocation::{COUNTS_LEN, allocated_bytes};
use crate::class::RoomClass;
use crate::delivery::Delivery;
use crate::id::{ConnectionId, Wire};
use crate::position::Ancestor;
use crate::shard::Room;
use crate::time::Moment;

/// The history and the keys of one room.
#[derive(Debug)]
pub(crate) struct Kept {
    publications: VecDeque<Stored>,
    frame_bytes: usize,
    keys: VecDeque<Key>,
    /// Serial numbers of keys, by the hash of their text.
    by_key: HashTable<u64>,
    /// The serial number of the oldest key.
    first_serial: u64,
    cost_bytes: usize,
    /// When the room's entry in its shard's line is due; an entry at another time is of no use any more.
    pub(crate) due: Moment,
    /// Until when a room without members is remembered though nothing is kept of it:
    /// its last member may have lost its connection for a moment only.
    lingers_until: Option<Moment>,
    /// The epochs that the room had in earlier processes, as far as positions of them mean something.
    lineage: Vec<Ancestor>,
    /// Publications that are not written down yet, which nobody has seen, and the events behind them.
    staged: VecDeque<Staged>,
    staged_publication_count: u64,
}

/// A publisher that waits until its publication is written down.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) connection: ConnectionId,
    pub(crate) acknowledgement: SharedFrame,
    pub(crate) refusal: SharedFrame,
}

/// Something that waits to be written down.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) delivery: Delivery,
    /// Who is not sent it.
    pub(crate) except: Option<ConnectionId>,
    /// Its frames on every wire: who is a member when it is written down is not known yet.
    pub(crate) frames: SmallVec<[(Wire, SharedFrame); 2]>,
    pub(crate) at: Moment,
    pub(crate) waiting: SmallVec<[Waiting; 1]>,
}

/// One publication of a history.
#[derive(Debug)]
struct Stored {
    frame: SharedFrame,
    at: Moment,
}

/// A key and the publication it came with.
#[derive(Debug)]
struct Key {
    text: Box<str>,
    hash: u64,
    offset: u64,
    at: Moment,
}

/// What an entry's place in a queue takes, with its part of those that are empty.
const fn place_cost(place: usize) -> usize {
    allocated_bytes(place * 5 / 4)
}

/// What a publication takes beside its frame: its place, and what of pages is lost between blocks.
const STORED_COST: usize = size_of::<Stored>() * 5 / 4 + 24;

/// What a key takes beside its text: its place in the queue, in a table that is a quarter full, as one is in which
/// keys come and go, and what is lost as both are moved to longer and shorter ones.
const KEY_COST: usize = size_of::<Key>() * 2 + (size_of::<u64>() + 1) * 4;

/// What a room that keeps something takes beside its name: this, itself in a table that is a third to a half full, its
/// entries in the line of what expires, the smallest table of keys, and places for a second publication and a second
/// key.
const ROOM_COST: usize = allocated_bytes(size_of::<Kept>())
    + (size_of::<Room>() + 1) * 11 / 4
    + 176
    + size_of::<Stored>()
    + size_of::<Key>();

/// What a publication with a frame of this length takes.
#[inline]
pub(crate) const fn publication_cost(frame_len: usize) -> usize {
    STORED_COST + allocated_bytes(COUNTS_LEN + frame_len)
}

/// What a key of this length takes.
#[inline]
pub(crate) const fn key_cost(key_len: usize) -> usize {
    // As `allocated_bytes` says of what is as short as a key.
    KEY_COST + key_len.next_multiple_of(16)
}

/// What a publication with this payload counts for at most: its envelope has the room's name, of which a
/// character may take six, numbers and punctuation. Whoever writes it otherwise may be off: what counts in
/// the end is the frame.
pub(crate) const fn cost_at_most(payload_len: usize, name_len: usize, key_len: usize) -> usize {
    // More than `allocated_bytes` makes of a frame.
    let frame = (payload_len + 6 * name_len) * 3 / 2;
    frame + 2 * key_len + ROOM_COST + STORED_COST + KEY_COST + 512
}

impl Kept {
    /// Nothing yet, for a room whose name is so long.
    pub(crate) const fn new(name_len: usize) -> Self {
        Self {
            publications: VecDeque::new(),
            frame_bytes: 0,
            keys: VecDeque::new(),
            by_key: HashTable::new(),
            first_serial: 0,
            cost_bytes: ROOM_COST + allocated_bytes(COUNTS_LEN + name_len),
            due: Moment::NEVER,
            lingers_until: None,
            lineage: Vec::new(),
            staged: VecDeque::new(),
            staged_publication_count: 0,
        }
    }

    /// Stages something behind what is staged already.
    pub(crate) fn stage(&mut self, staged: Staged) {
        self.cost_bytes += staged.cost_bytes();
        self.staged_publication_count += u64::from(staged.is_publication());
        self.staged.push_back(staged);
    }

    /// How many publications are staged.
    pub(crate) const fn staged_publication_count(&self) -> u64 {
        self.staged_publication_count
    }

    /// Whether something is staged.
    pub(crate) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// The staged publication with this offset.
    pub(crate) fn staged_mut(&mut self, offset: u64) -> Option<&mut Staged> {
        self.staged
            .iter_mut()
            .find(|staged| staged.delivery == Delivery::Publication(offset))
    }

    /// Takes what is staged first, if it is no publication behind `offset`.
    pub(crate) fn take_staged(&mut self, offset: u64) -> Option<Staged> {
        let first = self.staged.front()?;
        if matches!(first.delivery, Delivery::Publication(found) if found > offset) {
            return None;
        }
        let first = self.staged.pop_front()?;
        self.cost_bytes -= first.cost_bytes();
        self.staged_publication_count -= u64::from(first.is_publication());
        if self.staged.is_empty() {
            // Its places count for nothing.
            self.staged = VecDeque::new();
        }
        Some(first)
    }

    /// Forgets the keys of publications behind `offset`: they were not written down.
    pub(crate) fn forget_keys_behind(&mut self, offset: u64) {
        while self.keys.back().is_some_and(|key| key.offset > offset) {
            let serial = self.first_serial + self.keys.len() as u64 - 1;
            if let Some(key) = self.keys.pop_back() {
                self.remove_key(&key, serial);
            }
        }
        shrink(&mut self.keys);
    }

    /// What the room had in earlier processes.
    pub(crate) fn set_lineage(&mut self, lineage: Vec<Ancestor>) {
        self.cost_bytes += size_of_val(&lineage[..]);
        self.lineage = lineage;
    }

    /// The epochs that the room had in earlier processes.
    pub(crate) fn lineage(&self) -> &[Ancestor] {
        &self.lineage
    }

    /// The offset of the oldest publication whose key is remembered; one past the last if there is none.
    pub(crate) fn first_key_offset(&self, last_offset: u64) -> u64 {
        self.keys.front().map_or(last_offset + 1, |key| key.offset)
    }

    /// The time and the frame of each publication that is held.
    pub(crate) fn publications(&self) -> impl Iterator<Item = (Moment, &SharedFrame)> {
        self.publications
            .iter()
            .map(|stored| (stored.at, &stored.frame))
    }

    /// Each key with the offset and the time of its publication.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, u64, Moment)> {
        self.keys.iter().map(|key| (&*key.text, key.offset, key.at))
    }

    /// Remembers the room for as long as its history lasts.
    pub(crate) fn linger(&mut self, now: Moment, class: &RoomClass) {
        self.lingers_until = Some(now.after(class.history.age_max_ms));
    }

    /// What all of it counts for, in bytes.
    pub(crate) const fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    /// How many publications are kept.
    #[cfg(test)]
    pub(crate) fn publication_count(&self) -> usize {
        self.publications.len()
    }

    /// Keeps a publication, and drops the oldest ones that are over the class's limits.
    pub(crate) fn push(&mut self, frame: SharedFrame, at: Moment, class: &RoomClass) {
        let limits = &class.history;
        self.frame_bytes += frame.len();
        self.cost_bytes += publication_cost(frame.len());
        grow(&mut self.publications);
        self.publications.push_back(Stored { frame, at });
        while self.publications.len() > limits.publications_max as usize
            || self.frame_bytes > limits.bytes_max
        {
            self.drop_publication();
        }
    }

    /// Forgets all that may be forgotten.
    pub(crate) fn clear(&mut self) {
        self.clear_publications();
        while !self.keys.is_empty() {
            self.drop_key();
        }
        self.lingers_until = None;
    }

    /// Forgets all publications: the next one cannot be kept, and there are no holes.
    pub(crate) fn clear_publications(&mut self) {
        while !self.publications.is_empty() {
            self.drop_publication();
        }
    }

    fn drop_publication(&mut self) {
        let Some(dropped) = self.publications.pop_front() else {
            return;
        };
        self.frame_bytes -= dropped.frame.len();
        self.cost_bytes -= publication_cost(dropped.frame.len());
        shrink(&mut self.publications);
    }

    /// The offset of the oldest publication that is held, when the last one has `last_offset`; one
    /// more than that if none is.
    pub(crate) fn first_offset(&self, last_offset: u64) -> u64 {
        last_offset + 1 - self.publications.len() as u64
    }

    /// The publications from `offset` on, which must not be before the first that is held.
    pub(crate) fn since_offset(
        &self,
        offset: u64,
        last_offset: u64,
    ) -> impl Iterator<Item = &SharedFrame> {
        let skipped = offset - self.first_offset(last_offset);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.publications
            .range(skipped.min(self.publications.len())..)
            .map(|stored| &stored.frame)
    }

    /// The offset of the publication that came with this key.
    pub(crate) fn find_key(&self, hash: u64, text: &str) -> Option<u64> {
        let found = self.by_key.find(hash, |serial| {
            self.key(*serial).is_some_and(|key| *key.text == *text)
        });
        found
            .and_then(|serial| self.key(*serial))
            .map(|key| key.offset)
    }

    /// Remembers a key that is not known, and forgets the oldest over the class's limit.
    pub(crate) fn push_key(
        &mut self,
        (hash, text): (u64, &str),
        offset: u64,
        at: Moment,
        class: &RoomClass,
    ) {
        let serial = self.first_serial + self.keys.len() as u64;
        self.cost_bytes += key_cost(text.len());
        grow(&mut self.keys);
        self.keys.push_back(Key {
            text: text.into(),
            hash,
            offset,
            at,
        });
        let (keys, first_serial) = (&self.keys, self.first_serial);
        self.by_key
            .insert_unique(hash, serial, |serial| hash_of(keys, first_serial, *serial));
        while self.keys.len() > class.keys_max as usize {
            self.drop_key();
        }
    }

    fn drop_key(&mut self) {
        let Some(dropped) = self.keys.pop_front() else {
            return;
        };
        let serial = self.first_serial;
        self.first_serial += 1;
        self.remove_key(&dropped, serial);
        shrink(&mut self.keys);
        // The table grows by removals too: keys that come and go leave marks behind.
        let len = self.keys.len();
        if self.by_key.capacity() > 4 * len + TABLE_SPARE {
            let (keys, first_serial) = (&self.keys, self.first_serial);
            self.by_key
                .shrink_to(len + len / 4, |serial| hash_of(keys, first_serial, *serial));
        }
    }

    fn remove_key(&mut self, key: &Key, serial: u64) {
        self.cost_bytes -= key_cost(key.text.len());
        if let Ok(entry) = self.by_key.find_entry(key.hash, |found| *found == serial) {
            entry.remove();
        }
    }

    fn key(&self, serial: u64) -> Option<&Key> {
        let index = usize::try_from(serial - self.first_serial).ok()?;
        self.keys.get(index)
    }

    /// When the next entry expires; none if there is none.
    pub(crate) fn next_expiry(&self, class: &RoomClass) -> Option<Moment> {
        let publication = self.publication_expiry(class);
        let key = self.key_expiry(class);
        let all = [publication, key, self.lingers_until];
        all.into_iter().flatten().min()
    }

    fn publication_expiry(&self, class: &RoomClass) -> Option<Moment> {
        let oldest = self.publications.front()?;
        Some(oldest.at.after(class.history.age_max_ms))
    }

    fn key_expiry(&self, class: &RoomClass) -> Option<Moment> {
        let oldest = self.keys.front()?;
        Some(oldest.at.after(class.key_window_ms))
    }

    /// Drops what has expired by `now`, `count_max` entries at most; returns how many those were.
    pub(crate) fn expire(&mut self, now: Moment, class: &RoomClass, count_max: usize) -> usize {
        let is_over = |at: Moment| at <= now;
        let mut count = 0;
        while count < count_max && self.publication_expiry(class).is_some_and(is_over) {
            self.drop_publication();
            count += 1;
        }
        while count < count_max && self.key_expiry(class).is_some_and(is_over) {
            self.drop_key();
            count += 1;
        }
        self.lingers_until = self.lingers_until.filter(|until| !is_over(*until));
        count
    }

    /// Drops the one entry that would expire first.
    pub(crate) fn evict(&mut self, class: &RoomClass) {
        let first = self.next_expiry(class);
        if self.publication_expiry(class) == first {
            self.drop_publication();
        } else if self.key_expiry(class) == first {
            self.drop_key();
        } else {
            self.lingers_until = None;
        }
    }
}

fn hash_of(keys: &VecDeque<Key>, first_serial: u64, serial: u64) -> u64 {
    let index = usize::try_from(serial - first_serial).unwrap_or(usize::MAX);
    keys.get(index).map_or(0, |key| key.hash)
}

impl Staged {
    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.delivery, Delivery::Publication(_))
    }

    pub(crate) fn cost_bytes(&self) -> usize {
        let frames = self.frames.iter();
        let frames = frames.map(|(_, frame)| allocated_bytes(COUNTS_LEN + frame.len()));
        place_cost(size_of::<Self>()) + frames.sum::<usize>()
    }
}

/// Makes places in a queue without any: a quarter more, not twice as many.
#[inline]
fn grow<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(PLACES_MIN.max(queue.len() / 4));
    }
}

/// Gives places back if a third and more of them are empty.
#[inline]
fn shrink<T>(queue: &mut VecDeque<T>) {
    let len = queue.len();
    if queue.capacity() > len + len / 2 + PLACES_SPARE {
        queue.shrink_to(len + len / 8);
    }
}

/// How many places a queue begins with.
const PLACES_MIN: usize = 2;

/// How many places may be empty in a short queue.
const PLACES_SPARE: usize = 4;

/// How many places may be empty in a small table.
const TABLE_SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::HistoryLimits;

    fn class(publications_max: u32, bytes_max: usize, keys_max: u32) -> RoomClass {
        RoomClass {
            history: HistoryLimits {
                publications_max,
                bytes_max,
                age_max_ms: 1000,
            },
            key_window_ms: 500,
            keys_max,
            ..RoomClass::default()
        }
    }

    fn frame(len: usize) -> SharedFrame {
        vec![0; len].into()
    }

    #[test]
    fn each_limit_alone_drops_the_oldest() {
        let mut by_count = Kept::new(3);
        let mut by_bytes = Kept::new(3);
        for offset in 1..=100 {
            by_count.push(frame(10), Moment(offset), &class(7, 1 << 20, 0));
            by_bytes.push(frame(10), Moment(offset), &class(1000, 55, 0));
        }
        assert_eq!(by_count.first_offset(100), 94);
        assert_eq!(by_bytes.first_offset(100), 96);
        assert_eq!(by_bytes.since_offset(98, 100).count(), 3);
        assert_eq!(by_bytes.since_offset(101, 100).count(), 0);

        let mut nothing_fits = Kept::new(3);
        nothing_fits.push(frame(56), Moment(1), &class(1000, 55, 0));
        assert_eq!(nothing_fits.publication_count(), 0);
    }

    #[test]
    fn keys_are_found_until_they_are_too_many_or_too_old() {
        let class = class(0, 0, 3);
        let mut kept = Kept::new(0);
        for (offset, text) in (1..).zip(["a", "b", "c", "d"]) {
            kept.push_key((7, text), offset, Moment(offset * 100), &class);
        }
        assert_eq!(kept.find_key(7, "a"), None);
        assert_eq!(kept.find_key(7, "b"), Some(2));
        assert_eq!(kept.next_expiry(&class), Some(Moment(700)));
        assert_eq!(kept.expire(Moment(800), &class, 9), 2);
        assert_eq!(
            (kept.find_key(7, "c"), kept.find_key(7, "d")),
            (None, Some(4))
        );
        assert_eq!(kept.expire(Moment(900), &class, 9), 1);
        assert_eq!(kept.next_expiry(&class), None);
        assert_eq!(kept.cost_bytes(), Kept::new(0).cost_bytes());
    }

    #[test]
    fn what_expires_first_is_evicted_first_and_nothing_is_counted_twice() {
        let class = class(100, 1 << 20, 100);
        let mut kept = Kept::new(5);
        kept.push(frame(10), Moment(0), &class);
        kept.push_key((1, "k"), 1, Moment(0), &class);
        kept.push(frame(10), Moment(100), &class);
        kept.evict(&class);
        assert_eq!(kept.find_key(1, "k"), None, "it would go at 500");
        kept.evict(&class);
        assert_eq!((kept.first_offset(2), kept.publication_count()), (2, 1));
        kept.linger(Moment(50), &class);
        kept.evict(&class);
        assert_eq!(
            kept.next_expiry(&class),
            Some(Moment(1100)),
            "the lingering would have ended at 1050"
        );
        kept.evict(&class);
        assert_eq!(kept.next_expiry(&class), None);
        assert_eq!(kept.cost_bytes(), Kept::new(5).cost_bytes());
    }

    #[test]
    fn much_that_is_gone_leaves_little_memory_behind() {
        let class = class(100_000, 1 << 30, 100_000);
        let mut kept = Kept::new(0);
        for offset in 0..50_000 {
            kept.push(frame(1), Moment(0), &class);
            kept.push_key((offset, &offset.to_string()), offset, Moment(0), &class);
        }
        assert_eq!(kept.expire(Moment(10_000), &class, 60_000), 60_000);
        assert_eq!(kept.publication_count(), 0);
        assert_eq!(kept.expire(Moment(10_000), &class, 60_000), 40_000);
        assert_eq!(kept.next_expiry(&class), None);
        assert!(kept.publications.capacity() <= PLACES_SPARE);
        assert!(kept.keys.capacity() <= PLACES_SPARE);
        assert!(kept.by_key.capacity() <= TABLE_SPARE);
    }
}
