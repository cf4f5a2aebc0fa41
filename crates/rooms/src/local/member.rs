//! One connection as its core knows it.

use crate::id::Wire;
use crate::outbox::Outbox;

/// Defines types for places in lists, so that no place is taken for one in another list.
macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(u32);

        impl $name {
            /// Names a place in a list, which has at most 2^32 of them.
            #[inline]
            pub(super) fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Returns the place as an index.
            #[inline]
            pub(super) const fn get(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

indices! {
    /// The place of a local room among those of its core.
    RoomIndex;
    /// The place of a member among those of its room.
    MemberIndex;
    /// The place of a membership among those of its connection.
    MembershipIndex;
}

/// A connection. 64 bytes: fanning out touches one cache line for each member.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Member {
    pub(super) outbox: Outbox,
    pub(super) memberships: Vec<Membership>,
    pub(super) generation: u32,
    pub(super) wire: Wire,
    pub(super) state: MemberState,
    /// True if it is to be closed when it leaves its last room of some space.
    pub(super) closes_with_last_room: bool,
}

impl Member {
    /// Returns the place of a room among the memberships. Costs at most the rooms of the
    /// connection.
    pub(super) fn find(&self, room: RoomIndex) -> Option<MembershipIndex> {
        let mut memberships = self.memberships.iter();
        let index = memberships.position(|found| found.room == room)?;
        Some(MembershipIndex::new(index))
    }
}

/// The state of a connection: flags in one byte, since a `bool` each would make a [`Member`] larger
/// than a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemberState(pub(super) u8);

impl MemberState {
    pub(super) const OPEN: u8 = 1;
    /// The socket takes no more for now: the connection is flushed when it is writable again.
    pub(super) const BLOCKED: u8 = 1 << 1;
    /// The connection is in the prompt line.
    pub(super) const PROMPT: u8 = 1 << 2;
    /// The connection is in the bulk line.
    pub(super) const BULK: u8 = 1 << 3;
    /// Frames of this turn did not fit, so later ones must not overtake them.
    pub(super) const OVERFLOWED: u8 = 1 << 4;
    /// The connection has been sent its last frame.
    pub(super) const SHUT: u8 = 1 << 5;
    /// Answers wait for the connection.
    pub(super) const ANSWERED: u8 = 1 << 6;
    /// More than the limit may wait for the connection.
    pub(super) const ALLOWED: u8 = 1 << 7;

    pub(super) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Returns whether frames may be queued as for most: it is open, and no other rule applies.
    pub(super) const fn is_plain(self) -> bool {
        self.0 & (Self::OPEN | Self::OVERFLOWED | Self::SHUT | Self::ALLOWED) == Self::OPEN
    }

    /// Returns whether frames may be queued.
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
    pub(super) room: RoomIndex,
    /// The place in the room's `members`.
    pub(super) index: MemberIndex,
}
