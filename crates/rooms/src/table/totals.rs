//! Numbers about the table, for metrics and tests. Each locks the shards one after the other.

use super::RoomTable;

/// The sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rooms that were ever created.
    pub rooms_created: u64,
    /// Publications and events that were accepted.
    pub publications: u64,
    /// Publications and keys that were evicted because the memory for histories was full.
    pub evictions: u64,
    /// Rooms that have members.
    pub rooms: usize,
    /// Rooms without members that are remembered for their history.
    pub rooms_without_members: usize,
    /// The bytes that all histories take.
    pub history_bytes: usize,
}

impl RoomTable {
    /// Returns the sums over all shards.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            let shard = shard.lock();
            totals.rooms_created += shard.created_count;
            totals.publications += shard.publication_count;
            totals.evictions += shard.histories.evicted_count();
            totals.rooms += shard.peopled_count;
            totals.rooms_without_members += shard.rooms.len() - shard.peopled_count;
            totals.history_bytes += shard.histories.used_bytes();
        }
        totals
    }

    /// Returns how many rooms have members.
    pub fn room_count(&self) -> usize {
        self.totals().rooms
    }

    /// Returns how many entries the expiry heaps have, stale or not, for tests.
    #[doc(hidden)]
    pub fn expiry_entry_count(&self) -> usize {
        let counts = self.shards.iter().map(|it| it.lock().histories.due_count());
        counts.sum()
    }

    /// Returns the bytes that wait in the fullest mailbox.
    pub fn mailbox_pending_bytes(&self) -> u64 {
        let mailboxes = self.mailboxes.iter();
        let pending = mailboxes.map(|mailbox| mailbox.pending_bytes() as u64);
        pending.max().unwrap_or(0)
    }

    /// Returns the bytes that wait for the journal.
    pub fn journal_pending_bytes(&self) -> u64 {
        let journal = self.journal.as_ref();
        journal.map_or(0, |journal| journal.queue.pending_bytes() as u64)
    }

    /// Returns how many rooms the shards have memory for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.shards
            .iter()
            .map(|it| it.lock().rooms.capacity())
            .sum()
    }
}
