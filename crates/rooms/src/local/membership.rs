//! Who is a member of which room.

use super::member::{LocalRoom, MemberRef, Membership};
use super::{Effect, LocalRooms};
use crate::class::SlowConsumer;
use crate::id::{ConnectionId, RoomId, Wire};
use crate::mailbox::{Joined, RoomHandle};
use crate::table::RoomTable;

impl LocalRooms {
    /// Ends all memberships of a connection that stays open. What was published before still
    /// reaches it.
    pub fn detach_all(&mut self, slot: u32, table: &RoomTable) {
        self.fan_out_rooms_of(slot);
        self.end_memberships(slot, table);
    }

    pub(super) fn end_memberships(&mut self, slot: u32, table: &RoomTable) {
        while let Some(last) = self.members[slot as usize].memberships.len().checked_sub(1) {
            self.end_membership(slot, last, table);
        }
    }

    /// The rooms that the connection is a member of.
    pub fn rooms_of(&self, slot: u32) -> impl Iterator<Item = &RoomHandle> {
        self.members[slot as usize]
            .memberships
            .iter()
            .map(|membership| &self.rooms[membership.room as usize].handle)
    }

    /// The members of a room on this core, whatever they speak.
    pub fn members_of(&self, room: RoomId) -> impl Iterator<Item = ConnectionId> {
        let same_hash = self.rooms_by_id.iter_hash(room.spread());
        let found = same_hash.map(|local| &self.rooms[*local as usize]);
        found
            .filter(move |local| local.handle.id == room)
            .flat_map(|local| local.members.iter())
            .map(|member| self.id_of(member.slot))
    }

    pub(super) fn find_room(&self, (id, wire): (RoomId, Wire)) -> Option<u32> {
        let found = self.rooms_by_id.find(id.spread(), |room| {
            let room = &self.rooms[*room as usize];
            room.handle.id == id && room.wire == wire
        });
        found.copied()
    }

    /// Accepts an `Attach`, or gives back what the table counted for it.
    pub(super) fn attach(
        &mut self,
        connection: ConnectionId,
        handle: RoomHandle,
        joined: Option<Box<Joined>>,
        table: &RoomTable,
    ) -> Option<Effect> {
        let Some(slot) = self.slot_of(connection) else {
            table.release(connection, &handle, self.now_ms);
            return None;
        };
        let room = self.find_room((handle.id, connection.wire()));
        let already = room.is_some_and(|room| self.membership_index(slot, room).is_some());
        let memberships = &self.members[slot as usize].memberships;
        if already {
            table.release(connection, &handle, self.now_ms);
        } else if memberships.len() >= self.limits.rooms_per_connection_max {
            self.fan_out_rooms_of(slot);
            self.push_answers_of(slot);
            table.release(connection, &handle, self.now_ms);
            return Some(Effect::JoinRefused {
                connection,
                room: handle,
                id: joined.and_then(|joined| joined.id),
            });
        } else {
            let room = room.unwrap_or_else(|| self.create_room(handle.clone(), connection.wire()));
            self.fan_out_room(room);
            self.begin_membership(slot, room);
            if handle.slow_consumer != SlowConsumer::Disconnect {
                self.seal(slot, handle.id);
            }
        }
        let joined = joined?;
        // What it was sent before keeps its place before the answer.
        self.fan_out_rooms_of(slot);
        self.push_answers_of(slot);
        Some(Effect::Joined {
            connection,
            room: handle,
            joined,
            already,
        })
    }

    fn begin_membership(&mut self, slot: u32, room: u32) {
        let memberships = &mut self.members[slot as usize].memberships;
        let members = &mut self.rooms[room as usize].members;
        let (Ok(index), Ok(membership)) = (
            u32::try_from(members.len()),
            u32::try_from(memberships.len()),
        ) else {
            return;
        };
        if memberships.is_empty() {
            // Most connections are in one room; Vec would start with four.
            memberships.reserve_exact(1);
        }
        memberships.push(Membership { room, index });
        members.push(MemberRef { slot, membership });
        self.membership_count += 1;
    }

    pub(super) fn detach(&mut self, slot: u32, room: RoomId, table: &RoomTable) {
        let wire = self.members[slot as usize].wire;
        let Some(room) = self.find_room((room, wire)) else {
            return;
        };
        let Some(membership) = self.membership_index(slot, room) else {
            return;
        };
        self.fan_out_room(room);
        self.end_membership(slot, membership, table);
    }

    /// Where in the connection's memberships this room is. Costs at most the rooms of the
    /// connection.
    pub(super) fn membership_index(&self, slot: u32, room: u32) -> Option<usize> {
        self.members[slot as usize]
            .memberships
            .iter()
            .position(|found| found.room == room)
    }

    /// Takes a membership out of both lists, mending the two entries that move into its place.
    fn end_membership(&mut self, slot: u32, membership: usize, table: &RoomTable) {
        let memberships = &mut self.members[slot as usize].memberships;
        let Membership { room, index } = memberships.swap_remove(membership);
        if let Some(moved) = memberships.get(membership) {
            let at = moved.index as usize;
            let moved_room = &mut self.rooms[moved.room as usize];
            moved_room.members[at].membership = u32::try_from(membership).unwrap_or(u32::MAX);
        }
        let local = &mut self.rooms[room as usize];
        local.members.swap_remove(index as usize);
        if let Some(moved) = local.members.get(index as usize) {
            let (slot, membership) = (moved.slot as usize, moved.membership as usize);
            self.members[slot].memberships[membership].index = index;
        }
        self.membership_count -= 1;
        let handle = &self.rooms[room as usize].handle;
        table.release(self.id_of(slot), handle, self.now_ms);
        if self.rooms[room as usize].members.is_empty() {
            self.remove_room(room);
        }
    }

    fn create_room(&mut self, handle: RoomHandle, wire: Wire) -> u32 {
        let id = handle.id;
        let local = LocalRoom {
            handle,
            wire,
            has_exceptions: false,
            members: Vec::new(),
            pending: Vec::new(),
        };
        let room = match self.free_rooms.pop() {
            Some(room) => {
                self.rooms[room as usize] = local;
                room
            }
            None => {
                self.rooms.push(local);
                u32::try_from(self.rooms.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let rooms = &self.rooms;
        self.rooms_by_id.insert_unique(id.spread(), room, |room| {
            rooms[*room as usize].handle.id.spread()
        });
        room
    }

    fn remove_room(&mut self, room: u32) {
        let local = &mut self.rooms[room as usize];
        local.members = Vec::new();
        // Publications of this turn that nobody is left to hear.
        local.pending = Vec::new();
        // The place stays for the next room; a long name must not.
        local.handle.name = self.no_name.clone();
        let id = local.handle.id;
        if let Ok(entry) = self
            .rooms_by_id
            .find_entry(id.spread(), |found| *found == room)
        {
            entry.remove();
        }
        self.free_rooms.push(room);
    }
}
