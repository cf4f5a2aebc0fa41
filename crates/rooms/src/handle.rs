//! Rooms as cores and the journal know them.

use std::sync::Arc;

use crate::class::SlowConsumer;
use crate::id::RoomId;
use crate::key::{RoomKey, Space};

/// A room as its members' cores know it: enough to find it in the table again.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    /// Which life of the room.
    pub id: RoomId,
    /// The hash of space and name, computed once.
    pub(crate) hash: u64,
    /// Whose room it is.
    pub space: Space,
    /// The room's name.
    pub name: Arc<str>,
    /// What happens to members that are too slow.
    pub(crate) slow_consumer: SlowConsumer,
}

impl<'a> From<&'a RoomHandle> for RoomKey<'a> {
    fn from(room: &'a RoomHandle) -> Self {
        Self::new(room.space, &room.name)
    }
}
