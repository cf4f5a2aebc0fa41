//! Members that are excepted from some publications. Others still share their buffers; for each of
//! these, the rest is merged apart.

use super::member::{MemberIndex, RoomIndex};
use super::outboxes::Outboxes;
use super::rooms::MemberRef;
use super::shared::FanOut;
use crate::batch::{Batch, Pending};
use crate::class::SlowConsumer;

impl Outboxes {
    /// Moves the members of a room that are excepted from something pending behind those that are
    /// not; returns how many are not. The order of a room's members means nothing.
    #[cold]
    pub(super) fn part_excepted(
        &mut self,
        room: RoomIndex,
        pending: &[Pending],
        members: &mut [MemberRef],
    ) -> usize {
        let mut sharing = members.len();
        for slot in pending.iter().filter_map(|pending| pending.except) {
            // It may be gone since.
            let member = &self.connections[slot];
            let Some(membership) = member.find(room) else {
                continue;
            };
            let found = member.memberships[membership.get()].index.get();
            if found >= sharing {
                continue;
            }
            sharing -= 1;
            members.swap(found, sharing);
            for index in [found, sharing] {
                let MemberRef { slot, membership } = members[index];
                let memberships = &mut self.connections[slot].memberships;
                memberships[membership.get()].index = MemberIndex::new(index);
            }
        }
        sharing
    }

    /// Queues with each of these members what it is not excepted from. Costs a copy of that for
    /// each of them, unless it is one frame alone.
    pub(super) fn push_apart(
        &mut self,
        members: &[MemberRef],
        pending: &[Pending],
        fan_out: &mut FanOut<'_>,
    ) {
        let mut own: Vec<&Pending> = Vec::new();
        for member in members {
            let is_excepted = |pending: &&Pending| pending.except == Some(member.slot);
            own.clear();
            own.extend(pending.iter().filter(|pending| !is_excepted(pending)));
            let excepted = pending.iter().filter(is_excepted);
            let excepted = excepted.filter_map(Pending::offset);
            self.push_own(*member, &own, excepted, fan_out);
        }
    }

    fn push_own(
        &mut self,
        member: MemberRef,
        own: &[&Pending],
        excepted: impl Iterator<Item = u64>,
        fan_out: &mut FanOut<'_>,
    ) {
        let (id, slow_consumer) = (fan_out.room.id, fan_out.room.slow_consumer);
        // Where nothing is dropped, nobody asks what was between.
        let mut excepted = excepted
            .filter(|_| slow_consumer != SlowConsumer::Disconnect)
            .peekable();
        self.counts.deliveries += own.len() as u64;
        let mut rest = own;
        while let Some(batch) = Batch::first_of(rest, id, slow_consumer, fan_out.scratch) {
            if let Some(first) = batch.first_offset() {
                while let Some(offset) = excepted.next_if(|offset| *offset < first) {
                    self.note_exception(member.slot, id, offset);
                }
            }
            self.push_to_all(&[member], &batch, fan_out);
            rest = &rest[batch.len()..];
        }
        excepted.for_each(|offset| self.note_exception(member.slot, id, offset));
    }
}
