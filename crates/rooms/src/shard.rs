//! One shard of the table: the rooms whose keys hash there, and when what they keep expires.
//!
//! Invariants, under the shard's lock:
//! - a room is in its shard while some core counts a member of it or something is kept of it;
//! - the count of a core and a wire is the number of its members plus the `Attach` commands on their
//!   way to it; each `Attach` that a core does not accept, and each member that ends, is counted out
//!   once;
//! - a room of which something is kept has one entry in the line of what expires that is of use, at the
//!   time of what expires first or before it; entries of no use are at most about as many as those;
//! - what all rooms keep adds up to what is used of the shard's memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use proto::SharedFrame;
use smallvec::SmallVec;

use crate::class::{Classes, RoomClass};
use crate::handle::RoomHandle;
use crate::id::{CoreId, RoomId, Wire, WireSet};
use crate::journal::{Change, Entry as Written, Journal, RoomImage};
use crate::kept::{self, Kept};
use crate::key::RoomKey;
use crate::memory::{Allotment, Pool};
use crate::position::{Epoch, StreamPosition};
use crate::recovery::{Recovery, Since};
use crate::time::Moment;

/// The rooms of one shard.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    pub(crate) rooms: HashTable<Room>,
    /// How many rooms have members.
    pub(crate) peopled_count: usize,
    /// How many rooms this shard has ever had.
    pub(crate) created_count: u64,
    /// How many publications went to rooms of this shard.
    pub(crate) publication_count: u64,
    /// How many publications or keys made way for later ones because the memory was full.
    pub(crate) evicted_count: u64,
    /// Whether what its rooms keep is written down.
    pub(crate) is_journaled: bool,
    /// What rooms that are made from now on are to be: a copy for each shard, so that whoever has
    /// its lock reads it without another one.
    pub(crate) classes: Arc<Classes>,
    /// Some rooms keep a history, or may have been made when rooms did.
    pub(crate) keeps_histories: bool,
    pub(crate) retention: Retention,
}

/// What the rooms of a shard keep: how much memory it takes, and when it expires.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    memory: Allotment,
    line: BinaryHeap<Reverse<Due>>,
    /// How many rooms keep something.
    keeping_count: usize,
}

/// What all shards have in common.
pub(crate) struct House<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) journal: Option<&'a Journal>,
}

impl House<'_> {
    /// Writes down a change of a room whose shard is locked. Returns what to wake, if the journal is
    /// over its bound it is full.
    pub(crate) fn write(&self, room: &RoomHandle, change: Change) -> bool {
        let Some(journal) = self.journal else {
            return false;
        };
        let pushed = journal.queue.push(Written {
            room: room.clone(),
            change,
        });
        let full = pushed.full;
        // The writer's waker takes no lock that is held here.
        pushed.wake_quietly();
        full
    }
}

/// When something of a room expires, at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Moment,
    room: RoomId,
    hash: u64,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) handle: RoomHandle,
    pub(crate) epoch: Epoch,
    /// The offset of the last publication.
    pub(crate) offset: u64,
    /// As its name said when it was made.
    pub(crate) class: &'static RoomClass,
    /// How many members there are; only of cores and wires that have some.
    pub(crate) members: SmallVec<[MemberCount; 2]>,
    pub(crate) kept: Option<Box<Kept>>,
}

/// The members of a room on one core that speak one wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberCount {
    pub(crate) core: CoreId,
    pub(crate) wire: Wire,
    pub(crate) count: u32,
}

/// What is drawn for a new room.
pub(crate) struct NewRoom {
    pub(crate) epoch: Epoch,
    pub(crate) class: &'static RoomClass,
}

impl Shard {
    pub(crate) fn new(index: usize, is_journaled: bool, classes: Arc<Classes>) -> Self {
        Self {
            index,
            rooms: HashTable::new(),
            peopled_count: 0,
            created_count: 0,
            publication_count: 0,
            evicted_count: 0,
            is_journaled,
            keeps_histories: classes.keep_histories(),
            classes,
            retention: Retention::default(),
        }
    }

    /// Sets what rooms that are made from now on are to be.
    pub(crate) fn set_classes(&mut self, classes: Arc<Classes>) {
        self.keeps_histories |= classes.keep_histories();
        self.classes = classes;
    }

    pub(crate) fn find(&self, hash: u64, key: RoomKey<'_>) -> Option<&Room> {
        self.rooms.find(hash, |room| room.has_key(hash, key))
    }

    /// The room, made if it is not there and `new` does not refuse, and what the shard keeps beside it.
    pub(crate) fn find_or_create<E>(
        &mut self,
        hash: u64,
        key: RoomKey<'_>,
        new: impl FnOnce(RoomId, &Classes) -> Result<NewRoom, E>,
    ) -> Result<(&mut Room, &mut Retention), E> {
        let entry = self.rooms.entry(
            hash,
            |room| room.has_key(hash, key),
            |room| room.handle.hash,
        );
        let room = match entry {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let id = RoomId::new(self.created_count + 1, self.index);
                let new = new(id, &self.classes)?;
                self.created_count += 1;
                entry.insert(Room::new(id, (hash, key), new)).into_mut()
            }
        };
        Ok((room, &mut self.retention))
    }

    /// Tries to have so much memory for something new, at the expense of what expires first; returns
    /// whether there is as much.
    #[cold]
    pub(crate) fn make_memory(&mut self, bytes: usize, now: Moment, house: &House<'_>) -> bool {
        while !self.retention.reserve(bytes, now, house) {
            if !self.evict_first(now, house) {
                return false;
            }
        }
        true
    }

    /// Forgets a room that was made just now, if it has no members and nothing is kept of it: nobody
    /// would do it later. Returns whether that is so.
    pub(crate) fn forget_unused(
        &mut self,
        (hash, key): (u64, RoomKey<'_>),
        house: &House<'_>,
    ) -> bool {
        let entry = self.rooms.find_entry(hash, |room| room.has_key(hash, key));
        let Ok(entry) = entry else { return false };
        let room = entry.get();
        if !room.members.is_empty() || room.kept.is_some() {
            return false;
        }
        if self.is_journaled && room.class.history.is_on() {
            house.write(&room.handle, Change::Forget);
        }
        entry.remove();
        true
    }

    /// Drops what has expired, and beyond that what expires first until no more than `bytes_max` is
    /// used: [`SWEEP_STEPS_MAX`] entries of it, so that nobody waits long for the lock. Returns whether
    /// that was all.
    pub(crate) fn sweep(&mut self, now: Moment, bytes_max: usize, house: &House<'_>) -> bool {
        let mut step_count = 0;
        while step_count < SWEEP_STEPS_MAX {
            step_count += 1;
            let is_due = self.retention.next_due().is_some_and(|at| at <= now);
            if is_due {
                let left = SWEEP_STEPS_MAX - step_count;
                self.look_at_first(now, house, |kept, class, _| {
                    step_count += kept.expire(now, class, left);
                });
            } else if self.retention.memory.used() <= bytes_max || !self.evict_first(now, house) {
                self.retention.memory.give_back(house.pool);
                self.tidy_line();
                self.shrink();
                return true;
            }
        }
        false
    }

    /// Makes the line anew if more of it is of no use than of use.
    fn tidy_line(&mut self) {
        let Retention {
            line,
            keeping_count,
            ..
        } = &mut self.retention;
        if line.len() <= 2 * *keeping_count + LINE_SLACK {
            if line.capacity() > 4 * line.len() + LINE_SLACK {
                line.shrink_to(2 * line.len());
            }
            return;
        }
        let keeping = self.rooms.iter().filter_map(|room| {
            let kept = room.kept.as_ref()?;
            Some(Reverse(Due {
                at: kept.due,
                room: room.handle.id,
                hash: room.handle.hash,
            }))
        });
        *line = keeping.collect();
    }

    /// Drops the entry that expires first in all the shard; false if there is none that can be dropped.
    fn evict_first(&mut self, now: Moment, house: &House<'_>) -> bool {
        // Rooms of which something waits to be written down go to the end of the line, once each.
        for _ in 0..=self.retention.line.len() {
            let mut evicted = None;
            let found = self.look_at_first(now, house, |kept, class, due| {
                // An entry that was too early is put back at its time, and the next one looked at.
                evicted = kept.next_expiry(class).filter(|at| *at <= due);
                if evicted.is_some() {
                    kept.evict(class);
                }
            });
            if let Some(at) = evicted {
                // What had expired already only went before anybody looked.
                self.evicted_count += u64::from(at > now);
                return true;
            }
            if !found {
                return false;
            }
        }
        false
    }

    /// Takes the first entry out of the line and changes what its room keeps; puts it back, or forgets
    /// what is kept, and the room too if it has no members. False if the line is empty.
    fn look_at_first(
        &mut self,
        now: Moment,
        house: &House<'_>,
        change: impl FnOnce(&mut Kept, &RoomClass, Moment),
    ) -> bool {
        let Some(Reverse(due)) = self.retention.line.pop() else {
            return false;
        };
        let is_of_use = |room: &Room| {
            let kept = room.kept.as_ref();
            kept.is_some_and(|kept| kept.due == due.at)
        };
        let entry = self.rooms.find_entry(due.hash, |room| {
            room.handle.id == due.room && is_of_use(room)
        });
        let Ok(mut entry) = entry else {
            return true;
        };
        let room = entry.get_mut();
        let class = room.class;
        let Some(kept) = &mut room.kept else {
            return true;
        };
        let before = kept.cost_bytes();
        let held = (
            kept.first_offset(room.offset),
            kept.first_key_offset(room.offset),
        );
        change(kept, class, due.at);
        let mut freed_bytes = before - kept.cost_bytes();
        let is_journaled = self.is_journaled && class.history.is_on();
        match kept.next_expiry(class) {
            None if !kept.has_staged() => {
                freed_bytes += kept.cost_bytes();
                room.kept = None;
                self.retention.keeping_count -= 1;
                if room.members.is_empty() {
                    if is_journaled {
                        house.write(&room.handle, Change::Forget);
                    }
                    entry.remove();
                } else if is_journaled {
                    room.write_what_is_gone(held, house);
                }
            }
            next => {
                if is_journaled {
                    room.write_what_is_gone(held, house);
                }
                let at = next.unwrap_or_else(|| now.max(due.at).after(STAGED_LOOK_MS));
                if let Some(kept) = &mut room.kept {
                    kept.due = at;
                }
                self.retention.line.push(Reverse(Due { at, ..due }));
            }
        }
        self.retention.memory.free_bytes(freed_bytes);
        true
    }

    /// Counts members out. With the last one the room is forgotten, unless it keeps something or is
    /// of a class that does: then it lingers as long as a history does. Returns whether it was the last.
    pub(crate) fn count_out(
        &mut self,
        handle: &RoomHandle,
        members: MemberCount,
        now: Moment,
        house: &House<'_>,
    ) -> bool {
        let entry = self
            .rooms
            .find_entry(handle.hash, |room| room.handle.id == handle.id);
        let Ok(mut entry) = entry else {
            debug_assert!(false, "a room that is counted exists");
            return false;
        };
        let room = entry.get_mut();
        room.count_out(members);
        if !room.members.is_empty() {
            return false;
        }
        self.peopled_count -= 1;
        let class = room.class;
        let cost = kept::cost_at_most(0, handle.name.len(), 0);
        if class.history.is_on() && self.retention.reserve(cost, now, house) {
            let linger = |kept: &mut Kept| kept.linger(now, class);
            self.retention.keep(room, class, now, house, linger);
        } else if room.kept.is_none() {
            if self.is_journaled && class.history.is_on() {
                house.write(handle, Change::Forget);
            }
            entry.remove();
            self.shrink();
        }
        true
    }

    /// Gives back places of a table that is not a third full: it was larger once, or rooms come and go, for which
    /// it grows too. What it moves is at most half of what was removed since, so that each removal pays for a
    /// part of one move.
    fn shrink(&mut self) {
        let (len, capacity) = (self.rooms.len(), self.rooms.capacity());
        if capacity > SHARD_CAPACITY_KEPT && len < capacity / 3 {
            self.rooms.shrink_to(len + len / 4, |room| room.handle.hash);
        }
    }
}

impl Retention {
    /// Whether so much more can be kept at once.
    #[inline]
    pub(crate) const fn has_memory(&self, bytes: usize) -> bool {
        self.memory.has(bytes)
    }

    /// How much is kept, in bytes.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.memory.used()
    }

    /// How many entries the line has, of use or not.
    pub(crate) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// When something may expire next.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.line.peek().map(|Reverse(due)| due.at)
    }

    /// Takes memory from the pool so that so much more can be kept; false if there is not enough.
    pub(crate) fn reserve(&mut self, bytes: usize, now: Moment, house: &House<'_>) -> bool {
        self.memory.reserve(bytes, house.pool, now)
    }

    /// Changes what is kept of a room; begins to keep if need be. If there is no memory for it, all that
    /// may be forgotten of the room is: no history rather than one with a hole. What may not be forgotten
    /// must have been [reserved](Self::reserve).
    pub(crate) fn keep(
        &mut self,
        room: &mut Room,
        class: &RoomClass,
        now: Moment,
        house: &House<'_>,
        change: impl FnOnce(&mut Kept),
    ) {
        let (id, hash) = (room.handle.id, room.handle.hash);
        let name_len = room.handle.name.len();
        let is_new = room.kept.is_none();
        let kept = room
            .kept
            .get_or_insert_with(|| Box::new(Kept::new(name_len)));
        let before = if is_new { 0 } else { kept.cost_bytes() };
        change(kept);
        let more = |kept: &Kept| kept.cost_bytes().saturating_sub(before);
        if !self.reserve(more(kept), now, house) {
            kept.clear();
            if is_new && !self.reserve(more(kept), now, house) {
                room.kept = None;
                return;
            }
        }
        match kept.cost_bytes().checked_sub(before) {
            Some(more) => self.memory.use_bytes(more),
            None => self.memory.free_bytes(before - kept.cost_bytes()),
        }
        self.keeping_count += usize::from(is_new);
        // With nothing to expire the next look at the line forgets it.
        let at = match kept.next_expiry(class) {
            None if is_new => now,
            next => next.unwrap_or(Moment::NEVER),
        };
        if at < kept.due {
            kept.due = at;
            self.line.push(Reverse(Due { at, room: id, hash }));
        }
    }
}

impl Room {
    fn new(id: RoomId, (hash, key): (u64, RoomKey<'_>), new: NewRoom) -> Self {
        let NewRoom { epoch, class } = new;
        let handle = RoomHandle {
            id,
            hash,
            space: key.space,
            name: Arc::from(key.name),
            slow_consumer: class.slow_consumer,
        };
        Self {
            handle,
            epoch,
            offset: 0,
            class,
            members: SmallVec::new(),
            kept: None,
        }
    }

    pub(crate) fn has_key(&self, hash: u64, key: RoomKey<'_>) -> bool {
        self.handle.hash == hash && RoomKey::from(&self.handle) == key
    }

    /// Behind the last publication.
    pub(crate) const fn position(&self) -> StreamPosition {
        StreamPosition {
            epoch: self.epoch,
            offset: self.offset,
        }
    }

    /// The wires that its members speak.
    pub(crate) fn wires(&self) -> WireSet {
        self.members.iter().map(|members| members.wire).collect()
    }

    pub(crate) fn member_count(&self) -> u32 {
        self.members.iter().map(|members| members.count).sum()
    }

    /// The cores that have members, each once.
    pub(crate) fn cores(&self) -> SmallVec<[CoreId; 4]> {
        let cores = self.members.iter().map(|members| members.core);
        let mut cores: SmallVec<[CoreId; 4]> = cores.collect();
        cores.sort_unstable();
        cores.dedup();
        cores
    }

    /// Counts a member in; returns whether it is the first.
    pub(crate) fn count_in(&mut self, core: CoreId, wire: Wire) -> bool {
        let is_first = self.members.is_empty();
        match self.members.iter_mut().find(|m| m.is_of(core, wire)) {
            Some(members) => members.count += 1,
            None => self.members.push(MemberCount {
                core,
                wire,
                count: 1,
            }),
        }
        is_first
    }

    fn count_out(&mut self, MemberCount { core, wire, count }: MemberCount) {
        let Some(index) = self.members.iter().position(|m| m.is_of(core, wire)) else {
            debug_assert!(false, "a member that is released was counted");
            return;
        };
        self.members[index].count -= count;
        if self.members[index].count == 0 {
            self.members.swap_remove(index);
        }
    }

    /// Writes down what is not held any more, compared with the first offsets of publications and keys
    /// that were.
    fn write_what_is_gone(&self, (first, first_key): (u64, u64), house: &House<'_>) {
        let now_first = self.first_offset();
        if now_first > first {
            house.write(&self.handle, Change::Trim { first: now_first });
        }
        let kept = self.kept.as_ref();
        let now_first_key = kept.map_or(self.offset + 1, |k| k.first_key_offset(self.offset));
        if now_first_key > first_key {
            let first = now_first_key;
            house.write(&self.handle, Change::ExpireKeys { first });
        }
    }

    /// The room as it is to be written down.
    pub(crate) fn image(&self) -> RoomImage {
        let kept = self.kept.as_ref();
        let publications = kept.iter().flat_map(|kept| kept.publications());
        let keys = kept.iter().flat_map(|kept| kept.keys());
        RoomImage {
            name: self.handle.name.clone(),
            epoch: self.epoch,
            lineage: kept.map_or_else(Vec::new, |kept| kept.lineage().to_vec()),
            offset: self.offset,
            publications: publications
                .map(|(at, frame)| (at, frame.clone()))
                .collect(),
            keys: keys
                .filter(|(_, offset, _)| *offset <= self.offset)
                .map(|(text, offset, at)| (text.into(), offset, at))
                .collect(),
        }
    }

    /// The last offset that was given away, written down or not.
    pub(crate) fn staged_offset(&self) -> u64 {
        let staged = self
            .kept
            .as_ref()
            .map_or(0, |kept| kept.staged_publication_count());
        self.offset + staged
    }

    /// The offset of the oldest publication that is held; one past the last if none is.
    pub(crate) fn first_offset(&self) -> u64 {
        match &self.kept {
            Some(kept) => kept.first_offset(self.offset),
            None => self.offset + 1,
        }
    }

    /// The publications from this offset on, of those that are held.
    pub(crate) fn publications_from(&self, offset: u64) -> impl Iterator<Item = &SharedFrame> {
        let kept = self.kept.iter();
        kept.flat_map(move |kept| kept.since_offset(offset, self.offset))
    }

    /// How far back the history reaches to where somebody left.
    pub(crate) fn recover(&self, since: Since) -> Option<Recovery> {
        let held = self.first_offset();
        match since {
            Since::Now => None,
            Since::Last(count) => Some(Recovery {
                first: held.max((self.offset + 1).saturating_sub(count.into())),
                recovered: None,
            }),
            Since::Position(left) if left.epoch == self.epoch && left.offset <= self.offset => {
                let first = held.max(left.offset + 1);
                Some(Recovery {
                    first,
                    recovered: Some(first == left.offset + 1),
                })
            }
            Since::Position(left) => {
                let lineage = self.kept.as_ref().map_or(&[][..], |kept| kept.lineage());
                let ancestor = lineage.iter().find(|a| a.epoch == left.epoch);
                // Nobody can say how much it missed: it gets all there is, or all that was written down
                // of what is new to it.
                let known = ancestor.map_or(0, |a| a.last_offset.min(left.offset));
                let first = held.max(known + 1);
                let complete = ancestor.is_some_and(|a| a.complete);
                Some(Recovery {
                    first,
                    recovered: Some(complete && first == known + 1),
                })
            }
        }
    }
}

impl MemberCount {
    fn is_of(&self, core: CoreId, wire: Wire) -> bool {
        self.core == core && self.wire == wire
    }
}

/// How many places for rooms a shard keeps though they are empty.
const SHARD_CAPACITY_KEPT: usize = 1024;

/// How many entries of no use a line may have beside as many as those of use.
const LINE_SLACK: usize = 64;

/// When a room of which something waits to be written down is looked at again, in milliseconds.
const STAGED_LOOK_MS: u64 = 1000;

/// How many entries one sweep drops, or rooms it looks at: some tenths of a millisecond's worth.
const SWEEP_STEPS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Space;

    #[test]
    fn rooms_whose_hashes_are_the_same_by_chance_are_told_apart() {
        let new = NewRoom {
            epoch: Epoch(1),
            class: Classes::default().other(),
        };
        let here = RoomKey::from("tea");
        let room = Room::new(RoomId::new(1, 0), (7, here), new);
        assert!(room.has_key(7, here));
        assert!(!room.has_key(7, RoomKey::new(Space(1), "tea")));
        assert!(!room.has_key(7, RoomKey::from("milk")));
        assert!(!room.has_key(8, here));
    }
}
