//! Rooms as cores and the journal know them.

use std::sync::Arc;

use crate::class::SlowConsumer;
use crate::id::RoomId;
use crate::key::{RoomKey, Space};

/// A handle to a room: enough for a core or the journal to find the room in the table again.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    /// The room's id, which no other life of the room has.
    pub id: RoomId,
    /// The hash of space and name, computed once.
    pub(crate) hash: u64,
    /// The room's space.
    pub space: Space,
    /// The room's name.
    pub name: Arc<str>,
    /// The treatment of members that are too slow.
    pub(crate) slow_consumer: SlowConsumer,
}

impl<'a> From<&'a RoomHandle> for RoomKey<'a> {
    fn from(room: &'a RoomHandle) -> Self {
        Self::new(room.space, &room.name)
    }
}
