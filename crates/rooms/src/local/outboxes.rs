//! The connections of one core with their outboxes: frames in, and frames out to sockets.
//!
//! Invariants:
//! - a connection is in a flush line at most once, and in none while its socket takes no more;
//! - frames that did not fit keep their order: while a connection has some, its later frames join
//!   them.

use std::borrow::Borrow;
use std::collections::HashMap;

use proto::SharedFrame;

use super::connections::Connections;
use super::flush::{FlushLines, FlushQueue};
use super::member::MemberState;
use super::overflow::{Overflow, Overflows, Owned};
use crate::batch::{Batch, Pending};
use crate::handle::RoomHandle;
use crate::id::{CoreId, Slot};
use crate::outbox::Tag;

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct LocalLimits {
    /// The rooms that a connection may be a member of.
    pub rooms_per_connection_max: usize,
    /// The bytes that may wait for a connection's socket.
    pub outbox_bytes_max: u32,
}

impl Default for LocalLimits {
    /// Returns 128 rooms and 1 MiB.
    fn default() -> Self {
        Self {
            rooms_per_connection_max: 128,
            outbox_bytes_max: 1 << 20,
        }
    }
}

/// The counters of one core's rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCounts {
    /// Frames queued for members: publications and events times members, without excepted members;
    /// and broadcasts times connections.
    pub deliveries: u64,
    /// Publications that slow members did not receive, and were told of.
    pub skipped: u64,
    /// Ephemeral events that members did not receive because they were behind.
    pub ephemeral_dropped: u64,
    /// Publications that were replayed to members that came back.
    pub replayed: u64,
}

/// Frames, and what may be dropped with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer<'a> {
    pub(super) frame: &'a SharedFrame,
    pub(super) tag: Tag,
}

impl<'a, P: Borrow<Pending>> From<&'a Batch<'_, P>> for Buffer<'a> {
    fn from(batch: &'a Batch<'_, P>) -> Self {
        Self {
            frame: batch.frame(),
            tag: batch.tag(),
        }
    }
}

/// The connections of one core with their outboxes.
#[derive(Debug)]
pub(super) struct Outboxes {
    pub(super) connections: Connections,
    pub(super) limits: LocalLimits,
    pub(super) counts: LocalCounts,
    pub(super) overflows: Overflows,
    lines: FlushLines,
    /// The bytes over the limit that may wait for a connection that was replayed to, until its
    /// outbox has been empty once.
    allowances: HashMap<Slot, u32, ahash::RandomState>,
}

impl Outboxes {
    /// Creates the outboxes of a core without connections.
    pub(super) fn new(core: CoreId, limits: LocalLimits) -> Self {
        Self {
            connections: Connections::new(core),
            limits,
            counts: LocalCounts::default(),
            overflows: Overflows::default(),
            lines: FlushLines::default(),
            allowances: HashMap::default(),
        }
    }

    /// Ends a connection that has no memberships any more.
    pub(super) fn close(&mut self, slot: Slot) {
        self.forget_allowance(slot);
        self.lines.blocked.remove(&slot);
        self.connections.close(slot);
    }

    /// Queues frames for one connection; false if they did not fit.
    // In the loop of each fan-out: a call would cost a fifth of it.
    #[inline(always)]
    pub(super) fn push(&mut self, slot: Slot, frame: &SharedFrame, queue: FlushQueue) -> bool {
        let member = &mut self.connections[slot];
        if member.state.is_plain()
            && member
                .outbox
                .push(frame, Tag::Firm, self.limits.outbox_bytes_max)
                .is_ok()
        {
            self.lines.enqueue(slot, member, queue);
            return true;
        }
        let tag = Tag::Firm;
        self.push_tagged(slot, Buffer { frame, tag }, None, queue)
    }

    /// Queues a buffer that may be dropped later, of a room; false if it did not fit.
    #[inline(never)]
    pub(super) fn push_tagged(
        &mut self,
        slot: Slot,
        buffer: Buffer<'_>,
        room: Option<&RoomHandle>,
        queue: FlushQueue,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.connections[slot];
        if !member.state.is_addressable() {
            return true;
        }
        let Buffer { frame, tag } = buffer;
        if !member.state.has(MemberState::OVERFLOWED) {
            if member.outbox.push(frame, tag, bytes_max).is_ok() {
                self.lines.enqueue(slot, member, queue);
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
        self.overflows.push(self.connections.id_of(slot), overflow);
        false
    }

    /// Queues the last frame of a connection, over the bound if need be.
    pub(super) fn push_last(&mut self, slot: Slot, last: &SharedFrame) {
        let member = &mut self.connections[slot];
        member.state.replace(MemberState::SHUT, true);
        if member.state.has(MemberState::OVERFLOWED) {
            // Frames that did not fit are forgotten, and nothing may follow as if they had not
            // been.
            member.outbox.drop_unsent();
        }
        if member.outbox.push(last, Tag::Firm, u32::MAX).is_err() {
            // As much waits as can be counted.
            member.outbox.drop_unsent();
            _ = member.outbox.push(last, Tag::Firm, u32::MAX);
        }
        self.lines.enqueue(slot, member, FlushQueue::Prompt);
    }

    /// Returns the bytes that may wait for the connection.
    #[inline]
    pub(super) fn bytes_max(&self, slot: Slot) -> u32 {
        let bytes_max = self.limits.outbox_bytes_max;
        if self.connections[slot].state.has(MemberState::ALLOWED) {
            return bytes_max.saturating_add(self.allowances.get(&slot).copied().unwrap_or(0));
        }
        bytes_max
    }

    /// Lets so many bytes more wait for the connection, until nothing does.
    pub(super) fn allow(&mut self, slot: Slot, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes_max = self.limits.outbox_bytes_max;
        let member = &mut self.connections[slot];
        if member.outbox.pending_bytes().saturating_add(bytes) <= bytes_max {
            return;
        }
        member.state.replace(MemberState::ALLOWED, true);
        let allowance = self.allowances.entry(slot).or_insert(0);
        if *allowance <= bytes_max.saturating_mul(ALLOWED_OUTBOXES_MAX) {
            *allowance = allowance.saturating_add(bytes);
        }
    }

    fn forget_allowance(&mut self, slot: Slot) {
        let state = &mut self.connections[slot].state;
        if state.replace(MemberState::ALLOWED, false) {
            self.allowances.remove(&slot);
        }
    }

    /// Takes the next connection that has something to flush from a line.
    #[inline]
    pub(super) fn next_to_flush(&mut self, queue: FlushQueue) -> Option<Slot> {
        loop {
            let slot = self.lines.pop(queue)?;
            if FlushLines::is_due(&mut self.connections[slot], queue) {
                return Some(slot);
            }
        }
    }

    /// Returns whether connections wait to be flushed.
    pub(super) fn has_flushes(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Notes that the connection's socket took so many bytes.
    #[inline]
    pub(super) fn advance(&mut self, slot: Slot, taken: usize) {
        let member = &mut self.connections[slot];
        member.outbox.advance(taken);
        if member.state.has(MemberState::ALLOWED) && member.outbox.is_empty() {
            self.forget_allowance(slot);
        }
    }

    /// Sets whether the connection's socket takes no more for now.
    pub(super) fn set_blocked(&mut self, slot: Slot, blocked: bool) {
        let member = &mut self.connections[slot];
        let was_blocked = member.state.replace(MemberState::BLOCKED, blocked);
        if !blocked && !member.outbox.is_empty() {
            self.lines.enqueue(slot, member, FlushQueue::Prompt);
        }
        match (was_blocked, blocked) {
            (false, true) => _ = self.lines.blocked.insert(slot),
            (true, false) => _ = self.lines.blocked.remove(&slot),
            _ => {}
        }
    }

    /// Returns the connections whose sockets take no more for now.
    pub(super) fn blocked_slots(&self) -> impl ExactSizeIterator<Item = Slot> {
        self.lines.blocked.iter().copied()
    }

    /// Takes at least `count_max` frames that did not fit, and with each all others of its
    /// connection.
    pub(super) fn take_overflow(&mut self, count_max: usize) -> Vec<Overflow> {
        let taken = self.overflows.take(count_max);
        self.accept_again(taken)
    }

    /// Takes the frames of one connection that did not fit.
    pub(super) fn take_overflow_of(&mut self, slot: Slot) -> Vec<Overflow> {
        if !self.connections[slot].state.has(MemberState::OVERFLOWED) {
            return Vec::new();
        }
        let taken = self.overflows.take_of(self.connections.id_of(slot));
        self.accept_again(taken)
    }

    /// Lets connections take frames again whose overflow was taken; drops that of closed ones.
    fn accept_again(&mut self, taken: Vec<Owned>) -> Vec<Overflow> {
        let of_the_open = taken.into_iter().filter_map(|owned| {
            let slot = self.connections.slot_of(owned.connection)?;
            let state = &mut self.connections[slot].state;
            state.replace(MemberState::OVERFLOWED, false);
            Some(owned.overflow)
        });
        of_the_open.collect()
    }

    /// Queues a frame again that did not fit. If it still does not, the room's treatment of slow
    /// members applies; false if the frame has no place even then.
    pub(super) fn push_again(&mut self, overflow: &Overflow) -> bool {
        let Overflow {
            slot,
            ref frame,
            tag,
            ref room,
        } = *overflow;
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.connections[slot];
        if !member.state.is_addressable() {
            return true;
        }
        if member.outbox.push(frame, tag, bytes_max).is_err() {
            let (Tag::Publications(span), Some(room)) = (tag, room) else {
                return false;
            };
            if !self.push_skipping(slot, frame, span, room) {
                return false;
            }
        }
        let member = &mut self.connections[slot];
        self.lines.enqueue(slot, member, FlushQueue::Prompt);
        true
    }
}

/// Once an allowance is over so many times the limit, replays do not raise it. A member of many
/// rooms that comes back asks for all of them at once; for more than this it must read in between.
const ALLOWED_OUTBOXES_MAX: u32 = 16;
