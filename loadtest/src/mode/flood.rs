//! Clients that send as fast as they can, beside a small quiet room: what that does to the room's latency,
//! and to somebody who asks for a page.
//!
//! The room is measured alone, and then beside a flood of each kind, one after the other. A flood is
//! measured from its first moment, in three equal parts: a queue that grows as long as the flood lasts
//! shows as a last third that is later than the first.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Load;
use super::neighbour::SMALL_ROOM;
use crate::cli::units;
use crate::driver::LATE_MAX;
use crate::failure::Failure;
use crate::flood::visitor::{Answers, Visitor};
use crate::flood::{Flood, Kind, Tally};
use crate::latencies::Latencies;
use crate::meanwhile::meanwhile;
use crate::opening::listed;
use crate::process::ServerProcess;
use crate::report::Latency;
use crate::report::figures::{Bytes, Micros, ratio};
use crate::run::{self, Run};
use crate::scenario::Group;

/// The flags of `flood`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Connections that send as fast as the socket takes it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    flooders: u32,

    /// What they send, separated by commas: a flood of each kind, one after the other
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        default_value = "msg"
    )]
    kind: Vec<Kind>,

    /// Flooders read what the server answers; without, the answers pile up
    #[arg(long)]
    read: bool,

    /// The page that is asked for ten times a second, each time on a connection of its own; any status
    /// is an answer
    #[arg(long, value_name = "PATH", default_value = "/healthz", value_parser = page)]
    page: String,

    /// The latency that 99 of 100 deliveries to the small room may have beside each flood, with its unit:
    /// 10ms, 500us. If it is exceeded the exit code is 1 [default: any]
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

/// How often the server's memory is looked at: while it is read, the server's own requests for memory
/// wait, and a hundredth of the time would be in the 99th percentile.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

impl Load for Options {
    fn name(&self) -> &'static str {
        "flood"
    }

    /// The small room. The flood's own are in no book.
    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![SMALL_ROOM])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        let visitor = self.visitor(run);
        let mut shown = run.measure(&[0])?;
        let mut outcome = Outcome::new(self, &shown.latencies, &visitor.end());
        for &kind in &self.kind {
            if run.is_interrupted() {
                break;
            }
            let (parts, row) = self.flood(run, kind)?;
            outcome.add(row);
            shown = parts.into_iter().next_back().unwrap_or(shown);
        }
        run.report(&shown);
        run.report.forget_cost_of_deliveries();
        run.report.add_fault(outcome.over_limit > 0);
        run.report.add_section("flood", &outcome);
        Ok(())
    }
}

impl Options {
    fn visitor(&self, run: &Run<'_>) -> Visitor {
        Visitor::start(run.clock, &run.setup.target, &self.page)
    }

    /// Measures the room beside a flood of one kind.
    fn flood(&self, run: &mut Run<'_>, kind: Kind) -> Result<(Vec<run::Outcome>, Row), Failure> {
        let Some(flood) = Flood::start(&run.setup.target, kind, self.flooders, self.read) else {
            return Ok((Vec::new(), Row::unspeakable(kind)));
        };
        let visitor = self.visitor(run);
        let server = run.setup.server.clone();
        let mut peak = None;
        let look = || peak = peak.max(server.as_ref().and_then(ServerProcess::pss_bytes));
        let began_ns = run.clock.now_ns();
        let measured = meanwhile(MEMORY_INTERVAL, look, || measure(run, kind));
        let seconds = (run.clock.now_ns() - began_ns) as f64 / 1e9;
        let tallies = flood.end();
        let answers = visitor.end();
        let Measured { parts, is_starved } = measured?;
        if is_starved {
            // What was only late comes now, and is not the next flood's.
            run.drain()?;
        }
        let mut row = Row::of(kind, &parts, is_starved, self.p99);
        row.set_flood(&tallies, seconds);
        row.set_answers(&answers);
        row.server_pss_peak_bytes = peak;
        Ok((parts, row))
    }
}

/// What was measured beside a flood.
struct Measured {
    parts: Vec<run::Outcome>,
    /// Whether deliveries did not come for so long that nobody waited any more. Nothing is measured behind
    /// that.
    is_starved: bool,
}

fn measure(run: &mut Run<'_>, kind: Kind) -> Result<Measured, Failure> {
    let faults = run.faults_so_far();
    let mut measured = Measured {
        parts: Vec::new(),
        is_starved: false,
    };
    for part in 1..=PARTS {
        if run.is_interrupted() || measured.is_starved {
            break;
        }
        run.start(&[0]);
        let name = format!("{} flood, part {part} of {PARTS}", kind.name());
        let outcome = run.measure_for(name, run.setup.scenario.measured / PARTS, None)?;
        measured.parts.push(outcome);
        measured.is_starved = run.faults_so_far() > faults;
    }
    Ok(measured)
}

/// What came of it. The names are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    flooders: u32,
    /// Whether they read.
    reads: bool,
    p99_limit_us: Option<f64>,
    /// Kinds with which the limit was exceeded.
    over_limit: u64,
    /// The room's latency without a flood.
    alone_us: Option<Latency>,
    /// How long the page took without a flood.
    page_alone_us: Option<Latency>,
    /// The room's, by kind; of one that starved, what nobody waited for any longer.
    p99_us_by_kind: BTreeMap<String, f64>,
    floods: Vec<Row>,
}

/// One flood.
#[derive(Clone, Debug, Serialize)]
struct Row {
    kind: Kind,
    /// Whether the wire has no words for it; nothing was measured then.
    is_unspeakable: bool,
    /// The room's latency beside it.
    room_us: Option<Latency>,
    /// Of each part of the time.
    parts_p99_us: Vec<f64>,
    /// What the last part's is of the first's.
    growth: Option<f64>,
    /// Whether the room missed deliveries for so long that nobody waited any more.
    is_starved: bool,
    is_over_limit: bool,
    page_us: Option<Latency>,
    /// Questions for the page without an answer.
    page_unanswered: u64,
    /// What the server took of each flooder.
    taken_bytes_per_second: Vec<f64>,
    connections: u64,
    /// Connections of flooders that the server ended or did not open, by how.
    ended: BTreeMap<String, u64>,
    server_cpu_percent: Option<f64>,
    server_pss_peak_bytes: Option<u64>,
}

impl Outcome {
    fn new(options: &Options, alone: &Latencies, answers: &Answers) -> Self {
        Self {
            flooders: options.flooders,
            reads: options.read,
            p99_limit_us: options.p99.map(|limit| limit.as_secs_f64() * 1e6),
            over_limit: 0,
            alone_us: Latency::of(&alone.each_ns),
            page_alone_us: Latency::of(&answers.answered_ns),
            p99_us_by_kind: BTreeMap::new(),
            floods: Vec::new(),
        }
    }

    fn add(&mut self, row: Row) {
        if let Some(p99_us) = row.p99_us() {
            self.p99_us_by_kind.insert(row.kind.name(), p99_us);
        }
        self.over_limit += u64::from(row.is_over_limit);
        self.floods.push(row);
    }
}

impl Row {
    /// Of a kind that the wire cannot say.
    fn unspeakable(kind: Kind) -> Self {
        Self {
            is_unspeakable: true,
            ..Self::of(kind, &[], false, None)
        }
    }

    fn of(kind: Kind, parts: &[run::Outcome], is_starved: bool, limit: Option<Duration>) -> Self {
        let mut room = Latencies::default();
        parts.iter().for_each(|part| room.merge(&part.latencies));
        let p99_us = |part: &run::Outcome| Latency::of(&part.latencies.each_ns).map(|it| it.p99);
        let parts_p99_us: Vec<f64> = parts.iter().filter_map(p99_us).collect();
        let growth = match parts_p99_us[..] {
            [first, .., last] => ratio(last, first),
            _ => None,
        };
        let seconds = |time: Duration| time.as_secs_f64();
        let cpu = parts
            .iter()
            .map(|part| part.interval.server.cpu.map(seconds));
        let elapsed = parts
            .iter()
            .map(|part| seconds(part.interval.server.elapsed));
        let cpu: Option<f64> = cpu.sum();
        let mut row = Self {
            kind,
            is_unspeakable: false,
            room_us: Latency::of(&room.each_ns),
            parts_p99_us,
            growth,
            is_starved,
            is_over_limit: false,
            page_us: None,
            page_unanswered: 0,
            taken_bytes_per_second: Vec::new(),
            connections: 0,
            ended: BTreeMap::new(),
            server_cpu_percent: cpu.and_then(|cpu| ratio(cpu * 100.0, elapsed.sum())),
            server_pss_peak_bytes: None,
        };
        let over = |p99_us: f64| limit.is_some_and(|limit| p99_us > limit.as_secs_f64() * 1e6);
        row.is_over_limit = row.p99_us().is_some_and(over);
        row
    }

    /// The room's 99th percentile; where it starved, at least what was waited for.
    fn p99_us(&self) -> Option<f64> {
        let measured = self.room_us.as_ref().map(|room| room.p99);
        let waited = self.is_starved.then(|| LATE_MAX.as_secs_f64() * 1e6);
        measured.into_iter().chain(waited).reduce(f64::max)
    }

    fn set_flood(&mut self, tallies: &[Tally], seconds: f64) {
        for tally in tallies {
            let taken = ratio(tally.taken_bytes as f64, seconds);
            self.taken_bytes_per_second.push(taken.unwrap_or_default());
            self.connections += tally.connections;
            for (how, &count) in &tally.ended {
                *self.ended.entry(how.clone()).or_default() += count;
            }
        }
    }

    fn set_answers(&mut self, answers: &Answers) {
        self.page_us = Latency::of(&answers.answered_ns);
        self.page_unanswered = answers.unanswered;
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let reading = if self.reads {
            "that read"
        } else {
            "that do not read"
        };
        writeln!(f, "flooders       {} {reading}", self.flooders)?;
        let [kind, p50, p99, max, growth] = ["beside", "p50", "p99", "max", "growth"];
        let [page, server, memory] = ["page p99", "server", "memory"];
        write!(
            f,
            "{kind:<12} {p50:>9} {p99:>9} {max:>9} {growth:>7} {page:>9} "
        )?;
        writeln!(f, "{server:>7} {memory:>9}  taken per second")?;
        let alone = Line {
            room: self.alone_us.as_ref(),
            page: self.page_alone_us.as_ref(),
            ..Line::default()
        };
        writeln!(f, "{:<12} {alone}", "no flood")?;
        self.floods.iter().try_for_each(|row| write!(f, "{row}"))?;
        match self.p99_limit_us.map(Micros) {
            Some(limit) if self.over_limit > 0 => {
                writeln!(f, "p99 is over {limit} beside {} floods", self.over_limit)
            }
            Some(limit) => writeln!(f, "p99 is within {limit} beside every flood"),
            None => Ok(()),
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        if self.is_unspeakable {
            return writeln!(f, "{kind:<12} cannot be said on this wire");
        }
        let line = Line {
            room: self.room_us.as_ref(),
            page: self.page_us.as_ref(),
            growth: self.growth,
            server_cpu_percent: self.server_cpu_percent,
            server_pss_bytes: self.server_pss_peak_bytes,
        };
        write!(f, "{kind:<12} {line}")?;
        let taken = self
            .taken_bytes_per_second
            .iter()
            .map(|&taken| Bytes(taken));
        let taken: Vec<String> = taken.map(|taken| taken.to_string()).collect();
        writeln!(f, "  {}", taken.join(", "))?;
        if self.is_starved {
            writeln!(f, "{:<12} the room missed deliveries for 5 s or more", "")?;
        }
        if self.page_unanswered > 0 {
            let unanswered = self.page_unanswered;
            writeln!(
                f,
                "{:<12} {unanswered} questions for the page unanswered",
                ""
            )?;
        }
        if !self.ended.is_empty() {
            let (connections, ended) = (self.connections, listed(&self.ended));
            writeln!(f, "{:<12} {connections} connections, ended: {ended}", "")?;
        }
        Ok(())
    }
}

/// The columns that floods and their absence have in common.
#[derive(Default)]
struct Line<'a> {
    room: Option<&'a Latency>,
    page: Option<&'a Latency>,
    growth: Option<f64>,
    server_cpu_percent: Option<f64>,
    server_pss_bytes: Option<u64>,
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let us = |us: Option<f64>| or_dash(us.map(|us| Micros(us).to_string()));
        let room = |figure: fn(&Latency) -> f64| us(self.room.map(figure));
        let [p50, p99, max] = [room(|it| it.p50), room(|it| it.p99), room(|it| it.max)];
        let page = us(self.page.map(|it| it.p99));
        let growth = or_dash(self.growth.map(|growth| format!("x {growth:.1}")));
        let server = or_dash(
            self.server_cpu_percent
                .map(|percent| format!("{percent:.0} %")),
        );
        let memory = self
            .server_pss_bytes
            .map(|bytes| Bytes(bytes as f64).to_string());
        let memory = or_dash(memory);
        write!(
            f,
            "{p50:>9} {p99:>9} {max:>9} {growth:>7} {page:>9} {server:>7} {memory:>9}"
        )
    }
}
