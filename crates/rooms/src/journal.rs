//! What is written down of rooms that keep a history, so that it outlives the process.
//!
//! The table says what changes, under the lock of the room's shard, so that the journal has the order
//! that members saw; whoever owns the journal takes it from there and writes it. Lock order: shard,
//! then the journal's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::SharedFrame;

use crate::handle::RoomHandle;
use crate::position::{Ancestor, Epoch};
use crate::queue::{Queue, Weigh};
use crate::time::Moment;

/// When members and publishers hear of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOrder {
    /// At once; it is written down behind that. What was not written when the process dies is lost.
    Behind,
    /// When it is written down: [`RoomTable::commit`](crate::RoomTable::commit) delivers it. Nobody has
    /// seen what the next process does not know of.
    Ahead,
}

/// One change of one room, to be written down.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which room.
    pub room: RoomHandle,
    /// What changed.
    pub change: Change,
}

/// What may change in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The room has this epoch from here on, and what it held it still holds.
    Epoch {
        /// The new epoch.
        epoch: Epoch,
        /// Those before.
        lineage: Vec<Ancestor>,
    },
    /// Keys of publications before `first` are no longer remembered.
    ExpireKeys {
        /// The first offset whose key is still remembered.
        first: u64,
    },
    /// The room is gone, with all that it had.
    Forget,
    /// A publication.
    Publication {
        /// In which epoch.
        epoch: Epoch,
        /// Its place there.
        offset: u64,
        /// When.
        at: Moment,
        /// Its frame on the history's wire.
        frame: SharedFrame,
        /// Its key.
        key: Option<Arc<str>>,
    },
    /// Publications before `first` are no longer held.
    Trim {
        /// The first offset that is still held.
        first: u64,
    },
}

impl Weigh for Entry {
    fn cost(&self) -> usize {
        let kept_len = match &self.change {
            Change::Publication { frame, key, .. } => {
                frame.len() + key.as_ref().map_or(0, |key| key.len())
            }
            Change::Epoch { lineage, .. } => size_of_val(&lineage[..]),
            Change::ExpireKeys { .. } | Change::Forget | Change::Trim { .. } => 0,
        };
        size_of::<Self>() + kept_len
    }
}

/// A room as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Those before.
    pub lineage: Vec<Ancestor>,
    /// The offset of its last publication.
    pub offset: u64,
    /// The time and the frame of its last publications, without holes.
    pub publications: Vec<(Moment, SharedFrame)>,
    /// Keys, each with the offset and the time of its publication, in that order.
    pub keys: Vec<(Arc<str>, u64, Moment)>,
}

/// What is to be written down, from the table to whoever writes.
#[derive(Debug)]
pub struct Journal {
    /// The changes in their order. Its owner is whoever writes.
    pub queue: Queue<Entry>,
    order: WriteOrder,
    /// Nothing can be written down at present, and so nothing is accepted.
    refuses: AtomicBool,
}

impl Journal {
    /// An empty journal; publishers are held back from `pending_bytes_max` of unwritten bytes on.
    pub fn new(order: WriteOrder, pending_bytes_max: usize) -> Self {
        Self {
            queue: Queue::new(pending_bytes_max),
            order,
            refuses: AtomicBool::new(false),
        }
    }

    /// Whether publications are delivered when they are written down, and not before.
    pub(crate) fn is_ahead(&self) -> bool {
        self.order == WriteOrder::Ahead
    }

    /// Whether nothing is accepted at present.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Says whether publications to rooms that keep a history are refused because they cannot be
    /// written down.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}
