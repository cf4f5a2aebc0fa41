//! Records in few words.

use std::sync::Arc;

use throng_store::{Change, Record};

/// A publication in epoch 1.
pub(crate) fn publication(room: &str, offset: u64, frame: &[u8]) -> Record {
    in_epoch(1, room, offset, frame)
}

/// A publication.
pub(crate) fn in_epoch(epoch: u64, room: &str, offset: u64, frame: &[u8]) -> Record {
    let change = Change::Publication {
        epoch,
        offset,
        at_ms: offset.wrapping_add(1000),
        frame: Arc::from(frame),
        key: None,
    };
    of(room, change)
}

/// Any change.
pub(crate) fn of(room: &str, change: Change) -> Record {
    Record {
        room: Arc::from(room),
        change,
    }
}
