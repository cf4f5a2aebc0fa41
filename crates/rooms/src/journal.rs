//! The journal: the queue of changes to histories on their way to the disk.
//!
//! The table queues changes under the lock of the room's shard, so the journal has the order that
//! members saw. The journal's owner takes them from the queue and writes them. Lock order: shard,
//! then the journal's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::SharedFrame;

use crate::handle::RoomHandle;
use crate::position::{Ancestor, Epoch};
use crate::queue::{Queue, Weigh};
use crate::time::Moment;

/// The moment at which members and publishers hear of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOrder {
    /// At once; the journal is written later. If the process dies, what was not written is lost.
    Behind,
    /// After it was written: [`RoomTable::commit`](crate::RoomTable::commit) delivers it. Nobody
    /// has seen a publication that the next process does not know.
    Ahead,
}

/// One change of one room, for the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The room.
    pub room: RoomHandle,
    /// The change.
    pub change: Change,
}

/// A change of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The room has this epoch from here on. It still holds what it held.
    Epoch {
        /// The new epoch.
        epoch: Epoch,
        /// The earlier epochs.
        lineage: Vec<Ancestor>,
    },
    /// Keys of publications before `first` are no longer remembered.
    ExpireKeys {
        /// The first offset whose key is still remembered.
        first: u64,
    },
    /// The room is gone, with everything that it had.
    Forget,
    /// A publication.
    Publication {
        /// Its epoch.
        epoch: Epoch,
        /// Its offset in the epoch.
        offset: u64,
        /// The time at which it was published.
        at: Moment,
        /// Its frame on the history's wire.
        frame: SharedFrame,
        /// Its key.
        key: Option<Arc<str>>,
    },
    /// Publications before `first` are no longer retained.
    Trim {
        /// The first offset that is still retained.
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

/// A room as the journal's owner gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its earlier epochs.
    pub lineage: Vec<Ancestor>,
    /// The offset of its last publication.
    pub offset: u64,
    /// The time and the frame of its last publications, without holes.
    pub publications: Vec<(Moment, SharedFrame)>,
    /// Keys, each with the offset and the time of its publication, in that order.
    pub keys: Vec<(Arc<str>, u64, Moment)>,
}

/// The changes on their way from the table to the disk.
#[derive(Debug)]
pub struct Journal {
    /// The changes in their order. The owner of the queue writes them.
    pub queue: Queue<Entry>,
    order: WriteOrder,
    /// True while the disk takes nothing, so that publications are refused.
    refuses: AtomicBool,
}

impl Journal {
    /// Creates an empty journal. From `pending_bytes_max` unwritten bytes on, publishers pause.
    pub fn new(order: WriteOrder, pending_bytes_max: usize) -> Self {
        Self {
            queue: Queue::new(pending_bytes_max),
            order,
            refuses: AtomicBool::new(false),
        }
    }

    /// Returns whether publications are delivered only after they were written.
    pub(crate) fn is_ahead(&self) -> bool {
        self.order == WriteOrder::Ahead
    }

    /// Returns whether publications are refused at present.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Sets whether publications to rooms with a history are refused because the disk takes
    /// nothing.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}
