//! Who is a member of which room.

use super::member::{LocalRoom, MemberRef, Membership};
use super::{Effect, LocalRooms};
use crate::class::SlowConsumer;
use crate::handle::RoomHandle;
use crate::id::{ConnectionId, RoomId, Wire};
use crate::key::Space;
use crate::mailbox::Joined;
use crate::members::MemberCount;
use crate::table::RoomTable;

impl LocalRooms {
    /// Ends all memberships of a connection in rooms of a space. What was published before still reaches
    /// it. Returns [`Effect::LastRoomLeft`] if it is to be closed with that.
    ///
    /// Costs in proportion to the rooms of the connection.
    pub fn detach_all(&mut self, slot: u32, space: Space, table: &RoomTable) -> Option<Effect> {
        self.fan_out_rooms_of(slot);
        let mut has_left = false;
        // From the last one on: who moves into a place that is left free was looked at already.
        for membership in (0..self.members[slot as usize].memberships.len()).rev() {
            let room = self.members[slot as usize].memberships[membership].room;
            if self.rooms[room as usize].handle.space == space {
                self.end_membership(slot, membership, table);
                has_left = true;
            }
        }
        (has_left && self.closes_after_room_of(slot, space)).then(|| Effect::LastRoomLeft {
            connections: vec![self.id_of(slot)],
        })
    }

    /// Ends all memberships of a connection that is to be [shut](Self::shut) as too slow. What was published
    /// and not fanned out yet does not reach it, for there is no place for it, nor do the answers that
    /// would come behind that.
    pub fn drop_memberships(&mut self, slot: u32, table: &RoomTable) {
        self.end_memberships(slot, table);
        self.take_answers_of(slot);
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

    /// A local room of this id: one for each wire that its members here speak.
    fn find_room_on_some_wire(&self, id: RoomId) -> Option<u32> {
        let is_of = |room: &u32| self.rooms[*room as usize].handle.id == id;
        self.rooms_by_id.find(id.spread(), is_of).copied()
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
            table.release(connection, &handle, self.now);
            return None;
        };
        let room = self.find_room((handle.id, connection.wire()));
        let already = room.is_some_and(|room| self.membership_index(slot, room).is_some());
        let memberships = &self.members[slot as usize].memberships;
        if already {
            table.release(connection, &handle, self.now);
        } else if memberships.len() >= self.limits.rooms_per_connection_max {
            self.fan_out_rooms_of(slot);
            self.push_answers_of(slot);
            table.release(connection, &handle, self.now);
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

    pub(super) fn detach(&mut self, slot: u32, room: RoomId, table: &RoomTable) -> Option<Effect> {
        let wire = self.members[slot as usize].wire;
        let room = self.find_room((room, wire))?;
        let membership = self.membership_index(slot, room)?;
        self.fan_out_room(room);
        let space = self.rooms[room as usize].handle.space;
        self.end_membership(slot, membership, table);
        self.closes_after_room_of(slot, space)
            .then(|| Effect::LastRoomLeft {
                connections: vec![self.id_of(slot)],
            })
    }

    /// Where in the connection's memberships this room is. Costs at most the rooms of the
    /// connection.
    pub(super) fn membership_index(&self, slot: u32, room: u32) -> Option<usize> {
        self.members[slot as usize]
            .memberships
            .iter()
            .position(|found| found.room == room)
    }

    /// Ends all memberships of a room, of whatever wire. What was published before still reaches who
    /// was a member.
    ///
    /// Costs in proportion to the members, and one look at the table for each wire.
    pub(super) fn dissolve(&mut self, id: RoomId, table: &RoomTable) -> Option<Effect> {
        let mut connections = Vec::new();
        while let Some(room) = self.find_room_on_some_wire(id) {
            self.fan_out_room(room);
            let local = &mut self.rooms[room as usize];
            let (handle, wire) = (local.handle.clone(), local.wire);
            let members = std::mem::take(&mut local.members);
            for member in &members {
                self.take_membership(member.slot, member.membership as usize);
                if self.closes_after_room_of(member.slot, handle.space) {
                    connections.push(self.id_of(member.slot));
                }
            }
            self.membership_count -= members.len();
            let counted = MemberCount {
                core: self.core,
                wire,
                count: u32::try_from(members.len()).unwrap_or(u32::MAX),
            };
            table.release_members(counted, &handle, self.now);
            self.remove_room(room);
        }
        (!connections.is_empty()).then_some(Effect::LastRoomLeft { connections })
    }

    /// Takes a membership out of both lists, mending the two entries that move into its place.
    fn end_membership(&mut self, slot: u32, membership: usize, table: &RoomTable) {
        let Membership { room, index } = self.take_membership(slot, membership);
        let local = &mut self.rooms[room as usize];
        local.members.swap_remove(index as usize);
        if let Some(moved) = local.members.get(index as usize) {
            let (slot, membership) = (moved.slot as usize, moved.membership as usize);
            self.members[slot].memberships[membership].index = index;
        }
        self.membership_count -= 1;
        let handle = &self.rooms[room as usize].handle;
        table.release(self.id_of(slot), handle, self.now);
        if self.rooms[room as usize].members.is_empty() {
            self.remove_room(room);
        }
    }

    /// Takes a membership out of the connection's list alone, mending the entry that moves into its
    /// place.
    #[inline]
    fn take_membership(&mut self, slot: u32, membership: usize) -> Membership {
        let memberships = &mut self.members[slot as usize].memberships;
        let taken = memberships.swap_remove(membership);
        if let Some(moved) = memberships.get(membership) {
            let at = moved.index as usize;
            let moved_room = &mut self.rooms[moved.room as usize];
            moved_room.members[at].membership = u32::try_from(membership).unwrap_or(u32::MAX);
        }
        taken
    }

    fn create_room(&mut self, handle: RoomHandle, wire: Wire) -> u32 {
        let id = handle.id;
        let local = LocalRoom {
            handle,
            wire,
            has_exceptions: false,
            members: Vec::new(),
            pending: Vec::new(),
            newest: Vec::new(),
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
