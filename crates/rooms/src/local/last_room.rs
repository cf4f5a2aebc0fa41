//! Connections that are to be closed when they leave their last room of a space.
//!
//! Their own end is no such leaving. Of all others only a flag in the connection is read, and only when a
//! membership ends.

use super::LocalRooms;
use crate::key::Space;

impl LocalRooms {
    /// Says whether the connection is to be closed with its last room of a space. If it has none now,
    /// that is no leaving: only the end of a membership is.
    pub(super) fn close_with_last_room(&mut self, slot: u32, space: Space, on: bool) {
        let spaces = self.last_room_spaces.entry(slot).or_default();
        spaces.retain(|found| *found != space);
        if on {
            spaces.push(space);
        }
        let is_used = !spaces.is_empty();
        if !is_used {
            self.last_room_spaces.remove(&slot);
        }
        self.members[slot as usize].closes_with_last_room = is_used;
    }

    /// Whether the connection, of which a membership in a room of this space has ended, is to be closed
    /// for that. Costs at most the rooms of the connection.
    #[inline]
    pub(super) fn closes_after_room_of(&self, slot: u32, space: Space) -> bool {
        self.members[slot as usize].closes_with_last_room
            && self.closes_with(slot, space)
            && !self.spaces_of(slot).any(|other| other == space)
    }

    fn closes_with(&self, slot: u32, space: Space) -> bool {
        let spaces = self.last_room_spaces.get(&slot);
        spaces.is_some_and(|spaces| spaces.contains(&space))
    }

    /// The space of each room that the connection is a member of.
    fn spaces_of(&self, slot: u32) -> impl Iterator<Item = Space> {
        let memberships = &self.members[slot as usize].memberships;
        memberships
            .iter()
            .map(|membership| self.rooms[membership.room as usize].handle.space)
    }

    pub(super) fn forget_last_room_spaces(&mut self, slot: u32) {
        let member = &mut self.members[slot as usize];
        if std::mem::take(&mut member.closes_with_last_room) {
            self.last_room_spaces.remove(&slot);
        }
    }
}
