//! The memberships of connections in rooms.
//!
//! Invariants:
//! - `rooms[m.room].members[m.index]` names the slot and the place of each membership `m`, and the
//!   other way round, so that joining and leaving cost the same in a room of ten or ten thousand;
//! - each membership was counted by one [`RoomTable::join`] and is counted out as it ends.

use super::LocalRooms;
use super::effect::Effect;
use super::member::{MemberIndex, Membership, MembershipIndex, RoomIndex};
use super::rooms::MemberRef;
use crate::class::SlowConsumer;
use crate::handle::RoomHandle;
use crate::id::{ConnectionId, RoomId, Slot};
use crate::key::Space;
use crate::mailbox::Joined;
use crate::members::MemberCount;
use crate::table::RoomTable;

impl LocalRooms {
    /// Ends all memberships of a connection in rooms of a space. What was published before still
    /// reaches it. Returns [`Effect::LastRoomLeft`] if the connection is to be closed with that.
    ///
    /// Costs in proportion to the rooms of the connection.
    pub fn detach_all(&mut self, slot: Slot, space: Space, table: &RoomTable) -> Option<Effect> {
        self.fan_out_rooms_of(slot);
        let mut has_left = false;
        // From the last one on: one that moves into a free place was looked at already.
        for index in (0..self.outboxes.connections[slot].memberships.len()).rev() {
            let room = self.outboxes.connections[slot].memberships[index].room;
            if self.rooms[room].handle.space == space {
                self.end_membership(slot, MembershipIndex::new(index), table);
                has_left = true;
            }
        }
        if !has_left {
            return None;
        }
        self.last_room_left(slot, space)
    }

    /// Ends all memberships of a connection that is to be [shut](Self::shut) as too slow.
    /// Publications that are not fanned out yet do not reach it, for there is no place for them,
    /// nor do the answers that would come behind them.
    pub fn drop_memberships(&mut self, slot: Slot, table: &RoomTable) {
        self.end_memberships(slot, table);
        self.take_answers_of(slot);
    }

    pub(super) fn end_memberships(&mut self, slot: Slot, table: &RoomTable) {
        while let Some(last) = self.outboxes.connections[slot]
            .memberships
            .len()
            .checked_sub(1)
        {
            self.end_membership(slot, MembershipIndex::new(last), table);
        }
    }

    /// Returns the rooms that the connection is a member of.
    pub fn rooms_of(&self, slot: Slot) -> impl Iterator<Item = &RoomHandle> {
        let memberships = self.outboxes.connections[slot].memberships.iter();
        memberships.map(|membership| &self.rooms[membership.room].handle)
    }

    /// Returns the members of a room on this core, on every wire.
    pub fn members_of(&self, room: RoomId) -> impl Iterator<Item = ConnectionId> {
        let members = self.rooms.find_all(room).flat_map(|room| &room.members);
        members.map(|member| self.id_of(member.slot))
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
        let room = self.rooms.find(handle.id, connection.wire());
        let member = &self.outboxes.connections[slot];
        let already = room.is_some_and(|room| member.find(room).is_some());
        if already {
            table.release(connection, &handle, self.now);
        } else if member.memberships.len() >= self.outboxes.limits.rooms_per_connection_max {
            self.finish_earlier(slot);
            table.release(connection, &handle, self.now);
            return Some(Effect::JoinRefused {
                connection,
                room: handle,
                id: joined.and_then(|joined| joined.id),
            });
        } else {
            let wire = connection.wire();
            let room = room.unwrap_or_else(|| self.rooms.create(handle.clone(), wire));
            self.fan_out_room(room);
            self.begin_membership(slot, room);
            if handle.slow_consumer != SlowConsumer::Disconnect {
                self.outboxes.seal(slot, handle.id);
            }
        }
        let joined = joined?;
        self.finish_earlier(slot);
        Some(Effect::Joined {
            connection,
            room: handle,
            joined,
            already,
        })
    }

    fn begin_membership(&mut self, slot: Slot, room: RoomIndex) {
        let memberships = &mut self.outboxes.connections[slot].memberships;
        let members = &mut self.rooms[room].members;
        let index = MemberIndex::new(members.len());
        let membership = MembershipIndex::new(memberships.len());
        if memberships.is_empty() {
            // Most connections are in one room; Vec would start with four.
            memberships.reserve_exact(1);
        }
        memberships.push(Membership { room, index });
        members.push(MemberRef { slot, membership });
        self.membership_count += 1;
    }

    /// Ends the membership of a connection in a room, if it is a member.
    pub(super) fn detach(&mut self, slot: Slot, room: RoomId, table: &RoomTable) -> Option<Effect> {
        let member = &self.outboxes.connections[slot];
        let room = self.rooms.find(room, member.wire)?;
        let membership = member.find(room)?;
        self.fan_out_room(room);
        let space = self.rooms[room].handle.space;
        self.end_membership(slot, membership, table);
        self.last_room_left(slot, space)
    }

    /// Returns the effect of leaving a room of this space, if the connection is to be closed for
    /// it.
    fn last_room_left(&self, slot: Slot, space: Space) -> Option<Effect> {
        let closes = self.closes_after_room_of(slot, space);
        closes.then(|| Effect::LastRoomLeft {
            connections: vec![self.id_of(slot)],
        })
    }

    /// Ends all memberships of a room, on every wire. What was published before still reaches its
    /// members.
    ///
    /// Costs in proportion to the members, and one look at the table for each wire.
    pub(super) fn dissolve(&mut self, id: RoomId, table: &RoomTable) -> Option<Effect> {
        let mut connections = Vec::new();
        while let Some(index) = self.rooms.find_any(id) {
            self.fan_out_room(index);
            let room = &mut self.rooms[index];
            let (handle, wire) = (room.handle.clone(), room.wire);
            let members = std::mem::take(&mut room.members);
            for member in &members {
                self.take_membership(member.slot, member.membership);
                if self.closes_after_room_of(member.slot, handle.space) {
                    connections.push(self.id_of(member.slot));
                }
            }
            self.membership_count -= members.len();
            let counted = MemberCount {
                core: self.outboxes.connections.core,
                wire,
                count: u32::try_from(members.len()).unwrap_or(u32::MAX),
            };
            table.release_members(counted, &handle, self.now);
            self.rooms.remove(index);
        }
        (!connections.is_empty()).then_some(Effect::LastRoomLeft { connections })
    }

    /// Takes a membership out of both lists, fixing the two entries that move into its place.
    fn end_membership(&mut self, slot: Slot, membership: MembershipIndex, table: &RoomTable) {
        let Membership {
            room: index,
            index: place,
        } = self.take_membership(slot, membership);
        let room = &mut self.rooms[index];
        room.members.swap_remove(place.get());
        if let Some(moved) = room.members.get(place.get()) {
            let memberships = &mut self.outboxes.connections[moved.slot].memberships;
            memberships[moved.membership.get()].index = place;
        }
        self.membership_count -= 1;
        let connection = self.outboxes.connections.id_of(slot);
        table.release(connection, &room.handle, self.now);
        if room.members.is_empty() {
            self.rooms.remove(index);
        }
    }

    /// Takes a membership out of the connection's list alone, fixing the entry that moves into its
    /// place.
    #[inline]
    fn take_membership(&mut self, slot: Slot, membership: MembershipIndex) -> Membership {
        let memberships = &mut self.outboxes.connections[slot].memberships;
        let taken = memberships.swap_remove(membership.get());
        if let Some(moved) = memberships.get(membership.get()) {
            self.rooms[moved.room].members[moved.index.get()].membership = membership;
        }
        taken
    }
}
