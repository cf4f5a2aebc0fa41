//! Positions, histories, recovery, keys and slow members, step by step.

use throng_rooms::{
    Classes, Epoch, EventKind, HistoryLimits, LocalLimits, NameError, Outgoing, PastLimits,
    PublishError, Published, RoomClass, Since, SlowConsumer, StreamPosition, TableConfig,
};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
mod house;

use frames::{Said, frame};
use house::{House, KEPT, PLAIN, config_of};

// Positions.

#[test]
fn a_publication_has_one_offset_on_every_core_and_wire() {
    let config = TableConfig {
        core_count: 2,
        ..config_of(RoomClass::default())
    };
    let mut house = House::with(config, LocalLimits::default());
    let members = [(0, PLAIN), (0, KEPT), (1, PLAIN), (1, KEPT)].map(|(core, wire)| {
        let member = house.open(core, wire);
        house.table.join(member, "tea").unwrap();
        member
    });
    let hot = house.publish("tea", "hot");
    assert_eq!(
        (hot.member_count, hot.position),
        (4, Some(house.position("tea")))
    );
    house.publish("tea", "sweet");
    house.publish("milk", "cold");
    house.turn();

    let heard = members.map(|member| house.hear(member));
    let plain = "0:tea/1 hot, 0:tea/2 sweet";
    let kept = "1:tea/1 hot, 1:tea/2 sweet";
    assert_eq!(heard, [plain, kept, plain, kept]);
}

#[test]
fn a_room_keeps_the_class_it_was_made_with_and_one_made_later_gets_the_one_that_is_set() {
    let mut house = House::of(RoomClass::PLAIN);
    let alice = house.open_in("old");
    let classes = Classes::new(Vec::new(), RoomClass::default());
    house.table.set_classes(classes);
    house.open_in("new");
    for room in ["old", "new"] {
        house.publish(room, "hot");
    }
    assert_eq!(house.held("old"), (2, 1), "nothing is kept");
    assert_eq!(house.held("new"), (1, 1));
    // And the other way round, where something is kept by then.
    house.table.set_classes(Classes::default());
    house.publish("new", "sweet");
    assert_eq!(house.held("new"), (1, 2));
    house.table.leave(alice, "old");
    house.turn();
    house.open_in("old");
    house.publish("old", "again");
    assert_eq!(house.held("old"), (2, 1));
}

#[test]
fn an_event_has_no_offset_and_is_not_kept() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.publish("tea", "hot");
    house.emit(EventKind::Lasting, "tea", "steam");
    house.emit(EventKind::Ephemeral, "tea", "smell");
    house.publish("tea", "sweet");
    house.turn();

    let all = "1:tea/1 hot, 1:tea/- steam, 1:tea/- smell, 1:tea/2 sweet";
    assert_eq!(house.hear(alice), all);
    assert_eq!(house.held("tea"), (1, 2));
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let class = RoomClass {
        publication_bytes_max: 5,
        ..RoomClass::default()
    };
    let mut house = House::of(class);
    let alice = house.open_in("tea");
    let refused =
        |room: &str, body: &str, key: Option<&str>| house.try_publish(room, body, key).unwrap_err();
    let key = |key_len| PublishError::Key { key_len };
    let too_large = PublishError::TooLarge {
        payload_len: 6,
        payload_len_max: 5,
    };
    assert_eq!(refused("tea", "hot", Some("")), key(0));
    assert_eq!(refused("tea", "hot", Some(&"k".repeat(65))), key(65));
    assert_eq!(refused("tea", "hot!!!", None), too_large);
    assert_eq!(refused("milk", "cold!!", None), too_large);
    assert_eq!(refused("", "hot", None), NameError::Empty.into());

    house.turn();
    assert_eq!(house.hear(alice), "");
    assert_eq!(
        (house.position("tea").offset, house.table.position("milk")),
        (0, None)
    );
    let longest = "k".repeat(64);
    assert!(!house.publish_keyed("tea", "hot", &longest).duplicate);
    assert!(house.publish_keyed("tea", "hot", &longest).duplicate);
}

#[test]
fn where_nobody_is_and_nothing_is_kept_nothing_has_a_position() {
    let house = House::of(RoomClass::PLAIN);
    assert_eq!(house.publish("tea", "hot"), Published::default());
    assert_eq!(house.publish_keyed("tea", "hot", "k"), Published::default());
    assert_eq!(house.table.position("tea"), None);
    assert_eq!(house.table.totals().rooms_created, 0);
}

// Coming back.

#[test]
fn who_comes_back_gets_what_it_missed_behind_the_answer_and_before_what_is_live() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    let left = house.position("tea");
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one");
    house.cut(alice);
    house.publish("tea", "two");
    house.publish("tea", "three");

    let alice = house.open(0, KEPT);
    house.join(alice, "tea", Since::Position(left));
    house.publish("tea", "four");
    house.turn();
    assert_eq!(
        house.hear(alice),
        "joined tea at 3 from 2 recovered, 1:tea/2 two, 1:tea/3 three, 1:tea/4 four"
    );
}

#[test]
fn who_missed_nothing_is_told_so_and_gets_nothing() {
    let mut house = House::of(RoomClass::default());
    house.publish("tea", "one");
    let alice = house.open(0, KEPT);
    house.join(alice, "tea", Since::Position(house.position("tea")));
    house.turn();
    assert_eq!(house.hear(alice), "joined tea at 1 from 2 recovered");
}

#[test]
fn who_comes_back_too_late_is_told_from_where_on_it_gets_all() {
    let mut house = House::of(keeping(3));
    house.publish("tea", "1");
    let left = house.position("tea");
    let at = |offset| Since::Position(StreamPosition { offset, ..left });
    for body in ["2", "3", "4", "5"] {
        house.publish("tea", body);
    }
    let all = "1:tea/3 3, 1:tea/4 4, 1:tea/5 5";
    let answer_to = |house: &mut House, since| {
        let member = house.open(0, KEPT);
        house.join(member, "tea", since);
        house.turn();
        house.hear(member)
    };
    for (offset, answer) in [
        (0, format!("joined tea at 5 from 3 not recovered, {all}")),
        (1, format!("joined tea at 5 from 3 not recovered, {all}")),
        (2, format!("joined tea at 5 from 3 recovered, {all}")),
        (4, "joined tea at 5 from 5 recovered, 1:tea/5 5".into()),
        // Nobody was ever there.
        (6, format!("joined tea at 5 from 3 not recovered, {all}")),
        (
            u64::MAX,
            format!("joined tea at 5 from 3 not recovered, {all}"),
        ),
    ] {
        assert_eq!(answer_to(&mut house, at(offset)), answer, "since {offset}");
    }
    let elsewhere = StreamPosition {
        epoch: Epoch::UNKNOWN,
        offset: 4,
    };
    assert_eq!(
        answer_to(&mut house, Since::Position(elsewhere)),
        format!("joined tea at 5 from 3 not recovered, {all}")
    );
}

#[test]
fn who_asks_for_the_last_gets_as_many_as_there_are() {
    let mut house = House::of(keeping(3));
    for (last, answer) in [(0, "joined tea at 0 from 1"), (7, "joined tea at 0 from 1")] {
        let member = house.open(0, KEPT);
        house.join(member, "tea", Since::Last(last));
        house.turn();
        assert_eq!(house.hear(member), answer);
    }
    for body in ["1", "2", "3", "4"] {
        house.publish("tea", body);
    }
    for (last, answer) in [
        (0, "joined tea at 4 from 5"),
        (1, "joined tea at 4 from 4, 1:tea/4 4"),
        (
            u32::MAX,
            "joined tea at 4 from 2, 1:tea/2 2, 1:tea/3 3, 1:tea/4 4",
        ),
    ] {
        let member = house.open(0, KEPT);
        house.join(member, "tea", Since::Last(last));
        house.turn();
        assert_eq!(house.hear(member), answer);
    }
}

#[test]
fn who_is_a_member_already_is_told_so_in_its_place_and_gets_nothing_again() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    house.join(alice, "tea", Since::Last(10));
    house.publish("tea", "two");
    house.turn();
    assert_eq!(
        house.hear(alice),
        "1:tea/1 one, joined tea at 1 already, 1:tea/2 two"
    );
    assert_eq!(house.table.member_count("tea"), 1);
}

#[test]
fn what_a_room_publishes_beside_a_replay_keeps_its_order_for_others_too() {
    let mut house = House::of(RoomClass::default());
    let bob = house.open_in("tea");
    house.publish("tea", "one");
    let alice = house.open(0, KEPT);
    house.join(alice, "tea", Since::Last(1));
    house.publish("tea", "two");
    house.turn();
    assert_eq!(house.hear(bob), "1:tea/1 one, 1:tea/2 two");
    assert_eq!(
        house.hear(alice),
        "joined tea at 1 from 1, 1:tea/1 one, 1:tea/2 two"
    );
}

#[test]
fn who_asks_for_the_same_as_the_one_before_shares_its_buffer_and_others_do_not() {
    let mut house = House::of(RoomClass::default());
    for body in ["1", "2", "3"] {
        house.publish("tea", body);
        house.publish("milk", body);
    }
    let [first, same, less, other, again] =
        [("tea", 2), ("tea", 2), ("tea", 1), ("milk", 2), ("tea", 2)].map(|(room, last)| {
            let member = house.open(0, KEPT);
            house.join(member, room, Since::Last(last));
            house.turn();
            // The answer is taken, the replay is left.
            let answer_len = frame(&format!("joined {room} at 3 from {}", 4 - last)).len();
            house.cores[0].advance(member.slot(), answer_len);
            member
        });
    let replay = |member: throng_rooms::ConnectionId| house.cores[0].outbox(member.slot()).single();
    assert!(std::ptr::eq(replay(first).unwrap(), replay(same).unwrap()));
    assert_eq!(replay(again), replay(first));

    assert_eq!(house.hear(less), "1:tea/3 3");
    assert_eq!(house.hear(other), "1:milk/2 2, 1:milk/3 3");
    assert_eq!(house.hear(again), "1:tea/2 2, 1:tea/3 3");
}

// Lives of rooms.

#[test]
fn a_room_with_a_history_outlives_its_members_for_as_long_as_a_history_lasts() {
    let mut house = House::of(aged(1000));
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    let position = house.position("tea");
    house.wait_ms(600);
    house.cut(alice);
    assert_eq!(house.table.room_count(), 0);
    assert_eq!(house.table.totals().rooms_without_members, 1);

    house.wait_ms(999);
    assert_eq!(house.table.position("tea"), Some(position));
    assert_eq!(house.held("tea"), (2, 1), "it is older than that");
    house.wait_ms(1);
    assert_eq!(house.table.position("tea"), None);
    assert_eq!(house.table.totals().rooms_without_members, 0);
    assert_eq!(house.table.totals().history_bytes, 0);
    assert!(!house.table.keeps_something());
}

#[test]
fn a_room_that_was_forgotten_begins_another_stream() {
    let mut house = House::of(RoomClass::PLAIN);
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    let old = house.position("tea");
    house.cut(alice);
    assert_eq!(house.table.position("tea"), None);

    let alice = house.open(0, KEPT);
    house.join(alice, "tea", Since::Position(old));
    let new = house.position("tea");
    assert!(new.epoch != old.epoch && new.offset == 0);
    house.publish("tea", "one");
    house.turn();
    assert_eq!(
        house.hear(alice),
        "joined tea at 0 from 1 not recovered, 1:tea/1 one"
    );
}

#[test]
fn members_keep_a_room_whose_history_has_expired_and_its_stream_goes_on() {
    let mut house = House::of(aged(1000));
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    let epoch = house.position("tea").epoch;
    house.wait_ms(5000);
    assert!(!house.table.keeps_something());
    assert_eq!(
        house.publish("tea", "two").position,
        Some(StreamPosition { epoch, offset: 2 })
    );
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, 1:tea/2 two");
    assert_eq!(house.held("tea"), (2, 2));
}

// Keys.

#[test]
fn a_repeated_key_is_told_the_first_position_and_delivers_nothing() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    let first = house.publish_keyed("tea", "one", "k");
    house.publish("tea", "two");
    let repeat = house.publish_keyed("tea", "one again", "k");
    assert!(repeat.duplicate && !first.duplicate);
    assert_eq!((repeat.position, repeat.member_count), (first.position, 1));
    assert!(!house.publish_keyed("milk", "one", "k").duplicate);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, 1:tea/2 two");
}

#[test]
fn a_key_is_known_after_its_publisher_and_the_publication_are_gone() {
    let class = RoomClass {
        history: HistoryLimits::NONE,
        key_window_ms: 1000,
        ..RoomClass::default()
    };
    let mut house = House::of(class);
    let alice = house.open_in("tea");
    let first = house.publish_keyed("tea", "one", "k");
    house.cut(alice);
    house.wait_ms(999);
    let repeat = house.publish_keyed("tea", "one", "k");
    assert_eq!((repeat.position, repeat.duplicate), (first.position, true));
    house.wait_ms(1);
    assert_eq!(
        house.table.position("tea"),
        None,
        "it kept the key, nothing else"
    );
}

#[test]
fn the_oldest_key_is_forgotten_where_there_are_too_many() {
    let class = RoomClass {
        keys_max: 2,
        ..RoomClass::default()
    };
    let house = House::of(class);
    for key in ["a", "b", "c"] {
        assert!(!house.publish_keyed("tea", key, key).duplicate);
    }
    let known = ["b", "c", "a"].map(|key| house.publish_keyed("tea", key, key).duplicate);
    assert_eq!(known, [true, true, false]);
}

// The past.

#[test]
fn the_past_is_read_page_by_page() {
    let house = House::of(keeping(5));
    let limits = |publications_max, bytes_max| PastLimits {
        publications_max,
        bytes_max,
    };
    let all = limits(usize::MAX, usize::MAX);
    assert!(house.table.past("tea", Since::Last(9), all).is_none());
    for body in ["1", "2", "3", "4", "5", "6"] {
        house.publish("tea", body);
    }
    let bodies = |past: &throng_rooms::Past| {
        let bytes: Vec<u8> = past.frames.iter().flat_map(|f| f.to_vec()).collect();
        frames::texts(&bytes).0.join(", ")
    };
    let begin = StreamPosition {
        offset: 0,
        ..house.position("tea")
    };
    let page = house
        .table
        .past("tea", Since::Position(begin), limits(2, 1 << 20));
    let page = page.unwrap();
    assert_eq!(bodies(&page), "1:tea/2 2, 1:tea/3 3");
    assert_eq!((page.position.offset, page.more), (3, true));
    let recovery = page.recovery.unwrap();
    assert_eq!((recovery.first, recovery.recovered), (2, Some(false)));

    let page = house
        .table
        .past("tea", Since::Position(page.position), limits(9, 30));
    let page = page.unwrap();
    assert_eq!(bodies(&page), "1:tea/4 4, 1:tea/5 5", "each is 11 bytes");
    assert_eq!((page.position.offset, page.more), (5, true));
    assert_eq!(page.recovery.unwrap().recovered, Some(true));

    let page = house
        .table
        .past("tea", Since::Position(page.position), limits(9, 1));
    let page = page.unwrap();
    assert_eq!(
        bodies(&page),
        "1:tea/6 6",
        "one is given however large it is"
    );
    assert_eq!((page.position, page.more), (house.position("tea"), false));

    let page = house
        .table
        .past("tea", Since::Position(page.position), all)
        .unwrap();
    assert_eq!((bodies(&page).as_str(), page.more), ("", false));
    assert_eq!(page.position, house.position("tea"));

    let last = house.table.past("tea", Since::Last(2), all).unwrap();
    assert_eq!(bodies(&last), "1:tea/5 5, 1:tea/6 6");
    let now = house.table.past("tea", Since::Now, all).unwrap();
    assert_eq!((now.recovery, now.frames.len(), now.more), (None, 0, false));
    assert_eq!(now.position, house.position("tea"));
}

// Answers.

#[test]
fn an_acknowledgement_comes_behind_its_own_publication_and_parts_no_turn() {
    let mut house = House::of(RoomClass::default());
    let [alice, bob] = [(); 2].map(|()| house.open_in("tea"));
    for body in ["one", "two"] {
        house.publish("tea", body);
        house.table.answer(alice, frame(&format!("ack {body}")));
    }
    house.turn();
    let outbox = house.cores[0].outbox(bob.slot());
    assert!(outbox.single().is_some(), "the turn is one buffer");
    assert_eq!(house.hear(bob), "1:tea/1 one, 1:tea/2 two");
    let all = "1:tea/1 one, 1:tea/2 two, ack one, ack two";
    assert_eq!(house.hear(alice), all);
}

#[test]
fn answers_keep_their_order_with_all_else_that_is_for_one_connection() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.publish("tea", "one");
    house.table.answer(alice, frame("ack one"));
    house.table.direct(alice, frame("pong"));
    house.publish("tea", "two");
    house.table.answer(alice, frame("ack two"));
    house.join(alice, "milk", Since::Now);
    house.table.answer(alice, frame("ack three"));
    house.turn();
    let all = "1:tea/1 one, ack one, pong, 1:tea/2 two, ack two, joined milk at 0, ack three";
    assert_eq!(house.hear(alice), all);
}

#[test]
fn an_answer_to_who_is_gone_reaches_nobody() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    house.table.answer(alice, frame("ack one"));
    house.apply(0);
    house.cut(alice);
    let bob = house.open_in("tea");
    assert_eq!(bob.slot(), alice.slot());
    house.table.answer(bob, frame("ack two"));
    house.turn();
    assert_eq!(house.hear(bob), "ack two");
}

// Slow members.

#[test]
fn a_slow_member_is_closed_where_nothing_may_be_missing() {
    let mut house = slow(SlowConsumer::Disconnect, 40);
    let [alice, bob] = [(); 2].map(|()| house.open_in("tea"));
    house.block(alice);
    for body in ["one", "two", "three", "four"] {
        house.publish("tea", body);
        house.turn();
    }
    assert_eq!(house.closed, [alice]);
    assert_eq!(house.hear(alice), "1:tea/1 one, 1:tea/2 two, bye");
    let all = "1:tea/1 one, 1:tea/2 two, 1:tea/3 three, 1:tea/4 four";
    assert_eq!(house.hear(bob), all);
}

#[test]
fn a_slow_member_skips_the_oldest_that_wait_and_is_told_which() {
    let mut house = slow(SlowConsumer::Skip, 140);
    let alice = house.open_in("tea");
    house.block(alice);
    for number in 1..=20 {
        house.publish("tea", &number.to_string());
        house.turn();
    }
    let one_len = u32::try_from(frame("1:tea/20 20").len()).unwrap();
    assert!(
        house.pending_bytes(alice) + one_len > 140,
        "no more goes than has to"
    );
    let heard = house.read(alice);
    let (first, rest) = heard.split_first().unwrap();
    assert_eq!(first, "1:tea/1 1", "a part of it may be on the wire");
    let (gap, rest) = rest.split_first().unwrap();
    let from: Vec<String> = (21 - rest.len()..=20)
        .map(|n| format!("1:tea/{n} {n}"))
        .collect();
    assert_eq!(rest, from);
    assert!(rest.len() >= 5, "{rest:?}");
    let to = 20 - rest.len();
    assert_eq!(*gap, format!(r#"gap {{"room":"tea","from":2,"to":{to}}}"#));
    assert_eq!(house.cores[0].counts().skipped, to as u64 - 1);
    assert!(house.closed.is_empty());

    house.publish("tea", "21");
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/21 21");
}

#[test]
fn a_gap_tells_of_nothing_that_is_delivered() {
    let mut house = slow(SlowConsumer::Skip, 150);
    let alice = house.open_in("tea");
    house.block(alice);
    for _ in 0..3 {
        house.publish("tea", "short");
        house.turn();
    }
    // An event that must arrive, and what is merged with it.
    house.publish("tea", "kept");
    house.emit(EventKind::Lasting, "tea", "steam");
    house.turn();
    for _ in 0..10 {
        house.publish("tea", "short");
        house.turn();
    }
    assert_eq!(
        house.hear(alice),
        r#"1:tea/1 short, gap {"room":"tea","from":2,"to":3}, 1:tea/4 kept, 1:tea/- steam, "#
            .to_owned()
            + r#"gap {"room":"tea","from":5,"to":12}, 1:tea/13 short, 1:tea/14 short"#
    );
}

#[test]
fn a_gap_ends_with_the_membership_that_it_is_told_to() {
    let mut house = slow(SlowConsumer::Latest, 1 << 20);
    let alice = house.open_in("tea");
    house.block(alice);
    for _ in 0..4 {
        house.publish("tea", "a");
        house.turn();
    }
    house.table.leave(alice, "tea");
    house.turn();
    house.join(alice, "tea", Since::Now);
    house.turn();
    for _ in 0..4 {
        house.publish("tea", "b");
        house.turn();
    }
    assert_eq!(
        house.hear(alice),
        r#"gap {"room":"tea","from":1,"to":1}, gap {"room":"tea","from":2,"to":3}, "#.to_owned()
            + "1:tea/4 a, joined tea at 4, "
            + r#"gap {"room":"tea","from":5,"to":7}, 1:tea/8 b"#
    );
}

#[test]
fn who_joins_again_and_again_and_reads_nothing_is_closed() {
    for way in [SlowConsumer::Latest, SlowConsumer::Skip] {
        joins_again_and_again(way);
    }
}

fn joins_again_and_again(way: SlowConsumer) {
    let mut house = slow(way, 200);
    let alice = house.open_in("tea");
    house.block(alice);
    for _ in 0..100_000 {
        for _ in 0..4 {
            house.publish("tea", "a publication of some length");
            house.turn();
        }
        house.table.leave(alice, "tea");
        let joined = house.table.join(alice, "tea");
        joined.expect("the name is a good one");
        house.turn();
        if house.closed == [alice] {
            return;
        }
        // A gap for each of the 128 rooms that it might be in.
        assert!(house.pending_bytes(alice) < 2 * 200 + 128 * 100);
    }
    panic!("it is never closed");
}

#[test]
fn for_a_member_of_a_room_of_the_latest_only_the_newest_waits() {
    let mut house = slow(SlowConsumer::Latest, 1 << 20);
    let alice = house.open_in("tea");
    house.publish("tea", "1");
    house.turn();
    house.block(alice);
    for number in 2..=20 {
        house.publish("tea", &number.to_string());
        house.publish("tea", "more");
        house.turn();
    }
    assert_eq!(
        house.hear(alice),
        r#"gap {"room":"tea","from":1,"to":1}, gap {"room":"tea","from":2,"to":38}, 1:tea/39 more"#
    );
    house.publish("tea", "one");
    house.publish("tea", "two");
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/40 one, 1:tea/41 two");
}

#[test]
fn a_member_of_rooms_of_the_latest_is_told_of_each() {
    let mut house = slow(SlowConsumer::Latest, 1 << 20);
    let alice = house.open_in("tea");
    house.table.join(alice, "milk").unwrap();
    house.block(alice);
    for body in ["1", "2", "3"] {
        house.publish("tea", body);
        house.publish("milk", body);
        house.turn();
    }
    assert_eq!(
        house.hear(alice),
        r#"gap {"room":"tea","from":1,"to":1}, gap {"room":"milk","from":1,"to":2}, "#.to_owned()
            + r#"gap {"room":"tea","from":2,"to":2}, 1:tea/3 3, 1:milk/3 3"#
    );
}

#[test]
fn the_newest_does_not_overtake_what_found_no_place_in_the_same_turn() {
    let mut house = slow(SlowConsumer::Latest, 120);
    let alice = house.open_in("tea");
    house.block(alice);
    house.publish("tea", "one");
    house.turn();
    house.publish("tea", &"2".repeat(115));
    // Who joins parts the turn.
    let bob = house.open(0, KEPT);
    house.table.join(bob, "tea").unwrap();
    house.publish("tea", "three");
    house.publish("tea", "four");
    house.turn();
    assert_eq!(
        house.hear(alice),
        r#"gap {"room":"tea","from":1,"to":1}, gap {"room":"tea","from":2,"to":2}, "#.to_owned()
            + "1:tea/3 three, 1:tea/4 four"
    );
    assert_eq!(house.hear(bob), "1:tea/3 three, 1:tea/4 four");
    assert!(house.closed.is_empty());
}

#[test]
fn the_newest_is_sent_also_if_no_older_one_can_make_way_for_it() {
    let mut house = slow(SlowConsumer::Latest, 60);
    let alice = house.open_in("tea");
    house.block(alice);
    for text in ["first answer", "second answer", "third answer"] {
        house.table.direct(alice, frame(text));
    }
    house.turn();
    for body in ["1", "2", "three"] {
        house.publish("tea", body);
        house.turn();
    }
    assert_eq!(
        house.hear(alice),
        r#"first answer, second answer, third answer, gap {"room":"tea","from":1,"to":2}, "#
            .to_owned()
            + "1:tea/3 three"
    );
}

#[test]
fn who_is_behind_by_one_large_frame_is_told_what_else_it_is_not_sent() {
    for (way, last) in [
        (
            SlowConsumer::Latest,
            r#"gap {"room":"tea","from":1,"to":2}, 1:tea/3 three"#,
        ),
        (SlowConsumer::Skip, r#"gap {"room":"tea","from":1,"to":3}"#),
    ] {
        let mut house = slow(way, 60);
        let alice = house.open_in("tea");
        house.block(alice);
        house.table.direct(alice, frame(&"x".repeat(40_000)));
        for body in ["1", "2", "three"] {
            house.publish("tea", body);
            house.turn();
        }
        assert_eq!(house.read(alice)[1..].join(", "), last, "{way}");
        assert!(house.closed.is_empty());
    }
}

#[test]
fn ephemeral_events_are_for_members_for_whom_little_waits() {
    let mut house = slow(SlowConsumer::Disconnect, 100);
    let [alice, bob] = [(); 2].map(|()| house.open_in("tea"));
    house.publish("tea", "a quarter of what may wait");
    house.turn();
    house.read(bob);
    house.emit(EventKind::Ephemeral, "tea", "typing");
    house.emit(EventKind::Lasting, "tea", "steam");
    house.turn();
    assert_eq!(house.hear(bob), "1:tea/- typing, 1:tea/- steam");
    house.emit(EventKind::Ephemeral, "tea", "typing");
    house.turn();
    assert_eq!(house.hear(bob), "1:tea/- typing");
    assert_eq!(
        house.hear(alice),
        "1:tea/1 a quarter of what may wait, 1:tea/- steam"
    );
    assert_eq!(house.cores[0].counts().ephemeral_dropped, 2);
}

#[test]
fn nobody_is_closed_for_ephemeral_events() {
    for way in [
        SlowConsumer::Disconnect,
        SlowConsumer::Latest,
        SlowConsumer::Skip,
    ] {
        let mut house = slow(way, 100);
        let alice = house.open_in("tea");
        house.block(alice);
        house.publish("tea", "one");
        house.turn();
        for _ in 0..3 {
            house.emit(EventKind::Ephemeral, "tea", &"x".repeat(90));
        }
        house.turn();
        assert_eq!(house.hear(alice), "1:tea/1 one", "{way}");
        assert!(house.closed.is_empty());
        assert_eq!(house.cores[0].counts().ephemeral_dropped, 3);
    }
}

#[test]
fn ephemeral_events_that_go_with_older_publications_are_counted() {
    let mut house = slow(SlowConsumer::Latest, 1 << 20);
    let alice = house.open_in("tea");
    house.block(alice);
    house.publish("tea", "one");
    house.turn();
    house.publish("tea", "two");
    house.emit(EventKind::Ephemeral, "tea", "typing");
    house.turn();
    assert_eq!(
        house.hear(alice),
        r#"gap {"room":"tea","from":1,"to":1}, 1:tea/2 two"#
    );
    assert_eq!(house.cores[0].counts().ephemeral_dropped, 1);
}

// Replays and the outbox.

#[test]
fn a_replay_larger_than_an_outbox_makes_no_slow_member() {
    let mut house = slow(SlowConsumer::Disconnect, 1000);
    for _ in 0..50 {
        house.publish("tea", &"x".repeat(100));
    }
    let alice = house.open(0, KEPT);
    house.block(alice);
    house.join(alice, "tea", Since::Last(50));
    house.turn();
    for _ in 0..5 {
        house.publish("tea", &"y".repeat(100));
        house.turn();
    }
    assert!(house.closed.is_empty());
    assert!(house.pending_bytes(alice) > 5 * 1000);
    let heard = house.read(alice);
    let offsets = (1..=55).map(|offset| format!("1:tea/{offset} "));
    assert!(
        heard[1..]
            .iter()
            .zip(offsets)
            .all(|(text, start)| text.starts_with(&start))
    );
    assert_eq!(heard.len(), 56);

    // Once it has taken all of that, it is as others are.
    house.block(alice);
    for _ in 0..12 {
        house.publish("tea", &"z".repeat(100));
        house.turn();
    }
    assert_eq!(house.closed, [alice]);
}

#[test]
fn one_replay_is_queued_however_large_it_is_but_not_one_after_the_other() {
    let mut house = slow(SlowConsumer::Disconnect, 1000);
    for room in ["tea", "milk"] {
        for _ in 0..300 {
            house.publish(room, &"x".repeat(100));
        }
    }
    let alice = house.open(0, KEPT);
    house.block(alice);
    let replay_len = 300 * frame(&format!("1:tea/100 {}", "x".repeat(100))).len();
    for _ in 0..10_000 {
        for room in ["tea", "milk"] {
            house.join(alice, room, Since::Last(300));
            house.table.leave(alice, room);
            house.turn();
        }
        if house.closed == [alice] {
            return;
        }
        let waits = house.pending_bytes(alice) as usize;
        assert!(waits < 1000 * 17 + 2 * replay_len, "{waits} bytes wait");
    }
    panic!("it is never closed");
}

// Memory.

#[test]
fn a_history_for_which_there_is_no_memory_has_no_hole() {
    let mut house = with_memory(4000);
    let alice = house.open_in("tea");
    house.publish("tea", "1");
    house.publish("tea", "2");
    assert_eq!(house.held("tea"), (1, 2));
    house.publish("tea", &"x".repeat(5000));
    assert_eq!(house.held("tea"), (4, 3));
    house.publish("tea", "4");
    assert_eq!(house.held("tea"), (4, 4));
    house.turn();
    assert_eq!(house.read(alice).len(), 4, "it is delivered all the same");
}

#[test]
fn what_expires_first_of_all_rooms_makes_way() {
    let mut house = with_memory(40_000);
    for number in 0..200 {
        house.now_ms += 1;
        let room = if number % 2 == 0 { "tea" } else { "milk" };
        house.publish(room, &"x".repeat(400));
    }
    let totals = house.table.totals();
    assert!(
        totals.history_bytes <= 40_000 && totals.history_bytes > 35_000,
        "{totals:?}"
    );
    assert!(totals.evictions > 100);
    let (tea, milk) = (house.held("tea"), house.held("milk"));
    assert!(tea.0.abs_diff(milk.0) <= 1, "{tea:?} {milk:?}");
    assert_eq!((tea.1, milk.1), (100, 100));
}

#[test]
fn what_is_kept_counts_as_it_is_and_not_as_it_was_announced() {
    let mut house = with_memory(20_000);
    // Each character of the name takes six in the frame, and the payload is not what was said.
    let room = "\u{1}".repeat(255);
    for number in 0..200 {
        let mut publication = Said {
            room: &room.escape_unicode().to_string(),
            body: &"x".repeat(number * 7),
        };
        let outgoing = Outgoing {
            publication: &mut publication,
            except: None,
            payload_len: 1,
            key: None,
            at: throng_rooms::Moment(house.now_ms),
            answer: None,
        };
        house.table.publish(&room, outgoing).unwrap();
        assert!(house.table.totals().history_bytes <= 20_000);
    }
    assert!(house.table.totals().history_bytes > 5_000);
    house.wait_ms(3_600_000);
    assert!(!house.table.keeps_something());
}

#[test]
fn what_is_not_kept_takes_nothing_from_what_is() {
    let small = RoomClass {
        publication_bytes_max: 100,
        ..RoomClass::default()
    };
    let config = TableConfig {
        history_bytes_max: 4000,
        classes: Classes::new(vec![("bare".into(), RoomClass::PLAIN)], small),
        ..config_of(small)
    };
    let mut house = House::with(config, LocalLimits::default());
    for _ in 0..50 {
        house.publish("tea", &"x".repeat(100));
    }
    let first = house.publish_keyed("tea", "one", "k");
    let evictions = house.table.totals().evictions;
    assert!(evictions > 0, "the memory is full");
    let held = house.held("tea");

    let long = "x".repeat(3000);
    house.try_publish("tea", &long, None).unwrap_err();
    house.publish("bare", &long);
    let alice = house.open_in("bare");
    house.publish("bare", &long);
    let repeat = house.publish_keyed("tea", &"x".repeat(100), "k");
    assert_eq!((repeat.position, repeat.duplicate), (first.position, true));
    assert_eq!(house.held("tea"), held);
    assert_eq!(house.table.totals().evictions, evictions);
    house.turn();
    assert_eq!(house.read(alice).len(), 1);
}

/// Every room keeps its history as by default, in so much memory for all.
fn with_memory(history_bytes_max: usize) -> House {
    let config = TableConfig {
        history_bytes_max,
        ..config_of(RoomClass::default())
    };
    House::with(config, LocalLimits::default())
}

/// Histories of so many publications.
fn keeping(publications_max: u32) -> RoomClass {
    RoomClass {
        history: HistoryLimits {
            publications_max,
            ..HistoryLimits::default()
        },
        ..RoomClass::default()
    }
}

/// Histories that last so long; no keys.
fn aged(age_max_ms: u64) -> RoomClass {
    RoomClass {
        history: HistoryLimits {
            age_max_ms,
            ..HistoryLimits::default()
        },
        key_window_ms: 0,
        ..RoomClass::default()
    }
}

/// Rooms that treat slow members so, and outboxes of so many bytes.
fn slow(slow_consumer: SlowConsumer, outbox_bytes_max: u32) -> House {
    let class = RoomClass {
        slow_consumer,
        ..RoomClass::default()
    };
    let limits = LocalLimits {
        outbox_bytes_max,
        ..LocalLimits::default()
    };
    House::with(config_of(class), limits)
}
