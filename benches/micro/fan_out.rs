//! One room's publications to all its members' outboxes.

use divan::Bencher;
use divan::counter::ItemsCount;
use proto::{OpCode, frame};

use benches::Core;

/// Fans out one publication; the outboxes are emptied after it. An item is one delivery.
#[divan::bench(args = MEMBER_COUNTS)]
fn one_publication(bencher: Bencher<'_, '_>, member_count: usize) {
    measure(bencher, member_count, 1);
}

/// Fans out 16 publications of one turn, which are merged.
#[divan::bench(args = MEMBER_COUNTS)]
fn sixteen_merged(bencher: Bencher<'_, '_>, member_count: usize) {
    measure(bencher, member_count, 16);
}

fn measure(bencher: Bencher<'_, '_>, member_count: usize, publication_count: usize) {
    let mut core = Core::alone(1);
    for _ in 0..member_count {
        core.open_in("tea");
    }
    let frame = frame::encode(OpCode::Text, &[b'x'; 64]);
    let mut turn = || {
        for _ in 0..publication_count {
            core.table.emit("tea", frame.clone());
        }
        core.turn();
        core.flush()
    };
    let delivery_count = member_count * publication_count;
    assert_eq!(turn(), delivery_count * frame.len());
    bencher
        .counter(ItemsCount::new(delivery_count))
        .bench_local(turn);
}

const MEMBER_COUNTS: [usize; 4] = [10, 100, 1000, 10_000];
