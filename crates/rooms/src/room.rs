//! One room in its shard: a stream, and the members that it goes to.

use crate::class::RoomClass;
use crate::history::{self, Stream};
use crate::key::{Named, RoomKey};
use crate::members::Members;
use crate::position::Epoch;

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) stream: Stream,
    pub(crate) members: Members,
}

/// The properties of a room that is about to be created.
pub(crate) struct NewRoom {
    pub(crate) epoch: Epoch,
    pub(crate) class: &'static RoomClass,
}

const _: () = assert!(
    size_of::<Room>() == history::ROOM_BYTES,
    "histories count a room's place"
);

impl Room {
    /// Returns whether the room has this name.
    pub(crate) fn is_named(&self, named: Named<'_>) -> bool {
        let handle = &self.stream.handle;
        handle.hash == named.hash && RoomKey::from(handle) == named.key
    }

    /// Returns whether nobody needs the room: it has no members, and nothing of it is retained.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && !self.stream.has_history()
    }
}
