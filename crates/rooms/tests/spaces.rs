//! Rooms of one name in several spaces: that they are several rooms, and what those keep.

use throng_rooms::{
    Change, ConnectionId, Effect, EventKind, Journal, LocalLimits, Outgoing, PublishError,
    Published, RoomClass, RoomKey, Since, SlowConsumer, Space, TableConfig, WriteOrder,
};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
#[expect(dead_code, reason = "other transcripts need the rest of it")]
mod house;

use frames::Said;
use house::{House, KEPT, PLAIN, config_of};

/// The room `tea` of a space that is not the default one.
const THERE: RoomKey<'static> = RoomKey::new(Space(7), "tea");

#[test]
fn rooms_of_one_name_in_two_spaces_are_two_rooms() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    let bob = open_there(&mut house);
    house.publish("tea", "one");
    publish(&house, "two").unwrap();
    house.emit(EventKind::Lasting, "tea", "three");
    emit(&house, "four");
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, 1:tea/- three");
    assert_eq!(house.hear(bob), "1:tea/1 two, 1:tea/- four");
    assert_eq!(house.table.member_count(THERE), 1);
    assert_ne!(house.table.position(THERE), house.table.position("tea"));

    house.table.leave(bob, "tea");
    house.table.leave(alice, THERE);
    house.turn();
    let counts = ["tea".into(), THERE].map(|key: RoomKey<'_>| house.table.member_count(key));
    assert_eq!(counts, [1, 1], "nobody left a room of another space");
    house.table.leave(bob, THERE);
    house.turn();
    assert_eq!(
        (house.table.room_count(), house.table.member_count("tea")),
        (1, 1)
    );
}

#[test]
fn a_connection_is_a_member_of_one_name_in_many_spaces_at_once() {
    let mut house = House::of(RoomClass::PLAIN);
    let alice = house.open(0, PLAIN);
    let spaces = (0..100).map(|number| RoomKey::new(Space(number), "tea"));
    for key in spaces.clone() {
        house.table.join(alice, key).unwrap();
    }
    house.turn();
    assert_eq!(house.table.room_count(), 100);
    for key in spaces.rev() {
        let body = &key.space.0.to_string();
        let said = Said { room: "tea", body };
        assert_eq!(
            house
                .table
                .emit_as(EventKind::Lasting, key, None, said)
                .unwrap()
                .member_count,
            1
        );
    }
    house.turn();
    let heard = house.read(alice);
    let all: Vec<String> = (0..100).rev().map(|n| format!("0:tea/- {n}")).collect();
    assert_eq!(heard, all);
}

#[test]
fn rooms_of_other_spaces_keep_nothing_and_end_with_their_last_member() {
    let mut house = House::of(RoomClass::default());
    let alice = open_there(&mut house);
    for _ in 0..2 {
        let published = publish_keyed(&house, "one", "k").unwrap();
        assert!(!published.duplicate, "no key is remembered");
    }
    let first = house.table.position(THERE).expect("it has a member");
    assert_eq!(first.offset, 2);
    let limits = throng_rooms::PastLimits {
        publications_max: 10,
        bytes_max: 1000,
    };
    let past = house.table.past(THERE, Since::Last(10), limits);
    assert!(past.expect("it has a member").frames.is_empty());
    assert!(!house.table.keeps_something());

    house.cut(alice);
    let totals = house.table.totals();
    assert_eq!((totals.rooms, totals.rooms_without_members), (0, 0));
    assert_eq!(house.table.position(THERE), None);
    assert_eq!(publish(&house, "two").unwrap(), Published::default());
    open_there(&mut house);
    let again = house.table.position(THERE).expect("it has a member");
    assert_ne!(again.epoch, first.epoch, "it is another life");
    assert_eq!(again.offset, 0);
}

#[test]
fn rooms_of_other_spaces_are_not_written_down_nor_wait_for_it() {
    let journal = std::sync::Arc::new(Journal::new(WriteOrder::Ahead, 1 << 20));
    let config = TableConfig {
        journal: Some(journal.clone()),
        wires: vec![PLAIN, KEPT],
        ..config_of(RoomClass::default())
    };
    let mut house = House::with(config, LocalLimits::default());
    let alice = open_there(&mut house);
    publish(&house, "one").unwrap();
    journal.set_refuses(true);
    publish(&house, "two").unwrap();
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, 1:tea/2 two");
    house.table.resume_journal();
    house.cut(alice);
    house.table.abandon_journal();
    let mut entries = Vec::new();
    journal.queue.drain(&mut entries);
    assert!(entries.is_empty(), "{entries:?}");

    // Those of the default space are.
    journal.set_refuses(false);
    house.table.resume_journal();
    house.open_in("tea");
    journal.queue.drain(&mut entries);
    let epochs = entries.iter().filter(|entry| {
        entry.room.space == Space::DEFAULT && matches!(entry.change, Change::Epoch { .. })
    });
    assert_eq!(epochs.count(), 1);
}

#[test]
fn what_a_class_says_of_members_holds_in_every_space() {
    let class = RoomClass {
        slow_consumer: SlowConsumer::Latest,
        publication_bytes_max: 5,
        ..RoomClass::default()
    };
    let mut house = House::of(class);
    let alice = open_there(&mut house);
    assert!(matches!(
        publish(&house, "larger"),
        Err(PublishError::TooLarge {
            payload_len: 6,
            payload_len_max: 5
        })
    ));
    house.block(alice);
    for body in ["one", "two", "three"] {
        publish(&house, body).unwrap();
        house.turn();
    }
    // The first makes way where it was: what its buffer holds is known only to its room.
    let gap = |offset| format!(r#"gap {{"room":"tea","from":{offset},"to":{offset}}}"#);
    let heard = format!("{}, {}, 1:tea/3 three", gap(1), gap(2));
    assert_eq!(house.hear(alice), heard);
    assert_eq!(
        house.table.class_of(THERE).slow_consumer,
        SlowConsumer::Latest
    );
    assert!(!house.table.class_of(THERE).history.is_on());
}

#[test]
fn whose_room_began_or_ended_is_told() {
    let mut house = House::of(RoomClass::PLAIN);
    house.table.watch_rooms();
    let alice = house.open(0, PLAIN);
    house.table.join(alice, THERE).unwrap();
    house.table.join(alice, "tea").unwrap();
    house.table.leave_all(alice, Space::DEFAULT);
    house.table.leave_all(alice, THERE.space);
    let mut told = Vec::new();
    // Ends are told of while what ends them is carried out.
    for _ in 0..2 {
        let mut commands = Vec::new();
        house.table.mailbox(alice.core()).drain(&mut commands);
        for command in commands {
            match house.cores[0].apply(command, &house.table) {
                Some(Effect::RoomCreated { space, name }) => told.push((space, name, true)),
                Some(Effect::RoomRemoved { space, name }) => told.push((space, name, false)),
                effect => assert!(effect.is_none(), "nobody asked for {effect:?}"),
            }
        }
    }
    let told: Vec<_> = told
        .iter()
        .map(|(of, name, it)| (of.0, &**name, *it))
        .collect();
    let begun = [(7, "tea", true), (0, "tea", true)];
    let ended = [(0, "tea", false), (7, "tea", false)];
    assert_eq!(told, [begun, ended].concat());
}

fn open_there(house: &mut House) -> ConnectionId {
    let connection = house.open(0, KEPT);
    let joined = house.table.join(connection, THERE);
    joined.expect("the name is a good one");
    house.turn();
    connection
}

fn emit(house: &House, body: &str) {
    let said = Said { room: "tea", body };
    house
        .table
        .emit_as(EventKind::Lasting, THERE, None, said)
        .expect("what is said is written for every wire");
}

fn publish(house: &House, body: &str) -> Result<Published, PublishError> {
    publish_as(house, body, None)
}

fn publish_keyed(house: &House, body: &str, key: &str) -> Result<Published, PublishError> {
    publish_as(house, body, Some(key))
}

fn publish_as(house: &House, body: &str, key: Option<&str>) -> Result<Published, PublishError> {
    let outgoing = Outgoing {
        except: None,
        publication: &mut Said { room: "tea", body },
        payload_len: body.len(),
        key,
        at: throng_rooms::Moment(house.now_ms),
        answer: None,
    };
    house.table.publish(THERE, outgoing)
}
