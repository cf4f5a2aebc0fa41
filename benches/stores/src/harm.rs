//! What becomes of the databases when the process is killed, the disk is full, or bytes change.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child::{Child, Task};
use crate::engine::{Durability, Kind};
use crate::measure::now;
use crate::table::Table;

const KINDS: [Kind; 4] = [Kind::Fjall, Kind::Redb, Kind::Heed, Kind::Throng];

/// Kills a writer at random moments, and checks what is there.
pub fn crash(directory: &Path, only: &[Kind], trials: u32, seed: u64) -> Result<()> {
    let title = format!("a writer killed {trials} times at random, seed {seed}");
    let mut table = Table::new(&title, &["buffered", "synced"]);
    for kind in Kind::asked(&KINDS, only) {
        let mut words = Vec::new();
        for durability in [Durability::Buffered, Durability::Synced] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut outcomes = Outcomes::default();
            for _ in 0..trials {
                let home = tempfile::tempdir_in(directory)?;
                outcomes.add(kill_and_check(kind, durability, home.path(), &mut random)?);
            }
            words.push(outcomes.words());
        }
        table.words(kind.name(), &words);
    }
    table.print();
    Ok(())
}

fn kill_and_check(
    kind: Kind,
    durability: Durability,
    directory: &Path,
    random: &mut fastrand::Rng,
) -> Result<String> {
    let mut child = a_child(Task::WriteForEver, kind, durability, directory);
    child.batch = random.usize(1..300);
    child.seed = random.u64(..);
    let mut process = child.command()?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no pipe")?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    thread::sleep(Duration::from_millis(random.u64(..300)));
    process.kill()?;
    process.wait()?;
    let mut rest = String::new();
    lines.read_to_string(&mut rest)?;
    let reported = rest
        .lines()
        .last()
        .unwrap_or(line.trim())
        .parse::<usize>()?;
    child.task = Task::Check;
    child.publications = reported * child.batch;
    Ok(outcome(&mut child.command()?)?.0)
}

/// Lets the power fail: of what was written since the last sync, some pages are on the disk and some are
/// as they were.
pub fn power(directory: &Path, only: &[Kind], trials: u32, seed: u64) -> Result<()> {
    let title = format!(
        "power lost {trials} times, seed {seed}: synced, then 50 batches buffered, of which each page may be missing"
    );
    let headings = ["20 × 200 bytes a batch", "2 × 16 KiB a batch"];
    let mut table = Table::new(&title, &headings);
    let kinds = [
        Kind::Fjall,
        Kind::Redb,
        Kind::RedbNone,
        Kind::Heed,
        Kind::Throng,
    ];
    for kind in Kind::asked(&kinds, only) {
        let mut words = Vec::new();
        for (batch, bytes) in [(20, 200), (2, 16 << 10)] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut outcomes = Outcomes::default();
            let synced = tempfile::tempdir_in(directory)?;
            let home = tempfile::tempdir_in(directory)?;
            let mut child = a_child(Task::Write, kind, Durability::Synced, home.path());
            child.batch = batch;
            child.bytes = bytes;
            write_on(&mut child, synced.path())?;
            for _ in 0..trials {
                let copy = tempfile::tempdir_in(directory)?;
                copy_directory(home.path(), copy.path())?;
                forget_pages(synced.path(), copy.path(), &mut random)?;
                child.directory = copy.path().to_owned();
                outcomes.add(outcome(&mut child.command()?)?.0);
            }
            words.push(outcomes.words());
        }
        table.words(kind.name(), &words);
    }
    table.print();
    Ok(())
}

/// Leaves in `synced` what was there before anything was only buffered, and a child that checks the rest.
fn write_on(child: &mut Child, synced: &Path) -> Result<()> {
    child.publications = 100 * child.batch;
    child.run()?;
    child.task = Task::GoOn;
    child.durability = Durability::Buffered;
    let mut process = child
        .command()?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no pipe")?).lines();
    lines.next().context("it printed nothing")??;
    copy_directory(&child.directory, synced)?;
    process.stdin.take().context("no pipe")?.write_all(b"\n")?;
    process.wait()?;
    child.task = Task::CheckTail;
    Ok(())
}

/// Makes half of the pages what they were in `synced`, or zeros if they were not yet.
fn forget_pages(synced: &Path, directory: &Path, random: &mut fastrand::Rng) -> Result<()> {
    let mut files = Vec::new();
    list(directory, &mut files)?;
    for (path, _) in files {
        let before = synced.join(path.strip_prefix(directory)?);
        let before = fs::read(before).unwrap_or_default();
        let mut bytes = fs::read(&path)?;
        for (index, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let start = (index * PAGE_BYTES).min(before.len());
            let end = (start + page.len()).min(before.len());
            let mut old = before[start..end].to_vec();
            old.resize(page.len(), 0);
            if *page != *old && random.bool() {
                page.copy_from_slice(&old);
            }
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
}

/// Fills a small file system, makes room, goes on, and checks what is there.
pub fn full(directory: &Path, only: &[Kind]) -> Result<()> {
    let mut table = Table::new(
        "a full disk (a tmpfs of 64 MiB, half of it taken by another file until the first error)",
        &[
            "the error",
            "with space again",
            "what was committed, reopened",
        ],
    );
    for kind in Kind::asked(&KINDS, only) {
        let home = Small::mount(directory)?;
        let ballast = home.0.join("ballast");
        fs::write(&ballast, vec![0; 32 << 20])?;
        let database = home.0.join("database");
        fs::create_dir(&database)?;
        let mut child = a_child(Task::Fill, kind, Durability::Buffered, &database);
        child.batch = 100;
        let mut process = child
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("no pipe")?).lines();
        let first = lines.next().context("it printed nothing")??;
        let (publications, error) = first.split_once(' ').context("not two words")?;
        fs::remove_file(&ballast)?;
        process.stdin.take().context("no pipe")?.write_all(b"\n")?;
        let second = lines.next().context("it printed one line")??;
        process.wait()?;
        child.task = Task::Check;
        child.publications = publications.parse()?;
        let third = outcome(&mut child.command()?)?.0;
        table.words(kind.name(), &[error.to_owned(), second, third]);
    }
    table.print();
    Ok(())
}

/// Changes a byte, or cuts a file, and reads.
pub fn corrupt(directory: &Path, only: &[Kind], trials: u32, seed: u64) -> Result<()> {
    for (title, harm) in [
        (
            "one byte changed",
            flip as fn(&Path, &mut fastrand::Rng) -> Result<()>,
        ),
        ("one file cut", cut),
    ] {
        let title = format!("{title}, {trials} times, seed {seed}, of a database that was closed");
        let mut table = Table::new(&title, &["what opening and reading everything gave"]);
        for kind in Kind::asked(&KINDS, only) {
            let original = tempfile::tempdir_in(directory)?;
            let mut child = a_child(Task::Write, kind, Durability::Synced, original.path());
            child.publications = 100_000;
            child.batch = 1000;
            child.run()?;
            child.task = Task::Check;
            let mut random = fastrand::Rng::with_seed(seed);
            let mut outcomes = Outcomes::default();
            for _ in 0..trials {
                let copy = tempfile::tempdir_in(directory)?;
                copy_directory(original.path(), copy.path())?;
                harm(copy.path(), &mut random)?;
                child.directory = copy.path().to_owned();
                outcomes.add(outcome(&mut child.command()?)?.0);
            }
            table.words(kind.name(), &[outcomes.words()]);
        }
        table.print();
    }
    Ok(())
}

fn flip(directory: &Path, random: &mut fastrand::Rng) -> Result<()> {
    let (path, at) = a_byte(directory, random)?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << random.u32(..8);
    Ok(file.write_all_at(&byte, at)?)
}

fn cut(directory: &Path, random: &mut fastrand::Rng) -> Result<()> {
    let (path, at) = a_byte(directory, random)?;
    Ok(OpenOptions::new().write(true).open(path)?.set_len(at)?)
}

/// A byte that is not in a hole, of any file.
fn a_byte(directory: &Path, random: &mut fastrand::Rng) -> Result<(PathBuf, u64)> {
    let mut files = Vec::new();
    list(directory, &mut files)?;
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    ensure!(total > 0, "no bytes to change");
    let mut at = random.u64(..total);
    for (path, len) in files {
        if at < len {
            return Ok((path, at));
        }
        at -= len;
    }
    anyhow::bail!("beyond the last file")
}

fn list(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push((path.clone(), data_len(&path)?));
        }
    }
    Ok(())
}

/// Up to the last byte that is not zero: behind it lies what was only reserved.
fn data_len(path: &Path) -> Result<u64> {
    let bytes = fs::read(path)?;
    let last = bytes.iter().rposition(|byte| *byte != 0);
    Ok(last.map_or(0, |last| last as u64 + 1))
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target)?;
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn a_child(task: Task, kind: Kind, durability: Durability, directory: &Path) -> Child {
    Child {
        task,
        kind,
        durability,
        directory: directory.to_owned(),
        publications: 0,
        batch: 1,
        rooms: 20,
        window: 1_000_000,
        bytes: 200,
        seed: 1,
    }
}

/// How a process that checks ended, in a word, and what it said.
fn outcome(command: &mut Command) -> Result<(String, String)> {
    let errors = tempfile::tempfile()?;
    let mut process = command
        .stdout(Stdio::null())
        .stderr(errors.try_clone()?)
        .spawn()?;
    let started_at = now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break Some(status);
        }
        if started_at.elapsed() > PATIENCE {
            process.kill()?;
            process.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let said = read_all(errors)?;
    let word = match status {
        None => "hangs".to_owned(),
        Some(status) if status.success() => "whole".to_owned(),
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal}"),
            (None, Some(101)) => "panic".to_owned(),
            _ if said.contains("garbage") => "GARBAGE".to_owned(),
            _ if said.contains("not what was committed") => "LESS".to_owned(),
            _ => "error".to_owned(),
        },
    };
    Ok((word, said))
}

fn read_all(file: File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How often each outcome was.
#[derive(Default)]
struct Outcomes(BTreeMap<String, u32>);

impl Outcomes {
    fn add(&mut self, word: String) {
        *self.0.entry(word).or_default() += 1;
    }

    fn words(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        words.join(", ")
    }
}

/// A small file system, gone when dropped. Needs root.
struct Small(PathBuf);

impl Small {
    fn mount(directory: &Path) -> Result<Self> {
        let path = directory.join("small");
        fs::create_dir_all(&path)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&path)
            .status()?;
        ensure!(status.success(), "no small file system can be mounted");
        Ok(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // One that stays is found by the next run, and by the operator.
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// What the kernel writes at a time.
const PAGE_BYTES: usize = 4096;

/// A process that takes longer hangs: checking takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);
