//! What the table answers whoever asks: names, refusals, backpressure, totals.

use throng_rooms::{
    Backpressure, Classes, Command, ConnectionId, CoreId, EmitError, EventKind, Full, JoinError,
    LocalLimits, LocalRooms, Mailbox, NameError, Outgoing, Overloaded, Publication, PublishError,
    Published, RoomClass, RoomTable, TableConfig, Wire, WireSet,
};

const HERE: CoreId = CoreId(0);
const THERE: CoreId = CoreId(1);

#[test]
fn a_name_that_no_room_can_have_is_refused_and_changes_nothing() {
    let table = RoomTable::new(config());
    let alice = open(HERE);
    let refused = |name: &str| table.join(alice, name).unwrap_err();

    assert_eq!(refused(""), NameError::Empty.into());
    let name_len_max = config().name_len_max;
    let too_long = NameError::TooLong {
        name_len: name_len_max + 1,
        name_len_max,
    };
    assert_eq!(refused(&"x".repeat(name_len_max + 1)), too_long.into());
    assert_eq!(table.room_count(), 0);
    assert_eq!(table.mailbox(HERE).pending_bytes(), 0);
    assert!(table.join(alice, &"x".repeat(name_len_max)).is_ok());
}

#[test]
fn a_room_that_does_not_exist_costs_no_core_anything() {
    let table = RoomTable::new(config());
    assert_eq!(table.emit("tea", frame(9)), Published::default());
    assert_eq!(
        table.try_emit_as(EventKind::Lasting, "tea", None, frame(9)),
        Ok(Published::default())
    );
    assert_eq!(table.leave(open(HERE), "tea"), Backpressure(None));

    assert_eq!(table.mailbox(HERE).pending_bytes(), 0);
    assert_eq!(counted(&table), (0, 2));
}

#[test]
fn a_publication_is_refused_before_any_core_has_it() {
    let table = RoomTable::new(config());
    for core in [HERE, THERE] {
        table.join(open(core), "tea").unwrap();
    }
    take(table.mailbox(HERE));
    let filling = table.direct(open(THERE), frame(config().mailbox_bytes_max));
    assert_eq!(filling, Backpressure(Some(Full::Core(THERE))));

    let refused = table.try_emit_as(EventKind::Lasting, "tea", None, frame(1));
    assert_eq!(refused, Err(Overloaded { core: THERE }.into()));
    assert_eq!(take(table.mailbox(HERE)), 0);
    assert_eq!(counted(&table), (1, 0));

    take(table.mailbox(THERE));
    let published = table
        .try_emit_as(EventKind::Lasting, "tea", None, frame(1))
        .unwrap();
    assert_eq!(published.member_count, 2);
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [1, 1]);
}

#[test]
fn a_publication_that_cannot_be_refused_says_which_core_has_too_much_to_do() {
    let table = RoomTable::new(config());
    for core in [HERE, THERE] {
        table.join(open(core), "tea").unwrap();
    }
    table.direct(open(THERE), frame(config().mailbox_bytes_max));
    let published = table.emit("tea", frame(1));
    assert_eq!(
        published.backpressure,
        Backpressure(Some(Full::Core(THERE)))
    );
    assert_eq!(take(table.mailbox(THERE)), 3, "it was taken all the same");
}

#[test]
fn who_makes_ever_new_rooms_is_held_back_by_the_core_that_hears_of_them() {
    let table = RoomTable::new(TableConfig {
        shard_count: 1,
        watch_rooms: true,
        ..config()
    });
    let alice = open(THERE);
    let held_back = (0..10_000).any(|number| {
        let backpressure = table.join(alice, &number.to_string()).unwrap();
        take(table.mailbox(THERE));
        backpressure == Backpressure(Some(Full::Core(HERE)))
    });
    assert!(held_back);
}

#[test]
fn each_core_with_members_is_asked_once_whatever_they_speak() {
    let table = RoomTable::new(config());
    for wire in [Wire(0), Wire(1), Wire(7)] {
        table.join(open_on(THERE, wire), "tea").unwrap();
    }
    take(table.mailbox(THERE));
    let mut asked = Vec::new();
    let (core_count, backpressure) = table.ask_members("tea", |core| {
        asked.push(core);
        Box::new(())
    });
    assert_eq!((core_count, asked), (1, vec![THERE]));
    assert_eq!(backpressure, Backpressure(None));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [0, 1]);
    let nobody = |_| unreachable!("nobody is there");
    assert_eq!(table.ask_members("milk", nobody).0, 0);
    assert_eq!(table.try_ask_members("milk", nobody), Ok(0));
}

#[test]
fn who_asks_or_broadcasts_and_cannot_be_held_back_is_refused_before_any_core_has_it() {
    let table = RoomTable::new(config());
    for core in [HERE, THERE] {
        table.join(open(core), "tea").unwrap();
    }
    take(table.mailbox(HERE));
    table.direct(open(THERE), frame(config().mailbox_bytes_max));

    let overloaded = Overloaded { core: THERE };
    let asked = table.try_ask_members("tea", |_| unreachable!("it is refused"));
    assert_eq!(asked, Err(overloaded));
    assert_eq!(table.try_ask(THERE, Box::new(())), Err(overloaded));
    let sent = table.try_broadcast(frame(1));
    assert_eq!(sent, Err(EmitError::Overloaded(overloaded)));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [0, 2]);

    table.direct(open(THERE), frame(config().mailbox_bytes_max));
    let full = Backpressure(Some(Full::Core(THERE)));
    assert_eq!(table.ask_members("tea", |_| Box::new(())), (2, full));
    assert_eq!(table.ask(THERE, Box::new(())), full);
    assert_eq!(table.broadcast(frame(1)), Ok(full));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [2, 4]);
    assert_eq!(table.try_ask(THERE, Box::new(())), Ok(()));
    assert_eq!(table.try_broadcast(frame(1)), Ok(()));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [1, 2]);
}

#[test]
fn what_a_broadcast_and_a_question_keep_alive_fills_a_mailbox() {
    let table = RoomTable::new(config());
    let empty = size_of::<Command>();
    table.broadcast(frame(1000)).unwrap();
    let pending_bytes = table.mailbox(HERE).pending_bytes();
    assert_eq!(pending_bytes, empty + 1000);
    table.ask(HERE, Box::new([0_u8; 100]));
    assert_eq!(
        table.mailbox(HERE).pending_bytes(),
        pending_bytes + empty + 100
    );
}

#[test]
fn what_lacks_the_frame_of_a_wire_that_members_speak_is_refused_and_changes_nothing() {
    let table = RoomTable::new(TableConfig {
        wires: vec![Wire(0), Wire(1)],
        ..config()
    });
    table.add_wire(Wire(7));
    let lacks = |wires: &[u8]| throng_rooms::Lacks(wires.iter().copied().map(Wire).collect());
    let emit = |only: Only| table.emit_as(EventKind::Lasting, "tea", None, only);
    assert_eq!(
        emit(Only(&[])),
        Ok(Published::default()),
        "nobody needs one"
    );
    table.join(open_on(HERE, Wire(1)), "tea").unwrap();
    table.join(open_on(THERE, Wire(7)), "tea").unwrap();
    take(table.mailbox(HERE));
    let before = counted(&table);

    assert_eq!(emit(Only(&[0])), Err(lacks(&[1, 7])));
    assert_eq!(emit(Only(&[7])), Err(lacks(&[1])));
    let tried = table.try_emit_as(EventKind::Ephemeral, "tea", None, Only(&[1]));
    assert_eq!(tried, Err(EmitError::Lacks(lacks(&[7]))));
    assert_eq!(publish(&table, "tea", Only(&[1])), Err(lacks(&[7]).into()));
    assert_eq!(table.broadcast(Only(&[1, 7])), Err(lacks(&[0])));
    let tried = table.try_broadcast(Only(&[]));
    assert_eq!(tried, Err(EmitError::Lacks(lacks(&[0, 1, 7]))));
    assert_eq!(counted(&table), before);
    assert_eq!(table.position("tea").map(|it| it.offset), Some(0));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [0, 1]);

    assert_eq!(emit(Only(&[1, 7])).map(|it| it.member_count), Ok(2));
    let published = publish(&table, "tea", Only(&[1, 7])).unwrap();
    assert_eq!(published.position.map(|it| it.offset), Some(1));
    assert_eq!(table.broadcast(Only(&[0, 1, 7])), Ok(Backpressure(None)));
    assert_eq!([HERE, THERE].map(|core| take(table.mailbox(core))), [3, 3]);
}

#[test]
fn what_is_kept_needs_the_frame_that_is_kept_and_takes_no_memory_without() {
    let table = RoomTable::new(TableConfig {
        history_bytes_max: 20_000,
        history_wire: Wire(1),
        classes: Classes::new(
            vec![("old*".into(), RoomClass::default())],
            RoomClass::PLAIN,
        ),
        ..config()
    });
    let lacks = |wire| PublishError::from(throng_rooms::Lacks(WireSet::from_iter([Wire(wire)])));
    // So much that anything more would take the place of something.
    while table.totals().evictions == 0 {
        publish(&table, "old", Only(&[1])).unwrap();
    }
    let before = table.totals();
    for room in ["old", "older"] {
        assert_eq!(publish(&table, room, Only(&[0])), Err(lacks(1)));
    }
    assert_eq!(table.totals(), before);
    assert_eq!(table.position("older"), None);

    assert_eq!(publish(&table, "tea", Only(&[])), Ok(Published::default()));
    publish(&table, "older", Only(&[1])).unwrap();
    table.join(open_on(HERE, Wire(0)), "older").unwrap();
    assert_eq!(publish(&table, "older", Only(&[1])), Err(lacks(0)));
}

#[test]
fn what_is_not_published_for_another_reason_needs_no_frame() {
    let class = RoomClass {
        publication_bytes_max: 10,
        ..RoomClass::default()
    };
    let table = RoomTable::new(TableConfig {
        classes: Classes::new(Vec::new(), class),
        ..config()
    });
    let publish = |room: &str, publication: &mut dyn Publication, payload_len| {
        let outgoing = Outgoing {
            publication,
            except: None,
            payload_len,
            key: Some("k"),
            at: throng_rooms::Moment(1),
            answer: None,
        };
        table.publish(room, outgoing)
    };
    let first = publish("tea", &mut frame(1), 1).unwrap();
    let again = publish("tea", &mut Only(&[]), 1).unwrap();
    assert!(again.duplicate && again.position == first.position);
    let too_large = PublishError::TooLarge {
        payload_len: 11,
        payload_len_max: 10,
    };
    for room in ["tea", "milk"] {
        assert_eq!(publish(room, &mut Only(&[]), 11), Err(too_large));
    }
}

#[test]
fn the_number_of_shards_is_rounded_up_to_a_power_of_two() {
    for (asked, shard_count) in [(0, 1), (1, 1), (3, 4), (64, 64)] {
        let table = RoomTable::new(TableConfig {
            shard_count: asked,
            ..config()
        });
        assert_eq!(table.shard_count(), shard_count);
    }
}

#[test]
fn other_limits_hold_from_the_next_call_on() {
    let table = RoomTable::new(config());
    let alice = open(HERE);
    table.join(alice, "a-rather-long-name").unwrap();
    table.set_name_len_max(5);
    assert!(matches!(
        table.join(alice, "longer"),
        Err(JoinError::Name(NameError::TooLong {
            name_len_max: 5,
            ..
        }))
    ));
    // Who is in one can leave it.
    table.leave(alice, "a-rather-long-name");
    assert!(!table.mailbox(HERE).is_full());
    table.set_mailbox_bytes_max(1);
    assert!(table.mailbox(HERE).is_full());
    assert!(table.check_pressure(HERE).is_err());
    table.set_mailbox_bytes_max(10_000);
    assert_eq!(table.check_pressure(HERE), Ok(()));
}

fn config() -> TableConfig {
    TableConfig {
        core_count: 2,
        shard_count: 4,
        name_len_max: 20,
        mailbox_bytes_max: 10_000,
        watch_rooms: false,
        ..TableConfig::default()
    }
}

/// The first connection of a core that nobody runs: what is asked of it stays in its mailbox.
fn open(core: CoreId) -> ConnectionId {
    let mut rooms = LocalRooms::new(core, LocalLimits::default());
    rooms.open().expect("there are 16 million slots")
}

fn open_on(core: CoreId, wire: Wire) -> ConnectionId {
    let mut rooms = LocalRooms::new(core, LocalLimits::default());
    rooms.open_on(wire).expect("there are 16 million slots")
}

/// A publication with frames for these wires only.
struct Only(&'static [u8]);

impl Publication for Only {
    fn encode(&mut self, wire: Wire, _: Option<u64>) -> proto::SharedFrame {
        assert!(
            self.wires().contains(wire),
            "it was not asked whether it has this"
        );
        frame(1)
    }

    fn wires(&self) -> WireSet {
        self.0.iter().copied().map(Wire).collect()
    }
}

fn publish(table: &RoomTable, room: &str, mut only: Only) -> Result<Published, PublishError> {
    let outgoing = Outgoing {
        publication: &mut only,
        except: None,
        payload_len: 1,
        key: None,
        at: throng_rooms::Moment(1),
        answer: None,
    };
    table.publish(room, outgoing)
}

fn frame(len: usize) -> proto::SharedFrame {
    vec![0; len].into()
}

/// Rooms that were created, and publications.
fn counted(table: &RoomTable) -> (u64, u64) {
    let totals = table.totals();
    (totals.rooms_created, totals.publications)
}

/// Empties a mailbox and counts what was in it.
fn take(mailbox: &Mailbox) -> usize {
    let mut commands: Vec<Command> = Vec::new();
    mailbox.drain(&mut commands);
    commands.len()
}
