//! Every interleaving of a few threads on one table or one mailbox, explored by loom.
//!
//! Owns the models of what the locks promise: nobody sleeps through a wake-up, all cores see a
//! room's publications in one order, a member's view of it has no gap and no repeat, and a room
//! exists exactly while it is counted. What one thread can show is in `tests/`.

use std::io::IoSlice;
use std::task::{Wake, Waker};

use loom::sync::{Arc, Notify};
use loom::thread::{self, JoinHandle};
use proto::SharedFrame;

use crate::class::{Classes, RoomClass};
use crate::id::{ConnectionId, CoreId};
use crate::journal::{Change, Journal, WriteOrder};
use crate::key::Space;
use crate::local::LocalRooms;
use crate::local::effect::Effect;
use crate::local::outboxes::LocalLimits;
use crate::mailbox::{Command, Mailbox};
use crate::publication::{Outgoing, Published};
use crate::recovery::Since;
use crate::table::{JoinRequest, RoomTable, TableConfig};
use crate::time::Moment;

const HERE: CoreId = CoreId(0);
const THERE: CoreId = CoreId(1);

#[test]
fn loom_the_owner_sleeps_through_no_push() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(1 << 20));
        let pushers = [(); 2].map(|()| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.push(Command::Drain).wake_quietly())
        });
        let bell = Bell::new();
        let mut taken_count = 0;
        while taken_count < 2 {
            bell.wait_until(|waker| mailbox.poll_ready(waker));
            mailbox.awake();
            let mut commands = Vec::new();
            mailbox.drain(&mut commands);
            taken_count += commands.len();
        }
        assert_eq!(mailbox.pending_bytes(), 0);
        pushers.into_iter().for_each(join);
    });
}

#[test]
fn loom_the_stalled_sleep_through_no_drain() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(1));
        let stalled = [(); 2].map(|()| {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                mailbox.push(Command::Drain).wake_quietly();
                Bell::new().wait_until(|waker| !mailbox.poll_full(waker));
            })
        });
        let bell = Bell::new();
        let mut taken_count = 0;
        while taken_count < 2 {
            bell.wait_until(|waker| mailbox.poll_ready(waker));
            mailbox.awake();
            let mut commands = Vec::new();
            mailbox.drain(&mut commands);
            taken_count += commands.len();
        }
        stalled.into_iter().for_each(join);
    });
}

#[test]
fn loom_two_cores_see_the_publications_of_two_publishers_in_one_order() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let alice = here.open_in("tea", &table);
        let bob = there.open_in("tea", &table);
        let publishers = [[b"a", b"b"], [b"x", b"y"]].map(|frames| {
            let table = table.clone();
            thread::spawn(move || publish(&table, "tea", &frames))
        });
        // In the middle of it, so that the two cores' turns differ.
        there.turn(&table);
        publishers.into_iter().for_each(join);
        here.turn(&table);
        there.turn(&table);

        let received = here.received(alice);
        assert_eq!(received, there.received(bob));
        let in_order = |first, second| position(&received, first) < position(&received, second);
        assert_eq!(received.len(), 4);
        assert!(in_order(b'a', b'b') && in_order(b'x', b'y'));
    });
}

#[test]
fn loom_who_joins_among_publications_receives_all_from_one_on() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let bob = there.open_in("tea", &table);
        let alice = here.open();
        let publishers = [[b"1", b"2"], [b"x", b"y"]].map(|frames| {
            let table = table.clone();
            thread::spawn(move || publish(&table, "tea", &frames))
        });
        table.join(alice, "tea").unwrap();
        here.turn(&table);
        publishers.into_iter().for_each(join);
        publish(&table, "tea", &[b"!"]);
        here.turn(&table);
        there.turn(&table);

        let all = there.received(bob);
        assert_eq!(all.len(), 5);
        assert!(all.ends_with(&here.received(alice)));
        assert!(
            here.received(alice).ends_with(b"!"),
            "her join had returned"
        );
    });
}

#[test]
fn loom_who_leaves_among_publications_receives_all_up_to_one() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let alice = here.open_in("tea", &table);
        let bob = there.open_in("tea", &table);
        let publisher = {
            let table = table.clone();
            thread::spawn(move || publish(&table, "tea", &[b"1", b"2", b"3"]))
        };
        table.leave(alice, "tea");
        here.turn(&table);
        join(publisher);
        here.turn(&table);
        there.turn(&table);

        assert_eq!(there.received(bob), b"123");
        assert!(b"123".starts_with(&here.received(alice)));
        assert_eq!(table.member_count("tea"), 1);
    });
}

#[test]
fn loom_a_room_joined_while_its_last_member_goes_exists_once() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let alice = here.open_in("tea", &table);
        let [bob, carol] = [(); 2].map(|()| there.open());
        let closer = {
            let table = table.clone();
            thread::spawn(move || {
                here.rooms.close(alice.slot(), &table);
                here
            })
        };
        let joiner = {
            let table = table.clone();
            thread::spawn(move || table.join(carol, "tea").map(drop).unwrap())
        };
        table.join(bob, "tea").unwrap();
        there.turn(&table);
        publish(&table, "tea", &[b"1"]);
        there.rooms.close(bob.slot(), &table);
        let mut here = closer.join().unwrap();
        join(joiner);
        publish(&table, "tea", &[b"2"]);
        there.turn(&table);

        assert!(b"12".ends_with(&there.received(carol)));
        assert_eq!((table.room_count(), table.member_count("tea")), (1, 1));
        there.rooms.close(carol.slot(), &table);
        assert_eq!((table.room_count(), table.member_count("tea")), (0, 0));
        here.turn(&table);
        let life_count = usize::try_from(table.totals().rooms_created).unwrap();
        assert_eq!(here.lives, LIFE.repeat(life_count));
    });
}

#[test]
fn loom_who_is_closed_while_another_thread_makes_it_join_leaves_nothing_behind() {
    loom::model(|| {
        let table = table(1);
        let mut here = Core::new(HERE);
        let alice = here.open();
        let joiner = {
            let table = table.clone();
            thread::spawn(move || table.join(alice, "tea").map(drop).unwrap())
        };
        here.turn(&table);
        here.rooms.close(alice.slot(), &table);
        let bob = here.open();
        assert_eq!(bob.slot(), alice.slot(), "the slot is reused");
        join(joiner);
        publish(&table, "tea", &[b"1"]);
        here.turn(&table);

        assert_eq!(here.received(bob), b"");
        assert_eq!(here.rooms.membership_count(), 0);
        assert_eq!((table.room_count(), table.member_count("tea")), (0, 0));
        // The room lived as long as the join was on its way.
        here.turn(&table);
        assert_eq!(here.lives, LIFE);
    });
}

#[test]
fn loom_who_joins_from_two_threads_is_a_member_once() {
    loom::model(|| {
        let table = table(1);
        let mut here = Core::new(HERE);
        let alice = here.open();
        let joiners = [(); 2].map(|()| {
            let table = table.clone();
            thread::spawn(move || table.join(alice, "tea").map(drop).unwrap())
        });
        here.turn(&table);
        joiners.into_iter().for_each(join);
        publish(&table, "tea", &[b"1"]);
        here.turn(&table);

        assert_eq!(here.received(alice), b"1");
        assert_eq!(here.rooms.membership_count(), 1);
        assert_eq!((table.room_count(), table.member_count("tea")), (1, 1));
        assert_eq!(here.lives, LIFE[..1]);
    });
}

#[test]
fn loom_who_comes_back_among_publications_receives_all_since_it_left_once() {
    loom::model(|| {
        let table = table_with_histories(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let bob = there.open_in("tea", &table);
        let left = keep(&table, b"1", None).position.expect("it has a member");
        keep(&table, b"2", None);
        let publishers = [[b"a", b"b"], [b"x", b"y"]].map(|frames| {
            let table = table.clone();
            thread::spawn(move || {
                for frame in frames {
                    keep(&table, frame, None);
                }
            })
        });
        let alice = here.open();
        join_since(&table, alice, Since::Position(left));
        here.turn(&table);
        publishers.into_iter().for_each(join);
        here.turn(&table);
        there.turn(&table);

        let all = there.received(bob);
        assert_eq!(all.len(), 6);
        assert_eq!(
            here.received(alice),
            all[1..],
            "what was replayed, then what came"
        );
    });
}

#[test]
fn loom_two_who_ask_for_the_last_receive_all_from_one_on_once() {
    loom::model(|| {
        let table = table_with_histories(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let [alice, bob] = [here.open(), there.open()];
        let publisher = {
            let table = table.clone();
            thread::spawn(move || {
                for frame in [b"1", b"2", b"3"] {
                    keep(&table, frame, None);
                }
            })
        };
        let joiner = {
            let table = table.clone();
            thread::spawn(move || join_since(&table, bob, Since::Last(1)))
        };
        join_since(&table, alice, Since::Last(2));
        here.turn(&table);
        [publisher, joiner].into_iter().for_each(join);
        here.turn(&table);
        there.turn(&table);

        for received in [here.received(alice), there.received(bob)] {
            assert!(
                b"123".ends_with(&received),
                "no gap, no repeat: {received:?}"
            );
            assert!(!received.is_empty());
        }
    });
}

#[test]
fn loom_a_key_that_two_threads_publish_with_is_delivered_once() {
    loom::model(|| {
        let table = table_with_histories(2);
        let mut here = Core::new(HERE);
        let alice = here.open_in("tea", &table);
        let publishers = [b"a", b"x"].map(|frame| {
            let table = table.clone();
            thread::spawn(move || keep(&table, frame, Some("k")))
        });
        here.turn(&table);
        let [one, other] = publishers.map(|thread| thread.join().expect("it does not panic"));
        here.turn(&table);

        assert_eq!(one.position, other.position);
        assert!(one.duplicate != other.duplicate);
        assert_eq!(here.received(alice).len(), 1);
        assert_eq!(table.position("tea"), one.position);
    });
}

#[test]
fn loom_a_room_whose_last_member_goes_among_publications_keeps_its_stream() {
    loom::model(|| {
        let table = table_with_histories(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let alice = here.open_in("tea", &table);
        let before = table.position("tea").expect("it has a member");
        let closer = {
            let table = table.clone();
            thread::spawn(move || here.rooms.close(alice.slot(), &table))
        };
        let publisher = {
            let table = table.clone();
            thread::spawn(move || {
                for frame in [b"1", b"2"] {
                    keep(&table, frame, None);
                }
            })
        };
        let bob = there.open();
        join_since(&table, bob, Since::Position(before));
        [closer, publisher].into_iter().for_each(join);
        there.turn(&table);

        let after = table.position("tea").expect("it has a history");
        assert_eq!((after.epoch, after.offset), (before.epoch, 2));
        assert_eq!(there.received(bob), b"12");
        assert_eq!((table.room_count(), table.totals().rooms_created), (1, 1));
    });
}

#[test]
fn loom_who_joins_while_publications_are_written_down_receives_all_once() {
    loom::model(|| {
        let journal = std::sync::Arc::new(Journal::new(WriteOrder::Ahead, 1 << 20));
        let table = Arc::new(RoomTable::new(TableConfig {
            journal: Some(journal.clone()),
            ..config_with_histories()
        }));
        let mut here = Core::new(HERE);
        let [alice, bob] = [(); 2].map(|()| here.open());
        join_since(&table, bob, Since::Now);
        let begin = table.position("tea").expect("it has a member");
        let publisher = {
            let table = table.clone();
            thread::spawn(move || {
                for frame in [b"1", b"2"] {
                    keep(&table, frame, None);
                }
            })
        };
        let writer = {
            let (table, journal) = (table.clone(), journal.clone());
            thread::spawn(move || write(&table, &journal))
        };
        join_since(&table, alice, Since::Position(begin));
        here.turn(&table);
        [publisher, writer].into_iter().for_each(join);
        write(&table, &journal);
        here.turn(&table);

        assert_eq!([alice, bob].map(|it| here.received(it)), [b"12", b"12"]);
    });
}

#[test]
fn loom_a_room_is_dissolved_between_the_same_publications_for_all_its_members() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let alice = here.open_in("tea", &table);
        let carol = there.open_in("tea", &table);
        let bob = there.open();
        let publisher = {
            let table = table.clone();
            thread::spawn(move || publish(&table, "tea", &[b"1", b"2"]))
        };
        let dissolver = {
            let table = table.clone();
            thread::spawn(move || {
                table.dissolve("tea");
            })
        };
        table.join(bob, "tea").unwrap();
        there.turn(&table);
        [publisher, dissolver].into_iter().for_each(join);
        publish(&table, "tea", &[b"!"]);
        here.turn(&table);
        there.turn(&table);

        let before = here.received(alice);
        assert_eq!(before, there.received(carol));
        assert!(b"12".starts_with(&before));
        let after = &b"12!"[before.len()..];
        let received = there.received(bob);
        let is_member = there.rooms.rooms_of(bob.slot()).count() == 1;
        match is_member {
            true => assert!(after.ends_with(&received) && received.ends_with(b"!")),
            false => assert!(before.ends_with(&received)),
        }
        let count = usize::from(is_member);
        assert_eq!(table.room_count(), count);
        assert_eq!(table.member_count("tea") as usize, count);
        here.turn(&table);
        let life_count = usize::try_from(table.totals().rooms_created).unwrap();
        let told = 2 * life_count - count;
        assert_eq!(here.lives, LIFE.repeat(life_count)[..told]);
    });
}

#[test]
fn loom_a_room_dissolved_from_two_threads_ends_once_and_tells_who_left_its_last() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let [alice, bob] = [here.open_in("tea", &table), there.open_in("tea", &table)];
        for member in [alice, bob] {
            table.close_with_last_room(member, Space::DEFAULT, true);
        }
        let dissolver = {
            let table = table.clone();
            thread::spawn(move || {
                table.dissolve("tea");
            })
        };
        let leaver = {
            let table = table.clone();
            thread::spawn(move || {
                table.leave(alice, "tea");
            })
        };
        table.dissolve_space(Space::DEFAULT);
        there.turn(&table);
        here.turn(&table);
        [dissolver, leaver].into_iter().for_each(join);
        there.turn(&table);
        here.turn(&table);

        assert_eq!((here.left, there.left), (vec![alice], vec![bob]));
        assert_eq!((table.room_count(), table.member_count("tea")), (0, 0));
        let mut commands = Vec::new();
        table.mailbox(HERE).drain(&mut commands);
        let ended = commands
            .iter()
            .filter(|it| matches!(it, Command::RoomRemoved { .. }));
        here.lives.extend(ended.map(|_| Life::Removed));
        assert_eq!(here.lives, LIFE);
    });
}

#[test]
fn loom_the_members_that_two_cores_name_are_those_of_one_moment() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let [alice, bob] = [here.open(), there.open()];
        let joiner = {
            let table = table.clone();
            thread::spawn(move || {
                table.join(alice, "tea").map(drop).unwrap();
                table.join(bob, "tea").map(drop).unwrap();
            })
        };
        let (core_count, _) = table.ask_members("tea", |_| Box::new(()));
        publish(&table, "tea", &[b"!"]);
        // In the middle of it, so that the two cores' turns differ.
        there.turn(&table);
        join(joiner);
        here.turn(&table);
        there.turn(&table);

        let named = [&here.named[..], &there.named[..]].concat();
        assert_eq!(named, [alice, bob][..named.len()], "she joined first");
        assert_eq!(core_count, named.len());
        for (core, member) in [(&here, alice), (&there, bob)] {
            let is_named = named.contains(&member);
            assert!(!is_named || core.received(member) == b"!");
        }
    });
}

#[test]
fn loom_who_joins_around_a_broadcast_receives_it_once_in_its_place() {
    loom::model(|| {
        let table = table(2);
        let mut here = Core::new(HERE);
        let mut there = Core::new(THERE);
        let bob = there.open_in("tea", &table);
        let alice = here.open();
        let publisher = {
            let table = table.clone();
            thread::spawn(move || {
                publish(&table, "tea", &[b"1"]);
                let sent = table.broadcast(SharedFrame::from(&b"b"[..]));
                sent.map(drop).unwrap();
                publish(&table, "tea", &[b"2"]);
            })
        };
        table.join(alice, "tea").unwrap();
        here.turn(&table);
        join(publisher);
        here.turn(&table);
        there.turn(&table);

        assert_eq!(there.received(bob), b"1b2");
        let received = here.received(alice);
        assert!([&b"1b2"[..], b"b2", b"b"].contains(&&received[..]));
    });
}

/// Writes down what there is to write, and says so.
fn write(table: &RoomTable, journal: &Journal) {
    let mut entries = Vec::new();
    journal.queue.drain(&mut entries);
    for entry in entries {
        if let Change::Publication { offset, .. } = entry.change {
            table.commit(&entry.room, offset);
        }
    }
}

/// A core, and what it heard of rooms.
struct Core {
    id: CoreId,
    rooms: LocalRooms,
    lives: Vec<Life>,
    /// The members that it named when it was asked.
    named: Vec<ConnectionId>,
    /// The connections to close for having left their last room.
    left: Vec<ConnectionId>,
}

/// A room's beginning or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Created,
    Removed,
}

impl Core {
    fn new(id: CoreId) -> Self {
        Self {
            id,
            rooms: LocalRooms::new(id, LocalLimits::default()),
            lives: Vec::new(),
            named: Vec::new(),
            left: Vec::new(),
        }
    }

    fn open(&mut self) -> ConnectionId {
        self.rooms.open().expect("there are 16 million slots")
    }

    fn open_in(&mut self, room: &str, table: &RoomTable) -> ConnectionId {
        let connection = self.open();
        let joined = table.join(connection, room);
        joined.expect("the name is a good one");
        self.turn(table);
        connection
    }

    fn turn(&mut self, table: &RoomTable) {
        let mut commands = Vec::new();
        table.mailbox(self.id).drain(&mut commands);
        for command in commands {
            match self.rooms.apply(command, table) {
                Some(Effect::Ask {
                    room: Some(room), ..
                }) => self.named.extend(self.rooms.members_of(room)),
                Some(Effect::RoomCreated { .. }) => self.lives.push(Life::Created),
                Some(Effect::RoomRemoved { .. }) => self.lives.push(Life::Removed),
                Some(Effect::Joined {
                    connection,
                    room,
                    joined,
                    ..
                }) => self.rooms.replay(connection.slot(), &room, &joined),
                Some(Effect::LastRoomLeft { connections }) => self.left.extend(connections),
                None => {}
                Some(effect) => panic!("nobody asked for {effect:?}"),
            }
        }
        self.rooms.fan_out();
    }

    /// Everything that was sent to the connection; none of it is flushed.
    fn received(&self, connection: ConnectionId) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self
            .rooms
            .outbox(connection.slot())
            .slices(&mut slices, usize::MAX);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }
}

/// Wakes one thread.
struct Bell(Notify);

impl Bell {
    fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self(Notify::new()))
    }

    /// Asks again after each ring. If nobody rings, loom reports a deadlock.
    fn wait_until(self: &std::sync::Arc<Self>, poll: impl Fn(&Waker) -> bool) {
        let waker = Waker::from(self.clone());
        while !poll(&waker) {
            self.0.wait();
        }
    }
}

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.notify();
    }
}

fn table(core_count: usize) -> Arc<RoomTable> {
    Arc::new(RoomTable::new(TableConfig {
        core_count,
        // Shards are drawn at random, and each run of a model must lock the same ones.
        shard_count: 1,
        name_len_max: 255,
        mailbox_bytes_max: 1 << 20,
        watch_rooms: true,
        ..TableConfig::default()
    }))
}

/// Returns a table that retains publications.
fn table_with_histories(core_count: usize) -> Arc<RoomTable> {
    Arc::new(RoomTable::new(TableConfig {
        core_count,
        ..config_with_histories()
    }))
}

fn config_with_histories() -> TableConfig {
    TableConfig {
        shard_count: 1,
        watch_rooms: true,
        classes: Classes::new(Vec::new(), RoomClass::default()),
        ..TableConfig::default()
    }
}

/// Publishes to `tea`, where it is kept.
fn keep(table: &RoomTable, frame: &[u8; 1], key: Option<&str>) -> Published {
    let outgoing = Outgoing {
        publication: &mut SharedFrame::from(&frame[..]),
        except: None,
        payload_len: 1,
        key,
        at: Moment(1),
        answer: None,
    };
    table.publish("tea", outgoing).expect("nothing refuses it")
}

fn join_since(table: &RoomTable, connection: ConnectionId, since: Since) {
    let request = JoinRequest { id: None, since };
    let joined = table.join_since(connection, "tea", request);
    joined.expect("the name is a good one");
}

fn publish(table: &RoomTable, room: &str, frames: &[&[u8; 1]]) {
    for frame in frames {
        table.emit(room, SharedFrame::from(&frame[..]));
    }
}

fn join(thread: JoinHandle<()>) {
    thread.join().expect("a model that panics ends the test");
}

fn position(received: &[u8], byte: u8) -> Option<usize> {
    received.iter().position(|found| *found == byte)
}

/// The reports that the watching core gets of one life of a room.
const LIFE: [Life; 2] = [Life::Created, Life::Removed];
