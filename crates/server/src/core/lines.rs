//! Who is read from next.
//!
//! Invariant: a connection stands in at most one line, and there once. [`Waits`] in the connection
//! says where; an entry that does not agree with it is left over from a connection that has ended,
//! and means nothing.

use std::collections::VecDeque;

use rooms::Slot;

use super::Core;
use super::share::Line;

/// The connections whose sockets may have something to read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    fresh: VecDeque<Slot>,
    backlog: VecDeque<Slot>,
}

/// The line in which a connection waits to be read from, if it does. One byte: a line inside would
/// take two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// It does not: the readiness set will tell when there is something.
    Not,
    /// It stands in the backlog.
    Backlog,
    /// It stands in the line of those that have sent little.
    Fresh,
    /// It is held back, until a queue has been drained or its handler is done. Then it stands in
    /// the backlog.
    HeldFromBacklog,
    /// Held back from `Fresh`; afterwards it stands in the other line.
    HeldFromFresh,
    /// Much of what it asked for waits for it. When its outbox is empty, it stands in the backlog.
    Unread,
}

impl Waits {
    const fn in_line(line: Line) -> Self {
        match line {
            Line::Backlog => Self::Backlog,
            Line::Fresh => Self::Fresh,
        }
    }

    /// Returns the state of a connection that is held back, having stood in this line.
    pub(super) const fn held(line: Line) -> Self {
        match line {
            Line::Backlog => Self::HeldFromBacklog,
            Line::Fresh => Self::HeldFromFresh,
        }
    }
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.backlog.is_empty()
    }

    pub(super) fn len(&self, line: Line) -> usize {
        self.of(line).len()
    }

    const fn of(&self, line: Line) -> &VecDeque<Slot> {
        match line {
            Line::Backlog => &self.backlog,
            Line::Fresh => &self.fresh,
        }
    }

    const fn of_mut(&mut self, line: Line) -> &mut VecDeque<Slot> {
        match line {
            Line::Backlog => &mut self.backlog,
            Line::Fresh => &mut self.fresh,
        }
    }
}

impl Core {
    /// Puts a connection in a line, unless it stands in one or is held back.
    pub(super) fn enqueue(&mut self, slot: Slot, line: Line) {
        if let Some(socket) = self.socket(slot)
            && socket.waits == Waits::Not
        {
            socket.waits = Waits::in_line(line);
            self.lines.of_mut(line).push_back(slot);
        }
    }

    /// Takes the next connection out of a line.
    pub(super) fn dequeue(&mut self, line: Line) -> Option<Slot> {
        loop {
            let slot = self.lines.of_mut(line).pop_front()?;
            if let Some(socket) = self.socket(slot)
                && socket.waits == Waits::in_line(line)
            {
                socket.waits = Waits::Not;
                return Some(slot);
            }
        }
    }

    /// Reads nothing more from a connection until it has taken what it asked for.
    pub(super) fn wait_until_read(&mut self, slot: Slot, rest: &[u8]) {
        self.stash(slot, rest);
        if let Some(socket) = self.socket(slot) {
            socket.waits = Waits::Unread;
        }
    }

    /// Takes note that a peer takes nothing any more: nobody waits for that.
    pub(super) fn note_dead(&mut self, slot: Slot) {
        if let Some(socket) = self.socket(slot) {
            socket.is_dead = true;
            if socket.waits == Waits::Unread {
                socket.waits = Waits::Not;
            }
        }
        self.enqueue(slot, Line::Backlog);
    }

    /// Lets a connection whose outbox is empty ask for more.
    pub(super) fn note_all_taken(&mut self, slot: Slot) {
        let Some(socket) = self.socket(slot) else {
            return;
        };
        socket.answered = 0;
        if socket.waits == Waits::Unread {
            socket.waits = Waits::Not;
            self.enqueue(slot, Line::Backlog);
        }
    }

    /// Lets a connection that was held back go on from where it stood.
    pub(super) fn release(&mut self, slot: Slot) {
        let Some(socket) = self.socket(slot) else {
            return;
        };
        let line = match socket.waits {
            Waits::HeldFromBacklog | Waits::Unread => Line::Backlog,
            Waits::HeldFromFresh => Line::Fresh,
            Waits::Backlog | Waits::Fresh | Waits::Not => return,
        };
        socket.waits = Waits::Not;
        self.enqueue(slot, line);
    }
}
