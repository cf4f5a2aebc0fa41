//! One shard of the table: the rooms whose keys hash there.
//!
//! Invariants, under the shard's lock:
//! - a room exists while some core counts a member of it or something of it is retained;
//! - the count of a core and a wire is the number of its members plus the `Attach` commands on
//!   their way to it. Each `Attach` that a core rejects, and each member that leaves, is counted
//!   out once.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::class::{Classes, RoomClass};
use crate::handle::RoomHandle;
use crate::history::{Histories, Stream, Visit};
use crate::id::RoomId;
use crate::key::Named;
use crate::members::{MemberCount, Members};
use crate::room::{NewRoom, Room};
use crate::time::Moment;

/// The rooms of one shard.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    pub(crate) rooms: HashTable<Room>,
    /// The number of rooms that have members.
    pub(crate) peopled_count: usize,
    /// The number of rooms that were ever created.
    pub(crate) created_count: u64,
    /// The number of publications and events that went to rooms of this shard.
    pub(crate) publication_count: u64,
    /// The classes of rooms that are created from now on. Each shard has its own copy, so that
    /// whoever holds its lock reads it without another one.
    pub(crate) classes: Arc<Classes>,
    /// True if some class keeps a history, or did once.
    pub(crate) keeps_histories: bool,
    pub(crate) histories: Histories,
}

impl Shard {
    pub(crate) fn new(index: usize, classes: Arc<Classes>, histories: Histories) -> Self {
        Self {
            index,
            rooms: HashTable::new(),
            peopled_count: 0,
            created_count: 0,
            publication_count: 0,
            keeps_histories: classes.keep_histories(),
            classes,
            histories,
        }
    }

    /// Sets the classes of rooms that are created from now on.
    pub(crate) fn set_classes(&mut self, classes: Arc<Classes>) {
        self.keeps_histories |= classes.keep_histories();
        self.classes = classes;
    }

    /// Returns the room with this name.
    pub(crate) fn find(&self, named: Named<'_>) -> Option<&Room> {
        self.rooms.find(named.hash, |room| room.is_named(named))
    }

    /// Returns the class of a room, or the one that it would be created with.
    pub(crate) fn class_of(&self, room: Option<&Room>, named: Named<'_>) -> &'static RoomClass {
        match room {
            Some(room) => room.stream.class,
            None => self.classes.of(named.key),
        }
    }

    /// Returns the room, creating it if `new` does not refuse, with the histories beside it.
    pub(crate) fn find_or_create<E>(
        &mut self,
        named: Named<'_>,
        new: impl FnOnce(RoomId, &Classes) -> Result<NewRoom, E>,
    ) -> Result<(&mut Room, &mut Histories), E> {
        let is_same = |room: &Room| room.is_named(named);
        let room = match self.rooms.entry(named.hash, is_same, hash_of) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let id = RoomId::new(self.created_count + 1, self.index);
                let NewRoom { epoch, class } = new(id, &self.classes)?;
                self.created_count += 1;
                let room = Room {
                    stream: Stream::new(id, named, epoch, class),
                    members: Members::default(),
                };
                entry.insert(room).into_mut()
            }
        };
        Ok((room, &mut self.histories))
    }

    /// Reserves memory for something new, evicting whatever expires first; false if even that does
    /// not make enough.
    #[cold]
    pub(crate) fn make_memory(&mut self, bytes: usize, now: Moment) -> bool {
        while !self.histories.reserve(bytes, now) {
            if !self.evict_first(now) {
                return false;
            }
        }
        true
    }

    /// Removes a room that was just created, if nobody needs it: no later call would remove it.
    /// Returns whether it was removed.
    pub(crate) fn remove_unused(&mut self, named: Named<'_>) -> bool {
        let entry = self
            .rooms
            .find_entry(named.hash, |room| room.is_named(named));
        let Some(entry) = entry.ok().filter(|entry| entry.get().is_unused()) else {
            return false;
        };
        self.histories.forget(&entry.get().stream);
        entry.remove();
        true
    }

    /// Drops what has expired, then evicts until no more than `bytes_max` is used. Stops after
    /// [`SWEEP_STEPS_MAX`] entries, so that nobody waits long for the lock; returns whether it got
    /// to the end.
    pub(crate) fn sweep(&mut self, now: Moment, bytes_max: usize) -> bool {
        let mut steps_left = SWEEP_STEPS_MAX;
        while steps_left > 0 {
            steps_left -= 1;
            if self.histories.is_due(now) {
                let count_max = steps_left;
                let expired = self.visit_first(now, Visit::Expire { count_max });
                steps_left -= expired.unwrap_or_default();
            } else if self.histories.used_bytes() <= bytes_max || !self.evict_first(now) {
                let streams = self.rooms.iter().map(|room| &room.stream);
                self.histories.tidy(streams);
                self.shrink();
                return true;
            }
        }
        false
    }

    /// Evicts the entry that expires first in the whole shard; false if no entry may be dropped.
    fn evict_first(&mut self, now: Moment) -> bool {
        // A room that waits for the journal goes to the end of the heap, once.
        for _ in 0..=self.histories.due_count() {
            match self.visit_first(now, Visit::Evict) {
                Some(0) => {}
                evicted => return evicted.is_some(),
            }
        }
        false
    }

    /// Visits the room that is due first, and removes it if nobody needs it then. Returns how many
    /// entries it dropped; none if no room is due at all.
    fn visit_first(&mut self, now: Moment, visit: Visit) -> Option<usize> {
        let due = self.histories.first_due()?;
        let is_it = |room: &Room| room.stream.is_due(due);
        let Ok(mut entry) = self.rooms.find_entry(due.hash, is_it) else {
            self.histories.drop_stale();
            return Some(0);
        };
        let Room { stream, members } = entry.get_mut();
        let has_members = !members.is_empty();
        let dropped = self.histories.visit_first(stream, has_members, now, visit);
        if entry.get().is_unused() {
            entry.remove();
        }
        Some(dropped)
    }

    /// Counts members out. With the last one the room goes, unless its history stays. Returns
    /// whether it was the last.
    pub(crate) fn count_out(
        &mut self,
        handle: &RoomHandle,
        counted: MemberCount,
        now: Moment,
    ) -> bool {
        let is_it = |room: &Room| room.stream.handle.id == handle.id;
        let Ok(mut entry) = self.rooms.find_entry(handle.hash, is_it) else {
            debug_assert!(false, "a room that is counted exists");
            return false;
        };
        let Room { stream, members } = entry.get_mut();
        members.count_out(counted);
        if !members.is_empty() {
            return false;
        }
        self.peopled_count -= 1;
        if !self.histories.linger(stream, now) {
            entry.remove();
            self.shrink();
        }
        true
    }

    /// Shrinks a table that is not a third full. It was larger once, or rooms come and go, which
    /// makes it grow too. At most half of the removed rooms' number is moved, so each removal pays
    /// for a part of one move.
    fn shrink(&mut self) {
        let (len, capacity) = (self.rooms.len(), self.rooms.capacity());
        if capacity > ROOM_CAPACITY_MIN && len < capacity / 3 {
            self.rooms.shrink_to(len + len / 4, hash_of);
        }
    }
}

fn hash_of(room: &Room) -> u64 {
    room.stream.handle.hash
}

/// The capacity that the table of a shard does not shrink below.
const ROOM_CAPACITY_MIN: usize = 1024;

/// The entries that one sweep drops, or rooms that it visits: some tenths of a millisecond.
const SWEEP_STEPS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{RoomKey, Space};
    use crate::position::Epoch;

    #[test]
    fn rooms_whose_hashes_are_the_same_by_chance_are_told_apart() {
        let named = |hash, key| Named { hash, key };
        let here = RoomKey::from("tea");
        let class = Classes::default().other();
        let stream = Stream::new(RoomId::new(1, 0), named(7, here), Epoch(1), class);
        let room = Room {
            stream,
            members: Members::default(),
        };
        assert!(room.is_named(named(7, here)));
        assert!(!room.is_named(named(7, RoomKey::new(Space(1), "tea"))));
        assert!(!room.is_named(named(7, RoomKey::from("milk"))));
        assert!(!room.is_named(named(8, here)));
    }
}
