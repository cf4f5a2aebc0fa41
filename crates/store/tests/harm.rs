//! Bytes that change, files that are cut, and what a loss of power leaves: a store opens with what
//! is whole, or says that it is damaged. It never hands out what was not committed, and never
//! panics.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use throng_store::{Durability, OpenError, Options, RoomRecord, Store};

#[path = "support/naive.rs"]
mod naive;
#[path = "support/traffic.rs"]
mod traffic;

use traffic::Traffic;

const SEED: u64 = 1;
const WINDOW: u64 = 20;
const BATCH: usize = 40;
const BATCHES: usize = 40;

#[test]
fn a_changed_byte_of_a_closed_store_is_found_or_does_not_matter() {
    check_closed("one bit changed", flip);
}

#[test]
fn a_cut_file_of_a_closed_store_is_found_or_does_not_matter() {
    check_closed("one file cut", cut);
}

#[test]
fn a_changed_byte_of_a_store_that_was_not_closed_gives_no_more_than_a_beginning() {
    let original = written(false);
    for (seed, mut random) in trials() {
        let copy = copied(original.path());
        flip(copy.path(), &mut random);
        match Store::open(copy.path(), &options()) {
            Ok(opened) => {
                let batches = batches_in(&opened.rooms);
                assert!(batches.is_some(), "trial {seed}: rooms of no moment");
            }
            Err(error) => assert_damage(seed, &error),
        }
    }
}

/// After a loss of power, of what was not synced some pages may be there and some not, in no order.
#[test]
fn what_was_synced_outlives_any_tail() {
    let home = home();
    // Long enough that the whole tail is still in it.
    let options = Options {
        journal_bytes: 16 << 20,
    };
    let opened = Store::open(home.path(), &options).expect("it is new");
    let mut store = opened.store;
    let mut traffic = Traffic::new(SEED, WINDOW);
    let mut committed = |store: &mut Store, durability| {
        let batch = traffic.batch(BATCH);
        store.commit(&batch, durability).expect("the disk is sound");
    };
    for _ in 0..BATCHES - 11 {
        committed(&mut store, Durability::Buffered);
    }
    committed(&mut store, Durability::Synced);
    let synced = len(&journal(home.path()));
    for _ in 0..10 {
        committed(&mut store, Durability::Buffered);
    }
    let end = len(&journal(home.path()));
    assert!(end > synced + 10_000, "the tail is too short");
    drop(store);

    for (seed, mut random) in trials() {
        let copy = copied(home.path());
        tear(&journal(copy.path()), synced, end, &mut random);

        let opened = Store::open(copy.path(), &options)
            .unwrap_or_else(|error| panic!("trial {seed}: a torn tail is no damage: {error:?}"));

        assert!(!opened.clean);
        let batches = batches_in(&opened.rooms);
        let batches = batches.unwrap_or_else(|| panic!("trial {seed}: rooms of no moment"));
        assert!(
            batches >= BATCHES - 10,
            "trial {seed}: {batches} batches are there"
        );
        // It goes on from there, and what follows is not lost behind what was torn.
        let mut store = opened.store;
        let mut traffic = Traffic::new(SEED, WINDOW);
        for _ in 0..batches {
            traffic.batch(BATCH);
        }
        let next = traffic.batch(BATCH);
        store
            .commit(&next, Durability::Buffered)
            .expect("the disk is sound");
        drop(store);
        let opened = Store::open(copy.path(), &options).expect("nothing has harmed it since");
        assert!(traffic.holds(&opened.rooms), "trial {seed}");
    }
}

fn check_closed(what: &str, harm: impl Fn(&Path, &mut fastrand::Rng)) {
    let original = written(true);
    let mut found = 0;
    for (seed, mut random) in trials() {
        let copy = copied(original.path());
        harm(copy.path(), &mut random);
        match Store::open(copy.path(), &options()) {
            Ok(opened) => {
                let batches = batches_in(&opened.rooms);
                let all = batches == Some(BATCHES);
                assert!(all, "{what}, trial {seed}: opened with {batches:?} batches");
            }
            Err(error) => {
                assert_damage(seed, &error);
                found += 1;
            }
        }
    }
    assert!(found > 0, "{what}: nothing was ever found");
}

#[track_caller]
fn assert_damage(seed: u64, error: &OpenError) {
    // A version byte may become another version, and a file with another name no store.
    let said = matches!(
        error,
        OpenError::Corrupted { .. } | OpenError::NotAStore { .. } | OpenError::Version { .. }
    );
    assert!(said, "trial {seed}: {error:?}");
}

/// A store with all batches, closed or just left.
fn written(closed: bool) -> TempDir {
    let home = home();
    let mut store = Store::open(home.path(), &options())
        .expect("it is new")
        .store;
    let mut traffic = Traffic::new(SEED, WINDOW);
    for _ in 0..BATCHES {
        let batch = traffic.batch(BATCH);
        store
            .commit(&batch, Durability::Buffered)
            .expect("the disk is sound");
    }
    if closed {
        store.close().expect("the disk is sound");
    }
    home
}

/// After how many batches rooms looked like this.
fn batches_in(rooms: &[RoomRecord]) -> Option<usize> {
    let mut traffic = Traffic::new(SEED, WINDOW);
    (0..=BATCHES).find(|&batches| {
        if batches > 0 {
            traffic.batch(BATCH);
        }
        traffic.holds(rooms)
    })
}

/// Returns what each trial is drawn from. `STORE_TRIALS` asks for more.
fn trials() -> impl Iterator<Item = (u64, fastrand::Rng)> {
    let trials = std::env::var("STORE_TRIALS").unwrap_or_else(|_| "60".to_owned());
    let trials = trials.parse().expect("a number");
    (0..trials).map(|seed| (seed, fastrand::Rng::with_seed(seed)))
}

/// So that some is in the journal and some is in the file.
fn options() -> Options {
    Options {
        journal_bytes: 64 << 10,
    }
}

fn home() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn flip(directory: &Path, random: &mut fastrand::Rng) {
    let (path, at) = a_byte(directory, random);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)
        .expect("there is such a byte");
    byte[0] ^= 1 << random.u32(..8);
    file.write_all_at(&byte, at).expect("it is ours");
}

fn cut(directory: &Path, random: &mut fastrand::Rng) {
    let (path, at) = a_byte(directory, random);
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is ours");
    file.set_len(at).expect("it is ours");
}

/// Cuts the tail, or takes pages out of it, or fills them with anything.
fn tear(path: &Path, from: u64, to: u64, random: &mut fastrand::Rng) {
    const PAGE: u64 = 4096;
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is ours");
    if random.bool() {
        return file.set_len(random.u64(from..to)).expect("it is ours");
    }
    for page in from / PAGE..=to / PAGE {
        if random.u8(..3) > 0 {
            continue;
        }
        let start = (page * PAGE).max(from);
        let len = usize::try_from((page + 1) * PAGE - start).expect("at most a page");
        let mut bytes = vec![0; len];
        if random.bool() {
            random.fill(&mut bytes);
        }
        file.write_all_at(&bytes, start).expect("it is ours");
    }
}

/// A file, drawn as often as any other, and a byte of it.
fn a_byte(directory: &Path, random: &mut fastrand::Rng) -> (PathBuf, u64) {
    let mut files = Vec::new();
    list(directory, &mut files);
    let (path, len) = files.swap_remove(random.usize(..files.len()));
    (path, random.u64(..len))
}

/// Every file that is not empty, with its length.
fn list(directory: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let entries = fs::read_dir(directory).expect("it is ours");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it is ours").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            list(&path, files);
        } else if len(&path) > 0 {
            files.push((path.clone(), len(&path)));
        }
    }
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).expect("it is ours").len()
}

fn journal(directory: &Path) -> PathBuf {
    directory.join("histories.sqlite-wal")
}

fn copied(directory: &Path) -> TempDir {
    let copy = home();
    copy_into(directory, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("it is ours") {
        let path = entry.expect("it is ours").path();
        let target = to.join(path.file_name().expect("it was listed"));
        if path.is_dir() {
            fs::create_dir(&target).expect("it is ours");
            copy_into(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it is ours");
        }
    }
}
