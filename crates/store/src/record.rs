//! The vocabulary: what changes in a room, and what a room was when the store was last written to.

use std::sync::Arc;

/// One change of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The room's name.
    pub room: Arc<str>,
    /// What changed.
    pub change: Change,
}

/// What may change in a room. In a batch, changes of one room take effect in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The room has another epoch from here on, and what it held it still holds. The store gets to
    /// know the room if it did not.
    Epoch {
        /// The new epoch.
        epoch: u64,
        /// The epochs before, as the engine wants them back.
        lineage: Vec<Ancestor>,
    },
    /// Keys of publications before `first` are no longer remembered. Nothing, for an unknown room.
    ExpireKeys {
        /// The first offset whose key is still remembered.
        first: u64,
    },
    /// The room is gone, with all that it had.
    Forget,
    /// A publication.
    ///
    /// If its epoch is the room's and its offset the next, it *continues* the room's history. If it skips
    /// offsets, the publications before the gap are forgotten, since histories have no holes. If its
    /// offset is not above the room's last, it is there already, and ignored. If its epoch is another, or
    /// the room unknown, the room *begins* with it, without anything earlier.
    Publication {
        /// The epoch it was published in.
        epoch: u64,
        /// Its place in the room, from 1.
        offset: u64,
        /// When it was published, in Unix milliseconds.
        at_ms: u64,
        /// What the members got. The store does not look into it.
        frame: Arc<[u8]>,
        /// By what a repeat of it would be recognized. Remembered until [`Self::ExpireKeys`], whether or
        /// not the publication is still held.
        key: Option<Arc<str>>,
    },
    /// Publications before `first` are no longer held. Nothing, for an unknown room.
    ///
    /// If `first` is above the room's last offset, the room's last offset is the one before `first`:
    /// those in between were never worth holding.
    Trim {
        /// The first offset that is still held.
        first: u64,
    },
}

/// An epoch that a room had earlier, and whose publications it may still hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: u64,
    /// The last offset that is known of it.
    pub last_offset: u64,
    /// Whether there was certainly none after that.
    pub complete: bool,
}

/// A room as it was when the store was last written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// Its name.
    pub name: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// The epochs before, as they were handed over.
    pub lineage: Vec<Ancestor>,
    /// The offset of the last publication, held or not; 0 if there was none.
    pub last_offset: u64,
    /// The publications that are held: without holes, and the last has `last_offset`.
    pub publications: Vec<StoredPublication>,
    /// The keys that are remembered, in the order of their offsets.
    pub keys: Vec<StoredKey>,
}

/// A publication that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPublication {
    /// Its place in the room.
    pub offset: u64,
    /// When it was published, in Unix milliseconds.
    pub at_ms: u64,
    /// What the members got.
    pub frame: Arc<[u8]>,
}

/// A key that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: Arc<str>,
    /// The offset of its publication, which may no longer be held.
    pub offset: u64,
    /// When that was published, in Unix milliseconds.
    pub at_ms: u64,
}
