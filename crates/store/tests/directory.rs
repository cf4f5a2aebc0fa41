//! Whose a directory is, what it must look like, and how a store says how it ended.

use std::fs;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use store::{Damage, Durability, OpenError, Opened, Options, Store};
use tempfile::TempDir;

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
    assert!(path.join("format").exists());
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
fn another_process_is_refused_and_told_which_has_the_directory() {
    if let Some((directory, _)) = part() {
        let _opened = open(&directory).expect("nobody else has it yet");
        say("open");
        // Until the other end of the pipe is closed.
        stdin().lock().lines().next();
        return;
    }
    let home = home();
    let test = "another_process_is_refused_and_told_which_has_the_directory";
    let mut child = again(test, home.path(), 0)
        .spawn()
        .expect("the test can start itself");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert_eq!(
        lines.next().expect("it reports").expect("the pipe works"),
        "open"
    );

    let refused = open(home.path());

    let Err(OpenError::InUse { holder, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*holder, Some(child.id()));
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

#[test]
fn another_format_is_refused_and_left_alone() {
    let home = home();
    let opened = open(home.path()).expect("it is new");
    opened.store.close().expect("the disk is sound");
    fs::write(home.path().join("format"), "throng-store 2\n").expect("it is ours");

    let refused = open(home.path());

    let Err(OpenError::Version {
        found: 2,
        supported: 1,
        ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    fs::write(home.path().join("format"), "throng-store 1\n").expect("it is ours");
    assert!(open(home.path()).expect("it is as it was").clean);
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
    assert!(!home.path().join("lock").exists());
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
    drop(open(home.path()).expect("it is new"));
    // As it may look before the first file has its head.
    let path = home.path().join("data/0000000001.log");
    for bytes in [0, 7, 20] {
        fs::write(&path, vec![0; bytes]).expect("it is ours");

        let mut opened = open(home.path()).expect("nothing was lost");

        assert_eq!(opened.rooms, []);
        let batch = [publication("tea", 1, b"")];
        opened
            .store
            .commit(&batch, Durability::Synced)
            .expect("the disk is sound");
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error_of_the_system() {
    let home = home();
    let path = home.path().join("file");
    fs::write(&path, "").expect("it is ours");

    let refused = open(&path);

    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
}

#[test]
fn a_store_that_lost_what_it_was_closed_with_is_damaged_each_time() {
    let home = home();
    let mut opened = open(home.path()).expect("it is new");
    for offset in 1..=3 {
        let batch = [publication("tea", offset, b"")];
        opened
            .store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
    }
    opened.store.close().expect("the disk is sound");
    fs::remove_dir_all(home.path().join("data")).expect("it is ours");

    for _ in 0..2 {
        let refused = open(home.path());

        let Err(OpenError::Corrupted {
            damage:
                Damage::Shorter {
                    found: 0,
                    closed_with: 3,
                },
            ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
    }
}
