//! What is done in a process of its own, so that it can be measured, killed, or crash.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::process::{Signal, getpid, kill_process};

use crate::engine::{Durability, Engine, Kind};
use crate::history::{History, publication};
use crate::measure::{Meter, Taken, disk};

/// One task of such a process.
#[derive(Args, Clone, Debug)]
pub struct Child {
    /// What to do
    #[arg(value_enum)]
    pub task: Task,
    /// Which database
    #[arg(value_enum)]
    pub kind: Kind,
    /// How durable
    #[arg(value_enum)]
    pub durability: Durability,
    /// Where
    pub directory: PathBuf,
    /// How many publications
    #[arg(long, default_value_t = 0)]
    pub publications: usize,
    /// How many of them in a batch
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// To how many rooms
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// How many each room keeps
    #[arg(long, default_value_t = usize::MAX)]
    pub window: usize,
    /// How many bytes each has
    #[arg(long, default_value_t = 200)]
    pub bytes: usize,
    /// What is drawn from this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What such a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Commit the publications, close, print what that took
    Write,
    /// Commit them and end by SIGKILL
    WriteAndDie,
    /// Commit until killed, a line for each batch that was reported
    WriteForEver,
    /// Open and read everything, print what that took and how many there were
    Read,
    /// Open, and check against the same history after so many batches, or one more
    Check,
    /// Open, print a line, wait for one, commit 50 batches more and end by SIGKILL
    GoOn,
    /// Open, and check against the same history after so many batches, or up to 50 more
    CheckTail,
    /// Commit until there is an error; print it; wait for a line, go on with the same handle
    Fill,
}

impl Child {
    /// The command that starts this process.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("child")
            .arg(name(&self.task))
            .arg(name(&self.kind))
            .arg(name(&self.durability))
            .arg(&self.directory);
        for (flag, value) in [
            ("--publications", self.publications),
            ("--batch", self.batch),
            ("--rooms", self.rooms),
            ("--window", self.window),
            ("--bytes", self.bytes),
        ] {
            command.arg(flag).arg(value.to_string());
        }
        command.arg("--seed").arg(self.seed.to_string());
        Ok(command)
    }

    /// Does it in a new process, and hands over what that printed.
    pub fn run(&self) -> Result<String> {
        let output = self.command()?.output()?;
        let died = self.task == Task::WriteAndDie;
        if output.status.success() != died {
            return Ok(String::from_utf8(output.stdout)?);
        }
        bail!(
            "{self:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// The same, for tasks that print what they took.
    pub fn measure(&self) -> Result<Taken> {
        let printed = self.run()?;
        Taken::parse(printed.lines().last().context("it printed nothing")?)
    }
}

/// Does what this process was started for.
pub fn main(child: &Child) -> Result<()> {
    match child.task {
        Task::Write | Task::WriteAndDie => write(child),
        Task::WriteForEver => write_for_ever(child),
        Task::Read => read(child),
        Task::Check => check(child),
        Task::GoOn => go_on(child),
        Task::CheckTail => check_tail(child),
        Task::Fill => fill(child),
    }
}

fn write(child: &Child) -> Result<()> {
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    let mut meter = Meter::start()?;
    let mut engine = child.kind.open(&child.directory, child.durability)?;
    let mut disk_max = 0;
    let batches = child.publications.div_ceil(child.batch);
    for number in 0..batches {
        let batch = meter.apart(|| history.batch(child.batch));
        engine.commit(&batch)?;
        if number % (batches / DISK_SAMPLES).max(1) == 0 {
            disk_max = disk_max.max(meter.apart(|| disk(&child.directory))?);
        }
    }
    if child.task == Task::WriteAndDie {
        kill_process(getpid(), Signal::KILL)?;
    }
    let memory = meter.read()?.memory;
    engine.close()?;
    let disk = disk(&child.directory)?;
    let taken = Taken {
        memory,
        disk_max: disk_max.max(disk) as f64,
        disk: disk as f64,
        ..meter.read()?
    };
    say(&taken.line())
}

fn write_for_ever(child: &Child) -> Result<()> {
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    let mut engine = child.kind.open(&child.directory, child.durability)?;
    for number in 1_u64.. {
        engine.commit(&history.batch(child.batch))?;
        say(&number.to_string())?;
    }
    Ok(())
}

fn read(child: &Child) -> Result<()> {
    let meter = Meter::start()?;
    let engine = child.kind.open(&child.directory, child.durability)?;
    let mut entries = 0;
    engine.scan(&mut |_, _| entries += 1)?;
    ensure!(entries == child.publications, "{entries} entries were read");
    let disk = disk(&child.directory)? as f64;
    let taken = Taken {
        disk,
        disk_max: disk,
        ..meter.read()?
    };
    say(&taken.line())
}

/// `publications` were reported as committed. A last batch may be there that was not.
fn check(child: &Child) -> Result<()> {
    let engine = child.kind.open(&child.directory, child.durability)?;
    let (found, garbage) = contents(engine.as_ref(), child.bytes)?;
    ensure!(garbage == 0, "{garbage} publications are garbage");
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    for _ in 0..child.publications / child.batch {
        history.batch(child.batch);
    }
    if found != history.held() {
        history.batch(child.batch);
    }
    ensure!(found == history.held(), "not what was committed");
    say("whole")
}

fn go_on(child: &Child) -> Result<()> {
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    for _ in 0..child.publications / child.batch {
        history.batch(child.batch);
    }
    let mut engine = child.kind.open(&child.directory, child.durability)?;
    say("open")?;
    stdin().lock().lines().next().context("no line")??;
    for _ in 0..TAIL {
        engine.commit(&history.batch(child.batch))?;
    }
    Ok(kill_process(getpid(), Signal::KILL)?)
}

/// `publications` were synced. Of what was committed after that, any beginning may be there.
fn check_tail(child: &Child) -> Result<()> {
    let engine = child.kind.open(&child.directory, child.durability)?;
    let (found, garbage) = contents(engine.as_ref(), child.bytes)?;
    ensure!(garbage == 0, "{garbage} publications are garbage");
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    for _ in 0..child.publications / child.batch {
        history.batch(child.batch);
    }
    for _ in 0..=TAIL {
        if found == history.held() {
            return say("whole");
        }
        history.batch(child.batch);
    }
    bail!("not what was committed")
}

/// The keys, and how many values are not theirs.
fn contents(engine: &dyn Engine, bytes: usize) -> Result<(Vec<crate::engine::Key>, usize)> {
    let mut found = Vec::new();
    let mut garbage = 0;
    engine.scan(&mut |key, value| {
        found.push(key);
        garbage += usize::from(value != publication(key, bytes));
    })?;
    Ok((found, garbage))
}

fn fill(child: &Child) -> Result<()> {
    let mut history = History::new(child.rooms, child.window, child.bytes, child.seed);
    let mut engine = child.kind.open(&child.directory, child.durability)?;
    let mut batches: usize = 0;
    let (refused, error) = loop {
        let batch = history.batch(child.batch);
        match engine.commit(&batch) {
            Ok(()) => batches += 1,
            Err(error) => break (batch, error),
        }
    };
    let error = format!("{error:#}");
    say(&format!("{} {error}", batches * child.batch))?;
    stdin().lock().lines().next().context("no line")??;
    match engine.commit(&refused) {
        Ok(()) => say("the same handle goes on"),
        Err(error) => say(&format!("it must be reopened ({error:#})")),
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// How many batches are committed after the last sync.
const TAIL: usize = 50;

/// How often the disk is looked at while it is written to.
const DISK_SAMPLES: usize = 100;
