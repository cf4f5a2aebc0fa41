//! The last replay that was merged: many who lost the server together ask for the same.

use proto::SharedFrame;

use crate::id::RoomId;

/// A replay as one buffer.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) room: RoomId,
    /// The offset of its first publication.
    pub(super) first: u64,
    pub(super) publication_count: usize,
    pub(super) frame: SharedFrame,
}
