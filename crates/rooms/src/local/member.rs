//! What a core knows of a connection and of a room.

use proto::SharedFrame;

use crate::batch::Pending;
use crate::handle::RoomHandle;
use crate::id::Wire;
use crate::outbox::{Outbox, Span};

/// A connection. 64 bytes: fanning out touches one cache line a member.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Member {
    pub(super) outbox: Outbox,
    pub(super) memberships: Vec<Membership>,
    pub(super) generation: u32,
    pub(super) wire: Wire,
    pub(super) state: MemberState,
    /// Whether it is to be closed when it leaves its last room of some space.
    pub(super) closes_with_last_room: bool,
}

/// What is so of a connection on the way of its frames: flags in one byte, since a `bool` each would make a [`Member`] larger
/// than a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemberState(pub(super) u8);

impl MemberState {
    pub(super) const OPEN: u8 = 1;
    /// The socket takes no more for now: the connection is flushed when it is writable again.
    pub(super) const BLOCKED: u8 = 1 << 1;
    /// It stands in the prompt line.
    pub(super) const PROMPT: u8 = 1 << 2;
    /// It stands in the bulk line.
    pub(super) const BULK: u8 = 1 << 3;
    /// Frames of this turn did not fit, so later ones must not overtake them.
    pub(super) const OVERFLOWED: u8 = 1 << 4;
    /// It has been sent its last frame.
    pub(super) const SHUT: u8 = 1 << 5;
    /// Answers wait for it.
    pub(super) const ANSWERED: u8 = 1 << 6;
    /// More than the limit may wait for it.
    pub(super) const ALLOWED: u8 = 1 << 7;

    pub(super) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Whether frames may be queued for it as for most: it is open, and nothing special is so.
    pub(super) const fn is_plain(self) -> bool {
        self.0 & (Self::OPEN | Self::OVERFLOWED | Self::SHUT | Self::ALLOWED) == Self::OPEN
    }

    /// Whether frames may be queued for it.
    pub(super) const fn is_addressable(self) -> bool {
        self.0 & (Self::OPEN | Self::SHUT) == Self::OPEN
    }

    /// Sets a flag and returns what it was.
    pub(super) const fn replace(&mut self, flag: u8, on: bool) -> bool {
        let was = self.has(flag);
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
        was
    }
}

/// A connection's side of a membership.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) room: u32,
    /// Where in the room's `members`.
    pub(super) index: u32,
}

/// A room's side of a membership.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberRef {
    pub(super) slot: u32,
    /// Where in the connection's `memberships`.
    pub(super) membership: u32,
}

#[derive(Debug)]
pub(super) struct LocalRoom {
    pub(super) handle: RoomHandle,
    pub(super) wire: Wire,
    /// Members are excepted from some of what is pending.
    pub(super) has_exceptions: bool,
    pub(super) members: Vec<MemberRef>,
    /// Publications of this turn that are not fanned out yet.
    pub(super) pending: Vec<Pending>,
    /// The buffers of the last turn in which there were any, if only the newest is to wait: one of them
    /// may be the first of an outbox, which does not know what it holds.
    pub(super) newest: Vec<(SharedFrame, Span)>,
}
