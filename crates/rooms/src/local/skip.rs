//! Slow members of rooms that may be skipped: older publications make way, and a gap tells of them.

use std::borrow::Borrow;

use proto::SharedFrame;

use super::member::MemberState;
use super::outboxes::{Buffer, Outboxes};
use super::shared::FanOut;
use crate::batch::{Batch, Pending};
use crate::class::SlowConsumer;
use crate::gap;
use crate::handle::RoomHandle;
use crate::id::{RoomId, Slot};
use crate::outbox::{Span, Tag};

impl Outboxes {
    /// Queues publications for which there is no place in the place of older ones of the room.
    ///
    /// If that makes no place, the newest publication is queued over the bound where only that one
    /// matters; otherwise a gap tells of these too. False if there is no place even for the gap.
    pub(super) fn push_skipping(
        &mut self,
        slot: Slot,
        frame: &SharedFrame,
        span: Span,
        room: &RoomHandle,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let left_max = bytes_max.saturating_sub(frame_len);
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let tag = Tag::Publications(span);
        let outbox = &mut self.connections[slot].outbox;
        loop {
            let dropped = outbox.drop_oldest(span.room, |bytes| bytes > left_max, gap);
            self.counts.skipped += dropped;
            if outbox.push(frame, tag, bytes_max).is_ok() {
                return true;
            }
            // A gap is where the first publication was and grows a little with the last: more
            // publications may have to go.
            if dropped == 0 {
                break;
            }
        }
        if room.slow_consumer == SlowConsumer::Latest {
            let beyond = self.bytes_max_beyond(slot);
            let outbox = &mut self.connections[slot].outbox;
            if outbox.push(frame, tag, beyond).is_ok() {
                return true;
            }
        }
        self.counts.skipped += span.len();
        self.skip(slot, span, room)
    }

    /// Tells a member of publications that it does not receive; false if there is no place even for
    /// that. A member that leaves and joins a room again and again without reading has more gaps
    /// than one for each room.
    fn skip(&mut self, slot: Slot, span: Span, room: &RoomHandle) -> bool {
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let rooms_max = self.limits.rooms_per_connection_max;
        let gaps_len = rooms_max.saturating_mul(gap::len_max(&room.name));
        let gaps_len = u32::try_from(gaps_len).unwrap_or(u32::MAX);
        let gaps_bytes_max = self.bytes_max_beyond(slot).saturating_add(gaps_len);
        let outbox = &mut self.connections[slot].outbox;
        outbox.skip(span, gap, gaps_bytes_max).is_ok()
    }

    /// Returns the bound up to which the newest publications are queued over the limit: twice it.
    fn bytes_max_beyond(&self, slot: Slot) -> u32 {
        let outbox = &self.connections[slot].outbox;
        outbox.bound(self.bytes_max(slot)).saturating_mul(2)
    }

    /// Queues the newest publication of a batch for a member that is behind, in place of all older
    /// ones of the room that wait.
    pub(super) fn push_latest(
        &mut self,
        slot: Slot,
        newest: Buffer<'_>,
        batch: &Batch<'_, impl Borrow<Pending>>,
        fan_out: &FanOut<'_>,
    ) {
        let FanOut { room, queue, .. } = *fan_out;
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let member = &mut self.connections[slot];
        if member.state.has(MemberState::BLOCKED) {
            // The first buffer too: many turns may pass before it is written.
            self.counts.skipped += member.outbox.drop_first(fan_out.newest, gap);
        }
        self.counts.ephemeral_dropped += batch.ephemeral_count();
        self.counts.skipped += member.outbox.drop_oldest(room.id, |_| true, gap);
        if let Some(older) = batch.older_than_newest() {
            if !self.skip(slot, older, room) {
                self.push_tagged(slot, Buffer::from(batch), Some(room), queue);
                return;
            }
            self.counts.skipped += older.len();
        }
        self.push_tagged(slot, newest, Some(room), queue);
    }

    /// Returns whether a member is too far behind for ephemeral events in a buffer of so many
    /// bytes: much waits for it, something did not fit, or the events would not.
    pub(super) fn is_pressed(&self, slot: Slot, len: usize) -> bool {
        let member = &self.connections[slot];
        let pending_bytes = member.outbox.pending_bytes();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        member.state.has(MemberState::OVERFLOWED)
            || pending_bytes > self.limits.outbox_bytes_max / PRESSURE_DIVISOR
            || pending_bytes > 0 && pending_bytes.saturating_add(len) > self.limits.outbox_bytes_max
    }

    /// Notes that a member is excepted from a publication, with what waits of the room before it,
    /// so that a gap may span it. Without this, a slow member would get a gap for each publication
    /// between two of its own, and the gaps would fill its outbox.
    pub(super) fn note_exception(&mut self, slot: Slot, room: RoomId, offset: u64) {
        if self.connections[slot].state.has(MemberState::OVERFLOWED)
            && let Some(span) = self.overflows.last_span(slot, room)
        {
            return span.except(offset);
        }
        self.connections[slot].outbox.except(room, offset);
    }

    /// Keeps apart what waits of an earlier membership of the room. A connection that joined again
    /// must not be told before that of what it did not receive after it.
    pub(super) fn seal(&mut self, slot: Slot, room: RoomId) {
        self.connections[slot].outbox.seal(room);
        self.overflows.seal(slot, room);
    }
}

/// Members that have less than this part of the limit waiting receive ephemeral events.
const PRESSURE_DIVISOR: u32 = 4;
