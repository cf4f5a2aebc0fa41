//! What is printed: one structure, as a text for people and as JSON for programs.
//!
//! A figure that was not measured is `null` in the JSON and absent in the text. The names of fields
//! are the JSON's, which other programs read: they stay.

#![expect(clippy::print_stderr, reason = "printing is this file's work")]

pub(crate) mod figures;
pub(crate) mod latency;
mod list;
mod text;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;
use serde_json::Value;

use self::figures::ratio;
pub(crate) use self::latency::Latency;
pub(crate) use self::list::{print_scenario, print_scenarios};
use self::verdict::{Kind, Verdict};
use crate::cli::{Output, Setup};
use crate::clock;
use crate::driver::Connected;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::interval::Interval;
use crate::machine::{self, Machine};
use crate::positions::PositionTally;
use crate::process::ServerProcess;
use crate::scenario::{Group, Pacing};
use crate::sequence::Faults;
use crate::series::Point;

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// This program's.
    version: &'static str,
    /// The program and its arguments.
    command: Vec<String>,
    /// When the run began, in UTC.
    started: String,
    machine: Machine,
    pub(crate) server: Server,
    scenario: Parameters,
    /// What the program decided by itself.
    notes: Vec<String>,
    /// Whether Ctrl-C ended the run.
    interrupted: bool,
    connections: u32,
    connects_per_second: f64,
    /// How long deliveries were counted.
    measured_seconds: f64,
    publications: u64,
    publications_per_second: f64,
    deliveries: u64,
    deliveries_per_second: f64,
    /// How many frames a read of a member's socket brought.
    deliveries_per_read: Option<f64>,
    latency_us: Option<Latency>,
    /// To the last member, of publications that reached everybody.
    latency_last_us: Option<Latency>,
    server_cpu_us_per_delivery: Option<f64>,
    server_cpu_percent: Option<f64>,
    /// Of what the server can use, see [`verdict::Usage`].
    server_busy_percent: Option<f64>,
    driver_cpu_us_per_delivery: Option<f64>,
    driver_cpu_percent: f64,
    /// Of one core, by neither the server nor this program.
    others_cpu_percent: Option<f64>,
    #[serde(flatten)]
    faults: Faults,
    /// What was heard of offsets and answers, on a wire with positions.
    positions: Option<PositionTally>,
    /// `msg` events with what this run did not publish, or not to that member.
    unreadable: u64,
    /// Publications that were not waited for any longer. What came of them later counts; what did not is lost.
    given_up: u64,
    /// How long the generator stood still while publications were under way: its latencies and
    /// rates are the machine's then, not the server's.
    stood_still_seconds: f64,
    disconnected: u64,
    first_disconnect: Option<String>,
    server_errors: u64,
    first_server_error: Option<String>,
    pub(crate) server_pss_bytes: Memory,
    /// Of idle connections.
    bytes_per_connection: Option<f64>,
    pub(crate) neighbour: Option<Neighbour>,
    /// Who was the bottleneck.
    verdict: Kind,
    /// Everything that is to be said about the figures.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) series: Vec<Point>,
    /// What a mode has to say beyond all this, by its name.
    #[serde(flatten)]
    sections: BTreeMap<&'static str, Value>,
    /// The same for people.
    #[serde(skip)]
    section_texts: Vec<String>,
    /// Whether the mode looked for losses and found them.
    #[serde(skip)]
    losses_excused: bool,
    /// Whether it found another fault.
    #[serde(skip)]
    mode_is_faulty: bool,
}

/// Who was loaded.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) pid: Option<u32>,
    /// Its command line.
    pub(crate) command: Option<String>,
    /// The `Server` header of its answers.
    pub(crate) version: Option<String>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
struct Parameters {
    /// The scenario's, if it has one.
    name: Option<String>,
    mode: &'static str,
    url: String,
    wire: String,
    rooms: u32,
    members: u32,
    /// Connections beside them that come and go.
    visitors_max: Option<u32>,
    publishers: u32,
    window: Option<u32>,
    rate: Option<f64>,
    payload_bytes: usize,
    seconds: f64,
    warmup_seconds: f64,
    threads: usize,
    pin: Vec<usize>,
}

/// The server's proportional set size.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Before the first connection.
    pub(crate) before: Option<u64>,
    /// At the end of what was measured, with all connections open.
    pub(crate) after: Option<u64>,
}

/// The small room's latency.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Neighbour {
    pub(crate) alone: Option<Latency>,
    pub(crate) flooded: Option<Latency>,
}

/// The mode that publishes nothing before its end.
const IDLE: &str = "idle";

impl Report {
    /// A report of nothing yet.
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
            scenario: Parameters::of(setup),
            notes: setup.notes.clone(),
            interrupted: false,
            connections: 0,
            connects_per_second: 0.0,
            measured_seconds: 0.0,
            publications: 0,
            publications_per_second: 0.0,
            deliveries: 0,
            deliveries_per_second: 0.0,
            deliveries_per_read: None,
            latency_us: None,
            latency_last_us: None,
            server_cpu_us_per_delivery: None,
            server_cpu_percent: None,
            server_busy_percent: None,
            driver_cpu_us_per_delivery: None,
            driver_cpu_percent: 0.0,
            others_cpu_percent: None,
            faults: Faults::default(),
            positions: None,
            unreadable: 0,
            given_up: 0,
            stood_still_seconds: 0.0,
            disconnected: 0,
            first_disconnect: None,
            server_errors: 0,
            first_server_error: None,
            server_pss_bytes: Memory::default(),
            bytes_per_connection: None,
            neighbour: None,
            verdict: Kind::Unknown,
            verdicts: Vec::new(),
            series: Vec::new(),
            sections: BTreeMap::new(),
            section_texts: Vec::new(),
            losses_excused: false,
            mode_is_faulty: false,
        }
    }

    /// Takes over how the connections were opened.
    pub(crate) fn set_connected(&mut self, connected: Connected) {
        self.connections = connected.connections;
        let rate = ratio(
            f64::from(connected.connections),
            connected.elapsed.as_secs_f64(),
        );
        self.connects_per_second = rate.unwrap_or_default();
    }

    /// Takes over what was measured.
    pub(crate) fn set_interval(&mut self, interval: &Interval) {
        let seconds = interval.elapsed.as_secs_f64();
        let deliveries = interval.deliveries as f64;
        let per_delivery = |used: f64| ratio(used * 1e6, deliveries);
        let server_cpu = interval.server.cpu.map(|used| used.as_secs_f64());
        let usage = interval.usage();
        self.measured_seconds = seconds;
        self.publications = interval.publications;
        self.publications_per_second =
            ratio(interval.publications as f64, seconds).unwrap_or_default();
        self.deliveries = interval.deliveries;
        self.deliveries_per_second = ratio(deliveries, seconds).unwrap_or_default();
        self.deliveries_per_read = ratio(deliveries, interval.reads as f64);
        self.server_cpu_us_per_delivery = server_cpu.and_then(per_delivery);
        self.server_cpu_percent = interval.server.cpu_percent();
        self.server_busy_percent = usage.server_busy_percent;
        let driver_cpu = interval.driver_cpu.as_secs_f64();
        self.driver_cpu_us_per_delivery = per_delivery(driver_cpu);
        self.driver_cpu_percent = ratio(driver_cpu * 100.0, seconds).unwrap_or_default();
        let cpus = machine::cpus() as f64;
        self.others_cpu_percent = usage.others_percent.map(|percent| percent * cpus);
        self.verdict = verdict::bottleneck(&usage);
        self.verdicts.extend(verdict::verdicts(&usage));
    }

    /// Takes over how late deliveries were, to each member and to the last.
    pub(crate) fn set_latencies(&mut self, each: Option<Latency>, last: Option<Latency>) {
        self.latency_us = each;
        self.latency_last_us = last;
    }

    /// Takes over what idle connections cost, and who received the last publication.
    pub(crate) fn set_idle(&mut self, memory: &Memory, connected: Connected, received: u32) {
        self.deliveries = u64::from(received);
        self.faults.lost = u64::from(connected.connections - received);
        let grown = memory.after.zip(memory.before);
        self.bytes_per_connection = grown.and_then(|(after, before)| {
            ratio(
                after as f64 - before as f64,
                f64::from(connected.connections),
            )
        });
    }

    /// Adds what went wrong with the drivers, of which a run may have several one after the other.
    pub(crate) fn add_outcome(&mut self, fleet: &Fleet<'_>) {
        let (errors, disconnects) = (fleet.errors(), fleet.disconnects());
        self.interrupted = fleet.is_interrupted();
        self.faults += fleet.ledger().faults();
        if let Some(mut positions) = fleet.positions() {
            if self.interrupted {
                positions.unacknowledged = 0; // nobody waited for that either
            }
            *self.positions.get_or_insert_default() += &positions;
        }
        if self.interrupted && self.scenario.mode == IDLE {
            self.faults.lost = 0; // nobody waited for the last publication
        }
        self.unreadable += fleet.ledger().unreadable();
        self.given_up += fleet.ledger().given_up();
        self.stood_still_seconds += fleet.stood_still().as_secs_f64();
        self.disconnected += disconnects.count;
        let first = &mut self.first_disconnect;
        *first = first.take().or(disconnects.first_reason);
        self.server_errors += errors.count;
        let first = &mut self.first_server_error;
        *first = first.take().or(errors.first_text);
    }

    /// Lost deliveries and members are what was looked for, and no fault of this run.
    pub(crate) fn excuse_losses(&mut self, excused: bool) {
        self.losses_excused = excused;
    }

    /// Deliveries are not what the processors' time went into.
    pub(crate) fn forget_cost_of_deliveries(&mut self) {
        self.server_cpu_us_per_delivery = None;
        self.driver_cpu_us_per_delivery = None;
        self.deliveries_per_read = None;
    }

    /// Something went wrong that the mode has in its section.
    pub(crate) fn add_fault(&mut self, is_faulty: bool) {
        self.mode_is_faulty |= is_faulty;
    }

    /// Adds what a mode has to say: an object of the JSON under `key`, and a paragraph of the text.
    pub(crate) fn add_section<S: Serialize + Display>(&mut self, key: &'static str, section: &S) {
        let json = serde_json::to_value(section).expect("numbers and strings are JSON");
        self.sections.insert(key, json);
        self.section_texts.push(section.to_string());
    }

    /// Whether anything went wrong with a delivery; the exit code is then 1.
    pub(crate) fn is_faulty(&self) -> bool {
        let Faults {
            lost,
            repeated,
            reordered,
            truncated,
        } = self.faults;
        let wrong = repeated + reordered + truncated + self.unreadable;
        let lost = lost + self.disconnected + self.server_errors;
        let positions = self.positions.as_ref();
        let is_against_protocol = positions.is_some_and(PositionTally::is_faulty);
        self.mode_is_faulty
            || is_against_protocol
            || wrong > 0
            || (lost > 0 && !self.losses_excused)
    }

    /// Prints it as it was asked for.
    ///
    /// # Errors
    ///
    /// [`Failure::System`] if nobody could read it.
    pub(crate) fn print(&self, output: &Output) -> Result<(), Failure> {
        if output.json {
            print(&format!("{}\n", self.json()))
        } else {
            print(&self.to_string())
        }
    }

    /// Everything, in the order of the fields.
    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are JSON")
    }
}

impl Parameters {
    fn of(setup: &Setup) -> Self {
        let scenario = &setup.scenario;
        let mode = setup.mode.load().name();
        // The last group is the one that the flags describe.
        let Group {
            rooms,
            members_per_room,
            publishers,
            pacing,
            ..
        } = *scenario.groups.last().expect("a scenario has a group");
        let (window, rate) = match pacing {
            _ if mode == IDLE => (None, None),
            Pacing::Closed { window } => (Some(window), None),
            Pacing::Open { per_second } => (None, Some(per_second)),
        };
        Self {
            name: scenario.name.clone(),
            mode,
            url: setup.target.url.clone(),
            wire: setup.target.wire.name.clone(),
            rooms,
            members: members_per_room,
            visitors_max: Some(setup.mode.load().visitors_max()).filter(|max| *max > 0),
            publishers,
            window,
            rate,
            payload_bytes: scenario.payload_bytes,
            seconds: scenario.measured.as_secs_f64(),
            warmup_seconds: scenario.warmup.as_secs_f64(),
            threads: setup.threads,
            pin: setup.pin.clone(),
        }
    }
}

/// Writes to standard output; a reader that wants no more of it, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::System(error)),
        _ => Ok(()),
    }
}

/// Prints why there is no report.
pub(crate) fn print_failure(failure: &Failure) {
    eprintln!("loadtest: {failure}");
}
