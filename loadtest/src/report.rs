//! What is printed: one structure, as a text for people and as JSON for programs.
//!
//! A figure that was not measured is `null` in the JSON and absent in the text. The names of fields
//! are the JSON's, which other programs read: they stay.

pub(crate) mod text;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write as _};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Output, Setup};
use crate::clock;
use crate::driver::{Connected, Outcome};
use crate::interval::Interval;
use crate::machine::Machine;
use crate::monitor::Measured;
use crate::positions::PositionTally;
use crate::process::ServerProcess;
use crate::scenario::Pacing;
use crate::series::Point;
use crate::tally::{Latency, ratio};

/// The outcome of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// This program's.
    version: &'static str,
    /// The program and its arguments.
    command: Vec<String>,
    /// When the run began, in UTC.
    started: String,
    machine: Machine,
    pub(crate) server: Server,
    /// What was asked for.
    scenario: Value,
    /// What the program decided by itself.
    notes: Vec<String>,
    /// Whether Ctrl-C ended the run.
    interrupted: bool,
    connections: u32,
    connects_per_second: f64,
    #[serde(flatten)]
    pub(crate) interval: Interval,
    pub(crate) latency_us: Latency,
    /// To the last member, of publications that reached everybody.
    pub(crate) latency_last_us: Latency,
    #[serde(flatten)]
    outcome: Outcome,
    pub(crate) server_pss_bytes: Memory,
    /// Of idle connections.
    bytes_per_connection: Option<f64>,
    /// Everything that is to be said about the figures.
    pub(crate) verdicts: Vec<String>,
    pub(crate) series: Vec<Point>,
    /// What a mode has to say beyond all this, by its name.
    #[serde(flatten)]
    sections: BTreeMap<&'static str, Value>,
    /// Whether the mode looked for losses and found them.
    #[serde(skip)]
    pub(crate) losses_excused: bool,
    /// Whether it found another fault.
    #[serde(skip)]
    mode_is_faulty: bool,
}

/// Who was loaded.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Server {
    pid: Option<u32>,
    /// Its command line.
    command: Option<String>,
    /// The `Server` header of its answers.
    pub(crate) version: Option<String>,
}

/// The server's proportional set size.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Before the first connection.
    pub(crate) before: Option<u64>,
    /// At the end of what was measured, with all connections open.
    pub(crate) after: Option<u64>,
}

/// The mode that publishes nothing before its end.
const IDLE: &str = "idle";

impl Report {
    /// Begins a report of nothing yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        let process = setup.server.as_ref();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            command: setup.command.clone(),
            started: clock::date_now(),
            machine: Machine::this(),
            server: Server {
                pid: process.map(ServerProcess::pid),
                command: process.and_then(ServerProcess::command),
                version: None,
            },
            scenario: parameters(setup),
            notes: setup.notes.clone(),
            // Of sections this one alone has always been there.
            sections: BTreeMap::from([("neighbour", Value::Null)]),
            ..Self::default()
        }
    }

    /// Takes over how the connections were opened.
    pub(crate) fn set_connected(&mut self, connected: Connected) {
        self.connections = connected.connections;
        let rate = ratio(f64::from(connected.connections), connected.seconds.0);
        self.connects_per_second = rate.unwrap_or_default();
    }

    /// Takes over what was measured, and how late deliveries of the first group were.
    pub(crate) fn set_measured(&mut self, measured: Measured) {
        self.set_interval(measured.interval);
        self.latency_us = measured.latencies.each;
        self.latency_last_us = measured.latencies.last;
    }

    /// Takes over what was measured.
    pub(crate) fn set_interval(&mut self, interval: Interval) {
        self.verdicts.extend(interval.verdicts());
        self.interval = interval;
    }

    /// Takes over what idle connections cost, and who received the last publication.
    pub(crate) fn set_idle(&mut self, memory: Memory, received: u32) {
        self.interval.deliveries = u64::from(received);
        self.outcome.faults.lost = u64::from(self.connections - received);
        let grown = memory.after.zip(memory.before);
        let grown = grown.map(|(after, before)| after as f64 - before as f64);
        self.bytes_per_connection = grown.and_then(|it| ratio(it, f64::from(self.connections)));
    }

    /// Adds what went wrong with the drivers, of which a run may have several one after the other.
    pub(crate) fn add_outcome(&mut self, mut outcome: Outcome, interrupted: bool) {
        self.interrupted = interrupted;
        if let (true, Some(positions)) = (interrupted, &mut outcome.positions.0) {
            positions.unacknowledged = 0; // nobody waited for that either
        }
        self.outcome += outcome;
        if interrupted && self.scenario["mode"] == IDLE {
            self.outcome.faults.lost = 0; // nobody waited for the last publication
        }
    }

    /// Leaves out what deliveries cost: they are not what the processors' time went into.
    pub(crate) fn forget_cost_of_deliveries(&mut self) {
        self.interval.server_cpu_us_per_delivery = None;
        self.interval.driver_cpu_us_per_delivery = None;
        self.interval.deliveries_per_read = None;
    }

    /// Adds what a mode has to say, as an object of the JSON; and whether that is a fault.
    pub(crate) fn add_section(
        &mut self,
        key: &'static str,
        section: &impl Serialize,
        is_faulty: bool,
    ) {
        let json = serde_json::to_value(section).expect("numbers and strings are JSON");
        self.sections.insert(key, json);
        self.mode_is_faulty |= is_faulty;
    }

    /// Returns whether anything went wrong with a delivery; the exit code is then 1.
    pub(crate) fn is_faulty(&self) -> bool {
        let outcome = &self.outcome;
        let faults = outcome.faults;
        let wrong = faults.repeated + faults.reordered + faults.truncated + outcome.unreadable;
        let lost = faults.lost + outcome.disconnected + outcome.server_errors;
        let positions = outcome.positions.0.as_ref();
        self.mode_is_faulty
            || positions.is_some_and(PositionTally::is_faulty)
            || wrong > 0
            || (lost > 0 && !self.losses_excused)
    }

    /// Prints it as it was asked for.
    ///
    /// # Errors
    ///
    /// That nobody could read it.
    pub(crate) fn print(&self, output: &Output) -> Result<()> {
        if output.json {
            let json = serde_json::to_string_pretty(self)?;
            print(&(json + "\n"))
        } else {
            print(&text::render(include_str!("../assets/report.txt"), self))
        }
    }
}

fn parameters(setup: &Setup) -> Value {
    let scenario = &setup.scenario;
    let (mode, load) = setup.mode.load();
    // The last group is the one that the flags describe.
    let group = scenario.groups.last().expect("a scenario has a group");
    let (window, rate) = match group.pacing {
        _ if mode == IDLE => (None, None),
        Pacing::Closed { window } => (Some(window), None),
        Pacing::Open { per_second } => (None, Some(per_second)),
    };
    json!({
        "name": scenario.name,
        "mode": mode,
        "url": setup.target.url,
        "wire": setup.target.wire.name,
        "rooms": group.rooms,
        "members": group.members_per_room,
        // Connections beside them that come and go.
        "visitors_max": Some(load.visitors_max()).filter(|max| *max > 0),
        "publishers": group.publishers,
        "window": window,
        "rate": rate,
        "payload_bytes": scenario.payload_bytes,
        "seconds": scenario.measured.as_secs_f64(),
        "warmup_seconds": scenario.warmup.as_secs_f64(),
        "threads": setup.threads,
        "pin": setup.pin,
    })
}

/// Writes to standard output; a reader that wants no more of it, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
