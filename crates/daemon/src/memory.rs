//! The allocator, and when it gives memory back.

use std::hint::black_box;

/// Frees memory back to the kernel sooner than the system's allocator, and is faster from many
/// threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More than the allocator keeps in pages of many blocks, so that it has one to itself.
const LARGE_BYTES: usize = 8 << 20;

/// An arena is 1 GiB; each call lets go of a quarter of them and one more.
const ROUNDS: usize = 4;

/// Lets the kernel have what was freed over a second ago.
///
/// The allocator does that when a page of it becomes free, and never while nothing is: a crowd that
/// is gone would leave its memory behind until the next one. Nothing in the block is touched, so
/// this costs a few microseconds.
pub(crate) fn give_back() {
    for _ in 0..ROUNDS {
        drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    }
}
