//! Some members never read, or slowly: what becomes of them, of the others, and of the server's memory.
//!
//! First everybody reads and the latency is taken; then the slow ones stop, and it is taken again at
//! the same rate. Everybody else is verified strictly. At the end the slow ones' sockets are read to
//! find what the server did to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::clock::Clock;
use crate::driver::{Driver, Passed, SlowEnd, SlowFate};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::meanwhile::meanwhile;
use crate::opening::listed;
use crate::process::ServerProcess;
use crate::report::Latency;
use crate::report::figures::Bytes;
use crate::run::Run;
use crate::scenario::Group;
use crate::sockets;

/// The flags of `slow`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// How many of a hundred members stop reading; one at least does
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    slow_percent: u8,

    /// How many bytes a second a slow member still reads; at 0 it reads nothing
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    slow_read_rate: u64,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        let group = self.rooms.open(self.rate)?;
        if u64::from(group.publishers) == group.connections() {
            return Err(Failure::Arguments(
                "a member that publishes is not slow; give more --members than --publishers",
            ));
        }
        Ok(vec![group])
    }

    /// At a hundred a second, a member that does not read is behind by what a socket holds within
    /// seconds.
    fn payload_bytes(&self) -> usize {
        16 * 1024
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let members = run.setup.scenario.connections();
        choose(&mut run.fleet, self.slow_percent, members)?;
        run.assemble()?;
        let without = run.measure(&[0])?;
        let (server, clock) = (run.setup.server.as_ref(), run.clock);
        let mut watched = begin(&mut run.fleet, self.slow_read_rate, clock)?;
        let with = watched.meanwhile(server, clock, || run.measure(&[0]))?;
        let mut outcome = finish(&mut run.fleet, &watched)?;
        outcome.latency_without_us = Latency::of(&without.latencies.each_ns);
        outcome.latency_with_us = Latency::of(&with.latencies.each_ns);
        run.report(&with);
        run.report.add_fault(outcome.is_faulty());
        run.report.add_section("slow", &outcome);
        Ok(())
    }
}

/// What came of it. The names are the JSON's.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) slow_members: usize,
    /// The others' latency while everybody reads.
    pub(crate) latency_without_us: Option<Latency>,
    /// And while the slow ones do not.
    pub(crate) latency_with_us: Option<Latency>,
    /// Slow members whose connection was open at the end.
    pub(crate) connected: u64,
    /// The most bytes that the kernel held for a slow member, at the server's end and at this one.
    pub(crate) queued_bytes_max: u64,
    /// What it held at the end for all that were connected.
    pub(crate) queued_bytes_sum: u64,
    /// Slow members that the server closed, by code.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Those whose connection ended without a close frame.
    pub(crate) cut_off: u64,
    /// When the first and the last was closed, in seconds since they stopped reading.
    pub(crate) closed_after_seconds: Option<(f64, f64)>,
    /// What slow members found in their sockets at the end.
    pub(crate) deliveries_left: u64,
    /// What was missing in between, repeated or out of order or truncated.
    pub(crate) skipped: u64,
    pub(crate) misdelivered: u64,
    /// How old what they read was while they read slowly, in seconds: half of it at most, and all of it.
    pub(crate) age_seconds: Option<(f64, f64)>,
    /// What they were told about what is missing, on a wire with positions.
    pub(crate) gaps: Option<Gaps>,
    /// The server's memory at its highest while they did not read.
    pub(crate) server_pss_peak_bytes: Option<u64>,
}

/// What is missing in the slow members' sockets, by offsets. The names are the JSON's.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Gaps {
    /// Publications that are not there. Of members that were closed, only those in front of others that
    /// are.
    pub(crate) missing: u64,
    /// Those of them that a `gap` announced.
    pub(crate) announced: u64,
    /// Those that nobody spoke of.
    pub(crate) unannounced: u64,
    /// Offsets that came again, gaps of what was sent, and whatever else was wrong.
    pub(crate) faults: u64,
    pub(crate) first_fault: Option<String>,
}

impl Gaps {
    fn is_faulty(&self) -> bool {
        self.unannounced + self.faults > 0
    }

    fn add(&mut self, passed: &Passed) {
        self.missing += passed.missing;
        self.announced += passed.announced;
        self.unannounced += passed.unannounced;
        self.faults += passed.faults;
        if self.first_fault.is_none() {
            self.first_fault.clone_from(&passed.first_fault);
        }
    }
}

impl Outcome {
    /// Whether what the slow ones received was wrong. That they did not receive everything is what the
    /// mode is about; that they were not told so is wrong where it can be told.
    pub(crate) fn is_faulty(&self) -> bool {
        self.misdelivered > 0 || self.gaps.as_ref().is_some_and(Gaps::is_faulty)
    }
}

/// What is seen of slow members from outside, while they do not read.
#[derive(Debug, Default)]
struct Watched {
    began_ns: u64,
    /// By the server's end; none once it is not open any more.
    open: HashMap<(SocketAddr, SocketAddr), Option<Seen>>,
    closed_after_ns: Vec<u64>,
    queued_bytes_max: u64,
    pss_peak_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Whether the server's end was among this machine's connections.
    was_there: bool,
    unsent_bytes: u64,
    unread_bytes: u64,
}

impl Seen {
    fn queued_bytes(self) -> u64 {
        self.unsent_bytes + self.unread_bytes
    }
}

/// Chooses, before anybody connects, who will be slow.
fn choose(fleet: &mut Fleet<'_>, percent: u8, members: u64) -> Result<(), Failure> {
    let silent = fleet.each(|driver| Ok(driver.silent_members().len()))?;
    let shares = shares((members * u64::from(percent) / 100).max(1), &silent);
    fleet
        .each(|driver| {
            driver.choose_slow(shares[driver.thread()]);
            Ok(())
        })
        .map(drop)
}

/// Lets the slow members stop reading, or nearly; publications must not be under way.
fn begin(fleet: &mut Fleet<'_>, read_rate: u64, clock: Clock) -> Result<Watched, Failure> {
    let slow = fleet.each(|driver: &mut Driver<'_>| driver.read_no_faster(read_rate))?;
    // The server's end is the other one's reverse.
    let ends = slow
        .into_iter()
        .flatten()
        .map(|(own, server)| (server, own));
    Ok(Watched {
        began_ns: clock.now_ns(),
        open: ends.map(|end| (end, Some(Seen::default()))).collect(),
        ..Watched::default()
    })
}

impl Watched {
    /// Does `work`, and watches the slow members and the server's memory in the meantime.
    fn meanwhile<T>(
        &mut self,
        server: Option<&ServerProcess>,
        clock: Clock,
        work: impl FnOnce() -> T,
    ) -> T {
        let mut look = || {
            self.look(clock.now_ns());
            let pss_bytes = server.and_then(ServerProcess::pss_bytes);
            self.pss_peak_bytes = self.pss_peak_bytes.max(pss_bytes);
        };
        meanwhile(LOOK_INTERVAL, &mut look, work)
    }

    fn look(&mut self, now_ns: u64) {
        let connections = sockets::connections();
        for (&end, seen) in &mut self.open {
            let Some(before) = seen else { continue };
            let (local, remote) = end;
            let own = connections.get(&(remote, local));
            before.unread_bytes = own.map_or(0, |own| own.unread_bytes);
            match connections.get(&end) {
                Some(server) if server.is_established => {
                    before.was_there = true;
                    before.unsent_bytes = server.unsent_bytes;
                    let queued_bytes = before.queued_bytes();
                    self.queued_bytes_max = self.queued_bytes_max.max(queued_bytes);
                }
                // On another machine the server's end is never there.
                None if !before.was_there => {}
                _ => {
                    self.closed_after_ns.push(now_ns - self.began_ns);
                    *seen = None;
                }
            }
        }
    }
}

/// Reads the slow members' sockets, and says what became of them.
fn finish(fleet: &mut Fleet<'_>, watched: &Watched) -> Result<Outcome, Failure> {
    let fates = fleet.each(|driver| Ok(driver.read_slow()))?;
    let fates: Vec<SlowFate> = fates.into_iter().flatten().collect();
    let mut outcome = Outcome {
        slow_members: fates.len(),
        queued_bytes_max: watched.queued_bytes_max,
        closed_after_seconds: closed_after(&watched.closed_after_ns),
        server_pss_peak_bytes: watched.pss_peak_bytes,
        ..Outcome::default()
    };
    for fate in &fates {
        outcome.add(fate);
    }
    let ages = fates.iter().flat_map(|fate| &fate.ages_ns).copied();
    outcome.age_seconds = half_and_all(ages.collect());
    let open = watched.open.values().flatten();
    outcome.queued_bytes_sum = open.map(|seen| seen.queued_bytes()).sum();
    Ok(outcome)
}

impl Outcome {
    fn add(&mut self, fate: &SlowFate) {
        match fate.end {
            SlowEnd::Closed(code) => *self.closed.entry(code.to_string()).or_default() += 1,
            SlowEnd::Connected => self.connected += 1,
            SlowEnd::CutOff => self.cut_off += 1,
        }
        self.deliveries_left += fate.received;
        self.skipped += fate.faults.lost;
        self.misdelivered += fate.faults.repeated + fate.faults.reordered + fate.faults.truncated;
        if let Some(passed) = &fate.positions {
            self.gaps.get_or_insert_default().add(passed);
        }
    }
}

/// The median and the largest, in seconds.
fn half_and_all(mut ages_ns: Vec<u64>) -> Option<(f64, f64)> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    ages_ns.sort_unstable();
    let half = ages_ns.get(ages_ns.len() / 2)?;
    Some((seconds(*half), seconds(*ages_ns.last()?)))
}

fn closed_after(after_ns: &[u64]) -> Option<(f64, f64)> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let first = *after_ns.iter().min()?;
    let last = *after_ns.iter().max()?;
    Some((seconds(first), seconds(last)))
}

/// How many each gets of what is dealt out by turns, where nobody gets more than it can have.
fn shares(mut wanted: u64, most: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; most.len()];
    while wanted > 0 && shares != most {
        for (share, &most) in shares.iter_mut().zip(most) {
            let one = usize::from(*share < most && wanted > 0);
            *share += one;
            wanted -= one as u64;
        }
    }
    shares
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (latency, when) in [
            (&self.latency_without_us, "everybody reading"),
            (&self.latency_with_us, "beside the slow"),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "latency        {}, {when}", latency.in_words())?;
            }
        }
        let (slow, connected, cut_off) = (self.slow_members, self.connected, self.cut_off);
        write!(f, "slow members   {slow}: {connected} still connected, ")?;
        write!(f, "{cut_off} cut off, closed with code: ")?;
        writeln!(f, "{}", listed(&self.closed))?;
        if let Some((first, last)) = self.closed_after_seconds {
            writeln!(f, "               closed after {first:.1} to {last:.1} s")?;
        }
        let (most, sum) = (self.queued_bytes_max / 1024, self.queued_bytes_sum / 1024);
        writeln!(
            f,
            "               {most} KiB at most in the kernel for one, {sum} KiB for all at the end"
        )?;
        let (left, skipped) = (self.deliveries_left, self.skipped);
        writeln!(
            f,
            "               {left} deliveries left in their sockets, {skipped} skipped, {} wrong",
            self.misdelivered
        )?;
        if let Some((half, all)) = self.age_seconds {
            writeln!(
                f,
                "               {half:.2} s old was what they read, at most {all:.2} s"
            )?;
        }
        if let Some(gaps) = &self.gaps {
            write!(f, "{gaps}")?;
        }
        match self.server_pss_peak_bytes {
            Some(peak) => writeln!(f, "memory peak    {}", Bytes(peak as f64)),
            None => Ok(()),
        }
    }
}

impl Display for Gaps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (missing, announced) = (self.missing, self.announced);
        write!(
            f,
            "gaps           {missing} missing by offset, {announced} announced, "
        )?;
        writeln!(f, "{} unannounced, {} wrong", self.unannounced, self.faults)?;
        match &self.first_fault {
            Some(fault) => writeln!(f, "               {fault}"),
            None => Ok(()),
        }
    }
}

/// How often it is looked how the slow members are. Listing the connections of the machine takes the
/// kernel milliseconds however few they are, in which the generator, on the same CPU, reads nothing:
/// a hundredth of the time would be in the 99th percentile of the others' latency.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_are_dealt_out_as_far_as_there_are_any() {
        assert_eq!(shares(5, &[10, 10]), [3, 2]);
        assert_eq!(shares(5, &[0, 1, 10]), [0, 1, 4]);
        assert_eq!(shares(9, &[2, 2]), [2, 2]);
    }
}
