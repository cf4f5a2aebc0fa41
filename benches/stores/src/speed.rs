//! What appending, trimming and reading back take.

use std::path::Path;

use anyhow::Result;

use crate::child::{Child, Task};
use crate::engine::{Durability, Kind};
use crate::measure::Taken;
use crate::table::Table;

/// Publications to rooms that keep everything.
pub fn append(directory: &Path, only: &[Kind], rounds: usize) -> Result<()> {
    for (durability, rooms, batch, publications) in [
        (Durability::Buffered, 1, 1, 20_000),
        (Durability::Buffered, 1, 100, 200_000),
        (Durability::Buffered, 1, 1000, 400_000),
        (Durability::Buffered, 1000, 1, 20_000),
        (Durability::Buffered, 1000, 100, 200_000),
        (Durability::Buffered, 1000, 1000, 400_000),
        (Durability::Synced, 1, 1, 500),
        (Durability::Synced, 1, 100, 20_000),
        (Durability::Synced, 1, 1000, 100_000),
        (Durability::Synced, 1000, 1, 500),
        (Durability::Synced, 1000, 100, 20_000),
        (Durability::Synced, 1000, 1000, 100_000),
    ] {
        let title = format!(
            "{publications} publications to {rooms} rooms, {batch} a batch, {}",
            durability.name()
        );
        let mut table = Table::new(&title, &HEADINGS);
        let runs = in_turns(
            directory,
            rounds,
            &Kind::asked(&kinds(durability), only),
            |kind, directory| {
                child(
                    Task::Write,
                    kind,
                    durability,
                    directory,
                    rooms,
                    batch,
                    publications,
                )
                .measure()
            },
        )?;
        let bytes = (publications * PUBLICATION_BYTES) as f64;
        for (kind, taken) in runs {
            table.row(kind.name(), &row(&taken, publications, bytes));
        }
        table.print();
    }
    Ok(())
}

/// Publications to rooms that keep the last thousand, ten times over.
pub fn trim(directory: &Path, only: &[Kind], rounds: usize) -> Result<()> {
    for (rooms, publications) in [(1, 400_000), (100, 1_000_000), (1000, 3_000_000)] {
        let title = format!(
            "{publications} publications to {rooms} rooms that keep 1000 each, 1000 a batch, buffered"
        );
        let mut table = Table::new(&title, &HEADINGS);
        let durability = Durability::Buffered;
        let runs = in_turns(
            directory,
            rounds,
            &Kind::asked(&kinds(durability), only),
            |kind, directory| {
                let mut child = child(
                    Task::Write,
                    kind,
                    durability,
                    directory,
                    rooms,
                    1000,
                    publications,
                );
                child.window = 1000;
                child.measure()
            },
        )?;
        let held = (rooms * 1000 * PUBLICATION_BYTES) as f64;
        for (kind, taken) in runs {
            table.row(kind.name(), &row(&taken, publications, held));
        }
        table.print();
    }
    Ok(())
}

/// 256 MiB of publications, read by another process after the one that wrote them was killed.
pub fn reopen(directory: &Path, only: &[Kind], rounds: usize) -> Result<()> {
    let publications = 1_342_000;
    let mut table = Table::new(
        "reading 256 MiB in 1000 rooms after kill -9",
        &["ms", "ms of CPU", "memory, MiB", "disk, MiB"],
    );
    let durability = Durability::Buffered;
    let kinds = Kind::asked(&kinds(Durability::Synced), only);
    let runs = in_turns(directory, rounds, &kinds, |kind, directory| {
        child(
            Task::WriteAndDie,
            kind,
            durability,
            directory,
            1000,
            1000,
            publications,
        )
        .run()?;
        child(
            Task::Read,
            kind,
            durability,
            directory,
            1000,
            1000,
            publications,
        )
        .measure()
    })?;
    for (kind, taken) in runs {
        let values = [
            taken.wall_us / 1e3,
            taken.cpu_us / 1e3,
            taken.memory / MIB,
            taken.disk / MIB,
        ];
        table.row(kind.name(), &values);
    }
    table.print();
    Ok(())
}

fn kinds(durability: Durability) -> Vec<Kind> {
    match durability {
        Durability::Buffered => vec![
            Kind::Fjall,
            Kind::Redb,
            Kind::RedbNone,
            Kind::Heed,
            Kind::Throng,
        ],
        Durability::Synced => vec![Kind::Fjall, Kind::Redb, Kind::Heed, Kind::Throng],
    }
}

/// Every kind once a round, in another order each, each run in a directory of its own.
fn in_turns(
    directory: &Path,
    rounds: usize,
    kinds: &[Kind],
    run: impl Fn(Kind, &Path) -> Result<Taken>,
) -> Result<Vec<(Kind, Taken)>> {
    let mut runs: Vec<Vec<Taken>> = vec![Vec::new(); kinds.len()];
    for round in 0..rounds {
        for turn in 0..kinds.len() {
            let index = (turn + round) % kinds.len();
            let home = tempfile::tempdir_in(directory)?;
            runs[index].push(run(kinds[index], home.path())?);
        }
    }
    let medians = runs.iter().map(|runs| Taken::median(runs));
    Ok(kinds.iter().copied().zip(medians).collect())
}

fn child(
    task: Task,
    kind: Kind,
    durability: Durability,
    directory: &Path,
    rooms: usize,
    batch: usize,
    publications: usize,
) -> Child {
    Child {
        task,
        kind,
        durability,
        directory: directory.to_owned(),
        publications,
        batch,
        rooms,
        window: usize::MAX,
        bytes: PUBLICATION_BYTES,
        seed: 1,
    }
}

/// `held`: the bytes that are there at the end.
fn row(taken: &Taken, publications: usize, held: f64) -> [f64; 6] {
    let publications = publications as f64;
    [
        taken.cpu_us / publications,
        publications / taken.wall_us * 1e3,
        taken.written / (publications * PUBLICATION_BYTES as f64),
        taken.disk_max / held,
        taken.disk / held,
        taken.memory / MIB,
    ]
}

const HEADINGS: [&str; 6] = [
    "µs of CPU per publication",
    "thousand/s",
    "bytes written per byte",
    "disk per byte held, most",
    "at last",
    "memory, MiB",
];

const PUBLICATION_BYTES: usize = 200;

const MIB: f64 = 1048576.0;
