//! Frames that did not fit into the outbox of their member.

use std::collections::HashSet;

use proto::SharedFrame;

use crate::handle::RoomHandle;
use crate::id::{ConnectionId, RoomId, Slot};
use crate::outbox::{Span, Tag};

/// Frames that did not fit into the outbox of their member. See
/// [`LocalRooms::take_overflow`](super::LocalRooms::take_overflow).
#[derive(Debug)]
pub struct Overflow {
    /// The connection whose outbox is full.
    pub slot: Slot,
    /// The frames that did not fit.
    pub frame: SharedFrame,
    pub(super) tag: Tag,
    /// The room whose publications may be skipped.
    pub(super) room: Option<RoomHandle>,
}

impl Overflow {
    /// Returns the publications of a room that it holds, if they may be dropped.
    fn span(&mut self, slot: Slot, room: RoomId) -> Option<&mut Span> {
        match &mut self.tag {
            Tag::Publications(span) if self.slot == slot && span.room == room => Some(span),
            _ => None,
        }
    }
}

/// All of them, in the order in which they came.
///
/// By connection and not by slot: a connection that ends before they are taken must not leave them
/// to the next one in its slot.
#[derive(Debug, Default)]
pub(super) struct Overflows(Vec<Owned>);

/// An overflow with the connection that it is for.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) connection: ConnectionId,
    pub(super) overflow: Overflow,
}

impl Overflows {
    /// Appends one.
    pub(super) fn push(&mut self, connection: ConnectionId, overflow: Overflow) {
        self.0.push(Owned {
            connection,
            overflow,
        });
    }

    /// Takes the first `count_max`, and all others of their connections.
    pub(super) fn take(&mut self, count_max: usize) -> Vec<Owned> {
        let count = count_max.min(self.0.len());
        let mut taken: Vec<_> = self.0.drain(..count).collect();
        if !self.0.is_empty() {
            let connections = taken.iter().map(|owned| owned.connection);
            let connections: HashSet<_, ahash::RandomState> = connections.collect();
            let is_of_them = |owned: &mut Owned| connections.contains(&owned.connection);
            taken.extend(self.0.extract_if(.., is_of_them));
        }
        taken
    }

    /// Takes those of one connection.
    pub(super) fn take_of(&mut self, connection: ConnectionId) -> Vec<Owned> {
        let own = self
            .0
            .extract_if(.., |owned| owned.connection == connection);
        own.collect()
    }

    /// Returns whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the last publications of a room that wait for a connection and may be dropped.
    pub(super) fn last_span(&mut self, slot: Slot, room: RoomId) -> Option<&mut Span> {
        let mut last_first = self.0.iter_mut().rev();
        last_first.find_map(|owned| owned.overflow.span(slot, room))
    }

    /// Forbids dropping what waits of a room.
    pub(super) fn seal(&mut self, slot: Slot, room: RoomId) {
        for Owned { overflow, .. } in &mut self.0 {
            if overflow.span(slot, room).is_some() {
                overflow.tag = Tag::Firm;
            }
        }
    }
}
