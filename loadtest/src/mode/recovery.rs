//! Many come back for what they missed: what that does to those who were there all along.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::{Setup, units};
use crate::clock::{Clock, to_ns};
use crate::driver::{Loss, ReturnPlan, Returned, Staying};
use crate::fleet::Fleet;
use crate::meanwhile::{MEMORY_INTERVAL, meanwhile};
use crate::monitor::Measured;
use crate::positions::{PositionTally, Recovery};
use crate::run::Run;
use crate::scenario::{Group, Pacing};
use crate::tally::{Latencies, Latency};

/// The flags of `recovery`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in total in these rooms, while latency is measured
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = units::rate)]
    rate: f64,

    /// Members of each room that stay; publishers stay too
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = units::count())]
    live: u32,

    /// Publications to each room while the others are away
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = units::count())]
    missed: u32,

    /// Time over which the others return, evenly spread: seconds, or 500ms
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = units::duration)]
    within: Duration,

    /// Connection attempts at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = units::count())]
    together: u32,

    /// Latency above which a live delivery counts as late, with its unit
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = units::latency)]
    limit: Duration,

    /// How long to wait for members that have not recovered: seconds, or 1m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::some_duration)]
    patience: Duration,
}

/// The other room: enough for a thousand deliveries in a second, far too little to load anybody.
const OTHER_ROOM: Group = Group {
    urgent: true,
    ..Group::alike(1, 10, 1, Pacing::Open { per_second: 100.0 })
};

/// Their places among the groups.
const OTHER: usize = 0;
const ROOMS: usize = 1;

impl Load for Options {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![OTHER_ROOM, self.rooms.open(self.rate)?])
    }

    fn needs_positions(&self) -> bool {
        true
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let staying = Staying::First {
            group: ROOMS,
            members: self.live,
        };
        let apart = run.fleet.each(|driver| {
            driver.choose_away(staying);
            Ok(driver.ledger.tally_apart(&driver.away))
        })?;
        let returning = run.fleet.total(|driver| driver.away.len() as u64);
        ensure!(
            returning > 0,
            "conflicting flags: nobody returns, because --live members and publishers stay; give \
             more --members"
        );
        run.assemble()?;
        let other_calm = run.measure(&[OTHER, ROOMS])?.latencies.each;
        let same_calm = run.fleet.latencies(ROOMS).each;
        self.miss(run)?;
        let before = positions(run);
        run.fleet.start(&[OTHER, ROOMS]);
        let (setup, clock) = (run.setup, run.clock);
        let comes_back = |fleet: &mut Fleet<'_>| self.come_back(fleet, setup, clock);
        let (measured, (returned, peak)) =
            run.measure_while("recovering", self.within, comes_back)?;
        let same = run.fleet.latencies(ROOMS).each;
        let not_served = returned.not_served;
        let limit_ns = to_ns(self.limit);
        let report = Report {
            live_members: run.setup.scenario.groups[ROOMS].connections() - returning,
            returning_members: returning,
            missed: self.missed,
            within_seconds: self.within.as_secs_f64(),
            recovery: positions(run).since(&before),
            returned,
            limit_us: limit_ns as f64 / 1e3,
            same_room: Live::of(same_calm, same.clone(), limit_ns),
            other_room: Live::of(other_calm, measured.latencies.each, limit_ns),
            returned_live_us: run.fleet.latencies(apart[0]).each,
            server_pss_peak_bytes: peak,
        };
        let latencies = Latencies {
            each: same,
            ..Latencies::default()
        };
        run.report.set_measured(Measured {
            interval: measured.interval,
            latencies,
        });
        run.report.add_section("recovery", &report, not_served > 0);
        Ok(())
    }
}

fn positions(run: &Run<'_>) -> PositionTally {
    run.fleet.outcome().positions.0.unwrap_or_default()
}

impl Options {
    /// Drops those who will come back, and publishes what they miss.
    fn miss(&self, run: &mut Run<'_>) -> Result<()> {
        run.watch_while("missing", |fleet| {
            fleet.drop_away()?;
            fleet.each(|driver| driver.publish_in_each_room(ROOMS, self.missed))
        })?;
        run.drain()
    }

    /// Brings them back; returns how, and the most memory that the server had.
    fn come_back(
        &self,
        fleet: &mut Fleet<'_>,
        setup: &Setup,
        clock: Clock,
    ) -> Result<(Returned, Option<u64>)> {
        let from_ns = clock.now_ns();
        let plan = ReturnPlan {
            loss: Loss::Dropped,
            together: (self.together / fleet.threads()).max(1),
            from_ns,
            within_ns: to_ns(self.within),
            end_ns: from_ns + to_ns(self.within + self.patience),
            keeps_pauses: true,
            is_hopeless: None,
        };
        let server = setup.server.as_ref();
        let (returned, peak) = meanwhile(server, MEMORY_INTERVAL, || (), || fleet.come_back(&plan));
        Ok((returned?, peak))
    }
}

/// What came of it. The names are the JSON's.
#[derive(Debug, Serialize)]
struct Report {
    /// Members of the rooms who stayed.
    live_members: u64,
    returning_members: u64,
    /// What was published to each room while they were away.
    missed: u32,
    within_seconds: f64,
    #[serde(flatten)]
    recovery: Recovery,
    #[serde(flatten)]
    returned: Returned,
    limit_us: f64,
    /// Of those who stayed.
    same_room: Live,
    /// Of a room that nobody left.
    other_room: Live,
    /// Of those who came back: what was published after that.
    returned_live_us: Latency,
    server_pss_peak_bytes: Option<u64>,
}

/// How late deliveries were to members who were there.
#[derive(Debug, Serialize)]
struct Live {
    /// While everybody was there.
    calm_us: Latency,
    /// While the others recovered.
    meanwhile_us: Latency,
    /// Deliveries that took longer than the limit meanwhile.
    late: u64,
}

impl Live {
    fn of(calm_us: Latency, meanwhile_us: Latency, limit_ns: u64) -> Self {
        let late = meanwhile_us.count_over(limit_ns);
        Self {
            calm_us,
            meanwhile_us,
            late,
        }
    }
}
