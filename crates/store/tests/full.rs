//! A disk that takes no more, and takes more again: nothing that was reported is lost, and the store goes on.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::{CommitError, Durability, Options, Store};

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
    // Who does not catch the signal is ended by it.
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )
    .expect("it is a signal that can be caught");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = Store::open(directory, &options()).expect("it is new").store;
    let mut traffic = Traffic::new(seed, WINDOW);
    for _ in 0..BATCHES {
        let batch = traffic.batch(BATCH);
        if random.u8(..3) == 0 {
            limit_files(Some(random.u64(1..options().segment_bytes)));
        }
        let durability = if random.bool() {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        match store.commit(&batch, durability) {
            Ok(()) => {}
            Err(CommitError::Full(_)) => {
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

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    setrlimit(Resource::Fsize, limit).expect("it is below the maximum");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_an_error_of_the_system() {
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let opened = Store::open(home.path(), &options()).expect("it is new");
    let mut store = opened.store;
    // The next segment cannot be created where there is no directory.
    let mut traffic = Traffic::new(1, WINDOW);
    fs::remove_dir_all(home.path().join("data")).expect("it is ours");

    let error = (0..BATCHES).find_map(|_| {
        let batch = traffic.batch(BATCH);
        store.commit(&batch, Durability::Buffered).err()
    });

    assert!(matches!(error, Some(CommitError::Io(_))), "{error:?}");
}

fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
    }
}
