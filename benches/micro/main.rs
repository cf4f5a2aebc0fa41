//! Micro benches: what each step of a publication costs, in time and in allocations.
//!
//! `cargo bench -p benches --bench micro` measures, `cargo test` runs each once. Every bench checks
//! what it computes before it is timed, so one that would measure nothing fails. The allocator is
//! the server's, and allocations are counted; counting costs a nanosecond or two each.

mod decode;
mod encode;
mod event;
mod fan_out;
mod outbox;
mod table;
mod unmask;

use divan::AllocProfiler;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}
