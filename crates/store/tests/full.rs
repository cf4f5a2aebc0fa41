//! A disk that takes no more, and takes more again: nothing that was reported is lost, and the
//! store goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_store::{CommitError, Durability, Options, Store};

#[path = "support/again.rs"]
mod again;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/traffic.rs"]
mod traffic;

use again::{again, part, say};
use traffic::Traffic;

const WINDOW: u64 = 30;
const BATCH: usize = 40;
const BATCHES: usize = 60;

/// The limit on the length of files stands for the disk. It is the whole process's, so another's.
#[test]
fn a_store_goes_on_when_there_is_space_again() {
    if let Some((directory, seed)) = part() {
        return write_under_limits(&directory, seed);
    }
    for seed in 1..=8 {
        let home = tempfile::tempdir().expect("there is a temporary directory");
        let test = "a_store_goes_on_when_there_is_space_again";
        let child = again(test, home.path(), seed)
            .spawn()
            .expect("the test can start itself");
        let output = child.wait_with_output().expect("it was started here");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}: {said}");
        assert!(said.contains("full"), "seed {seed}: never full: {said}");

        let opened = Store::open(home.path(), &options()).expect("nothing has harmed it");
        assert!(opened.clean);
        let mut traffic = Traffic::new(seed, WINDOW);
        for _ in 0..BATCHES {
            traffic.batch(BATCH);
        }
        assert!(traffic.holds(&opened.rooms), "seed {seed}");
    }
}

/// The part of the process that has too little space now and then.
fn write_under_limits(directory: &Path, seed: u64) {
    catch_the_signal();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = Store::open(directory, &options()).expect("it is new").store;
    let mut traffic = Traffic::new(seed, WINDOW);
    for _ in 0..BATCHES {
        let batch = traffic.batch(BATCH);
        if random.u8(..3) == 0 {
            limit_files(Some(random.u64(1..4 * options().journal_bytes)));
        }
        let durability = if random.bool() {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        match store.commit(&batch, durability) {
            Ok(()) => {}
            // SQLite has a word for a disk that is full, and not for a file that is too long.
            Err(CommitError::Full(_) | CommitError::Io(_)) => {
                say("full");
                let again = store.commit(&batch, durability);
                assert!(matches!(again, Err(CommitError::NeedsReopen)), "{again:?}");
                limit_files(None);
                match store.reopen().expect("there is space") {
                    0 => {}
                    1 => store.commit(&batch, durability).expect("there is space"),
                    lost => panic!("{lost} batches are lost"),
                }
            }
            Err(error) => panic!("{error:?}"),
        }
        limit_files(None);
    }
    store.close().expect("there is space");
}

/// The file may then not become longer, and the journal may.
#[test]
fn a_journal_that_cannot_be_brought_into_the_file_is_an_error_before_it_is_long() {
    let test = "a_journal_that_cannot_be_brought_into_the_file_is_an_error_before_it_is_long";
    if let Some((directory, _)) = part() {
        return write_beside_a_limit(&directory);
    }
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let child = again(test, home.path(), 1)
        .spawn()
        .expect("the test can start itself");
    let output = child.wait_with_output().expect("it was started here");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn write_beside_a_limit(directory: &Path) {
    catch_the_signal();
    let mut store = Store::open(directory, &options()).expect("it is new").store;
    // It holds all of it.
    let mut traffic = Traffic::new(1, u64::MAX);
    while store.disk_bytes().expect("it is ours") < 2 << 20 {
        let batch = traffic.batch(BATCH);
        let committed = store.commit(&batch, Durability::Buffered);
        committed.expect("there is space");
    }
    limit_files(Some(1 << 20));

    let error = (0..1000).find_map(|_| {
        let batch = traffic.batch(BATCH);
        store.commit(&batch, Durability::Buffered).err()
    });

    assert!(matches!(error, Some(CommitError::Io(_))), "{error:?}");
    let journal = directory.join("histories.sqlite-wal");
    let journal_bytes = std::fs::metadata(journal).expect("it is ours").len();
    assert!(
        journal_bytes < 6 * options().journal_bytes,
        "{journal_bytes}"
    );
    assert!(store.reopen().is_err(), "it still cannot");
    limit_files(None);
    assert_eq!(store.reopen().expect("there is space"), 0);
    store.close().expect("there is space");
    let opened = Store::open(directory, &options()).expect("nothing has harmed it");
    assert!(traffic.holds(&opened.rooms));
}

/// Returns who does not catch it is ended by it.
fn catch_the_signal() {
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )
    .expect("it is a signal that can be caught");
}

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    setrlimit(Resource::Fsize, limit).expect("it is below the maximum");
}

fn options() -> Options {
    Options {
        journal_bytes: 64 << 10,
    }
}
