//! The memory that the histories of all rooms share.
//!
//! The process has one limit, and the shards share it without a lock: a shard takes memory from the
//! pool in chunks, so the pool's one number is touched once for many publications.
//!
//! Invariant: the bytes that all shards hold and the free bytes add up to the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::time::Moment;

/// The free part of the limit, for all shards.
#[derive(Debug)]
pub(crate) struct Pool {
    free_bytes: AtomicUsize,
    bytes_max: usize,
    chunk_bytes: usize,
    /// The [`Moment`] at which a shard last found the pool empty.
    wanted_at_ms: AtomicU64,
}

/// A pool counts as wanted for so long after a shard found it empty: over two sweeps of each core.
const WANTING_MS: u64 = 2500;

/// The bytes that a shard takes from the pool at once: some hundred publications.
const CHUNK_BYTES: usize = 64 * 1024;

impl Pool {
    /// Creates a pool of `bytes_max` for `shard_count` shards.
    pub(crate) fn new(bytes_max: usize, shard_count: usize) -> Self {
        Self {
            free_bytes: AtomicUsize::new(bytes_max),
            bytes_max,
            // With a small limit, the unused bytes that shards hold must be a small part of it.
            chunk_bytes: (bytes_max / shard_count / 8).clamp(1, CHUNK_BYTES),
            wanted_at_ms: AtomicU64::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .free_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            });
        taken.is_ok()
    }

    fn give(&self, bytes: usize) {
        self.free_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns whether a shard lately found the pool empty.
    pub(crate) fn is_wanting(&self, now: Moment) -> bool {
        let wanted_at_ms = self.wanted_at_ms.load(Ordering::Relaxed);
        now.0.abs_diff(wanted_at_ms) < WANTING_MS
    }

    /// Returns the bytes that the shards hold, used or not.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes_max - self.free_bytes.load(Ordering::Relaxed).min(self.bytes_max)
    }

    /// Returns the limit, in bytes.
    pub(crate) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

/// The part of the pool that one shard holds. Behind the shard's lock.
#[derive(Debug)]
pub(super) struct Allotment {
    pool: Arc<CachePadded<Pool>>,
    held_bytes: usize,
    used_bytes: usize,
}

impl Allotment {
    /// Creates an empty part of a pool.
    pub(super) const fn new(pool: Arc<CachePadded<Pool>>) -> Self {
        Self {
            pool,
            held_bytes: 0,
            used_bytes: 0,
        }
    }

    /// Returns whether the shard can use so many more bytes without asking the pool.
    #[inline]
    pub(super) const fn has(&self, bytes: usize) -> bool {
        self.held_bytes - self.used_bytes >= bytes
    }

    /// Takes from the pool what is missing for so many more bytes; false if the pool lacks them.
    pub(super) fn reserve(&mut self, bytes: usize, now: Moment) -> bool {
        let Some(lacking) = bytes.checked_sub(self.held_bytes - self.used_bytes) else {
            return true;
        };
        for wanted in [lacking.max(self.pool.chunk_bytes), lacking] {
            if self.pool.take(wanted) {
                self.held_bytes += wanted;
                return true;
            }
        }
        self.pool.wanted_at_ms.store(now.0, Ordering::Relaxed);
        false
    }

    /// Uses bytes that were [reserved](Self::reserve).
    pub(super) fn use_bytes(&mut self, bytes: usize) {
        self.used_bytes += bytes;
        debug_assert!(self.used_bytes <= self.held_bytes, "reserved before");
    }

    /// Frees used bytes; the shard goes on holding them.
    pub(super) fn free_bytes(&mut self, bytes: usize) {
        debug_assert!(self.used_bytes >= bytes, "used before");
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    /// Returns unused bytes to the pool, except for one chunk if the shard uses any.
    pub(super) fn give_back(&mut self) {
        let kept = if self.used_bytes > 0 {
            self.pool.chunk_bytes
        } else {
            0
        };
        if let Some(spare) = (self.held_bytes - self.used_bytes).checked_sub(kept) {
            self.held_bytes -= spare;
            self.pool.give(spare);
        }
    }

    /// Returns the bytes in use.
    pub(super) const fn used(&self) -> usize {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_never_hold_more_than_the_limit_and_give_back_what_they_do_not_use() {
        let pool = Arc::new(CachePadded::new(Pool::new(1000, 2)));
        let [mut a, mut b] = [(); 2].map(|()| Allotment::new(pool.clone()));
        assert!(a.reserve(600, Moment(10_000)) && a.has(600));
        a.use_bytes(600);
        assert!(!pool.is_wanting(Moment(10_000)));
        assert!(!b.reserve(500, Moment(10_000)), "400 are left");
        assert!(pool.is_wanting(Moment(12_000)) && !pool.is_wanting(Moment(13_000)));
        assert!(b.reserve(400, Moment(10_000)));
        b.use_bytes(300);
        assert_eq!(pool.held_bytes(), 1000);

        a.free_bytes(600);
        a.give_back();
        b.give_back();
        assert_eq!((pool.held_bytes(), a.used(), b.used()), (362, 0, 300));
        assert!(a.reserve(600, Moment(10_000)));
    }
}
