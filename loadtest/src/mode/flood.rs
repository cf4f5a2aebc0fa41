//! Clients that send as fast as they can, beside a small quiet room: what that does to the room's
//! latency, and to somebody who asks for a page.
//!
//! The room is measured alone, and then beside a flood of each kind, one after the other. A flood
//! is measured from its first moment, in three equal parts: a queue that grows as long as the flood
//! lasts shows as a last third that is later than the first.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::Load;
use super::plain::SMALL_ROOM;
use crate::cli::units;
use crate::driver::LATE_MAX;
use crate::flood::visitor::{self, Answers};
use crate::flood::{self, Background, Kind, Tally};
use crate::meanwhile::meanwhile;
use crate::monitor::Measured;
use crate::run::Run;
use crate::scenario::Group;
use crate::tally::{Counts, Latency, ratio};

/// The flags of `flood`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Connections that send as fast as the socket accepts it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::up_to(16))]
    flooders: u32,

    /// What they send, separated by commas: one flood after the other, each of one kind
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        default_value = "msg"
    )]
    kind: Vec<Kind>,

    /// Read what the server answers; without this, answers pile up
    #[arg(long)]
    read: bool,

    /// Path requested over HTTP ten times a second, on a new connection each time; any status
    /// counts as an answer
    #[arg(long, value_name = "PATH", default_value = "/healthz", value_parser = page)]
    page: String,

    /// Limit for the small room's 99th percentile beside each flood, with its unit: 10ms, 500us; if
    /// it is exceeded, the exit code is 1 [default: none]
    #[arg(long, value_name = "TIME", value_parser = units::latency)]
    p99: Option<Duration>,
}

fn page(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_path
        .then(|| text.to_owned())
        .ok_or_else(|| "not a path such as /healthz".to_owned())
}

/// A flood is measured in so many equal parts.
const PARTS: u32 = 3;

/// How often the server's memory is looked at: while it is read, the server's own requests for
/// memory wait, and a hundredth of the time would be in the 99th percentile.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

impl Load for Options {
    /// Returns the small room. The flood's own are in no book.
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![SMALL_ROOM])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.assemble()?;
        let visitor = self.visitor(run);
        let mut shown = run.measure(&[0])?;
        let mut report = Report {
            flooders: self.flooders,
            reads: self.read,
            p99_limit_us: self.p99_us(),
            over_limit: 0,
            alone_us: shown.latencies.each.clone(),
            page_alone_us: visitor.end().answered,
            p99_us_by_kind: BTreeMap::new(),
            floods: Vec::new(),
        };
        for &kind in &self.kind {
            if run.is_interrupted() {
                break;
            }
            let (mut parts, row) = self.flood(run, kind)?;
            shown = parts.pop().unwrap_or(shown);
            report.over_limit += u64::from(row.is_over_limit);
            report
                .p99_us_by_kind
                .extend(row.p99_us().map(|p99_us| (kind.name(), p99_us)));
            report.floods.push(row);
        }
        run.report.set_measured(shown);
        run.report.forget_cost_of_deliveries();
        run.report
            .add_section("flood", &report, report.over_limit > 0);
        Ok(())
    }
}

impl Options {
    fn p99_us(&self) -> Option<f64> {
        self.p99.map(|limit| limit.as_secs_f64() * 1e6)
    }

    fn visitor(&self, run: &Run<'_>) -> Background<Answers> {
        visitor::start(run.clock, &run.setup.target, &self.page)
    }

    /// Measures the room beside a flood of one kind.
    fn flood(&self, run: &mut Run<'_>, kind: Kind) -> Result<(Vec<Measured>, Row)> {
        let Some(flood) = flood::start(&run.setup.target, kind, self.flooders, self.read) else {
            return Ok((
                Vec::new(),
                Row {
                    kind,
                    is_unspeakable: true,
                    ..Row::default()
                },
            ));
        };
        let visitor = self.visitor(run);
        let (server, began_ns) = (run.setup.server.as_ref(), run.clock.now_ns());
        let measure = || measure(run, kind);
        let (measured, peak) = meanwhile(server, MEMORY_INTERVAL, || (), measure);
        let seconds = (run.clock.now_ns() - began_ns) as f64 / 1e9;
        flood.iter().for_each(Background::stop);
        let answers = visitor.end();
        let (parts, is_starved) = measured?;
        if is_starved {
            // What was only late comes now, and is not the next flood's.
            run.drain()?;
        }
        let mut row = Row {
            kind,
            is_starved,
            server_pss_peak_bytes: peak,
            ..Row::of(&parts, answers)
        };
        let over = |limit_us| row.p99_us().is_some_and(|p99_us| p99_us > limit_us);
        row.is_over_limit = self.p99_us().is_some_and(over);
        for flooder in flood {
            row.add(flooder.end(), seconds);
        }
        Ok((parts, row))
    }
}

/// Measures the parts of a flood, and returns whether deliveries did not come for so long that
/// nobody waited any more. Nothing is measured behind that.
fn measure(run: &mut Run<'_>, kind: Kind) -> Result<(Vec<Measured>, bool)> {
    let faults = run.faults_so_far();
    let (mut parts, mut is_starved) = (Vec::new(), false);
    for part in 1..=PARTS {
        if run.is_interrupted() || is_starved {
            break;
        }
        run.fleet.start(&[0]);
        let name = format!("{} flood, part {part} of {PARTS}", kind.name());
        parts.push(run.measure_for(&name, run.setup.scenario.measured / PARTS, None)?);
        is_starved = run.faults_so_far() > faults;
    }
    Ok((parts, is_starved))
}

/// What came of it. The names are the JSON's.
#[derive(Debug, Serialize)]
struct Report {
    flooders: u32,
    /// Whether they read.
    reads: bool,
    p99_limit_us: Option<f64>,
    /// Kinds with which the limit was exceeded.
    over_limit: u64,
    /// The room's latency without a flood.
    alone_us: Latency,
    /// How long the page took without a flood.
    page_alone_us: Latency,
    /// The room's, by kind; of one that starved, what nobody waited for any longer.
    p99_us_by_kind: BTreeMap<String, f64>,
    floods: Vec<Row>,
}

/// One flood.
#[derive(Debug, Default, Serialize)]
struct Row {
    kind: Kind,
    /// Whether the wire has no words for it; nothing was measured then.
    is_unspeakable: bool,
    /// The room's latency beside it.
    room_us: Latency,
    /// Of each part of the time.
    parts_p99_us: Vec<f64>,
    /// What the last part's is of the first's.
    growth: Option<f64>,
    /// Whether the room missed deliveries for so long that nobody waited any more.
    is_starved: bool,
    is_over_limit: bool,
    page_us: Latency,
    /// Questions for the page without an answer.
    page_unanswered: u64,
    /// What the server took of each flooder.
    taken_bytes_per_second: Vec<f64>,
    connections: u64,
    /// Connections of flooders that the server ended or did not open, by how.
    ended: Counts,
    server_cpu_percent: Option<f64>,
    server_pss_peak_bytes: Option<u64>,
}

impl Row {
    fn of(parts: &[Measured], answers: Answers) -> Self {
        let mut row = Self {
            page_us: answers.answered,
            page_unanswered: answers.unanswered,
            ..Self::default()
        };
        let (mut cpu, mut seconds) = (Some(0.0), 0.0);
        for Measured {
            interval,
            latencies,
        } in parts
        {
            row.room_us += &latencies.each;
            row.parts_p99_us.extend(latencies.each.us(0.99));
            seconds += interval.measured_seconds;
            let used = interval.server_cpu_percent.zip(cpu);
            cpu = used.map(|(percent, sum)| sum + percent * interval.measured_seconds);
        }
        if let [first, .., last] = row.parts_p99_us[..] {
            row.growth = ratio(last, first);
        }
        row.server_cpu_percent = cpu.and_then(|cpu| ratio(cpu, seconds));
        row
    }

    /// Adds what one flooder did in this time.
    fn add(&mut self, tally: Tally, seconds: f64) {
        let taken = ratio(tally.taken_bytes as f64, seconds);
        self.taken_bytes_per_second.push(taken.unwrap_or_default());
        self.connections += tally.connections;
        self.ended += tally.ended;
    }

    /// Returns the room's 99th percentile; where it starved, at least what was waited for.
    fn p99_us(&self) -> Option<f64> {
        let waited = self.is_starved.then(|| LATE_MAX.as_secs_f64() * 1e6);
        self.room_us
            .us(0.99)
            .into_iter()
            .chain(waited)
            .reduce(f64::max)
    }
}
