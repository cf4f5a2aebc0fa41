//! Some members never read, or slowly: what becomes of them, of the others, and of the server's
//! memory.
//!
//! First everybody reads and the latency is taken; then the slow ones stop, and it is taken again
//! at the same rate. Everybody else is verified strictly. At the end the slow ones' sockets are
//! read to find what the server did to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use procfs::net::TcpState;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::driver::SlowTally;
use crate::fleet::Fleet;
use crate::meanwhile::meanwhile;
use crate::run::Run;
use crate::scenario::Group;
use crate::sockets;
use crate::tally::{Latency, sum};

/// The flags of `slow`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in total
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// Percentage of members that stop reading; at least one does
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = units::percent(1))]
    slow_percent: u8,

    /// Bytes that a slow member still reads per second; 0 stops it
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    slow_read_rate: u64,
}

/// How often it is looked how the slow members are. Listing the connections of the machine takes
/// the kernel milliseconds however few they are, in which the generator, on the same CPU, reads
/// nothing: a hundredth of the time would be in the 99th percentile of the others' latency.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Load for Options {
    fn groups(&self) -> Result<Vec<Group>> {
        let group = self.rooms.open(self.rate)?;
        ensure!(
            u64::from(group.publishers) < group.connections(),
            "conflicting flags: a member that publishes is not slow; give more --members \
             than --publishers"
        );
        Ok(vec![group])
    }

    /// Returns a length at which, a hundred a second, a member that does not read is behind by what
    /// a socket holds within seconds.
    fn payload_bytes(&self) -> usize {
        16 * 1024
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        self.choose(&mut run.fleet, run.setup.scenario.connections())?;
        run.assemble()?;
        let without = run.measure(&[0])?;
        let slow = run
            .fleet
            .each(|driver| driver.read_no_faster(self.slow_read_rate))?;
        let (server, clock) = (run.setup.server.as_ref(), run.clock);
        let mut watched = Watched::begin(slow.into_iter().flatten(), clock.now_ns());
        let look = || watched.look(clock.now_ns());
        let (with, peak) = meanwhile(server, LOOK_INTERVAL, look, || run.measure(&[0]));
        let with = with?;
        let tally: SlowTally = sum(run.fleet.each(|driver| Ok(driver.read_slow()))?);
        let is_faulty = tally.is_faulty();
        let ages = tally.age.us(0.5).zip(tally.age.us(1.0));
        let open = watched.open.values().flatten();
        let report = Report {
            latency_without_us: without.latencies.each,
            latency_with_us: with.latencies.each.clone(),
            age_seconds: ages.map(|(half, all)| (half / 1e6, all / 1e6)),
            tally,
            queued_bytes_max: watched.queued_bytes_max,
            queued_bytes_sum: open.map(|seen| seen.unsent_bytes + seen.unread_bytes).sum(),
            closed_after_seconds: watched.closed_after_seconds,
            server_pss_peak_bytes: peak,
        };
        run.report.set_measured(with);
        run.report.add_section("slow", &report, is_faulty);
        Ok(())
    }
}

impl Options {
    /// Chooses who, before anybody connects, will be slow.
    fn choose(&self, fleet: &mut Fleet<'_>, members: u64) -> Result<()> {
        let silent = fleet.each(|driver| Ok(driver.silent_members().len()))?;
        let shares = shares(
            (members * u64::from(self.slow_percent) / 100).max(1),
            &silent,
        );
        let chosen = fleet.each(|driver| {
            driver.choose_slow(shares[driver.plan.thread]);
            Ok(())
        });
        chosen.map(drop)
    }
}

/// What came of it. The names are the JSON's.
#[derive(Debug, Serialize)]
struct Report {
    /// The others' latency while everybody reads.
    latency_without_us: Latency,
    /// And while the slow ones do not.
    latency_with_us: Latency,
    #[serde(flatten)]
    tally: SlowTally,
    /// The most bytes that the kernel held for a slow member, at the server's end and at this one.
    queued_bytes_max: u64,
    /// What it held at the end for all that were connected.
    queued_bytes_sum: u64,
    /// When the first and the last was closed, in seconds since they stopped reading.
    closed_after_seconds: Option<(f64, f64)>,
    /// How old what they read was while they read slowly: half of it at most, and all of it.
    age_seconds: Option<(f64, f64)>,
    /// The server's memory at its highest while they did not read.
    server_pss_peak_bytes: Option<u64>,
}

/// What is seen of slow members from outside, while they do not read.
struct Watched {
    began_ns: u64,
    /// By the server's end; none once it is not open any more.
    open: HashMap<(SocketAddr, SocketAddr), Option<Seen>>,
    closed_after_seconds: Option<(f64, f64)>,
    queued_bytes_max: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Whether the server's end was among this machine's connections.
    was_there: bool,
    unsent_bytes: u64,
    unread_bytes: u64,
}

impl Watched {
    /// Begins with sockets by their addresses, this end first.
    fn begin(slow: impl Iterator<Item = (SocketAddr, SocketAddr)>, began_ns: u64) -> Self {
        Self {
            began_ns,
            // The server's end is the other one's reverse.
            open: slow
                .map(|(own, server)| ((server, own), Some(Seen::default())))
                .collect(),
            closed_after_seconds: None,
            queued_bytes_max: 0,
        }
    }

    fn look(&mut self, now_ns: u64) {
        let connections = sockets::connections();
        for (&end, seen) in &mut self.open {
            let Some(before) = seen else { continue };
            let own = connections.get(&(end.1, end.0));
            before.unread_bytes = own.map_or(0, |own| own.rx_queue.into());
            match connections.get(&end) {
                Some(server) if server.state == TcpState::Established => {
                    before.was_there = true;
                    before.unsent_bytes = server.tx_queue.into();
                    let queued_bytes = before.unsent_bytes + before.unread_bytes;
                    self.queued_bytes_max = self.queued_bytes_max.max(queued_bytes);
                }
                // On another machine the server's end is never there.
                None if !before.was_there => {}
                _ => {
                    let after = (now_ns - self.began_ns) as f64 / 1e9;
                    let (first, _) = self.closed_after_seconds.unwrap_or((after, after));
                    self.closed_after_seconds = Some((first, after));
                    *seen = None;
                }
            }
        }
    }
}

/// Deals something out by turns, where nobody gets more than it can have; returns how many each
/// gets.
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
