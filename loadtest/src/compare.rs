//! Servers against each other on this machine: the tables of `docs/benchmarks.md`.
//!
//! Servers run one at a time, in an order that rotates from round to round, each on one CPU with
//! the load generator on another. Every run is a server and a load generator of its own, so that
//! none inherits what another left. A run that loses, repeats or reorders a delivery has no
//! figures: what it did wrong stands in the table in their place.
//!
//! ```text
//! peers ──▶ install ──▶ serving + measure, round by round ──▶ results ──▶ table
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a comparison takes minutes, and people want to see how far it is"
)]

mod figures;
mod install;
mod measure;
mod peers;
pub(crate) mod pinned;
mod results;
mod scenarios;
mod serving;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use clap::Args;

use self::peers::{Peer, Peers};
use self::results::{Results, RunResult, document};
use self::scenarios::Scenario;
use self::serving::Serving;
use crate::cli::units;
use crate::limits;

/// Runs several servers one at a time under the same load, and compares them
///
/// Prints a table for each scenario: medians over the rounds with minimum and maximum, and ratios
/// to the baseline. Exit code: 0 if every run was clean, 1 if one was not, 2 if there is nothing to
/// compare.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// File that lists the servers
    #[arg(value_name = "PEERS", default_value = "benches/peers/peers.toml")]
    peers: PathBuf,

    /// Scenarios, separated by commas; `loadtest scenarios` lists them [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    scenario: Vec<String>,

    /// Servers, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,

    /// Server that the ratios refer to [default: the baseline of the file]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// Runs of each scenario per server [default: 3; 1 with --check]
    #[arg(long, value_name = "N", value_parser = units::up_to(1000))]
    rounds: Option<u32>,

    /// How long each run measures, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = units::up_to(3600))]
    seconds: u32,

    /// Fetch and build what the servers need, if it is missing
    #[arg(long)]
    install: bool,

    /// Install the servers, and prove each with a short run in which every delivery is checked; its
    /// figures say little
    #[arg(long, conflicts_with_all = ["scenario", "seconds"])]
    check: bool,

    /// CPU for the servers [default: the first that this program may use]
    #[arg(long, value_name = "CPU", requires = "driver_cpu")]
    server_cpu: Option<usize>,

    /// CPU for the load generator [default: the second]
    #[arg(long, value_name = "CPU", requires = "server_cpu")]
    driver_cpu: Option<usize>,

    /// Print one JSON object with the report of each run instead of tables
    #[arg(long)]
    json: bool,

    /// Write the tables to a file as well
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Directory for the servers' output [default: a temporary one, kept if a run fails]
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

/// Where servers and load generator run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpus {
    server: usize,
    driver: usize,
}

/// Compares and prints what there is even if Ctrl-C ended it. Returns whether all runs were clean.
pub(crate) fn run(options: &Options, interrupted: &AtomicBool) -> Result<bool> {
    let peers = Peers::read(&options.peers)?;
    let servers = peers.chosen(&options.servers)?;
    let scenarios = match options.check {
        true => vec![Scenario::check()?],
        false => scenarios::chosen(&options.scenario, options.seconds)?,
    };
    let baseline = peers.baseline(options.baseline.as_deref(), &servers)?;
    let cpus = options.cpus()?;
    let mut comparison = Comparison {
        options,
        servers: &servers,
        cpus,
        logs: options.logs()?,
        interrupted,
        results: Results::new(&scenarios, &servers, baseline),
    };
    comparison.install();
    comparison.run(&scenarios);
    let Comparison {
        mut results, logs, ..
    } = comparison;
    results.is_interrupted = interrupted.load(Ordering::Relaxed);
    options.print(&results, cpus)?;
    if results.is_clean() && options.logs.is_none() {
        // Nobody will look for them; that they cannot be removed is nobody's problem either.
        let _ = fs::remove_dir_all(logs);
    }
    Ok(results.is_clean())
}

impl Options {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.check { 1 } else { 3 })
    }

    /// Returns the CPUs; none if there is one: server and load generator then share it.
    fn cpus(&self) -> Result<Option<Cpus>> {
        let cpus = match self.server_cpu.zip(self.driver_cpu) {
            None => limits::first_two_cpus()?,
            said => said,
        };
        if cpus.is_none() {
            eprintln!("there is one CPU: the load generator takes its time from the servers");
        }
        Ok(cpus.map(|(server, driver)| Cpus { server, driver }))
    }

    fn logs(&self) -> Result<PathBuf> {
        let unique = format!("loadtest-compare-{}", std::process::id());
        let logs = self.logs.clone();
        let logs = logs.unwrap_or_else(|| std::env::temp_dir().join(unique));
        fs::create_dir_all(&logs).with_context(|| unusable(&logs))?;
        Ok(logs)
    }

    fn print(&self, results: &Results, cpus: Option<Cpus>) -> Result<()> {
        let json = results.json(self, cpus);
        let text = document(&json);
        if self.json {
            println!("{json:#}");
        } else {
            print!("{text}");
        }
        match &self.markdown {
            Some(path) => fs::write(path, text).with_context(|| unusable(path)),
            None => Ok(()),
        }
    }
}

fn unusable(path: &Path) -> String {
    format!("{} cannot be used", path.display())
}

/// What is under way.
struct Comparison<'a> {
    options: &'a Options,
    servers: &'a [&'a Peer],
    cpus: Option<Cpus>,
    logs: PathBuf,
    interrupted: &'a AtomicBool,
    results: Results,
}

impl Comparison<'_> {
    fn install(&mut self) {
        if !self.options.install && !self.options.check {
            return;
        }
        for (peer, reason) in install::install(self.servers, self.interrupted) {
            eprintln!("{peer}: {reason}");
            self.results.give_up(&peer, &reason);
        }
    }

    fn run(&mut self, scenarios: &[Scenario]) {
        for round in 0..self.options.rounds() {
            for scenario in scenarios {
                let servers = in_turn(self.servers, round);
                for server in servers.into_iter().filter(|server| scenario.is_for(server)) {
                    self.run_once(round, scenario, server);
                }
            }
        }
    }

    fn run_once(&mut self, round: u32, scenario: &Scenario, server: &Peer) {
        if self.is_interrupted() || self.results.is_given_up(&server.name) {
            return;
        }
        let Some(result) = self.measure(scenario, server) else {
            return;
        };
        let said = match &result {
            Ok(report) => figures::of(&scenario.sheet.mode)[0].said(report),
            Err(reason) => reason.clone(),
        };
        let (round, rounds) = (round + 1, self.options.rounds());
        eprintln!(
            "round {round}/{rounds}: {} {}: {said}",
            scenario.name, server.name
        );
        self.results.add(&scenario.name, &server.name, result);
    }

    /// Starts one server and does one run. None if Ctrl-C came between, or the server will never
    /// start.
    fn measure(&mut self, scenario: &Scenario, server: &Peer) -> Option<RunResult> {
        let log = self.logs.join(format!("{}.log", server.name));
        let cpu = self.cpus.map(|cpus| cpus.server);
        let started = Serving::start(server, cpu, &log, self.interrupted);
        let mut serving = started.unwrap_or_else(|error| {
            let reason = format!("would not start ({error}): see {}", log.display());
            eprintln!("{}: {reason}", server.name);
            self.results.give_up(&server.name, &reason);
            None
        })?;
        let url = format!("ws://{}{}", serving.address, server.path);
        let mut load = this_program();
        load.args([
            "--json",
            "--url",
            &url,
            "--server-pid",
            &serving.pid().to_string(),
        ]);
        if let Some(wire) = &server.wire {
            load.args(["--wire", wire]);
        }
        if let Some(Cpus { driver, .. }) = self.cpus {
            load.args(["--pin", &driver.to_string()]);
        }
        load.args(&server.flags).args(&scenario.words);
        let result = measure::run(&mut load, self.options.seconds, self.interrupted);
        let end = |status| {
            format!(
                "the server ended during the run ({status}): see {}",
                log.display()
            )
        };
        let result = result.map_err(|reason| serving.end_of_server().map_or(reason, end));
        Some(result).filter(|_| !self.is_interrupted())
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Starts this program, whatever happened to its file since it was started: an installation may
/// have built another.
fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("loadtest");
    command
}

/// Returns the order of a round: whoever was first in one is last in the next, so that none is
/// always measured while the machine is busy with what comes first.
fn in_turn<T: Copy>(all: &[T], round: u32) -> Vec<T> {
    let mut turned = all.to_vec();
    if !turned.is_empty() {
        turned.rotate_left(round as usize % all.len());
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_rotates_from_round_to_round() {
        let orders = (0..4).map(|round| in_turn(&["a", "b", "c"], round).concat());
        assert_eq!(orders.collect::<Vec<_>>(), ["abc", "bca", "cab", "abc"]);
        assert!(in_turn::<u8>(&[], 3).is_empty());
    }
}
