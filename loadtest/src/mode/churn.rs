//! Connections come and go all the time, beside residents who stay: what a visit takes, and whether
//! anybody misses anything.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Load;
use super::rooms::check_connections;
use crate::cli::units;
use crate::clock::{Clock, to_ns};
use crate::driver::{VisitPlan, VisitTally};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::opening::listed;
use crate::report::Latency;
use crate::run::Run;
use crate::scenario::{Group, Pacing};
use crate::sequence::Faults;

/// The flags of `churn`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Number of rooms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,

    /// Connections in each room, at most: a tenth stay, the others are visitors
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    members: u32,

    /// Visitors per second in all
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// How often a visitor publishes before it leaves
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publications: u32,

    /// How many of a hundred visitors leave by a reset, and not cleanly
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    rst_percent: u8,
}

/// Of a hundred connections, those who stay.
const RESIDENT_PERCENT: u32 = 10;

/// What residents publish in each room: enough to find a gap within a visit of seconds, too little to
/// load anybody.
const RESIDENT_PER_SECOND: f64 = 10.0;

impl Options {
    fn residents_per_room(&self) -> u32 {
        (self.members * RESIDENT_PERCENT / 100).max(1)
    }
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "churn"
    }

    /// Those who stay.
    fn groups(&self) -> Result<Vec<Group>, Failure> {
        check_connections(self.rooms, self.members)?;
        Ok(vec![Group {
            rooms: self.rooms,
            members_per_room: self.residents_per_room(),
            publishers: self.rooms,
            pacing: Pacing::Open {
                per_second: RESIDENT_PER_SECOND * f64::from(self.rooms),
            },
            urgent: false,
        }])
    }

    fn visitors_max(&self) -> u32 {
        self.rooms
            .saturating_mul(self.members - self.residents_per_room())
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        run.start(&[0]);
        let (measured, clock) = (run.setup.scenario.measured, run.clock);
        let (residents, mut outcome) = run.measure_while("visiting", measured, |fleet| {
            visit(fleet, self, measured, clock)
        })?;
        run.report(&residents);
        run.report.forget_cost_of_deliveries();
        outcome.set_server_cpu(residents.interval.server.cpu);
        run.report.add_fault(outcome.is_faulty());
        run.report.add_section("churn", &outcome);
        Ok(())
    }
}

/// What came of it. The names are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) attempts: u64,
    /// Handshakes answered with 101, from the first visitor to the departure of the last.
    pub(crate) connects: u64,
    pub(crate) connects_per_second: f64,
    /// What the server used for a visitor, residents and all.
    pub(crate) server_cpu_us_per_connect: Option<f64>,
    /// Visitors who received a publication of their own.
    pub(crate) joins: u64,
    /// Visitors who were late because the others had not left.
    pub(crate) held_back: u64,
    /// From when a visitor was due to its 101.
    pub(crate) handshake_us: Option<Latency>,
    /// From when a visitor was due to the first publication of its own that it received.
    pub(crate) join_us: Option<Latency>,
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) visitor_publications: u64,
    pub(crate) visitor_deliveries: u64,
    pub(crate) left_by_reset: u64,
    pub(crate) left_cleanly: u64,
    /// Close frames that the server did not answer with one.
    pub(crate) closes_unanswered: u64,
    /// Visitors that the server ended, by what it said.
    pub(crate) ended_by_server: BTreeMap<String, u64>,
    /// Unexpected messages to visitors.
    pub(crate) visitor_complaints: u64,
    /// Of deliveries to visitors; those to residents are counted with everybody's.
    pub(crate) visitor_faults: Faults,
}

impl Outcome {
    /// Whether visitors did not get what they should have. A refusal or an unanswered close is no
    /// fault of a delivery.
    pub(crate) fn is_faulty(&self) -> bool {
        self.visitor_faults != Faults::default()
            || self.visitor_complaints > 0
            || !self.ended_by_server.is_empty()
    }
}

/// Lets visitors come and go for so long; residents publish as they were started to.
fn visit(
    fleet: &mut Fleet<'_>,
    options: &Options,
    measured: Duration,
    clock: Clock,
) -> Result<Outcome, Failure> {
    let threads = u32::try_from(fleet.threads()).unwrap_or(u32::MAX);
    let interval_ns = to_ns(Duration::from_secs_f64(1.0 / options.rate));
    let start_ns = clock.now_ns();
    let parts = fleet.each(|driver| {
        let thread = u32::try_from(driver.thread()).unwrap_or(u32::MAX);
        let visitors_max = options.visitors_max() / threads;
        let one_more = u32::from(thread < options.visitors_max() % threads);
        driver.receive_visitors(VisitPlan {
            first_due_ns: start_ns + interval_ns * u64::from(thread),
            interval_ns: interval_ns * u64::from(threads),
            end_ns: start_ns + to_ns(measured),
            visitors_max: (visitors_max + one_more).max(1),
            publications: options.publications,
            rst_percent: options.rst_percent,
        })
    })?;
    let mut tally = VisitTally::new();
    parts.iter().for_each(|part| tally.add(part));
    let seconds = (clock.now_ns() - start_ns) as f64 / 1e9;
    Ok(Outcome::of(tally, seconds.min(measured.as_secs_f64())))
}

impl Outcome {
    /// Takes over what the server used in the meantime.
    pub(crate) fn set_server_cpu(&mut self, used: Option<Duration>) {
        let per_connect = |used: Duration| used.as_secs_f64() * 1e6 / self.connects as f64;
        self.server_cpu_us_per_connect = used.filter(|_| self.connects > 0).map(per_connect);
    }

    fn of(tally: VisitTally, seconds: f64) -> Self {
        Self {
            attempts: tally.opening.attempts,
            connects: tally.opening.opened,
            server_cpu_us_per_connect: None,
            connects_per_second: tally.opening.opened as f64 / seconds,
            joins: tally.joins,
            held_back: tally.held_back,
            handshake_us: Latency::of(&tally.opening.handshake_ns),
            join_us: Latency::of(&tally.join_ns),
            refusals: tally.opening.refusals_by_name(),
            visitor_publications: tally.publications,
            visitor_deliveries: tally.deliveries,
            left_by_reset: tally.left_by_reset,
            left_cleanly: tally.left_cleanly,
            closes_unanswered: tally.closes_unanswered,
            ended_by_server: tally.ended,
            visitor_complaints: tally.complaints,
            visitor_faults: tally.faults,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (rate, connects, joins) = (self.connects_per_second, self.connects, self.joins);
        write!(
            f,
            "visitors       {rate:.0} per second, {connects} connected, "
        )?;
        writeln!(f, "{joins} joined, {} held back", self.held_back)?;
        writeln!(f, "  refused      {}", listed(&self.refusals))?;
        if let Some(handshake) = &self.handshake_us {
            writeln!(f, "  handshakes   {}", handshake.in_words())?;
        }
        if let Some(join) = &self.join_us {
            writeln!(f, "  joins        {}", join.in_words())?;
        }
        if let Some(us) = self.server_cpu_us_per_connect {
            writeln!(
                f,
                "  server CPU   {us:.0} us per visitor, residents and all"
            )?;
        }
        let (cleanly, by_reset) = (self.left_cleanly, self.left_by_reset);
        let unanswered = self.closes_unanswered;
        writeln!(
            f,
            "  left         {cleanly} cleanly, {unanswered} of them unanswered, {by_reset} by reset"
        )?;
        if !self.ended_by_server.is_empty() {
            writeln!(f, "  ended        {}", listed(&self.ended_by_server))?;
        }
        let Faults {
            lost,
            repeated,
            reordered,
            truncated,
        } = self.visitor_faults;
        write!(f, "  faults       {lost} lost, {repeated} repeated, ")?;
        writeln!(f, "{reordered} reordered, {truncated} truncated")
    }
}
