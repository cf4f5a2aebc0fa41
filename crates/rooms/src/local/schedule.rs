//! The local rooms that have publications to fan out.

use std::collections::VecDeque;

use super::flush::FlushQueue;
use super::member::RoomIndex;

/// Rooms to fan out, by the line that their members are flushed from.
///
/// An entry means nothing if its room has no publications any more. A *pass* covers the rooms that
/// had some when it began: answers that were queued before may go when it is over, whatever has
/// been published since.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lines: [VecDeque<RoomIndex>; 2],
    /// The rooms of the pass that are not fanned out, by line.
    pass: [usize; 2],
}

impl Schedule {
    /// Appends a room.
    pub(super) fn push(&mut self, room: RoomIndex, queue: FlushQueue) {
        self.lines[queue as usize].push_back(room);
    }

    /// Takes the next room of a line.
    pub(super) fn pop(&mut self, queue: FlushQueue) -> Option<RoomIndex> {
        let room = self.lines[queue as usize].pop_front()?;
        let left = &mut self.pass[queue as usize];
        *left = left.saturating_sub(1);
        Some(room)
    }

    /// Begins a pass.
    pub(super) fn begin_pass(&mut self) {
        self.pass = [self.lines[0].len(), self.lines[1].len()];
    }

    /// Returns whether the pass is over.
    pub(super) fn is_pass_over(&self) -> bool {
        self.pass == [0, 0]
    }

    /// Returns whether no room has publications.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }
}
