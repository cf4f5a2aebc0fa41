//! A process that writes is killed, at any moment: every batch that it reported is there, whole.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread;
use std::time::Duration;

use throng_store::{Durability, Options, Store};

#[path = "support/again.rs"]
mod again;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/traffic.rs"]
mod traffic;

use again::{again, part, say};
use traffic::Traffic;

#[test]
fn what_a_killed_process_reported_as_committed_is_there() {
    if let Some((directory, seed)) = part() {
        return write_until_killed(&directory, seed);
    }
    let seed = std::env::var("STORE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("STORE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let kills = std::env::var("STORE_KILLS").map_or(12, |kills| kills.parse().expect("a number"));
    for _ in 0..kills {
        let home = tempfile::tempdir().expect("there is a temporary directory");
        let seed = random.u64(..);
        let delay = Duration::from_millis(random.u64(..250));
        let reported = run_and_kill(home.path(), seed, delay);
        check(home.path(), seed, reported);
    }
}

/// The part of the process that is killed.
fn write_until_killed(directory: &Path, seed: u64) {
    let mut store = Store::open(directory, &options()).expect("it is new").store;
    let mut traffic = Traffic::new(seed, WINDOW);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 1_u64.. {
        let batch = traffic.batch(BATCH);
        let durability = if random.u8(..8) == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        store.commit(&batch, durability).expect("the disk is sound");
        say(&number.to_string());
    }
}

/// Returns how many batches the process reported that was killed so long after the first. The
/// moment is arbitrary, so there is no event to wait for.
fn run_and_kill(directory: &Path, seed: u64, delay: Duration) -> u64 {
    let test = "what_a_killed_process_reported_as_committed_is_there";
    let mut child = again(test, directory, seed)
        .spawn()
        .expect("the test can start itself");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let first = lines.next().expect("it reports").expect("the pipe works");
    assert_eq!(first, "1");
    thread::spawn(move || {
        thread::sleep(delay);
        child.kill().expect("it writes until it is killed");
        child.wait().expect("it was started here");
    });
    let last = lines.map(|line| line.expect("the pipe works")).last();
    last.map_or(1, |line| line.parse().expect("it says numbers only"))
}

/// All batches that were reported are there, or one more: it may have been killed before it said
/// so.
fn check(directory: &Path, seed: u64, reported: u64) {
    let opened = Store::open(directory, &options()).expect("a crash is no damage");
    assert!(!opened.clean);
    let mut traffic = Traffic::new(seed, WINDOW);
    for _ in 0..reported {
        traffic.batch(BATCH);
    }
    if traffic.holds(&opened.rooms) {
        return;
    }
    traffic.batch(BATCH);
    assert!(
        traffic.holds(&opened.rooms),
        "seed {seed}: not what was reported after {reported} batches, nor after the next"
    );
}

/// So that the journal is brought into the file many times before the process is killed.
fn options() -> Options {
    Options {
        journal_bytes: 64 << 10,
    }
}

const WINDOW: u64 = 50;
const BATCH: usize = 60;
