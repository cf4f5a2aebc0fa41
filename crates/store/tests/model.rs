//! Any changes in any batches, with the store closed, dropped and reopened in between, against
//! plain maps.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use throng_store::{Ancestor, Change, Durability, Opened, Options, Record, Store};

#[path = "support/naive.rs"]
mod naive;

use naive::{Naive, by_name};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_store_gives_back_what_plain_maps_would_hold(turns in vec(turn(), 1..24)) {
        let home = tempfile::tempdir().expect("there is a temporary directory");
        // So short that it is brought into the file all the time.
        let options = Options { journal_bytes: 64 << 10 };
        let open = || Store::open(home.path(), &options).expect("nothing has harmed it");
        let mut naive = Naive::default();
        let mut opened = open();
        for turn in turns {
            let batch = turn.resolve(&mut naive);
            opened.store.commit(&batch, turn.durability).expect("the disk is sound");
            match turn.then {
                Then::Close => {
                    opened.store.close().expect("the disk is sound");
                    opened = open();
                    check(&opened, &naive, true);
                }
                Then::Drop => {
                    drop(opened.store);
                    opened = open();
                    check(&opened, &naive, false);
                }
                Then::GoOn => {}
                Then::Reopen => prop_assert_eq!(opened.store.reopen().expect("it opens"), 0),
            }
        }
        drop(opened.store);
        check(&open(), &naive, false);
    }
}

/// Returns the same cases in every run; `PROPTEST_CASES` asks for more of them. Each waits for the
/// disk many times.
fn config() -> ProptestConfig {
    let cases =
        std::env::var("PROPTEST_CASES").map_or(64, |cases| cases.parse().expect("a number"));
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    }
}

#[track_caller]
fn check(opened: &Opened, naive: &Naive, clean: bool) {
    assert_eq!(by_name(opened.rooms.clone()), naive.records());
    assert_eq!(opened.clean, clean);
}

/// A batch, and what happens behind it.
#[derive(Clone, Debug)]
struct Turn {
    steps: Vec<(u8, Step)>,
    durability: Durability,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Close,
    Drop,
    GoOn,
    Reopen,
}

/// A change, by where the room stands.
#[derive(Clone, Debug)]
enum Step {
    Epoch(u64),
    /// Keys up to so many before the end.
    ExpireKeys(u64),
    Forget,
    /// So many publications in a row.
    Publish {
        count: u64,
        len: usize,
        keyed: bool,
    },
    /// One that is there already, skips some, or is of another epoch.
    PublishOddly {
        ahead: i64,
        epoch: u64,
    },
    /// Down to so many, or some beyond the end.
    Trim(i64),
}

fn turn() -> impl Strategy<Value = Turn> {
    let durability = prop_oneof![3 => Just(Durability::Buffered), 1 => Just(Durability::Synced)];
    let then = prop_oneof![
        1 => Just(Then::Close),
        2 => Just(Then::Drop),
        7 => Just(Then::GoOn),
        1 => Just(Then::Reopen),
    ];
    (vec((0..4_u8, step()), 0..12), durability, then).prop_map(|(steps, durability, then)| Turn {
        steps,
        durability,
        then,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1..4_u64).prop_map(Step::Epoch),
        2 => (0..12_u64).prop_map(Step::ExpireKeys),
        1 => Just(Step::Forget),
        12 => (1..10_u64, 0..400_usize, any::<bool>())
            .prop_map(|(count, len, keyed)| Step::Publish { count, len, keyed }),
        2 => (-3..4_i64, 1..4_u64).prop_map(|(ahead, epoch)| Step::PublishOddly { ahead, epoch }),
        5 => (-3..12_i64).prop_map(Step::Trim),
    ]
}

impl Turn {
    /// The records, each for where its room stands once those before it are done.
    fn resolve(&self, naive: &mut Naive) -> Vec<Record> {
        let mut batch = Vec::new();
        for (room, step) in &self.steps {
            let room: Arc<str> = Arc::from(format!("room {room}"));
            let count = match step {
                Step::Publish { count, .. } => *count,
                _ => 1,
            };
            for _ in 0..count {
                let known = naive.rooms.get(&room);
                let (epoch, last) = known.map_or((1, 0), |room| (room.epoch, room.last));
                let record = Record {
                    room: room.clone(),
                    change: step.resolve(epoch, last),
                };
                naive.apply(&record);
                batch.push(record);
            }
        }
        batch
    }
}

impl Step {
    fn resolve(&self, epoch: u64, last: u64) -> Change {
        match *self {
            Self::Epoch(epoch) => Change::Epoch {
                epoch,
                lineage: vec![Ancestor {
                    epoch: epoch + 10,
                    last_offset: last,
                    complete: last.is_multiple_of(2),
                }],
            },
            Self::ExpireKeys(kept) => Change::ExpireKeys {
                first: last.saturating_sub(kept) + 1,
            },
            Self::Forget => Change::Forget,
            Self::Publish { len, keyed, .. } => publication(epoch, last + 1, len, keyed),
            Self::PublishOddly { ahead, epoch } => {
                publication(epoch, last.saturating_add_signed(ahead).max(1), 20, true)
            }
            Self::Trim(kept) => Change::Trim {
                first: (last + 1).saturating_add_signed(-kept).max(1),
            },
        }
    }
}

fn publication(epoch: u64, offset: u64, len: usize, keyed: bool) -> Change {
    let byte = u8::try_from(offset % 251).expect("below 251");
    Change::Publication {
        epoch,
        offset,
        at_ms: 1_700_000_000_000 + offset,
        frame: Arc::from(vec![byte; len]),
        key: keyed.then(|| Arc::from(format!("key {epoch} {offset}"))),
    }
}
