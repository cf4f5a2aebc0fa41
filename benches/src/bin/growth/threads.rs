//! Time of operations on one table by one thread and by two at once, for 1 to 256 shards.

use std::sync::{Arc, Barrier};
use std::thread;

use rooms::{ConnectionId, RoomTable};

use benches::{Core, cores};

use crate::memory::{SHARD_COUNTS, room_name};
use crate::meter::{Cost, now};
use crate::series::{Chart, Line};
use crate::time::frame_of_64;

/// Publications, and memberships that begin and end, in 1024 rooms that both threads use.
pub(crate) fn with_shards(rounds: usize) -> Chart {
    let operations: [(&str, Operation); 2] =
        [("publish", publish), ("join and leave", join_and_leave)];
    let mut lines = Vec::new();
    for (name, operation) in operations {
        for thread_count in [1, 2] {
            let threads = if thread_count == 1 {
                "1 thread"
            } else {
                "2 threads"
            };
            let mut line = Line::new(format!("{name}, {threads}"));
            for shard_count in SHARD_COUNTS {
                let round = |_| measure(operation, shard_count, thread_count);
                let least = (0..rounds).map(round).fold(f64::INFINITY, f64::min);
                line.points.push((shard_count, least));
            }
            lines.push(line);
        }
    }
    Chart {
        title: "Time, by shards".to_owned(),
        size: "shards",
        unit: "ns of each thread",
        lines,
        rows: SHARD_COUNTS.to_vec(),
        note: "Where two threads need no more than one, neither waits for the other.".to_owned(),
    }
}

/// An operation of a thread in a batch, with its own core; returns how many operations that was.
type Operation = fn(&mut Core, ConnectionId, &[String]) -> usize;

/// Nanoseconds of the slowest thread for each of its operations.
fn measure(operation: Operation, shard_count: usize, thread_count: u8) -> f64 {
    let table = cores::table(2, shard_count);
    let names: Vec<String> = (0..ROOM_COUNT).map(room_name).collect();
    let cores: Vec<(Core, ConnectionId)> = (0..2).map(|id| residence(&table, id, &names)).collect();
    let start = Arc::new(Barrier::new(thread_count.into()));
    thread::scope(|scope| {
        let running: Vec<_> = cores
            .into_iter()
            .take(thread_count.into())
            .map(|(mut core, visitor)| {
                let (start, names) = (start.clone(), names.as_slice());
                scope.spawn(move || repeat(operation, &mut core, visitor, names, &start))
            })
            .collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("an assertion failed"));
        times.fold(0.0, f64::max)
    })
}

/// Returns a core with a member in every second room, and a connection that comes and goes.
fn residence(table: &Arc<RoomTable>, id: u8, names: &[String]) -> (Core, ConnectionId) {
    let mut core = Core::of(table.clone(), id);
    for name in names.iter().skip(id.into()).step_by(2) {
        core.open_in(name);
    }
    let visitor = core.open();
    (core, visitor)
}

fn repeat(
    operation: Operation,
    core: &mut Core,
    visitor: ConnectionId,
    names: &[String],
    start: &Barrier,
) -> f64 {
    // Every thread begins elsewhere, so that they meet by chance and not in step.
    let offset = usize::from(core.id.0) * ROOM_COUNT / 2;
    let batches: Vec<&[String]> = names[offset..].chunks(BATCH).collect();
    operation(core, visitor, batches[0]);
    start.wait();
    let started_at = now();
    let counts = batches.iter().cycle().take(BATCH_COUNT);
    let count: usize = counts.map(|batch| operation(core, visitor, batch)).sum();
    let elapsed = now() - started_at;
    Cost::each(count, elapsed, 0).ns
}

fn publish(core: &mut Core, _: ConnectionId, names: &[String]) -> usize {
    let frame = frame_of_64();
    for name in names {
        assert_eq!(core.table.emit(name, frame.clone()).member_count, 1);
    }
    core.turn();
    core.flush();
    names.len()
}

fn join_and_leave(core: &mut Core, visitor: ConnectionId, names: &[String]) -> usize {
    for name in names {
        core.join(visitor, name);
    }
    let joined = core.turn();
    for name in names {
        core.table.leave(visitor, name);
    }
    assert_eq!((joined, core.turn()), (names.len(), names.len()));
    joined + names.len()
}

const ROOM_COUNT: usize = 1024;

/// Operations between two looks at the mailbox, as in a turn under load.
const BATCH: usize = 64;

/// Batches in a round: a few milliseconds, short enough to be undisturbed once in several rounds.
const BATCH_COUNT: usize = 500;
