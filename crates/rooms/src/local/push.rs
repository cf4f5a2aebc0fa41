//! Frames into outboxes, and what becomes of those that do not fit.

use std::collections::HashSet;

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::MemberState;
use crate::class::SlowConsumer;
use crate::gap;
use crate::handle::RoomHandle;
use crate::id::{ConnectionId, RoomId};
use crate::outbox::{Span, Tag};

/// Frames that found their member's outbox full. See [`LocalRooms::take_overflow`].
#[derive(Debug)]
pub struct Overflow {
    /// Whose outbox is full.
    pub slot: u32,
    /// What did not fit.
    pub frame: SharedFrame,
    tag: Tag,
    /// The room that may be skipped.
    room: Option<RoomHandle>,
}

impl Overflow {
    /// Which publications it holds of a room, if it is for a slot and may be dropped.
    pub(super) fn span_of(&mut self, slot: u32, room: RoomId) -> Option<&mut Span> {
        match &mut self.tag {
            Tag::Publications(span) if self.slot == slot && span.room == room => Some(span),
            _ => None,
        }
    }
}

impl LocalRooms {
    /// Queues frames for one connection, after what was queued before. A connection that is
    /// [shut](Self::shut) takes nothing, nor does a slot that has none: it is the next one's.
    ///
    /// Returns false if the outbox is full; then the frames wait in the
    /// [overflow](Self::take_overflow).
    #[inline]
    pub fn push(&mut self, slot: u32, frame: &SharedFrame, queue: FlushQueue) -> bool {
        let member = &mut self.members[slot as usize];
        if member.state.is_plain()
            && member
                .outbox
                .push(frame, Tag::Firm, self.limits.outbox_bytes_max)
                .is_ok()
        {
            self.enqueue(slot, queue);
            return true;
        }
        self.push_tagged(slot, (frame, Tag::Firm), None, queue)
    }

    #[inline(never)]
    pub(super) fn push_tagged(
        &mut self,
        slot: u32,
        (frame, tag): (&SharedFrame, Tag),
        room: Option<&RoomHandle>,
        queue: FlushQueue,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.members[slot as usize];
        if !member.state.is_addressable() {
            return true;
        }
        if !member.state.has(MemberState::OVERFLOWED) {
            if member.outbox.push(frame, tag, bytes_max).is_ok() {
                self.enqueue(slot, queue);
                return true;
            }
            member.state.replace(MemberState::OVERFLOWED, true);
        }
        let overflow = Overflow {
            slot,
            frame: frame.clone(),
            tag,
            room: room.cloned(),
        };
        self.overflow.push((self.id_of(slot), overflow));
        false
    }

    /// How much may wait for the connection, in bytes.
    #[inline]
    pub(super) fn bytes_max(&self, slot: u32) -> u32 {
        let bytes_max = self.limits.outbox_bytes_max;
        if self.members[slot as usize].state.has(MemberState::ALLOWED) {
            return bytes_max.saturating_add(self.allowances.get(&slot).copied().unwrap_or(0));
        }
        bytes_max
    }

    /// Takes frames that found their outbox full: at least `count_max`, if there are as many, and with each
    /// all others of its connection, in the order in which they came.
    ///
    /// An outbox may be full only because its flush has not come round. So the caller flushes the
    /// connection and queues the frame again with [`push_again`](Self::push_again); if that fails too,
    /// the socket does not take what it is sent: that is a slow consumer. Nothing may be
    /// [fanned out](Self::fan_out) meanwhile, or it overtakes what was taken.
    pub fn take_overflow(&mut self, count_max: usize) -> Vec<Overflow> {
        let count = count_max.min(self.overflow.len());
        let mut taken: Vec<_> = self.overflow.drain(..count).collect();
        if !self.overflow.is_empty() {
            let connections: HashSet<_, ahash::RandomState> =
                taken.iter().map(|(connection, _)| *connection).collect();
            let is_of_them = |(of, _): &mut (ConnectionId, _)| connections.contains(of);
            taken.extend(self.overflow.extract_if(.., is_of_them));
        }
        self.accept_again(taken)
    }

    /// Takes the frames of one connection that found its outbox full.
    pub fn take_overflow_of(&mut self, slot: u32) -> Vec<Overflow> {
        if !self.members[slot as usize]
            .state
            .has(MemberState::OVERFLOWED)
        {
            return Vec::new();
        }
        let connection = self.id_of(slot);
        let taken = self.overflow.extract_if(.., |(of, _)| *of == connection);
        let taken = taken.collect();
        self.accept_again(taken)
    }

    /// Lets the connections that these are for take frames again, if they are open still.
    fn accept_again(&mut self, taken: Vec<(ConnectionId, Overflow)>) -> Vec<Overflow> {
        let of_the_open = taken.into_iter().filter_map(|(connection, overflow)| {
            let slot = self.slot_of(connection)?;
            self.members[slot as usize]
                .state
                .replace(MemberState::OVERFLOWED, false);
            Some(overflow)
        });
        of_the_open.collect()
    }

    /// Whether frames found their outbox full.
    pub const fn has_overflow(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Whether a frame that found the outbox full would fit now.
    pub fn has_place_for(&self, overflow: &Overflow) -> bool {
        let outbox = &self.members[overflow.slot as usize].outbox;
        outbox.has_place_for(overflow.frame.len(), self.bytes_max(overflow.slot))
    }

    /// Queues a frame that found the outbox full. If it still is, what the member's room says of slow
    /// ones happens: older publications make way, and it is told which.
    ///
    /// Returns false if the frame has no place: then the connection is a slow consumer, to be closed.
    pub fn push_again(&mut self, overflow: &Overflow) -> bool {
        let Overflow {
            slot,
            ref frame,
            tag,
            ref room,
        } = *overflow;
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.members[slot as usize];
        if !member.state.is_addressable() {
            return true;
        }
        if member.outbox.push(frame, tag, bytes_max).is_err() {
            let (Tag::Publications(span), Some(room)) = (tag, room) else {
                return false;
            };
            if !self.push_skipping(slot, (frame, span), room) {
                return false;
            }
        }
        self.enqueue(slot, FlushQueue::Prompt);
        true
    }

    /// Queues publications for which there is no place in that of older ones of the room. If there is
    /// none even then, the newest is queued over the bound where only that matters, and others are only
    /// told of. False if there is no place for that either.
    fn push_skipping(
        &mut self,
        slot: u32,
        (frame, span): (&SharedFrame, Span),
        room: &RoomHandle,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let left_max = bytes_max.saturating_sub(frame_len);
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let tag = Tag::Publications(span);
        let outbox = &mut self.members[slot as usize].outbox;
        loop {
            let dropped = outbox.drop_oldest(span.room, |bytes| bytes > left_max, gap);
            self.counts.skipped += dropped;
            if outbox.push(frame, tag, bytes_max).is_ok() {
                return true;
            }
            // A gap is written where the first was and grows a little with the last: more may have to go.
            if dropped == 0 {
                break;
            }
        }
        if room.slow_consumer == SlowConsumer::Latest {
            let beyond = self.bytes_max_beyond(slot);
            let outbox = &mut self.members[slot as usize].outbox;
            if outbox.push(frame, tag, beyond).is_ok() {
                return true;
            }
        }
        self.counts.skipped += span.len();
        self.pass_over(slot, span, room)
    }

    /// Tells a member of publications that it is not sent; false if there is no place even for that: who
    /// leaves and joins a room again and again without reading has more gaps than one for each room.
    pub(super) fn pass_over(&mut self, slot: u32, span: Span, room: &RoomHandle) -> bool {
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let rooms_max = self.limits.rooms_per_connection_max;
        let gaps_len = rooms_max.saturating_mul(gap::len_max(&room.name));
        let gaps_len = u32::try_from(gaps_len).unwrap_or(u32::MAX);
        let gaps_bytes_max = self.bytes_max_beyond(slot).saturating_add(gaps_len);
        let outbox = &mut self.members[slot as usize].outbox;
        outbox.pass_over(span, gap, gaps_bytes_max).is_ok()
    }

    /// Up to where the newest publications of rooms are queued over the bound of an outbox: twice.
    fn bytes_max_beyond(&self, slot: u32) -> u32 {
        let outbox = &self.members[slot as usize].outbox;
        outbox.bound(self.bytes_max(slot)).saturating_mul(2)
    }

    /// Keeps apart what waits of an earlier membership of the room: who joined again is not told before
    /// that what it was not sent after it.
    pub(super) fn seal(&mut self, slot: u32, room: RoomId) {
        self.members[slot as usize].outbox.seal(room);
        let waiting = self.overflow.iter_mut().map(|(_, overflow)| overflow);
        for overflow in waiting.filter(|overflow| overflow.slot == slot) {
            if matches!(overflow.tag, Tag::Publications(span) if span.room == room) {
                overflow.tag = Tag::Firm;
            }
        }
    }
}
