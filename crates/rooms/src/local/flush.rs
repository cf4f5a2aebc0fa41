//! Outboxes to sockets: who stands in line, and whose socket takes no more.

use super::LocalRooms;
use super::member::MemberState;
use crate::outbox::Outbox;

/// In which line a connection waits for its outbox to be flushed.
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

impl LocalRooms {
    /// Takes the next connection that has something to flush from a line.
    pub fn next_to_flush(&mut self, queue: FlushQueue) -> Option<u32> {
        loop {
            let slot = match queue {
                FlushQueue::Bulk => self.bulk.pop_front(),
                FlushQueue::Prompt => self.prompt.pop_front(),
            }?;
            let member = &mut self.members[slot as usize];
            let queued = match queue {
                FlushQueue::Bulk => member.state.replace(MemberState::BULK, false),
                FlushQueue::Prompt => member.state.replace(MemberState::PROMPT, false),
            };
            // It may have been flushed from the other line, have ended, or wait for its socket.
            if queued && !member.state.has(MemberState::BLOCKED) && !member.outbox.is_empty() {
                return Some(slot);
            }
        }
    }

    /// Whether connections wait to be flushed.
    pub fn has_flushes(&self) -> bool {
        !self.prompt.is_empty() || !self.bulk.is_empty()
    }

    /// What waits for the connection's socket.
    pub fn outbox(&self, slot: u32) -> &Outbox {
        &self.members[slot as usize].outbox
    }

    /// Takes note that the connection's socket took so many bytes.
    #[inline]
    pub fn advance(&mut self, slot: u32, taken: usize) {
        let member = &mut self.members[slot as usize];
        member.outbox.advance(taken);
        if member.state.has(MemberState::ALLOWED) && member.outbox.is_empty() {
            self.forget_allowance(slot);
        }
    }

    /// Says whether the socket takes no more for now. When it does again, what is queued stands
    /// in the prompt line.
    pub fn set_blocked(&mut self, slot: u32, blocked: bool) {
        let member = &mut self.members[slot as usize];
        let was_blocked = member.state.replace(MemberState::BLOCKED, blocked);
        if !blocked && !member.outbox.is_empty() {
            self.enqueue(slot, FlushQueue::Prompt);
        }
        match (was_blocked, blocked) {
            (false, true) => _ = self.blocked.insert(slot),
            (true, false) => _ = self.blocked.remove(&slot),
            _ => {}
        }
    }

    /// The connections whose sockets take no more for now: of all others nothing waits longer than a
    /// flush takes to come round.
    pub fn blocked_slots(&self) -> impl ExactSizeIterator<Item = u32> {
        self.blocked.iter().copied()
    }

    /// Whether the socket takes no more for now.
    pub fn is_blocked(&self, slot: u32) -> bool {
        self.members[slot as usize].state.has(MemberState::BLOCKED)
    }

    /// Puts a connection in a line, once.
    #[inline]
    pub(super) fn enqueue(&mut self, slot: u32, queue: FlushQueue) {
        let state = &mut self.members[slot as usize].state;
        if state.has(MemberState::BLOCKED) {
            return;
        }
        let (flag, line) = match queue {
            FlushQueue::Bulk => (MemberState::BULK, &mut self.bulk),
            FlushQueue::Prompt => (MemberState::PROMPT, &mut self.prompt),
        };
        if !state.replace(flag, true) {
            line.push_back(slot);
        }
    }
}
