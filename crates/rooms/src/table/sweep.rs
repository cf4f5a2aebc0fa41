//! Dropping what has expired from histories.

use super::RoomTable;
use crate::id::CoreId;
use crate::time::Moment;

impl RoomTable {
    /// Drops expired history, in a core's share of the shards. Each core calls this about once a
    /// second while the table [keeps](Self::keeps_something) something.
    ///
    /// If a shard lately found the memory full, this also evicts from shards that use more than an
    /// equal share of it: a shard that came late gets its own.
    pub fn sweep(&self, core: CoreId, now: Moment) {
        let mut next = Some(0);
        while let Some(nth) = next {
            next = self.sweep_some(core, now, nth);
        }
    }

    /// Does a part of a [`sweep`](Self::sweep): at most 4096 entries of the core's `nth` shard.
    /// Returns which of its shards to go on with, none after the last. An empty shard costs little.
    pub fn sweep_some(&self, core: CoreId, now: Moment, nth: usize) -> Option<usize> {
        let bytes_max = if self.pool.is_wanting(now) {
            self.pool.bytes_max() / self.shards.len()
        } else {
            usize::MAX
        };
        let index = core.index() + nth * self.mailboxes.len();
        let mut shard = self.shards.get(index)?.lock();
        let is_done = shard.sweep(now, bytes_max);
        Some(nth + usize::from(is_done))
    }

    /// Returns whether there is something to [sweep](Self::sweep).
    pub fn keeps_something(&self) -> bool {
        self.pool.held_bytes() > 0
    }
}
