//! Reading a room's history.

use proto::SharedFrame;

use super::RoomTable;
use crate::key::RoomKey;
use crate::position::StreamPosition;
use crate::recovery::{Recovery, Since};

/// The most of a history that one request is given.
#[derive(Clone, Copy, Debug)]
pub struct PastLimits {
    /// The number of publications.
    pub publications_max: usize,
    /// The bytes of frames; but one frame is given however large it is.
    pub bytes_max: usize,
}

/// A part of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The position of the last publication that is given; the room's if none is.
    pub position: StreamPosition,
    /// The reach of the history back to where the request begins.
    pub recovery: Option<Recovery>,
    /// The frames, in order.
    pub frames: Vec<SharedFrame>,
    /// True if later publications are retained.
    pub more: bool,
}

impl RoomTable {
    /// Returns a part of a room's history, in the frames of the history's wire; none if the room
    /// does not exist. Costs a reference count for each publication.
    pub fn past<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        since: Since,
        limits: PastLimits,
    ) -> Option<Past> {
        let named = self.named(key);
        let shard = self.shard(named.hash).lock();
        let stream = &shard.find(named)?.stream;
        let last = stream.position().offset;
        let recovery = stream.recover(since);
        let first = recovery.map_or(last + 1, |recovery| recovery.first);
        let mut bytes = 0;
        let frames: Vec<SharedFrame> = stream
            .publications_from(first)
            .take(limits.publications_max)
            .take_while(|frame| {
                let is_first = bytes == 0;
                bytes += frame.len();
                is_first || bytes <= limits.bytes_max
            })
            .cloned()
            .collect();
        let next = first + frames.len() as u64;
        Some(Past {
            position: stream.position_of(next - 1),
            recovery,
            frames,
            more: next <= last,
        })
    }
}
