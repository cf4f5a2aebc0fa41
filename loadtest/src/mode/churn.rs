//! Connections come and go all the time, beside residents who stay: what a visit takes, and whether
//! anybody misses anything.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::Load;
use super::rooms::check_connections;
use crate::cli::units;
use crate::clock::to_ns;
use crate::driver::{VisitPlan, VisitTally};
use crate::fleet::Fleet;
use crate::run::Run;
use crate::scenario::{Group, Pacing};
use crate::tally::{ratio, sum};

/// The flags of `churn`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Number of rooms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::count())]
    rooms: u32,

    /// Maximum number of connections per room: a tenth stay, the others are visitors
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = units::count().range(2..))]
    members: u32,

    /// Visitors per second in total
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// Publications of each visitor before it leaves
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = units::count())]
    publications: u32,

    /// Percentage of visitors that leave with a TCP reset instead of a close frame
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = units::percent(0))]
    rst_percent: u8,
}

/// Of a hundred connections, those who stay.
const RESIDENT_PERCENT: u32 = 10;

/// What residents publish in each room: enough to find a gap within a visit of seconds, too little
/// to load anybody.
const RESIDENT_PER_SECOND: f64 = 10.0;

impl Options {
    fn residents_per_room(&self) -> u32 {
        (self.members * RESIDENT_PERCENT / 100).max(1)
    }

    /// Lets visitors come and go for so long; residents publish as they were started to.
    fn visit(
        &self,
        fleet: &mut Fleet<'_>,
        start_ns: u64,
        measured: Duration,
    ) -> Result<VisitTally> {
        let (threads, visitors_max) = (fleet.threads(), self.visitors_max());
        let interval_ns = to_ns(Duration::from_secs_f64(1.0 / self.rate));
        let tallies = fleet.each(|driver| {
            let thread = u32::try_from(driver.plan.thread).expect("there are 256 at the most");
            let one_more = u32::from(thread < visitors_max % threads);
            driver.receive_visitors(VisitPlan {
                first_due_ns: start_ns + interval_ns * u64::from(thread),
                interval_ns: interval_ns * u64::from(threads),
                end_ns: start_ns + to_ns(measured),
                visitors_max: (visitors_max / threads + one_more).max(1),
                publications: self.publications,
                rst_percent: self.rst_percent,
            })
        });
        tallies.map(sum)
    }
}

impl Load for Options {
    /// Returns those who stay.
    fn groups(&self) -> Result<Vec<Group>> {
        check_connections(self.rooms, self.members)?;
        let per_second = RESIDENT_PER_SECOND * f64::from(self.rooms);
        let residents = self.residents_per_room();
        Ok(vec![Group::alike(
            self.rooms,
            residents,
            self.rooms,
            Pacing::Open { per_second },
        )])
    }

    fn visitors_max(&self) -> u32 {
        self.rooms
            .saturating_mul(self.members - self.residents_per_room())
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.assemble()?;
        run.fleet.start(&[0]);
        let (measured, start_ns) = (run.setup.scenario.measured, run.clock.now_ns());
        let visit = |fleet: &mut Fleet<'_>| self.visit(fleet, start_ns, measured);
        let (residents, visits) = run.measure_while("visiting", measured, visit)?;
        let interval = &residents.interval;
        let connects = visits.opening.connects as f64;
        let counted_seconds = interval.measured_seconds.min(measured.as_secs_f64());
        let cpu_us = interval.server_cpu.map(|used| used.as_secs_f64() * 1e6);
        let churn = Churn {
            connects_per_second: ratio(connects, counted_seconds).unwrap_or_default(),
            server_cpu_us_per_connect: cpu_us.and_then(|cpu_us| ratio(cpu_us, connects)),
            visits,
        };
        run.report.set_measured(residents);
        run.report.forget_cost_of_deliveries();
        run.report
            .add_section("churn", &churn, churn.visits.is_faulty());
        Ok(())
    }
}

/// What came of it. The names are the JSON's.
#[derive(Debug, Serialize)]
struct Churn {
    /// Handshakes answered with 101, from the first visitor to the departure of the last.
    connects_per_second: f64,
    /// What the server used for a visitor, residents and all.
    server_cpu_us_per_connect: Option<f64>,
    #[serde(flatten)]
    visits: VisitTally,
}
