//! Under rooms that hold a window of what is published, the disk is given back, for ever.

use std::sync::Arc;

use throng_store::{Change, Durability, Options, Record, Store};

#[path = "support/words.rs"]
mod words;

use words::{of, publication};

const ROOMS: u64 = 20;
const WINDOW: u64 = 50;
const FRAME: [u8; 200] = [7; 200];
/// A publication in the file, with what an entry takes of its own.
const ENTRY_BYTES: u64 = 200 + 30;
const JOURNAL_BYTES: u64 = 64 << 10;

fn options() -> Options {
    Options {
        journal_bytes: JOURNAL_BYTES,
    }
}

/// The next publication of each room, and what leaves its window.
fn round(offset: u64) -> Vec<Record> {
    let mut batch = Vec::new();
    for room in 0..ROOMS {
        let room = format!("room {room}");
        batch.push(publication(&room, offset, &FRAME));
        let first = offset.saturating_sub(WINDOW) + 1;
        batch.push(of(&room, Change::Trim { first }));
    }
    batch
}

#[test]
fn a_rolling_window_takes_a_bounded_part_of_the_disk() {
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let opened = Store::open(home.path(), &options()).expect("it is new");
    let mut store = opened.store;
    let cold = [publication("cold", 1, b"from long ago")];
    store
        .commit(&cold, Durability::Buffered)
        .expect("the disk is sound");
    let held = ROOMS * WINDOW * ENTRY_BYTES;
    // A batch makes the journal longer than it may be, before it is brought into the file.
    let bound = 2 * held + 2 * JOURNAL_BYTES;
    let mut most = 0;

    for offset in 1..=2000 {
        let committed = store.commit(&round(offset), Durability::Buffered);
        committed.expect("the disk is sound");
        most = most.max(store.disk_bytes().expect("it is ours"));
    }

    println!("{most} bytes at most, for {held} that are held; the bound is {bound}");
    assert!(most <= bound);
    assert!(
        most < 2000 * ROOMS * ENTRY_BYTES / 10,
        "too little was written to see it"
    );
    drop(store);
    let opened = Store::open(home.path(), &options()).expect("nothing has harmed it");
    assert_eq!(opened.rooms.len() as u64, ROOMS + 1);
    for room in &opened.rooms {
        let held = if &*room.name == "cold" { 1 } else { WINDOW };
        assert_eq!(room.publications.len() as u64, held);
    }
}

#[test]
fn what_is_forgotten_is_given_back_a_few_commits_later() {
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let opened = Store::open(home.path(), &options()).expect("it is new");
    let mut store = opened.store;
    for offset in 1..=200 {
        let name = format!("room {offset}");
        let batch: Vec<Record> = (1..=50)
            .map(|offset| publication(&name, offset, &FRAME))
            .collect();
        store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
    }
    let before = store.disk_bytes().expect("it is ours");
    assert!(before > 200 * 50 * 200);

    let forget = |room| Record {
        room: Arc::from(format!("room {room}")),
        change: Change::Forget,
    };
    let batch: Vec<Record> = (1..=200).map(forget).collect();
    store
        .commit(&batch, Durability::Buffered)
        .expect("the disk is sound");

    for offset in 1..=10 {
        let batch = [publication("tea", offset, b"")];
        store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
    }

    let after = store.disk_bytes().expect("it is ours");
    println!("{after} bytes of {before}");
    assert!(
        after < 256 * 4096 + 4 * JOURNAL_BYTES,
        "{after} bytes for nothing"
    );
}

#[test]
fn opening_again_and_again_leaves_no_files_behind() {
    let home = tempfile::tempdir().expect("there is a temporary directory");
    for offset in 1..=50 {
        let opened = Store::open(home.path(), &Options::default()).expect("it is ours");
        let mut store = opened.store;
        let batch = [publication("tea", offset, b"")];
        store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
        if offset % 2 == 0 {
            store.close().expect("the disk is sound");
        }
    }

    let files = std::fs::read_dir(home.path()).expect("it is ours");
    assert_eq!(files.count(), 2, "the database, and its witness");
}
