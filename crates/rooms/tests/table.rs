//! What the table answers whoever asks: names, refusals, backpressure, totals.

use rooms::{
    Backpressure, Command, ConnectionId, CoreId, EventKind, Full, LocalLimits, LocalRooms, Mailbox,
    NameError, Overloaded, Published, RoomTable, TableConfig,
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
fn the_number_of_shards_is_rounded_up_to_a_power_of_two() {
    for (asked, shard_count) in [(0, 1), (1, 1), (3, 4), (64, 64)] {
        let table = RoomTable::new(TableConfig {
            shard_count: asked,
            ..config()
        });
        assert_eq!(table.shard_count(), shard_count);
    }
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
