//! The two meters: bytes and allocations asked of the allocator, and time.

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the bytes that are allocated now, as they were asked for: what an allocator rounds up is
/// its own.
pub(crate) fn live_bytes() -> usize {
    let Stats {
        bytes_allocated,
        bytes_deallocated,
        ..
    } = ALLOCATOR.stats();
    bytes_allocated - bytes_deallocated
}

/// The cost of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Nanoseconds.
    pub(crate) ns: f64,
    /// Allocations, and moves of memory to grow.
    pub(crate) allocations: f64,
}

impl Cost {
    /// Measures the cost of each of the `count` operations that `pass` carries out.
    pub(crate) fn of(count: usize, pass: impl FnOnce()) -> Self {
        let before = allocation_count();
        let started_at = now();
        pass();
        let elapsed = now() - started_at;
        Self::each(count, elapsed, allocation_count() - before)
    }

    /// Returns the cost of each of `count` operations.
    pub(crate) fn each(count: usize, elapsed: Duration, allocation_count: usize) -> Self {
        Self {
            ns: elapsed.as_secs_f64() * 1e9 / count as f64,
            allocations: allocation_count as f64 / count as f64,
        }
    }

    /// Returns the lesser of both: what disturbs a measurement only ever adds to it.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            ns: self.ns.min(other.ns),
            allocations: self.allocations.min(other.allocations),
        }
    }
}

/// Returns the number of allocations, and of moves of memory to grow.
pub(crate) fn allocation_count() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

#[expect(clippy::disallowed_methods, reason = "this program is about time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Shows that both counters are exact. Before threads are started: they count the whole process.
///
/// # Panics
///
/// If they are not.
pub(crate) fn prove() {
    let before = live_bytes();
    let mut bytes: Vec<u8> = Vec::new();
    let cost = Cost::of(2, || {
        bytes.reserve_exact(1000);
        bytes.resize(1000, 0);
        bytes.reserve_exact(1);
    });
    assert_eq!((live_bytes() - before, cost.allocations), (1001, 1.0));
    drop(bytes);
    assert_eq!(live_bytes(), before);
}
