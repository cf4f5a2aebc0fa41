//! The lines in which connections wait for their outboxes to be flushed.

use std::collections::{HashSet, VecDeque};

use super::member::{Member, MemberState};
use crate::id::Slot;

/// The line in which a connection waits for its outbox to be flushed.
///
/// A fan-out to a large room must not make a small room wait: at 6 us a send, 10,000 members are
/// 60 ms. So there are two lines, and a core takes a slice of each in turn, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushQueue {
    /// Members of small rooms, and frames to one connection.
    Prompt,
    /// Members of large rooms.
    Bulk,
}

impl FlushQueue {
    /// Returns the line for so many connections that are sent the same.
    #[inline]
    pub(super) const fn of(count: usize) -> Self {
        match count {
            0..=PROMPT_MEMBERS_MAX => Self::Prompt,
            _ => Self::Bulk,
        }
    }

    #[inline]
    const fn flag(self) -> u8 {
        match self {
            Self::Bulk => MemberState::BULK,
            Self::Prompt => MemberState::PROMPT,
        }
    }
}

/// The members up to which a room is small: as many sends as fit in half a millisecond.
const PROMPT_MEMBERS_MAX: usize = 64;

/// Both lines, and the connections whose sockets take no more for now.
#[derive(Debug, Default)]
pub(super) struct FlushLines {
    lines: [VecDeque<Slot>; 2],
    pub(super) blocked: HashSet<Slot, ahash::RandomState>,
}

impl FlushLines {
    /// Puts a connection in a line, once; not if its socket takes no more for now.
    #[inline]
    pub(super) fn enqueue(&mut self, slot: Slot, member: &mut Member, queue: FlushQueue) {
        if member.state.has(MemberState::BLOCKED) {
            return;
        }
        if !member.state.replace(queue.flag(), true) {
            self.lines[queue as usize].push_back(slot);
        }
    }

    /// Takes the first entry of a line.
    #[inline]
    pub(super) fn pop(&mut self, queue: FlushQueue) -> Option<Slot> {
        self.lines[queue as usize].pop_front()
    }

    /// Returns whether a connection that was taken from a line has something to flush. If not, it
    /// was flushed from the other line, has ended, or waits for its socket.
    #[inline]
    pub(super) const fn is_due(member: &mut Member, queue: FlushQueue) -> bool {
        let was_queued = member.state.replace(queue.flag(), false);
        was_queued && !member.state.has(MemberState::BLOCKED) && !member.outbox.is_empty()
    }

    /// Returns whether no connection waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }
}
