//! Connections come and go all the time, beside residents who stay: what a visit takes, and whether
//! anybody misses anything.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, to_ns};
use crate::driver::{VisitPlan, VisitTally};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::opening::listed;
use crate::report::Latency;
use crate::sequence::Faults;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Visitors a second, by the clock.
    pub(crate) per_second: f64,
    /// How many may be there at a time.
    pub(crate) visitors_max: u32,
    /// What each publishes before it leaves.
    pub(crate) publications: u32,
    /// The share that leaves by a reset.
    pub(crate) rst_percent: u8,
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
pub(crate) fn run(
    fleet: &mut Fleet<'_>,
    options: Options,
    measured: Duration,
    clock: Clock,
) -> Result<Outcome, Failure> {
    let threads = u32::try_from(fleet.threads()).unwrap_or(u32::MAX);
    let interval_ns = to_ns(Duration::from_secs_f64(1.0 / options.per_second));
    let start_ns = clock.now_ns();
    let parts = fleet.each(|driver| {
        let thread = u32::try_from(driver.thread()).unwrap_or(u32::MAX);
        let visitors_max = options.visitors_max / threads;
        let one_more = u32::from(thread < options.visitors_max % threads);
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
            writeln!(f, "  handshakes   {handshake}")?;
        }
        if let Some(join) = &self.join_us {
            writeln!(f, "  joins        {join}")?;
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
