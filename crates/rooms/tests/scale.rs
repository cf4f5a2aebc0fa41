//! Sizes at which a step that looks at every member, or at every room, would not end in time.
//!
//! Each test has a deadline dozens of times what it needs, and a quadratic implementation
//! needs longer than that: more a deadline cannot tell on a busy machine.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use throng_rooms::{
    Command, ConnectionId, CoreId, LocalLimits, LocalRooms, RoomTable, TableConfig,
};

#[test]
fn a_crowd_that_goes_first_come_first_gone_costs_what_each_costs_alone() {
    in_time(|| a_crowd_goes(|turn| turn));
}

#[test]
fn a_crowd_that_goes_last_come_first_gone_costs_what_each_costs_alone() {
    in_time(|| a_crowd_goes(|turn| CROWD - 1 - turn));
}

#[test]
fn a_crowd_that_goes_in_no_order_costs_what_each_costs_alone() {
    // A stride that shares no factor with the crowd comes by everybody once.
    in_time(|| a_crowd_goes(|turn| turn * 7_919 % CROWD));
}

fn a_crowd_goes(whose_turn: impl Fn(usize) -> usize) {
    let mut core = Core::new(1);
    let crowd: Vec<ConnectionId> = (0..CROWD).map(|_| core.open_in(["tea"])).collect();
    assert_eq!(core.table.member_count("tea") as usize, CROWD);

    for (turn, left) in (0..CROWD).zip((0..CROWD).rev()) {
        core.rooms
            .close(crowd[whose_turn(turn)].slot(), &core.table);
        assert_eq!(core.table.member_count("tea") as usize, left);
        assert_eq!(core.rooms.membership_count(), left);
    }
    assert_eq!(core.rooms.connection_count(), 0);
    assert_eq!((core.rooms.room_count(), core.table.room_count()), (0, 0));
}

#[test]
fn who_goes_is_missed_in_its_own_rooms_only() {
    in_time(|| {
        let mut core = Core::new(64);
        let names: Vec<String> = (0..1_024).map(|number| number.to_string()).collect();
        let residents = core.open_many(64);
        for resident in &residents {
            core.join_all(*resident, &names);
        }
        let (visited, others) = names.split_at(128);
        for _ in 0..200 {
            let visitor = core.rooms.open().unwrap();
            core.join_all(visitor, visited);
            assert_eq!(core.member_counts(visited), [65; 128]);
            assert_eq!(core.member_counts(others), [64; 896]);
            core.rooms.close(visitor.slot(), &core.table);
            assert_eq!(core.member_counts(&names), [64; 1_024]);
        }
        assert_eq!(core.rooms.membership_count(), 64 * 1_024);

        // Whoever stayed is still found by every room.
        for name in &names {
            core.table.emit(name, proto::SharedFrame::from(&b"x"[..]));
        }
        core.turn();
        for resident in residents {
            assert_eq!(core.rooms.outbox(resident.slot()).pending_bytes(), 1_024);
        }
    });
}

#[test]
fn a_room_among_many_of_its_shard_costs_what_it_costs_alone() {
    in_time(|| {
        let mut core = Core::new(1);
        let names: Vec<String> = (0..ROOMS).map(|number| number.to_string()).collect();
        let members: Vec<ConnectionId> = names.iter().map(|name| core.open_in([name])).collect();
        for name in &names {
            core.table.emit(name, proto::SharedFrame::from(&b"x"[..]));
        }
        core.turn();
        assert_eq!(core.rooms.counts().deliveries, ROOMS as u64);
        for member in members {
            core.rooms.close(member.slot(), &core.table);
        }
        assert_eq!((core.rooms.room_count(), core.table.room_count()), (0, 0));
    });
}

/// A quadratic step over so many takes minutes in a debug build.
const CROWD: usize = 200_000;

/// As many rooms, of which a hash table without a good hash looks at 16 at a time.
const ROOMS: usize = 200_000;

/// A table and its only core.
struct Core {
    table: RoomTable,
    rooms: LocalRooms,
}

impl Core {
    fn new(shard_count: usize) -> Self {
        let table = RoomTable::new(TableConfig {
            core_count: 1,
            shard_count,
            name_len_max: 255,
            mailbox_bytes_max: 1 << 20,
            watch_rooms: false,
            ..TableConfig::default()
        });
        let limits = LocalLimits {
            rooms_per_connection_max: 1_024,
            ..LocalLimits::default()
        };
        Self {
            table,
            rooms: LocalRooms::new(CoreId(0), limits),
        }
    }

    fn open_many(&mut self, count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| self.open_in::<&str>([])).collect()
    }

    fn open_in<S: AsRef<str>>(&mut self, rooms: impl IntoIterator<Item = S>) -> ConnectionId {
        let connection = self.rooms.open().expect("there are 16 million slots");
        self.join_all(connection, rooms);
        connection
    }

    fn join_all<S: AsRef<str>>(
        &mut self,
        connection: ConnectionId,
        rooms: impl IntoIterator<Item = S>,
    ) {
        for room in rooms {
            let joined = self.table.join(connection, room.as_ref());
            joined.expect("the name is a good one");
        }
        self.turn();
    }

    fn turn(&mut self) {
        let mut commands: Vec<Command> = Vec::new();
        self.table.mailbox(CoreId(0)).drain(&mut commands);
        for command in commands {
            let effect = self.rooms.apply(command, &self.table);
            assert!(effect.is_none(), "nobody asked for {effect:?}");
        }
        self.rooms.fan_out();
    }

    fn member_counts(&self, rooms: &[String]) -> Vec<u32> {
        rooms
            .iter()
            .map(|room| self.table.member_count(room))
            .collect()
    }
}

/// Runs the test on a thread of its own, and does not wait for it beyond the deadline.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        done.send(()).expect("somebody waits");
    });
    match is_done.recv_timeout(DEADLINE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done after {DEADLINE:?}"),
        // Done, or dead: joining says which.
        _ => running.join().expect("the test itself failed"),
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
