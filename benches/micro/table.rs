//! The table under one and two threads, each a core with its own mailbox, for 1 to 256 shards.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use parking_lot::Mutex;
use proto::SharedFrame;
use rooms::{ConnectionId, RoomTable};

use benches::{Core, cores};

/// Publications to rooms with one member each, half of them on either core, and the thread's own
/// mailbox emptied behind them.
#[divan::bench(args = SHARD_COUNTS, threads = THREAD_COUNTS)]
fn publish(bencher: Bencher<'_, '_>, shard_count: usize) {
    let house = House::new(shard_count);
    let frame = SharedFrame::from(b"\x81\x00".as_slice());
    assert_eq!(house.publish(&frame), BATCH);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench(|| house.publish(&frame));
}

/// Memberships that begin and end; the rooms stay. An item is one of the two.
#[divan::bench(args = SHARD_COUNTS, threads = THREAD_COUNTS)]
fn join_and_leave(bencher: Bencher<'_, '_>, shard_count: usize) {
    let house = House::new(shard_count);
    assert_eq!(house.join_and_leave(false), 2 * BATCH);
    bencher
        .counter(ItemsCount::new(2 * BATCH))
        .bench(|| house.join_and_leave(false));
}

/// Joins and leaves a room that begins and ends with its only member.
#[divan::bench(args = SHARD_COUNTS, threads = THREAD_COUNTS)]
fn create_and_remove(bencher: Bencher<'_, '_>, shard_count: usize) {
    let house = House::new(shard_count);
    assert_eq!(house.join_and_leave(true), 2 * BATCH);
    bencher
        .counter(ItemsCount::new(2 * BATCH))
        .bench(|| house.join_and_leave(true));
}

/// A table whose rooms all have a member, and its cores.
struct House {
    table: Arc<RoomTable>,
    /// Cores that the threads take in turn; nobody else wants a thread's own.
    cores: [Mutex<Visited>; 2],
    names: Vec<String>,
}

/// A core, and a connection of it that comes and goes.
struct Visited {
    core: Core,
    visitor: ConnectionId,
    /// Rooms that nobody else is in.
    private_names: Vec<String>,
}

impl House {
    fn new(shard_count: usize) -> Self {
        let table = cores::table(2, shard_count);
        let names: Vec<String> = (0..ROOM_COUNT)
            .map(|number| format!("room {number}"))
            .collect();
        let visited = |id: u8| {
            let mut core = Core::of(table.clone(), id);
            let here = names.iter().skip(usize::from(id)).step_by(2);
            for name in here {
                core.open_in(name);
            }
            let visitor = core.open();
            let private = |number| format!("room {number} of core {id}");
            Mutex::new(Visited {
                core,
                visitor,
                private_names: (0..BATCH).map(private).collect(),
            })
        };
        let cores = [visited(0), visited(1)];
        assert_eq!(table.room_count(), ROOM_COUNT);
        Self {
            table,
            cores,
            names,
        }
    }

    /// Returns how many publications found a member.
    fn publish(&self, frame: &SharedFrame) -> usize {
        let thread = thread_index();
        let start = thread * ROOM_COUNT / 2;
        let names = self.names.iter().cycle().skip(start).take(BATCH);
        let found = |name: &String| self.table.emit(name, frame.clone()).member_count == 1;
        let count = names.filter(|name| found(name)).count();
        let mut visited = self.cores[thread].lock();
        visited.core.turn();
        visited.core.flush();
        count
    }

    /// Returns how many commands came of it.
    fn join_and_leave(&self, private: bool) -> usize {
        let mut visited = self.cores[thread_index()].lock();
        let Visited {
            core,
            visitor,
            private_names,
        } = &mut *visited;
        let names = if private {
            private_names
        } else {
            &self.names[..BATCH]
        };
        for name in names {
            core.join(*visitor, name);
        }
        let joined = core.turn();
        for name in names {
            core.table.leave(*visitor, name);
        }
        joined + core.turn()
    }
}

/// Returns the core of this thread: threads are counted as they come, and there are never more than
/// two.
fn thread_index() -> usize {
    static THREAD_COUNT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<usize> = Cell::new(THREAD_COUNT.fetch_add(1, Ordering::Relaxed) % 2);
    }
    INDEX.get()
}

const SHARD_COUNTS: [usize; 5] = [1, 4, 16, 64, 256];

const THREAD_COUNTS: [usize; 2] = [1, 2];

const ROOM_COUNT: usize = 1024;

/// Operations between two looks at the mailbox, as in a turn under load.
const BATCH: usize = 64;
