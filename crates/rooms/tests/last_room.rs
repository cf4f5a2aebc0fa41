//! Connections that are to be closed with their last room of a space: when that is said, and when
//! not.

use throng_rooms::{ConnectionId, RoomClass, RoomKey, Space};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
#[expect(dead_code, reason = "other transcripts need the rest of it")]
mod house;

use frames::frame;
use house::{House, KEPT, PLAIN};

/// A space that is not the default one.
const OTHER: Space = Space(7);

#[test]
fn who_leaves_its_last_room_is_to_be_closed() {
    let (mut house, alice) = house_of_one();
    join_all(&house, alice, ["tea", "milk"]);
    house.table.leave(alice, "tea");
    house.table.leave(alice, "tea");
    house.table.leave(alice, "rum");
    assert_eq!(left(&mut house), [], "it is in one more, and left no other");
    house.table.leave(alice, "milk");
    assert_eq!(left(&mut house), [alice]);
    house.table.leave(alice, "milk");
    house.table.leave_all(alice, Space::DEFAULT);
    assert_eq!(left(&mut house), [], "it left no more rooms");

    join_all(&house, alice, ["tea", "milk", "rum"]);
    house.table.leave_all(alice, Space::DEFAULT);
    assert_eq!(left(&mut house), [alice], "once");
    join_all(&house, alice, ["tea"]);
    house.turn();
    let effect = house.cores[0].detach_all(alice.slot(), Space::DEFAULT, &house.table);
    assert!(effect.is_some(), "also if its own core lets it leave");
    assert!(
        house.cores[0]
            .detach_all(alice.slot(), Space::DEFAULT, &house.table)
            .is_none()
    );
}

#[test]
fn leaving_before_it_was_asked_for_does_not_count_nor_does_it_after_it_was_taken_back() {
    let mut house = House::of(RoomClass::PLAIN);
    let alice = house.open(0, PLAIN);
    join_all(&house, alice, ["tea"]);
    house.table.leave(alice, "tea");
    close_with_last_room(&house, alice, Space::DEFAULT);
    assert_eq!(left(&mut house), []);
    join_all(&house, alice, ["tea"]);
    house
        .table
        .close_with_last_room(alice, Space::DEFAULT, false);
    house.table.leave(alice, "tea");
    assert_eq!(left(&mut house), []);

    join_all(&house, alice, ["tea"]);
    for on in [true, true, false, true] {
        house.table.close_with_last_room(alice, Space::DEFAULT, on);
    }
    house.table.leave(alice, "tea");
    assert_eq!(left(&mut house), [alice], "the last that was asked holds");
}

#[test]
fn only_rooms_of_the_space_count() {
    let (mut house, alice) = house_of_one();
    let other = RoomKey::new(OTHER, "tea");
    join_all(&house, alice, ["tea"]);
    house.table.join(alice, other).unwrap();
    house.table.leave(alice, other);
    assert_eq!(left(&mut house), [], "that space was not named");
    house.table.join(alice, other).unwrap();
    house.table.leave(alice, "tea");
    assert_eq!(
        left(&mut house),
        [alice],
        "a room of another space keeps nobody"
    );
    house.table.leave(alice, other);
    assert_eq!(left(&mut house), []);

    close_with_last_room(&house, alice, OTHER);
    join_all(&house, alice, ["tea"]);
    house.table.join(alice, other).unwrap();
    house.table.leave_all(alice, Space::DEFAULT);
    assert_eq!(
        left(&mut house),
        [alice],
        "though a room of another space is left"
    );
    house
        .table
        .close_with_last_room(alice, Space::DEFAULT, false);
    join_all(&house, alice, ["tea"]);
    house.table.leave_all(alice, Space::DEFAULT);
    assert_eq!(left(&mut house), []);
    house.table.join(alice, other).unwrap();
    house.table.leave_all(alice, OTHER);
    assert_eq!(left(&mut house), [alice]);
}

#[test]
fn a_room_that_is_dissolved_may_be_the_last_of_many() {
    let mut house = House::of(RoomClass::PLAIN);
    let [alice, bob, carol, dan] = [PLAIN, KEPT, PLAIN, KEPT].map(|wire| {
        let member = house.open(0, wire);
        join_all(&house, member, ["tea"]);
        member
    });
    for member in [alice, bob, carol] {
        close_with_last_room(&house, member, Space::DEFAULT);
    }
    join_all(&house, carol, ["milk"]);
    house.table.dissolve("tea");
    let mut said = left(&mut house);
    said.sort_unstable_by_key(|connection| connection.slot());
    assert_eq!(said, [alice, bob], "carol has another, dan did not ask");
    house.table.dissolve_space(Space::DEFAULT);
    assert_eq!(left(&mut house), [carol]);
    assert_eq!(house.cores[0].slot_of(dan), Some(dan.slot()));
}

#[test]
fn the_end_of_a_connection_is_no_leaving_and_the_next_in_its_slot_is_not_meant() {
    let (mut house, alice) = house_of_one();
    join_all(&house, alice, ["tea"]);
    house.turn();
    house.table.leave(alice, "tea");
    house.cores[0].shut(alice.slot(), &frame("bye"), &house.table);
    close_with_last_room(&house, alice, OTHER);
    assert_eq!(left(&mut house), [], "it is being closed already");
    house.cut(alice);
    let bob = house.open(0, PLAIN);
    assert_eq!(bob.slot(), alice.slot(), "the slot is reused");
    join_all(&house, bob, ["tea"]);
    close_with_last_room(&house, alice, Space::DEFAULT);
    house.table.leave_all(bob, Space::DEFAULT);
    assert_eq!(left(&mut house), []);
}

#[test]
fn a_join_that_is_not_accepted_is_no_leaving() {
    let limits = throng_rooms::LocalLimits {
        rooms_per_connection_max: 0,
        ..throng_rooms::LocalLimits::default()
    };
    let mut house = House::with(house::config_of(RoomClass::PLAIN), limits);
    let alice = house.open(0, PLAIN);
    close_with_last_room(&house, alice, Space::DEFAULT);
    house.turn();
    join_all(&house, alice, ["tea"]);
    let mut commands = Vec::new();
    house.table.mailbox(alice.core()).drain(&mut commands);
    for command in commands {
        let effect = house.cores[0].apply(command, &house.table);
        assert!(matches!(
            effect,
            Some(throng_rooms::Effect::JoinRefused { .. })
        ));
    }
    assert_eq!(house.table.member_count("tea"), 0);
}

#[test]
fn what_was_published_before_arrives_first() {
    let (mut house, alice) = house_of_one();
    join_all(&house, alice, ["tea"]);
    house.emit(throng_rooms::EventKind::Lasting, "tea", "before");
    house.table.dissolve("tea");
    house.apply(0);
    assert_eq!(house.left, [alice]);
    house.cores[0].shut(alice.slot(), &frame("bye"), &house.table);
    assert_eq!(house.hear(alice), "0:tea/- before, bye");
}

/// One connection that is to be closed with its last room of the default space.
fn house_of_one() -> (House, ConnectionId) {
    let mut house = House::of(RoomClass::PLAIN);
    let alice = house.open(0, PLAIN);
    close_with_last_room(&house, alice, Space::DEFAULT);
    (house, alice)
}

fn close_with_last_room(house: &House, connection: ConnectionId, space: Space) {
    house.table.close_with_last_room(connection, space, true);
}

fn join_all<const N: usize>(house: &House, connection: ConnectionId, rooms: [&str; N]) {
    for room in rooms {
        let joined = house.table.join(connection, room);
        joined.expect("the name is a good one");
    }
}

/// Carries everything out, and says who is to be closed for it.
fn left(house: &mut House) -> Vec<ConnectionId> {
    house.turn();
    std::mem::take(&mut house.left)
}
