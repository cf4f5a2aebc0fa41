//! Everybody drops at once and comes back at once: how long until all are served again, and at what
//! cost.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::clock::{Clock, to_ns};
use crate::driver::{Driver, Returned};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::latencies::latency_histogram;
use crate::meanwhile::peak_memory;
use crate::opening::{OpeningTally, listed};
use crate::process::ServerProcess;
use crate::report::Latency;
use crate::report::figures::Bytes;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `storm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all, between the storms
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// How often everybody drops
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    storms: u32,

    /// How many connections may be under way at a time; over the server's queue of those to be
    /// accepted, some are retransmitted after a second
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    together: u32,

    /// How long those who are not served are waited for: a number of seconds, or 1m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::some_duration)]
    patience: Duration,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "storm"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let rooms = run.setup.scenario.groups.iter().map(|group| group.rooms);
        let rooms = rooms.sum();
        run.assemble()?;
        let mut calm = run.measure(&[0])?;
        let mut outcome = Outcome::default();
        for number in 1..=self.storms {
            let (server, clock) = (run.setup.server.as_ref(), run.clock);
            let storm = run.watch_while(format!("storm {number}"), |fleet| {
                strike(fleet, self, rooms, server, clock)
            })?;
            if run.is_interrupted() {
                break; // nobody waited for those who are not back
            }
            let all_are_back = storm.not_served == 0;
            outcome.storms.push(storm);
            if !all_are_back {
                break;
            }
            // That all are served is proved by publications that nobody may miss.
            calm = run.measure(&[0])?;
        }
        run.report(&calm);
        run.report.add_fault(outcome.is_faulty());
        run.report.add_section("storm", &outcome);
        Ok(())
    }
}

/// One storm. The names are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Storm {
    /// From the drop until the last member had joined and received a publication.
    pub(crate) all_served_seconds: f64,
    /// How many members were not served when patience ended.
    pub(crate) not_served: u64,
    pub(crate) rooms_emptied: u32,
    pub(crate) attempts: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    /// From the drop until each member was served. Whoever was not last waited for a round of
    /// publications, of which there are ten a second.
    pub(crate) served_us: Option<Latency>,
    /// From each attempt that succeeded to its 101.
    pub(crate) handshake_us: Option<Latency>,
    pub(crate) server_pss_peak_bytes: Option<u64>,
}

/// What came of all storms.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) storms: Vec<Storm>,
}

impl Outcome {
    /// Whether somebody was not served.
    pub(crate) fn is_faulty(&self) -> bool {
        self.storms.iter().any(|storm| storm.not_served > 0)
    }
}

/// Drops everybody and brings them back; publications must not be under way.
fn strike(
    fleet: &mut Fleet<'_>,
    options: &Options,
    rooms: u32,
    server: Option<&ServerProcess>,
    clock: Clock,
) -> Result<Storm, Failure> {
    let threads = u32::try_from(fleet.threads()).unwrap_or(u32::MAX);
    let together = (options.together / threads).max(1);
    let dropped_ns = clock.now_ns();
    let end_ns = dropped_ns + to_ns(options.patience);
    let (returned, peak) = peak_memory(server, || {
        fleet.each(|driver| {
            driver.drop_all();
            Ok(())
        })?;
        fleet.each(|driver| Driver::come_back(driver, together, dropped_ns, end_ns))
    });
    Ok(Storm::of(&returned?, rooms, peak))
}

impl Storm {
    fn of(returned: &[Returned], rooms_emptied: u32, peak: Option<u64>) -> Self {
        let mut opening = OpeningTally::new();
        let mut served_ns: Histogram<u64> = latency_histogram();
        for part in returned {
            opening.add(&part.opening);
            served_ns
                .add(&part.served_ns)
                .expect("all histograms have the same bounds");
        }
        let last_ns = returned.iter().map(|part| part.last_ns).max();
        Self {
            all_served_seconds: last_ns.unwrap_or_default() as f64 / 1e9,
            not_served: returned.iter().map(|part| u64::from(part.missing)).sum(),
            rooms_emptied,
            attempts: opening.attempts,
            refusals: opening.refusals_by_name(),
            served_us: Latency::of(&served_ns),
            handshake_us: Latency::of(&opening.handshake_ns),
            server_pss_peak_bytes: peak,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, storm) in (1..).zip(&self.storms) {
            write!(f, "storm {number}        ")?;
            if storm.not_served > 0 {
                write!(f, "{} NOT served, the others", storm.not_served)?;
            } else {
                write!(f, "all served")?;
            }
            let Storm {
                all_served_seconds: seconds,
                rooms_emptied: rooms,
                attempts,
                ..
            } = storm;
            writeln!(f, " after {seconds:.3} s, {rooms} rooms emptied")?;
            let refusals = listed(&storm.refusals);
            writeln!(f, "               {attempts} attempts, refused: {refusals}")?;
            if let Some(served) = &storm.served_us {
                writeln!(f, "  served       {}", served.in_words())?;
            }
            if let Some(handshake) = &storm.handshake_us {
                writeln!(f, "  handshakes   {}", handshake.in_words())?;
            }
            if let Some(peak) = storm.server_pss_peak_bytes {
                writeln!(f, "  memory peak  {}", Bytes(peak as f64))?;
            }
        }
        Ok(())
    }
}
