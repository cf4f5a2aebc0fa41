//! Whose a directory is, what it must look like, and how a store says how it ended.

use std::fs;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use throng_store::{Damage, Durability, OpenError, Opened, Options, Store};

#[path = "support/again.rs"]
mod again;
#[path = "support/words.rs"]
mod words;

use again::{again, part, say};
use words::publication;

fn home() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn open(path: &Path) -> Result<Opened, OpenError> {
    Store::open(path, &Options::default())
}

#[test]
fn a_directory_that_is_not_there_is_created() {
    let home = home();
    let path = home.path().join("not/yet");

    let opened = open(&path).expect("it can be created");

    assert!(opened.clean);
    assert!(path.join("histories.sqlite").exists());
}

#[test]
fn a_store_says_whether_it_was_closed() {
    let home = home();
    for closed in [true, false, true] {
        let mut opened = open(home.path()).expect("nothing has harmed it");
        let batch = [publication("tea", opened.rooms.len() as u64 + 1, b"")];
        opened
            .store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
        if closed {
            opened.store.close().expect("the disk is sound");
        } else {
            drop(opened.store);
        }

        let opened = open(home.path()).expect("nothing has harmed it");

        assert_eq!(opened.clean, closed);
        opened.store.close().expect("the disk is sound");
    }
}

#[test]
fn another_process_is_refused_while_one_has_the_directory() {
    if let Some((directory, _)) = part() {
        let _opened = open(&directory).expect("nobody else has it yet");
        say("open");
        // Until the other end of the pipe is closed.
        stdin().lock().lines().next();
        return;
    }
    let home = home();
    let test = "another_process_is_refused_while_one_has_the_directory";
    let mut child = again(test, home.path(), 0)
        .spawn()
        .expect("the test can start itself");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert_eq!(
        lines.next().expect("it reports").expect("the pipe works"),
        "open"
    );

    let refused = open(home.path());

    assert!(
        matches!(refused, Err(OpenError::InUse { .. })),
        "{refused:?}"
    );
    drop(child.stdin.take());
    assert!(child.wait().expect("it was started here").success());
    assert!(open(home.path()).is_ok(), "the other process has ended");
}

#[test]
fn the_same_process_is_refused_too() {
    let home = home();
    let _first = open(home.path()).expect("it is new");

    assert!(matches!(open(home.path()), Err(OpenError::InUse { .. })));
}

/// Returns what another version may have left.
fn change(path: &Path, pragma: &str, value: i64) {
    let connection = Connection::open(path.join("histories.sqlite")).expect("it is ours");
    let changed = connection.pragma_update(None, pragma, value);
    changed.expect("it is ours");
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let home = home();
    let opened = open(home.path()).expect("it is new");
    opened.store.close().expect("the disk is sound");
    change(home.path(), "user_version", 2);

    let refused = open(home.path());

    let Err(OpenError::Version {
        found: 2,
        supported: 1,
        ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    change(home.path(), "user_version", 1);
    assert!(open(home.path()).expect("it is as it was").clean);
}

#[test]
fn a_database_of_something_else_is_refused_and_left_alone() {
    let home = home();
    change(home.path(), "application_id", 7);

    let refused = open(home.path());

    assert!(
        matches!(refused, Err(OpenError::NotAStore { .. })),
        "{refused:?}"
    );
    change(home.path(), "application_id", 0);
    assert!(open(home.path()).is_ok(), "nothing was changed");
}

#[test]
fn a_file_that_is_no_database_is_damaged_each_time() {
    let home = home();
    fs::write(home.path().join("histories.sqlite"), "no store").expect("it is ours");

    for _ in 0..2 {
        let refused = open(home.path());
        assert!(
            matches!(refused, Err(OpenError::Corrupted { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_journal_without_its_file_is_damage_each_time() {
    let home = home();
    let mut opened = open(home.path()).expect("it is new");
    let batch = [publication("tea", 1, b"")];
    opened
        .store
        .commit(&batch, Durability::Buffered)
        .expect("the disk is sound");
    drop(opened.store);
    fs::remove_file(home.path().join("histories.sqlite")).expect("it is there");

    for _ in 0..2 {
        let error = open(home.path()).expect_err("what the journal goes on from is gone");
        assert!(
            matches!(
                &error,
                OpenError::Corrupted {
                    damage: Damage::NoFile,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let home = home();
    fs::create_dir(home.path().join("data")).expect("it is ours");
    fs::write(home.path().join("data/photo"), "of a cat").expect("it is ours");

    let refused = open(home.path());

    assert!(
        matches!(refused, Err(OpenError::NotAStore { .. })),
        "{refused:?}"
    );
    assert!(home.path().join("data/photo").exists());
    assert!(!home.path().join("histories.sqlite").exists());
}

#[test]
fn a_file_system_of_its_own_may_have_its_lost_and_found() {
    let home = home();
    fs::create_dir(home.path().join("lost+found")).expect("it is ours");

    assert!(open(home.path()).is_ok());
}

#[test]
fn a_store_that_was_half_created_is_created_again() {
    let home = home();
    // As SQLite leaves it when a process ends before its first transaction.
    fs::write(home.path().join("histories.sqlite"), "").expect("it is ours");

    let mut opened = open(home.path()).expect("nothing was lost");

    assert!(opened.clean);
    let batch = [publication("tea", 1, b"")];
    let committed = opened.store.commit(&batch, Durability::Synced);
    committed.expect("the disk is sound");
}

#[test]
fn a_file_in_place_of_the_directory_and_one_in_place_of_the_file_are_errors_of_the_system() {
    let home = home();
    let path = home.path().join("file");
    fs::write(&path, "").expect("it is ours");
    let directory = home.path().join("directory");
    fs::create_dir_all(directory.join("histories.sqlite")).expect("it is ours");

    for path in [path, directory] {
        let refused = open(&path);
        let Err(OpenError::Io { source, .. }) = &refused else {
            panic!("{refused:?}");
        };
        // The system's own word, and not SQLite's for all of them.
        assert!(source.raw_os_error().is_some(), "{source:?}");
    }
}
