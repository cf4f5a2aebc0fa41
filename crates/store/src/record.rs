//! The vocabulary: changes of rooms, and rooms as they were last written.

use std::sync::Arc;

/// One change of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The room's name.
    pub room: Arc<str>,
    /// The change.
    pub change: Change,
}

/// A change of a room. In a batch, changes of one room take effect in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The room has another epoch from here on. It still holds what it held. A room that the store
    /// does not know begins.
    Epoch {
        /// The new epoch.
        epoch: u64,
        /// The epochs before, as the caller wants them back.
        lineage: Vec<Ancestor>,
    },
    /// Keys of publications before `first` are no longer remembered. No effect on an unknown room.
    ExpireKeys {
        /// The first offset whose key is still remembered.
        first: u64,
    },
    /// The room is gone, with everything that it had.
    Forget,
    /// A publication.
    ///
    /// If its epoch is the room's and its offset the next, it *continues* the room's history. If it
    /// skips offsets, the publications before the gap are forgotten, because histories have no
    /// holes. If its offset is not above the room's last, the store has it already, and ignores it.
    /// If its epoch is another, or the room unknown, the room *begins* with it, without anything
    /// earlier.
    Publication {
        /// The epoch it was published in.
        epoch: u64,
        /// Its place in the room, from 1.
        offset: u64,
        /// The time of the publication, in milliseconds of the clock by which histories age.
        at_ms: u64,
        /// The frame that members received. The store does not look into it.
        frame: Arc<[u8]>,
        /// The key that a repeat of it would be recognized by. Remembered until
        /// [`Self::ExpireKeys`], even if the publication is no longer held.
        key: Option<Arc<str>>,
    },
    /// Publications before `first` are no longer held. No effect on an unknown room.
    ///
    /// If `first` is above the room's last offset, the last offset becomes the one before `first`:
    /// the publications in between were never worth holding.
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
    /// True if there was certainly no publication after that.
    pub complete: bool,
}

/// A room as it was last written.
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
    /// The time of the publication, in milliseconds of the clock by which histories age.
    pub at_ms: u64,
    /// The frame that members received.
    pub frame: Arc<[u8]>,
}

/// A key that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: Arc<str>,
    /// The offset of its publication, which may no longer be held.
    pub offset: u64,
    /// The time of that publication.
    pub at_ms: u64,
}
