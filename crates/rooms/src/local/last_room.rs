//! Connections that are to be closed when they leave their last room of a space.
//!
//! The end of the connection itself is no such leaving. For all other connections only a flag is
//! read, and only when a membership ends.

use super::LocalRooms;
use crate::id::Slot;
use crate::key::Space;

impl LocalRooms {
    /// Sets whether the connection is to be closed with its last room of a space. If it has none
    /// now, nothing happens: only the end of a membership closes it.
    pub(super) fn close_with_last_room(&mut self, slot: Slot, space: Space, on: bool) {
        let spaces = self.last_rooms.entry(slot).or_default();
        spaces.retain(|found| *found != space);
        if on {
            spaces.push(space);
        }
        let is_used = !spaces.is_empty();
        if !is_used {
            self.last_rooms.remove(&slot);
        }
        self.outboxes.connections[slot].closes_with_last_room = is_used;
    }

    /// Returns whether the connection, which has just left a room of this space, is to be closed
    /// for that. Costs at most the rooms of the connection.
    #[inline]
    pub(super) fn closes_after_room_of(&self, slot: Slot, space: Space) -> bool {
        self.outboxes.connections[slot].closes_with_last_room
            && self.closes_with(slot, space)
            && self.rooms_of(slot).all(|room| room.space != space)
    }

    fn closes_with(&self, slot: Slot, space: Space) -> bool {
        let spaces = self.last_rooms.get(&slot);
        spaces.is_some_and(|spaces| spaces.contains(&space))
    }

    pub(super) fn forget_last_rooms(&mut self, slot: Slot) {
        let member = &mut self.outboxes.connections[slot];
        if std::mem::take(&mut member.closes_with_last_room) {
            self.last_rooms.remove(&slot);
        }
    }
}
