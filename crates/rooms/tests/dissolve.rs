//! Rooms that everybody leaves at once: who hears what before and after, and what is left.

use throng_rooms::{
    Backpressure, Command, ConnectionId, CoreId, EventKind, Full, LocalLimits, Overloaded,
    RoomClass, RoomKey, Since, Space, TableConfig,
};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
#[expect(dead_code, reason = "other transcripts need the rest of it")]
mod house;

use frames::{Said, frame};
use house::{House, KEPT, PLAIN, config_of};

#[test]
fn members_on_every_core_and_wire_leave_behind_what_was_published_before() {
    let mut house = two_cores(RoomClass::PLAIN);
    let members = [(0, PLAIN), (0, KEPT), (1, PLAIN), (1, KEPT)];
    let members = members.map(|(core, wire)| house.open(core, wire));
    for member in members {
        house.table.join(member, "tea").unwrap();
    }
    house.emit(EventKind::Lasting, "tea", "before");
    assert_eq!(house.table.dissolve("tea"), Backpressure::default());
    let after = Said {
        room: "tea",
        body: "after",
    };
    let published = house
        .table
        .emit_as(EventKind::Lasting, "tea", None, after)
        .unwrap();
    assert_eq!(
        published.member_count, 4,
        "their cores have not heard of it"
    );
    house.turn();
    for member in members {
        let wire = member.wire().0;
        assert_eq!(house.hear(member), format!("{wire}:tea/- before"));
        let local = &house.cores[member.core().index()];
        assert_eq!(local.rooms_of(member.slot()).count(), 0);
    }
    for core in &house.cores {
        assert_eq!((core.room_count(), core.membership_count()), (0, 0));
    }
    assert_eq!(house.table.room_count(), 0);
    house.emit(EventKind::Lasting, "tea", "later");
    house.turn();
    assert_eq!(house.hear(members[0]), "");
}

#[test]
fn each_core_with_members_is_asked_once_and_no_other() {
    let mut house = two_cores(RoomClass::PLAIN);
    for wire in [PLAIN, KEPT, PLAIN] {
        let member = house.open(1, wire);
        house.table.join(member, "tea").unwrap();
    }
    house.turn();
    house.table.dissolve("tea");
    house.table.dissolve("coffee");
    let commands = [0, 1].map(|core| {
        let mut commands = Vec::new();
        house.table.mailbox(CoreId(core)).drain(&mut commands);
        commands
    });
    assert!(commands[0].is_empty());
    assert!(matches!(commands[1][..], [Command::Dissolve { .. }]));
}

#[test]
fn who_joins_after_it_is_a_member_and_who_joined_before_is_none() {
    let mut house = House::of(RoomClass::PLAIN);
    let [alice, bob, carol] = [(); 3].map(|()| house.open(0, PLAIN));
    for member in [alice, carol] {
        house.table.join(member, "tea").unwrap();
    }
    house.table.dissolve("tea");
    for member in [bob, carol] {
        house.table.join(member, "tea").unwrap();
    }
    house.emit(EventKind::Lasting, "tea", "after");
    house.turn();
    let heard = [alice, bob, carol].map(|it| house.hear(it));
    assert_eq!(heard, ["", "0:tea/- after", "0:tea/- after"]);
    let totals = house.table.totals();
    assert_eq!(
        (totals.rooms, totals.rooms_created),
        (1, 1),
        "it did not end"
    );
    assert_eq!(house.table.member_count("tea"), 2);
}

#[test]
fn the_other_rooms_of_its_members_go_on() {
    let mut house = House::of(RoomClass::PLAIN);
    let members = [(); 5].map(|()| house.open(0, PLAIN));
    // Memberships in another order each, so that others move into the place of what ends.
    for (index, member) in members.iter().enumerate() {
        let mut names = ["tea", "milk", "rum"];
        names.rotate_left(index % 3);
        for name in names {
            house.table.join(*member, name).unwrap();
        }
    }
    house.turn();
    house.table.dissolve("tea");
    house.turn();
    house.table.leave(members[1], "milk");
    house.cut(members[2]);
    for room in ["tea", "milk", "rum"] {
        house.emit(EventKind::Lasting, room, "on");
    }
    house.turn();
    let heard = [0, 1, 3, 4].map(|index| house.hear(members[index]));
    let both = "0:milk/- on, 0:rum/- on";
    assert_eq!(heard, [both, "0:rum/- on", both, both]);
    let counts = ["tea", "milk", "rum"].map(|name| house.table.member_count(name));
    assert_eq!(counts, [0, 3, 4]);
}

#[test]
fn what_a_room_keeps_outlives_it() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    let left = house.position("tea");
    house.table.dissolve("tea");
    house.turn();
    let totals = house.table.totals();
    assert_eq!((totals.rooms, totals.rooms_without_members), (0, 1));
    house.publish("tea", "two");
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one");
    house.join(alice, "tea", Since::Position(left));
    house.turn();
    assert_eq!(
        house.hear(alice),
        "joined tea at 2 from 2 recovered, 1:tea/2 two"
    );
}

#[test]
fn who_is_shut_or_gone_is_not_missed() {
    let mut house = House::of(RoomClass::PLAIN);
    let [alice, bob, carol] = [(); 3].map(|()| house.open_in("tea"));
    house.table.dissolve("tea");
    house.cut(alice);
    house.cores[0].shut(bob.slot(), &frame("bye"), &house.table);
    let dan = house.open(0, KEPT);
    assert_eq!(dan.slot(), alice.slot(), "the slot is reused");
    house.turn();
    assert_eq!([bob, carol, dan].map(|it| house.hear(it)), ["bye", "", ""]);
    assert_eq!(
        (house.table.room_count(), house.cores[0].membership_count()),
        (0, 0)
    );
}

#[test]
fn a_caller_that_cannot_be_held_back_is_refused_before_anybody_left() {
    let mut house = two_cores(RoomClass::PLAIN);
    let members = [0, 1].map(|core| house.open(core, PLAIN));
    for member in members {
        house.table.join(member, "tea").unwrap();
    }
    house.turn();
    fill(&house, members[1]);
    let refused = Overloaded { core: CoreId(1) };
    assert_eq!(house.table.try_dissolve("tea"), Err(refused));
    assert_eq!(house.table.try_dissolve_space(Space::DEFAULT), Err(refused));
    assert_eq!(
        house.table.try_dissolve("coffee"),
        Ok(Backpressure::default())
    );
    house.turn();
    assert_eq!(house.table.member_count("tea"), 2);

    fill(&house, members[1]);
    let held_back = Backpressure(Some(Full::Core(CoreId(1))));
    assert_eq!(
        house.table.dissolve("tea"),
        held_back,
        "it was done all the same"
    );
    house.turn();
    assert_eq!(house.table.member_count("tea"), 0);
    assert_eq!(house.table.try_dissolve("tea"), Ok(Backpressure::default()));
}

#[test]
fn all_rooms_of_a_space_are_dissolved_and_no_others() {
    let mut house = two_cores(RoomClass::PLAIN);
    let members = [0, 1].map(|core| house.open(core, PLAIN));
    let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for (name, space) in names.iter().flat_map(|name| [0, 1, 2].map(|it| (name, it))) {
        for member in members {
            let key = RoomKey::new(Space(space), name);
            house.table.join(member, key).unwrap();
        }
    }
    house.turn();
    assert_eq!(house.table.room_count(), 150);
    assert_eq!(
        house.table.dissolve_space(Space(3)),
        Backpressure::default()
    );
    house.table.dissolve_space(Space(1));
    assert_eq!(
        house.table.try_dissolve_space(Space::DEFAULT),
        Ok(Backpressure::default())
    );
    house.turn();
    assert_eq!(house.table.room_count(), 50);
    for name in &names {
        let counts = [0, 1, 2].map(|it| house.table.member_count(RoomKey::new(Space(it), name)));
        assert_eq!(counts, [0, 0, 2]);
    }
}

/// Two cores whose mailboxes are full with little.
fn two_cores(class: RoomClass) -> House {
    let config = TableConfig {
        core_count: 2,
        shard_count: 4,
        mailbox_bytes_max: 100_000,
        ..config_of(class)
    };
    let limits = LocalLimits {
        rooms_per_connection_max: 1000,
        ..LocalLimits::default()
    };
    House::with(config, limits)
}

/// Asks so much of a connection's core that its mailbox is full.
fn fill(house: &House, connection: ConnectionId) {
    let much = frame(&"x".repeat(100_000));
    let core = connection.core();
    let full = house.table.direct(connection, much);
    assert_eq!(full, Backpressure(Some(Full::Core(core))));
}
