//! Bytes for each of what the table and a core keep.
//!
//! What a measurement needs beside what it measures (names, connections, the mailbox's buffers) is
//! there before it begins.

use proto::SharedFrame;
use rooms::ConnectionId;

use benches::{Core, cores};

use crate::meter::live_bytes;
use crate::series::{Chart, Line, Sizes, grouped};

/// Measures connections, rooms of one member, and members of one room.
pub(crate) fn with_count(sizes: &Sizes) -> Chart {
    let kinds = [
        connections(sizes),
        members(sizes),
        rooms(sizes),
        rooms_published_to(sizes),
    ];
    let [connection, membership, room, _] = kinds.each_ref().map(|(_, kept)| *kept);
    let note = format!(
        "When all of them are gone, {connection:.0} bytes of each connection, {room:.0} of each \
         room and {membership:.0} of each membership stay for those to come."
    );
    Chart {
        title: "Memory, by how many there are".to_owned(),
        size: "how many",
        unit: "bytes of each",
        lines: kinds.into_iter().map(|(line, _)| line).collect(),
        rows: sizes.rows.clone(),
        note,
    }
}

/// Measures connections without a room, and what each leaves behind.
fn connections(sizes: &Sizes) -> (Line, f64) {
    let mut core = Core::alone(1);
    let mut connections = Vec::with_capacity(sizes.max());
    let mut line = Line::new("connection");
    let before = live_bytes();
    for count in 1..=sizes.max() {
        connections.push(core.open());
        sample(&mut line, sizes, before, count);
    }
    for connection in connections.drain(..) {
        core.local.close(connection.slot(), &core.table);
    }
    (line, bytes_each(before, sizes.max()))
}

/// Measures rooms with one member each, with its membership.
fn rooms(sizes: &Sizes) -> (Line, f64) {
    let names: Vec<String> = (0..sizes.max()).map(room_name).collect();
    join_one_each(
        "room of one member",
        sizes,
        |index| &names[index],
        |_, _| (),
    )
}

/// Measures rooms with one member each, after a publication to each.
fn rooms_published_to(sizes: &Sizes) -> (Line, f64) {
    let names: Vec<String> = (0..sizes.max()).map(room_name).collect();
    let what = "room of one member, published to";
    join_one_each(what, sizes, |index| &names[index], publish)
}

fn publish(core: &mut Core, room: &str) {
    core.table.emit(room, SharedFrame::from(&b"\x81\x00"[..]));
    core.turn();
    assert_eq!(core.flush(), 2);
}

/// Members of one room.
fn members(sizes: &Sizes) -> (Line, f64) {
    join_one_each("member of one room", sizes, |_| "tea", |_, _| ())
}

/// Joins one room from each connection, calls `then`, and has all leave again.
fn join_one_each<'a>(
    what: &str,
    sizes: &Sizes,
    name: impl Fn(usize) -> &'a str,
    then: fn(&mut Core, &str),
) -> (Line, f64) {
    let mut core = warm_core(1);
    let connections: Vec<ConnectionId> = (0..sizes.max()).map(|_| core.open()).collect();
    let mut line = Line::new(what);
    let before = live_bytes();
    for (index, connection) in connections.iter().enumerate() {
        core.join(*connection, name(index));
        core.turn();
        then(&mut core, name(index));
        sample(&mut line, sizes, before, index + 1);
    }
    for connection in &connections {
        core.local
            .detach_all(connection.slot(), rooms::Space::DEFAULT, &core.table);
    }
    assert_eq!(
        (core.table.room_count(), core.local.membership_count()),
        (0, 0)
    );
    (line, bytes_each(before, sizes.max()))
}

/// Measures 10,000 connections in each of so many rooms.
pub(crate) fn with_memberships(sizes: &Sizes) -> Chart {
    let connection_count = sizes.max().min(10_000);
    let mut line = Line::column("membership");
    for room_count in ROOMS_OF_A_CONNECTION {
        let mut core = warm_core(1);
        let names: Vec<String> = (0..room_count).map(room_name).collect();
        for name in &names {
            core.open_in(name);
        }
        let connections: Vec<ConnectionId> = (0..connection_count).map(|_| core.open()).collect();
        let before = live_bytes();
        for connection in &connections {
            for name in &names {
                core.join(*connection, name);
            }
            core.turn();
        }
        let count = connections.len() * room_count;
        line.points.push((room_count, bytes_each(before, count)));
    }
    Chart {
        title: format!(
            "Memory, by rooms of each of {} connections",
            grouped(connection_count)
        ),
        size: "rooms of a connection",
        unit: "bytes",
        lines: vec![line],
        rows: ROOMS_OF_A_CONNECTION.to_vec(),
        note: String::new(),
    }
}

/// Tables for one core, empty and with 100,000 rooms.
pub(crate) fn with_shards(sizes: &Sizes) -> Chart {
    let names: Vec<String> = (0..sizes.max().min(100_000)).map(room_name).collect();
    let mut empty = Line::column("the table, empty");
    let mut full = Line::column(format!("each of {} rooms", grouped(names.len())));
    for shard_count in SHARD_COUNTS {
        let before = live_bytes();
        let table = cores::table(1, shard_count);
        empty.points.push((shard_count, bytes_each(before, 1)));
        drop(table);

        let mut core = warm_core(shard_count);
        let connections: Vec<ConnectionId> = names.iter().map(|_| core.open()).collect();
        let before = live_bytes();
        for (connection, name) in connections.iter().zip(&names) {
            core.join(*connection, name);
            core.turn();
        }
        full.points
            .push((shard_count, bytes_each(before, names.len())));
    }
    Chart {
        title: "Memory, by shards".to_owned(),
        size: "shards",
        unit: "bytes",
        lines: vec![empty, full],
        rows: SHARD_COUNTS.to_vec(),
        note: String::new(),
    }
}

fn sample(line: &mut Line, sizes: &Sizes, before: usize, count: usize) {
    if sizes.has_sample(count) {
        line.points.push((count, bytes_each(before, count)));
    }
}

fn bytes_each(before: usize, count: usize) -> f64 {
    (live_bytes() as f64 - before as f64) / count as f64
}

/// Returns a core whose mailbox has its buffers.
fn warm_core(shard_count: usize) -> Core {
    let mut core = Core::alone(shard_count);
    let connection = core.open();
    // Twice: the mailbox and its owner take turns with two buffers.
    for _ in 0..2 {
        for _ in 0..1024 {
            core.table.direct(connection, b"".as_slice().into());
        }
        core.turn();
        core.flush();
    }
    core
}

/// Names as long as those of the load generator.
pub(crate) fn room_name(number: usize) -> String {
    format!("room-{number:07}")
}

/// The server's default limit is the last.
pub(crate) const ROOMS_OF_A_CONNECTION: [usize; 5] = [1, 2, 8, 32, 128];

/// From one lock to more than cores contend for.
pub(crate) const SHARD_COUNTS: [usize; 5] = [1, 4, 16, 64, 256];
