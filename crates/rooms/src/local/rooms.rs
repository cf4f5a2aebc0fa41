//! The rooms that have members on one core.
//!
//! Invariant: a local room has the members of a room that speak one wire, and exists while it has
//! one here.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use hashbrown::HashTable;
use proto::SharedFrame;

use super::member::{MembershipIndex, RoomIndex};
use crate::batch::Pending;
use crate::handle::RoomHandle;
use crate::id::{RoomId, Slot, Wire};
use crate::outbox::Span;

/// The members of a room on one core that speak one wire.
#[derive(Debug)]
pub(super) struct LocalRoom {
    pub(super) handle: RoomHandle,
    pub(super) wire: Wire,
    /// True if members are excepted from some of what is pending.
    pub(super) has_exceptions: bool,
    pub(super) members: Vec<MemberRef>,
    /// Publications of this turn that are not fanned out yet.
    pub(super) pending: Vec<Pending>,
    /// The buffers of the last turn that had any, in rooms where only the newest is to wait: one of
    /// them may be the first of an outbox, which does not know what it holds.
    pub(super) newest: Vec<KnownBuffer>,
}

/// A room's side of a membership.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberRef {
    pub(super) slot: Slot,
    /// The place in the connection's `memberships`.
    pub(super) membership: MembershipIndex,
}

/// A buffer, and the publications that it holds.
pub(super) type KnownBuffer = (SharedFrame, Span);

/// All local rooms of one core.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: Vec<LocalRoom>,
    free: Vec<RoomIndex>,
    by_id: HashTable<RoomIndex>,
    /// The name of a place without a room.
    no_name: Arc<str>,
}

impl Rooms {
    /// Creates the table of a core without rooms.
    pub(super) fn new() -> Self {
        Self {
            rooms: Vec::new(),
            free: Vec::new(),
            by_id: HashTable::new(),
            no_name: Arc::from(""),
        }
    }

    /// Returns the local room of an id and a wire.
    pub(super) fn find(&self, id: RoomId, wire: Wire) -> Option<RoomIndex> {
        let is_it = |room: &RoomIndex| {
            let room = &self[*room];
            room.handle.id == id && room.wire == wire
        };
        self.by_id.find(id.spread(), is_it).copied()
    }

    /// Returns a local room of an id: there is one for each wire that its members here speak.
    pub(super) fn find_any(&self, id: RoomId) -> Option<RoomIndex> {
        let is_it = |room: &RoomIndex| self[*room].handle.id == id;
        self.by_id.find(id.spread(), is_it).copied()
    }

    /// Returns all local rooms of an id.
    pub(super) fn find_all(&self, id: RoomId) -> impl Iterator<Item = &LocalRoom> {
        let same_hash = self.by_id.iter_hash(id.spread());
        let found = same_hash.map(|room| &self[*room]);
        found.filter(move |room| room.handle.id == id)
    }

    /// Creates a local room.
    pub(super) fn create(&mut self, handle: RoomHandle, wire: Wire) -> RoomIndex {
        let id = handle.id;
        let room = LocalRoom {
            handle,
            wire,
            has_exceptions: false,
            members: Vec::new(),
            pending: Vec::new(),
            newest: Vec::new(),
        };
        let index = match self.free.pop() {
            Some(free) => {
                self[free] = room;
                free
            }
            None => {
                self.rooms.push(room);
                RoomIndex::new(self.rooms.len() - 1)
            }
        };
        let rooms = &self.rooms;
        self.by_id.insert_unique(id.spread(), index, |room| {
            rooms[room.get()].handle.id.spread()
        });
        index
    }

    /// Removes a local room that has no members any more.
    pub(super) fn remove(&mut self, index: RoomIndex) {
        // The place stays for the next room; a long name must not.
        let no_name = self.no_name.clone();
        let room = &mut self[index];
        room.members = Vec::new();
        // Publications of this turn that nobody is left to receive.
        room.pending = Vec::new();
        room.handle.name = no_name;
        let hash = room.handle.id.spread();
        if let Ok(entry) = self.by_id.find_entry(hash, |found| *found == index) {
            entry.remove();
        }
        self.free.push(index);
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> &[LocalRoom] {
        &self.rooms
    }
}

impl Index<RoomIndex> for Rooms {
    type Output = LocalRoom;

    #[inline]
    fn index(&self, room: RoomIndex) -> &LocalRoom {
        &self.rooms[room.get()]
    }
}

impl IndexMut<RoomIndex> for Rooms {
    #[inline]
    fn index_mut(&mut self, room: RoomIndex) -> &mut LocalRoom {
        &mut self.rooms[room.get()]
    }
}
