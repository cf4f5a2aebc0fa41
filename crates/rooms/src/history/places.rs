//! Queues that grow and shrink in small steps, so that the memory they take follows their length.

use std::collections::VecDeque;

use crate::allocation::allocated_bytes;

/// Makes places in a full queue: a quarter more, not twice as many.
#[inline]
pub(super) fn grow<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(PLACES_MIN.max(queue.len() / 4));
    }
}

/// Returns places to the allocator if over a third of them are empty.
#[inline]
pub(super) fn shrink<T>(queue: &mut VecDeque<T>) {
    let len = queue.len();
    if queue.capacity() > len + len / 2 + PLACES_SPARE {
        queue.shrink_to(len + len / 8);
    }
}

/// Returns the bytes that an entry's place takes, with its share of the empty ones.
pub(super) const fn place_cost(place: usize) -> usize {
    allocated_bytes(place * 5 / 4)
}

/// The places of a queue with one entry.
const PLACES_MIN: usize = 2;

/// The places that a short queue may have empty.
pub(super) const PLACES_SPARE: usize = 4;
