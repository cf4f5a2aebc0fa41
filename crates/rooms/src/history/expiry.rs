//! The rooms of a shard in the order in which something of theirs expires.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::id::RoomId;
use crate::time::Moment;

/// The earliest time at which something of a room expires.
///
/// A room whose time changes gets another entry; the old one stays in the heap, and is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(super) at: Moment,
    pub(super) room: RoomId,
    /// The hash that the room is found by.
    pub(crate) hash: u64,
}

/// The expiry heap.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Expiry {
    /// Adds an entry.
    pub(super) fn push(&mut self, due: Due) {
        self.heap.push(Reverse(due));
    }

    /// Returns the earliest entry.
    pub(super) fn first(&self) -> Option<Due> {
        self.heap.peek().map(|Reverse(due)| *due)
    }

    /// Removes the earliest entry.
    pub(super) fn pop(&mut self) {
        self.heap.pop();
    }

    /// Returns how many entries there are, stale or not.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns whether the heap has an entry.
    #[cfg(test)]
    pub(super) fn has(&self, due: Due) -> bool {
        self.heap.iter().any(|Reverse(it)| *it == due)
    }

    /// Rebuilds the heap from the `live_count` live entries if more of it is stale than live,
    /// and returns memory to the allocator.
    pub(super) fn tidy(&mut self, live_count: usize, live: impl Iterator<Item = Due>) {
        let heap = &mut self.heap;
        if heap.len() > 2 * live_count + STALE_MAX {
            *heap = live.map(Reverse).collect();
        } else if heap.capacity() > 4 * heap.len() + STALE_MAX {
            heap.shrink_to(2 * heap.len());
        }
    }
}

/// The stale entries that a heap may have beside one for each live entry.
const STALE_MAX: usize = 64;
