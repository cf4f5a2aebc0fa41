//! The last publications of one room.
//!
//! Invariants: they are the last ones of the room's stream, without holes; both sums are over the
//! entries that are held.

use std::collections::VecDeque;

use proto::SharedFrame;

use super::places::{grow, shrink};
use crate::allocation::{COUNTS_LEN, allocated_bytes};
use crate::class::HistoryLimits;
use crate::time::Moment;

/// The publications that a room retains, oldest first.
#[derive(Debug, Default)]
pub(super) struct Publications {
    held: VecDeque<Held>,
    frame_bytes: usize,
    cost_bytes: usize,
}

/// One publication.
#[derive(Debug)]
pub(super) struct Held {
    frame: SharedFrame,
    at: Moment,
}

/// The bytes that a publication takes beside its frame: its place, and the allocator's losses.
pub(super) const PUBLICATION_COST: usize = size_of::<Held>() * 5 / 4 + 24;

/// Returns the bytes that a publication with a frame of this length takes.
#[inline]
pub(super) const fn publication_cost(frame_len: usize) -> usize {
    PUBLICATION_COST + allocated_bytes(COUNTS_LEN + frame_len)
}

impl Publications {
    /// Appends the next publication, and drops the oldest ones over the limits.
    pub(super) fn push(&mut self, frame: SharedFrame, at: Moment, limits: &HistoryLimits) {
        self.frame_bytes += frame.len();
        self.cost_bytes += publication_cost(frame.len());
        grow(&mut self.held);
        self.held.push_back(Held { frame, at });
        while self.held.len() > limits.publications_max as usize
            || self.frame_bytes > limits.bytes_max
        {
            self.drop_oldest();
        }
    }

    /// Drops the oldest publication, if there is one.
    pub(super) fn drop_oldest(&mut self) {
        let Some(dropped) = self.held.pop_front() else {
            return;
        };
        self.frame_bytes -= dropped.frame.len();
        self.cost_bytes -= publication_cost(dropped.frame.len());
        shrink(&mut self.held);
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        while !self.held.is_empty() {
            self.drop_oldest();
        }
    }

    /// Returns how many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns when the oldest one was published.
    pub(super) fn oldest_at(&self) -> Option<Moment> {
        Some(self.held.front()?.at)
    }

    /// Returns the time and the frame of each.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Moment, &SharedFrame)> {
        self.held.iter().map(|held| (held.at, &held.frame))
    }

    /// Returns the frames behind the first `skipped` ones.
    pub(super) fn skip(&self, skipped: u64) -> impl Iterator<Item = &SharedFrame> {
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let rest = self.held.range(skipped.min(self.held.len())..);
        rest.map(|held| &held.frame)
    }

    /// Returns the bytes that all of them take.
    pub(super) const fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.held.capacity()
    }
}
