//! One buffer for all members of a room.

use std::borrow::Borrow;

use super::flush::FlushQueue;
use super::member::MemberState;
use super::outboxes::{Buffer, Outboxes};
use super::rooms::{KnownBuffer, MemberRef};
use crate::batch::{Batch, Pending};
use crate::class::SlowConsumer;
use crate::handle::RoomHandle;
use crate::outbox::Tag;

/// The fan-out of one room.
pub(super) struct FanOut<'a> {
    pub(super) room: &'a RoomHandle,
    /// The buffers that may be the first of an outbox.
    pub(super) newest: &'a mut Vec<KnownBuffer>,
    pub(super) queue: FlushQueue,
    /// Memory to merge publications in.
    pub(super) scratch: &'a mut Vec<u8>,
}

impl Outboxes {
    /// Queues a batch with members.
    pub(super) fn push_to_all(
        &mut self,
        members: &[MemberRef],
        batch: &Batch<'_, impl Borrow<Pending>>,
        fan_out: &mut FanOut<'_>,
    ) {
        if batch.tag() != Tag::Firm || batch.has_ephemeral() {
            return self.push_to_each(members, batch, fan_out);
        }
        let (frame, queue) = (batch.frame(), fan_out.queue);
        for member in members {
            self.push(member.slot, frame, queue);
        }
    }

    /// Queues a batch of which not every member gets the same: in rooms that may be skipped, and
    /// with ephemeral events.
    fn push_to_each(
        &mut self,
        members: &[MemberRef],
        batch: &Batch<'_, impl Borrow<Pending>>,
        fan_out: &mut FanOut<'_>,
    ) {
        let FanOut { room, queue, .. } = *fan_out;
        let whole = Buffer::from(batch);
        let latest = batch
            .newest()
            .filter(|_| room.slow_consumer == SlowConsumer::Latest);
        let mut firm = None;
        for MemberRef { slot, .. } in members {
            let member = &self.connections[*slot];
            let waits = member.state.has(MemberState::BLOCKED) || member.outbox.has_rest();
            // Older publications may be in the overflow: all of it comes behind them, or goes with
            // them.
            let is_next = !member.state.has(MemberState::OVERFLOWED);
            if let Some((frame, tag)) = latest.filter(|_| waits && is_next) {
                self.push_latest(*slot, Buffer { frame, tag }, batch, fan_out);
            } else if batch.has_ephemeral() && self.is_pressed(*slot, batch.frame().len()) {
                self.counts.ephemeral_dropped += batch.ephemeral_count();
                let firm = firm.get_or_insert_with(|| batch.without_ephemeral(fan_out.scratch));
                if let Some(frame) = firm {
                    let tag = batch.tag();
                    self.push_tagged(*slot, Buffer { frame, tag }, Some(room), queue);
                }
            } else {
                self.push_tagged(*slot, whole, Some(room), queue);
            }
        }
        let buffers = latest.map(|newest| [newest, (whole.frame, whole.tag)]);
        for (frame, tag) in buffers.into_iter().flatten() {
            if let Tag::Publications(span) = tag {
                fan_out.newest.push((frame.clone(), span));
            }
        }
    }
}
