//! The memory that the histories of all rooms share.
//!
//! One limit for the process, and no lock between the shards: a shard takes memory from the common
//! pool in chunks, so that the pool's one number is touched once for many publications.
//!
//! Invariant: what all shards hold and what is free add up to the limit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::time::Moment;

/// What is left of the limit, for all shards.
#[derive(Debug)]
pub(crate) struct Pool {
    free_bytes: AtomicUsize,
    bytes_max: usize,
    chunk_bytes: usize,
    /// When a shard last found nothing left, as a [`Moment`].
    wanted_at_ms: AtomicU64,
}

/// For how long a shard that found nothing left is one that wants some: over two looks of each core.
const WANTING_MS: u64 = 2500;

/// What a shard takes from the pool at once: some hundred publications.
const CHUNK_BYTES: usize = 64 * 1024;

impl Pool {
    /// A pool of `bytes_max` for `shard_count` shards.
    pub(crate) fn new(bytes_max: usize, shard_count: usize) -> Self {
        Self {
            free_bytes: AtomicUsize::new(bytes_max),
            bytes_max,
            // With a small limit, what shards hold and do not use must be a small part of it.
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

    /// Whether a shard found nothing left in the last moments.
    pub(crate) fn is_wanting(&self, now: Moment) -> bool {
        let wanted_at_ms = self.wanted_at_ms.load(Ordering::Relaxed);
        now.0.abs_diff(wanted_at_ms) < WANTING_MS
    }

    /// How much the shards hold, in bytes, whether they use it or not.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes_max - self.free_bytes.load(Ordering::Relaxed).min(self.bytes_max)
    }

    /// The limit, in bytes.
    pub(crate) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

/// What one shard holds of the pool. Behind the shard's lock.
#[derive(Debug, Default)]
pub(crate) struct Allotment {
    held_bytes: usize,
    used_bytes: usize,
}

impl Allotment {
    /// Whether so much more can be used at once.
    #[inline]
    pub(crate) const fn has(&self, bytes: usize) -> bool {
        self.held_bytes - self.used_bytes >= bytes
    }

    /// Takes from the pool so that so much more can be used; false if the pool has not enough.
    pub(crate) fn reserve(&mut self, bytes: usize, pool: &Pool, now: Moment) -> bool {
        let Some(lacking) = bytes.checked_sub(self.held_bytes - self.used_bytes) else {
            return true;
        };
        for wanted in [lacking.max(pool.chunk_bytes), lacking] {
            if pool.take(wanted) {
                self.held_bytes += wanted;
                return true;
            }
        }
        pool.wanted_at_ms.store(now.0, Ordering::Relaxed);
        false
    }

    /// Uses what was [reserved](Self::reserve).
    pub(crate) fn use_bytes(&mut self, bytes: usize) {
        self.used_bytes += bytes;
        debug_assert!(self.used_bytes <= self.held_bytes, "reserved before");
    }

    /// What was used is free again, for this shard.
    pub(crate) fn free_bytes(&mut self, bytes: usize) {
        debug_assert!(self.used_bytes >= bytes, "used before");
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    /// Gives back to the pool what is not used, but for one chunk if some is.
    pub(crate) fn give_back(&mut self, pool: &Pool) {
        let kept = if self.used_bytes > 0 {
            pool.chunk_bytes
        } else {
            0
        };
        if let Some(spare) = (self.held_bytes - self.used_bytes).checked_sub(kept) {
            self.held_bytes -= spare;
            pool.give(spare);
        }
    }

    /// What is used, in bytes.
    pub(crate) const fn used(&self) -> usize {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_never_hold_more_than_the_limit_and_give_back_what_they_do_not_use() {
        let pool = Pool::new(1000, 2);
        let [mut a, mut b] = [(); 2].map(|()| Allotment::default());
        assert!(a.reserve(600, &pool, Moment(10_000)) && a.has(600));
        a.use_bytes(600);
        assert!(!pool.is_wanting(Moment(10_000)));
        assert!(!b.reserve(500, &pool, Moment(10_000)), "400 are left");
        assert!(pool.is_wanting(Moment(12_000)) && !pool.is_wanting(Moment(13_000)));
        assert!(b.reserve(400, &pool, Moment(10_000)));
        b.use_bytes(300);
        assert_eq!(pool.held_bytes(), 1000);

        a.free_bytes(600);
        a.give_back(&pool);
        b.give_back(&pool);
        assert_eq!((pool.held_bytes(), a.used(), b.used()), (362, 0, 300));
        assert!(a.reserve(600, &pool, Moment(10_000)));
    }
}
