//! What each change does to a room, as its documentation says.

use std::sync::Arc;

use tempfile::TempDir;
use throng_store::{Ancestor, Change, CommitError, Durability, Options, Record, RoomRecord, Store};

#[path = "support/words.rs"]
mod words;

use words::{in_epoch, of, publication};

/// Commits the batches, and opens the store anew to look.
fn rooms_after(batches: &[&[Record]]) -> Vec<RoomRecord> {
    let home = home();
    let options = Options::default();
    let mut opened = Store::open(home.path(), &options).expect("it is new");
    for batch in batches {
        let committed = opened.store.commit(batch, Durability::Buffered);
        committed.expect("nothing is wrong with the batch");
    }
    drop(opened.store);
    let opened = Store::open(home.path(), &options).expect("nothing has harmed it");
    opened.rooms
}

fn home() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn offsets(room: &RoomRecord) -> Vec<u64> {
    room.publications.iter().map(|held| held.offset).collect()
}

fn keyed(room: &str, offset: u64, key: &str) -> Record {
    let mut record = publication(room, offset, b"keyed");
    if let Change::Publication { key: none, .. } = &mut record.change {
        *none = Some(Arc::from(key));
    }
    record
}

#[test]
fn a_room_is_given_back_with_all_that_it_had() {
    let lineage = vec![Ancestor {
        epoch: 3,
        last_offset: 1,
        complete: true,
    }];
    let epoch = Change::Epoch {
        epoch: 9,
        lineage: lineage.clone(),
    };
    let mut second = keyed("tea", 2, "a key");
    if let Change::Publication { epoch, .. } = &mut second.change {
        *epoch = 9;
    }

    let rooms = rooms_after(&[
        &[publication("tea", 1, b"one"), of("tea", epoch)],
        &[second],
    ]);

    let [room] = rooms.as_slice() else {
        panic!("{rooms:?}");
    };
    assert_eq!((&*room.name, room.epoch, room.last_offset), ("tea", 9, 2));
    assert_eq!(room.lineage, lineage);
    assert_eq!(offsets(room), [1, 2]);
    assert_eq!(&*room.publications[0].frame, b"one");
    assert_eq!(room.publications[1].at_ms, 1002);
    assert_eq!((&*room.keys[0].key, room.keys[0].offset), ("a key", 2));
}

#[test]
fn rooms_come_in_the_order_in_which_the_store_got_to_know_them() {
    let names = ["z", "a", "m"];
    let batch = names.map(|name| publication(name, 1, b""));

    let rooms = rooms_after(&[&batch]);

    assert!(rooms.iter().map(|room| &*room.name).eq(names));
}

#[test]
fn a_gap_forgets_what_was_before_it_and_keeps_the_keys() {
    let rooms = rooms_after(&[
        &[keyed("tea", 1, "k"), publication("tea", 2, b"")],
        &[publication("tea", 7, b"")],
    ]);

    assert_eq!(offsets(&rooms[0]), [7]);
    assert_eq!(rooms[0].keys.len(), 1);
}

#[test]
fn what_is_there_already_is_ignored() {
    let rooms = rooms_after(&[
        &[publication("tea", 1, b"first"), publication("tea", 2, b"")],
        &[publication("tea", 1, b"again")],
    ]);

    assert_eq!(offsets(&rooms[0]), [1, 2]);
    assert_eq!(&*rooms[0].publications[0].frame, b"first");
}

#[test]
fn another_epoch_begins_anew_also_where_an_entry_began() {
    let rooms = rooms_after(&[
        &[keyed("tea", 1, "k"), publication("tea", 2, b"")],
        &[in_epoch(2, "tea", 1, b"anew")],
    ]);

    assert_eq!((rooms[0].epoch, rooms[0].last_offset), (2, 1));
    assert_eq!(offsets(&rooms[0]), [1]);
    assert_eq!(&*rooms[0].publications[0].frame, b"anew");
    assert_eq!(rooms[0].keys, []);
}

#[test]
fn what_was_trimmed_within_an_entry_stays_away() {
    let batch = [1, 2, 3].map(|offset| publication("tea", offset, b""));

    let rooms = rooms_after(&[&batch, &[of("tea", Change::Trim { first: 3 })]]);

    assert_eq!(offsets(&rooms[0]), [3]);
}

#[test]
fn a_room_that_holds_nothing_knows_its_last_offset() {
    let batch = [1, 2].map(|offset| publication("tea", offset, b""));

    for (first, last) in [(3, 2), (10, 9)] {
        let rooms = rooms_after(&[&batch, &[of("tea", Change::Trim { first })]]);

        assert_eq!(rooms[0].last_offset, last);
        assert_eq!(offsets(&rooms[0]), []);
    }
}

#[test]
fn keys_outlive_their_publications_until_they_expire() {
    let batch = [1, 2, 3].map(|offset| keyed("tea", offset, "k"));
    let trim = of("tea", Change::Trim { first: 4 });
    let expire = of("tea", Change::ExpireKeys { first: 3 });

    let rooms = rooms_after(&[&batch, &[trim, expire]]);

    assert_eq!(offsets(&rooms[0]), []);
    assert_eq!(rooms[0].keys.len(), 1);
    assert_eq!(rooms[0].keys[0].offset, 3);
}

#[test]
fn keys_to_come_do_not_expire() {
    let expire = of("tea", Change::ExpireKeys { first: 100 });

    let rooms = rooms_after(&[&[keyed("tea", 1, "k"), expire], &[keyed("tea", 2, "l")]]);

    assert_eq!(rooms[0].keys.len(), 1);
    assert_eq!(rooms[0].keys[0].offset, 2);
}

#[test]
fn a_room_that_is_forgotten_is_gone_and_may_come_back() {
    let batches = [publication("tea", 5, b"gone"), of("tea", Change::Forget)];
    assert_eq!(rooms_after(&[&batches[..1], &batches[1..]]), []);

    let rooms = rooms_after(&[
        &batches[..1],
        &batches[1..],
        &[publication("tea", 1, b"back")],
    ]);

    assert_eq!(offsets(&rooms[0]), [1]);
}

#[test]
fn changes_of_a_room_that_is_not_known_do_nothing() {
    let changes = [
        Change::Forget,
        Change::Trim { first: 3 },
        Change::ExpireKeys { first: 3 },
    ];

    assert_eq!(rooms_after(&[&changes.map(|change| of("tea", change))]), []);
}

#[test]
fn records_that_no_store_could_hold_are_refused_and_change_nothing() {
    let flawed = [
        publication("tea", 0, b""),
        publication("tea", u64::MAX, b""),
        of("tea", Change::Trim { first: 0 }),
    ];
    let home = home();
    let mut opened = Store::open(home.path(), &Options::default()).expect("it is new");

    for record in flawed {
        let batch = [publication("tea", 1, b""), record];
        let refused = opened.store.commit(&batch, Durability::Buffered);

        assert!(
            matches!(refused, Err(CommitError::Offset { index: 1 })),
            "{refused:?}"
        );
    }
    opened.store.close().expect("the disk is sound");
    let opened = Store::open(home.path(), &Options::default()).expect("nothing has harmed it");
    assert_eq!(opened.rooms, []);
}

#[test]
fn numbers_names_keys_and_frames_may_be_as_large_as_they_get() {
    let long = "k".repeat(1 << 20);
    let frame = vec![7; 40 << 20];
    let mut record = in_epoch(u64::MAX, &long, u64::MAX - 1, &frame);
    if let Change::Publication { at_ms, key, .. } = &mut record.change {
        *at_ms = u64::MAX;
        *key = Some(Arc::from(&*long));
    }

    let rooms = rooms_after(&[&[record]]);

    let publication = &rooms[0].publications[0];
    assert_eq!((&*rooms[0].name, rooms[0].epoch), (&*long, u64::MAX));
    assert_eq!(
        (publication.offset, publication.at_ms),
        (u64::MAX - 1, u64::MAX)
    );
    assert!(*publication.frame == *frame);
    assert_eq!(&*rooms[0].keys[0].key, long);
}
