//! Publications again for who comes back.

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::MemberState;
use crate::batch::{self, MERGED_LEN_MAX};
use crate::handle::RoomHandle;
use crate::id::RoomId;
use crate::mailbox::Joined;

/// A replay as one buffer.
#[derive(Debug)]
pub(super) struct Replayed {
    room: RoomId,
    first: u64,
    len: usize,
    frame: SharedFrame,
}

impl LocalRooms {
    /// Queues what a member that came back has missed, behind the answer that it has joined.
    ///
    /// A replay may be as large as the outbox's limit, so it does not count against that until the
    /// outbox has been empty once: a member behind a slow link would be closed for it, come back, and
    /// be closed again. One is let through however large it is, several up to a bound. The frames are the
    /// history's own; only a small replay is put together, and shared with whoever asks for the same next.
    pub fn replay(&mut self, slot: u32, room: &RoomHandle, joined: &Joined) {
        let Some(recovery) = joined.recovery.filter(|_| !joined.replay.is_empty()) else {
            return;
        };
        if self.slot_of(self.id_of(slot)).is_none() {
            return;
        }
        self.counts.replayed += joined.replay.len() as u64;
        let len: usize = joined.replay.iter().map(|frame| frame.len()).sum();
        self.allow(slot, len);
        if len > MERGED_LEN_MAX {
            for frame in &joined.replay {
                self.push(slot, frame, FlushQueue::Bulk);
            }
            return;
        }
        let is_same = self.replayed.as_ref().is_some_and(|last| {
            (last.room, last.first, last.len) == (room.id, recovery.first, joined.replay.len())
        });
        if !is_same {
            let merged = batch::merge(&mut self.merged, joined.replay.iter());
            self.replayed = merged.map(|(frame, len)| Replayed {
                room: room.id,
                first: recovery.first,
                len,
                frame,
            });
        }
        if let Some(Replayed { frame, .. }) = &self.replayed {
            let frame = frame.clone();
            self.push(slot, &frame, FlushQueue::Bulk);
        }
    }

    /// Lets so many bytes more wait for the connection, until nothing does. Not if as much was allowed
    /// already as a few outboxes hold: who joins again and again without reading is a slow consumer.
    pub fn allow(&mut self, slot: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes_max = self.limits.outbox_bytes_max;
        let member = &mut self.members[slot as usize];
        if member.outbox.pending_bytes().saturating_add(bytes) <= bytes_max {
            return;
        }
        member.state.replace(MemberState::ALLOWED, true);
        let allowance = self.allowances.entry(slot).or_insert(0);
        if *allowance <= bytes_max.saturating_mul(ALLOWED_OUTBOXES_MAX) {
            *allowance = allowance.saturating_add(bytes);
        }
    }

    /// Whether more than the limit may wait for the connection.
    pub fn has_allowance(&self, slot: u32) -> bool {
        self.members[slot as usize].state.has(MemberState::ALLOWED)
    }

    pub(super) fn forget_allowance(&mut self, slot: u32) {
        let state = &mut self.members[slot as usize].state;
        if state.replace(MemberState::ALLOWED, false) {
            self.allowances.remove(&slot);
        }
    }
}

/// From how many times the limit on no more is allowed for replays. A member of many rooms that comes back
/// asks for all of them at once; with more than this it has to read in between.
const ALLOWED_OUTBOXES_MAX: u32 = 16;
