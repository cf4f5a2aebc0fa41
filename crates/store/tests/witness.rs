//! What was reported as committed and is not there any more is found by opening, whatever SQLite
//! makes of the files.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use throng_store::{Clock, Damage, Durability, OpenError, Opened, Options, Store, Vouched};

#[path = "support/words.rs"]
mod words;

use words::publication;

const DATABASE: &str = "histories.sqlite";
const JOURNAL: &str = "histories.sqlite-wal";
const WITNESS: &str = "histories.sqlite-witness";

fn home() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn open(path: &Path) -> Opened {
    Store::open(path, &Options::default()).expect("nothing has harmed it")
}

fn commit(store: &mut Store, offset: u64) {
    let batch = [publication("tea", offset, b"hot")];
    let committed = store.commit(&batch, Durability::Buffered);
    committed.expect("the disk is sound");
}

/// A store with so many batches, closed, then as many more, and left without a close.
fn left(path: &Path, closed: u64, more: u64) {
    let mut store = open(path).store;
    (1..=closed).for_each(|offset| commit(&mut store, offset));
    store.close().expect("the disk is sound");
    let mut store = open(path).store;
    (closed + 1..=closed + more).for_each(|offset| commit(&mut store, offset));
}

fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(0)).expect("it is ours");
}

#[test]
fn an_emptied_journal_is_told_until_something_is_committed() {
    let home = home();
    left(home.path(), 3, 4);
    cut(&home.path().join(JOURNAL));

    for _ in 0..2 {
        let opened = open(home.path());
        assert_eq!(opened.vouched, Vouched::AllBut { missing: 4 });
        assert_eq!(opened.rooms[0].last_offset, 3);
        drop(opened);
    }
    let mut store = open(home.path()).store;
    store
        .commit(&[], Durability::Synced)
        .expect("the disk is sound");
    drop(store);

    assert_eq!(open(home.path()).vouched, Vouched::Everything);
}

#[test]
fn a_journal_with_nonsense_at_any_place_is_told_if_something_is_missing() {
    let home = home();
    left(home.path(), 2, 6);
    let whole = fs::read(home.path().join(JOURNAL)).expect("it is ours");
    let mut told = 0;
    for at in (0..whole.len()).step_by(997) {
        let copy = self::home();
        for name in [DATABASE, WITNESS] {
            fs::copy(home.path().join(name), copy.path().join(name)).expect("it is ours");
        }
        let mut harmed = whole.clone();
        harmed[at] ^= 0x55;
        fs::write(copy.path().join(JOURNAL), harmed).expect("it is ours");

        let opened = open(copy.path());

        let missing = 8 - opened.rooms[0].last_offset;
        let expected = match missing {
            0 => Vouched::Everything,
            missing => Vouched::AllBut { missing },
        };
        assert_eq!(opened.vouched, expected, "byte {at}");
        told += u64::from(missing > 0);
    }
    assert!(told > 0, "no byte mattered");
}

#[test]
fn a_database_that_was_set_back_or_emptied_or_removed_is_told() {
    let home = home();
    let path = home.path().join(DATABASE);
    left(home.path(), 2, 0);
    let earlier = fs::read(&path).expect("it is ours");
    let mut store = open(home.path()).store;
    (3..=5).for_each(|offset| commit(&mut store, offset));
    store.close().expect("the disk is sound");
    for (harmed, missing) in [(Some(&earlier[..]), 3), (Some(&[]), 5), (None, 5)] {
        match harmed {
            Some(bytes) => fs::write(&path, bytes).expect("it is ours"),
            None => fs::remove_file(&path).expect("it is there"),
        }

        let opened = open(home.path());

        assert_eq!(opened.vouched, Vouched::AllBut { missing });
        opened.store.close().expect("the disk is sound");
    }
}

#[test]
fn an_empty_database_beside_its_journal_is_damage_and_the_journal_is_kept() {
    let home = home();
    left(home.path(), 1, 1);
    let journal = fs::read(home.path().join(JOURNAL)).expect("it is ours");
    cut(&home.path().join(DATABASE));

    for _ in 0..2 {
        let refused = Store::open(home.path(), &Options::default());
        let Err(OpenError::Corrupted { damage, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(damage, Damage::EmptyFile);
    }
    assert_eq!(fs::read(home.path().join(JOURNAL)).ok(), Some(journal));
}

#[test]
fn nothing_is_vouched_for_without_the_stores_own_witness() {
    let home = home();
    let path = home.path().join(WITNESS);
    let other = self::home();
    left(other.path(), 9, 0);
    let of_another = fs::read(other.path().join(WITNESS)).expect("it is ours");
    left(home.path(), 2, 1);
    for harmed in [None, Some(&[][..]), Some(b"no witness"), Some(&of_another)] {
        match harmed {
            Some(bytes) => fs::write(&path, bytes).expect("it is ours"),
            None => fs::remove_file(&path).expect("it is there"),
        }

        let mut opened = open(home.path());

        assert_eq!(opened.vouched, Vouched::Nothing, "{harmed:?}");
        let committed = opened.store.commit(&[], Durability::Synced);
        committed.expect("the disk is sound");
        drop(opened);
        assert_eq!(open(home.path()).vouched, Vouched::Everything);
    }
}

#[test]
fn a_directory_of_an_earlier_version_is_taken_over_and_gets_a_witness() {
    let home = home();
    left(home.path(), 3, 0);
    open(home.path()).store.close().expect("the disk is sound");
    fs::remove_file(home.path().join(WITNESS)).expect("it is there");
    let connection = Connection::open(home.path().join(DATABASE)).expect("it is ours");
    connection
        .execute_batch("DROP TABLE identity")
        .expect("it is ours");
    drop(connection);

    let opened = open(home.path());

    assert_eq!((opened.vouched, opened.clean), (Vouched::NoWitness, true));
    assert_eq!(opened.rooms[0].last_offset, 3);
    drop(opened);
    assert_eq!(open(home.path()).vouched, Vouched::Everything);
}

#[test]
fn a_database_of_somebody_else_without_numbers_of_its_own_is_refused_and_not_touched() {
    for mode in ["DELETE", "WAL"] {
        let home = home();
        let path = home.path().join(DATABASE);
        let connection = Connection::open(&path).expect("it can be created");
        connection
            .pragma_update(None, "journal_mode", mode)
            .expect("it is new");
        connection
            .execute_batch("CREATE TABLE photos (of TEXT); INSERT INTO photos VALUES ('a cat')")
            .expect("it is new");
        drop(connection);
        let before = fs::read(&path).expect("it is there");
        let set = fs::set_permissions(&path, Permissions::from_mode(0o644));
        set.expect("it is ours");

        let refused = Store::open(home.path(), &Options::default());

        assert!(
            matches!(refused, Err(OpenError::NotAStore { .. })),
            "{mode}: {refused:?}"
        );
        assert_eq!(fs::read(&path).ok(), Some(before), "{mode}");
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert!(!home.path().join(WITNESS).exists());
    }
}

#[test]
fn files_are_their_owners_alone_and_those_that_were_not_become_so() {
    let home = home();
    let path = home.path().join("store");
    left(&path, 1, 1);
    let modes = || {
        let entries = fs::read_dir(&path).expect("it is ours");
        let mut modes: Vec<u32> = entries
            .map(|entry| entry.expect("it is ours").metadata().expect("it is ours"))
            .map(|metadata| metadata.permissions().mode() & 0o777)
            .collect();
        modes.push(
            fs::metadata(&path)
                .expect("it is ours")
                .permissions()
                .mode()
                & 0o777,
        );
        modes
    };
    assert_eq!(modes(), [0o600, 0o600, 0o600, 0o700]);
    for name in [DATABASE, JOURNAL, WITNESS] {
        let set = fs::set_permissions(path.join(name), Permissions::from_mode(0o644));
        set.expect("it is ours");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");

    let opened = open(&path);

    assert_eq!(opened.tightened.closed.len(), 4, "{:?}", opened.tightened);
    assert_eq!(modes(), [0o600, 0o600, 0o600, 0o700]);
}

#[test]
fn the_time_that_was_noted_last_is_handed_over() {
    let home = home();
    let at = |age_ms| Clock {
        age_ms,
        unix_ms: 1000 + age_ms,
    };
    let mut opened = open(home.path());
    opened.store.set_time(at(1));
    commit(&mut opened.store, 1);
    drop(opened);
    let mut opened = open(home.path());
    assert_eq!(opened.clock, Some(at(1)));
    opened.store.note_time(at(2)).expect("the disk is sound");
    drop(opened);
    let opened = open(home.path());
    assert_eq!(opened.clock, Some(at(2)));
}
