//! Publications again for connections that come back.

use super::LocalRooms;
use super::flush::FlushQueue;
use super::replayed::Replayed;
use crate::batch::{self, MERGED_LEN_MAX};
use crate::handle::RoomHandle;
use crate::id::Slot;
use crate::mailbox::Joined;

impl LocalRooms {
    /// Queues what a member that came back has missed, behind the answer that it has joined.
    ///
    /// A replay may be as large as the outbox's limit, so it does not count against that until the
    /// outbox has been empty once: a member behind a slow link would be closed for it, come back,
    /// and be closed again. One replay passes however large it is, several up to a bound. The
    /// frames are the history's own; only a small replay is merged, and shared with the next
    /// connection that asks for the same.
    pub fn replay(&mut self, slot: Slot, room: &RoomHandle, joined: &Joined) {
        let Some(recovery) = joined.recovery.filter(|_| !joined.replay.is_empty()) else {
            return;
        };
        if self.slot_of(self.id_of(slot)).is_none() {
            return;
        }
        self.outboxes.counts.replayed += joined.replay.len() as u64;
        let len: usize = joined.replay.iter().map(|frame| frame.len()).sum();
        self.allow(slot, len);
        if len > MERGED_LEN_MAX {
            for frame in &joined.replay {
                self.push(slot, frame, FlushQueue::Bulk);
            }
            return;
        }
        let (first, publication_count) = (recovery.first, joined.replay.len());
        let is_same = |it: &Replayed| {
            (it.room, it.first, it.publication_count) == (room.id, first, publication_count)
        };
        if !self.replayed.as_ref().is_some_and(is_same) {
            let merged = batch::merge(&mut self.scratch, joined.replay.iter());
            self.replayed = merged.map(|(frame, publication_count)| Replayed {
                room: room.id,
                first,
                publication_count,
                frame,
            });
        }
        if let Some(Replayed { frame, .. }) = &self.replayed {
            self.outboxes.push(slot, frame, FlushQueue::Bulk);
        }
    }
}
