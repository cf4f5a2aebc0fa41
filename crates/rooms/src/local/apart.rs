//! Members that are not sent all that a room is: others share their buffers still, and these get what is
//! left for them put together for each.

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::{MemberRef, MemberState};
use crate::batch::{Batch, Pending};
use crate::class::SlowConsumer;
use crate::id::RoomId;

impl LocalRooms {
    /// Moves the members of a room that are excepted from something pending behind those that are not;
    /// returns how many those are. The order of a room's members means nothing.
    #[cold]
    pub(super) fn part_excepted(
        &mut self,
        room: u32,
        pending: &[Pending],
        members: &mut [MemberRef],
    ) -> usize {
        let mut sharing = members.len();
        for slot in pending.iter().filter_map(|pending| pending.except) {
            // It may be gone since.
            let Some(membership) = self.membership_index(slot, room) else {
                continue;
            };
            let found = self.members[slot as usize].memberships[membership].index;
            if found as usize >= sharing {
                continue;
            }
            sharing -= 1;
            members.swap(found as usize, sharing);
            for (index, place) in [(found as usize, found), (sharing, index_of(sharing))] {
                let MemberRef { slot, membership } = members[index];
                self.members[slot as usize].memberships[membership as usize].index = place;
            }
        }
        sharing
    }

    /// Pushes to each of these members what it is not excepted from. Costs a copy of that for each of them,
    /// unless it is one frame alone.
    pub(super) fn push_apart(
        &mut self,
        room: u32,
        members: &[MemberRef],
        pending: &[Pending],
        queue: FlushQueue,
        scratch: &mut Vec<u8>,
    ) {
        let mut own: Vec<&Pending> = Vec::new();
        for member in members {
            let is_excepted = |pending: &&Pending| pending.except == Some(member.slot);
            own.clear();
            own.extend(pending.iter().filter(|pending| !is_excepted(pending)));
            let excepted = pending.iter().filter(is_excepted);
            let excepted = excepted.filter_map(Pending::offset);
            self.push_own(room, *member, &own, excepted, queue, scratch);
        }
    }

    fn push_own(
        &mut self,
        room: u32,
        member: MemberRef,
        own: &[&Pending],
        excepted: impl Iterator<Item = u64>,
        queue: FlushQueue,
        scratch: &mut Vec<u8>,
    ) {
        let handle = &self.rooms[room as usize].handle;
        let (id, slow_consumer) = (handle.id, handle.slow_consumer);
        // Where nothing is dropped nobody asks what was between.
        let mut excepted = excepted
            .filter(|_| slow_consumer != SlowConsumer::Disconnect)
            .peekable();
        self.counts.deliveries += own.len() as u64;
        let mut rest = own;
        while let Some(batch) = Batch::first_of(rest, id, slow_consumer, scratch) {
            if let Some(first) = batch.first_offset() {
                while let Some(offset) = excepted.next_if(|offset| *offset < first) {
                    self.note_exception(member.slot, id, offset);
                }
            }
            self.push_to_all(room, &[member], &batch, queue, scratch);
            rest = &rest[batch.len()..];
        }
        excepted.for_each(|offset| self.note_exception(member.slot, id, offset));
    }

    /// Takes note that a member is excepted from a publication, with what waits of the room before it: a gap
    /// that tells of that may go on behind this one. Without it a slow member would be told of each
    /// publication between two of its own alone, and those gaps would fill its outbox.
    fn note_exception(&mut self, slot: u32, room: RoomId, offset: u64) {
        let member = &mut self.members[slot as usize];
        if member.state.has(MemberState::OVERFLOWED) {
            let of_the_slot = self.overflow.iter_mut().rev().map(|(_, overflow)| overflow);
            let last = { of_the_slot }.find_map(|overflow| overflow.span_of(slot, room));
            if let Some(span) = last {
                return span.except(offset);
            }
        }
        self.members[slot as usize].outbox.except(room, offset);
    }
}

fn index_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
