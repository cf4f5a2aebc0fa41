//! Many come back for what they missed: what that does to those who were there all along.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use super::storm::AllReturned;
use crate::cli::units;
use crate::clock::to_ns;
use crate::driver::{Loss, ReturnPlan, Staying};
use crate::failure::Failure;
use crate::meanwhile::peak_memory;
use crate::opening::listed;
use crate::positions::PositionTally;
use crate::report::Latency;
use crate::report::figures::{Bytes, Micros};
use crate::run::Run;
use crate::scenario::{Group, Pacing};

/// The flags of `recovery`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all in these rooms, while the latency is measured
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = units::rate)]
    rate: f64,

    /// How many members of each room stay, with those who publish
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    live: u32,

    /// Publications to each room while the others are away
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    missed: u32,

    /// The time within which they come back, evenly spread: a number of seconds, or 500ms
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = units::duration)]
    within: Duration,

    /// How many connections may be under way at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    together: u32,

    /// What no live delivery may take longer than, with its unit
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = units::latency)]
    limit: Duration,

    /// How long those who have not recovered are waited for: a number of seconds, or 1m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::some_duration)]
    patience: Duration,
}

/// The other room: enough for a thousand deliveries in a second, far too little to load anybody.
const OTHER_ROOM: Group = Group {
    rooms: 1,
    members_per_room: 10,
    publishers: 1,
    pacing: Pacing::Open { per_second: 100.0 },
    urgent: true,
};

/// Their places among the groups.
const OTHER: usize = 0;
const ROOMS: usize = 1;

impl Load for Options {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![OTHER_ROOM, self.rooms.open(self.rate)?])
    }

    fn needs_positions(&self) -> bool {
        true
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let staying = Staying::First {
            group: ROOMS,
            members: self.live,
        };
        let apart = run.fleet.each(|driver| {
            driver.choose_away(staying);
            Ok(driver.tally_away_apart())
        })?;
        let returning = run.fleet.away_count();
        if returning == 0 {
            return Err(Failure::Arguments(
                "--live members stay, and who publishes; give more --members",
            ));
        }
        run.assemble()?;
        let other_calm = run.measure(&[OTHER, ROOMS])?.latencies.each_ns;
        let same_calm = run.latencies_unwatched(ROOMS).each_ns;
        self.miss(run)?;
        let before = run.fleet.positions().unwrap_or_default();
        run.start(&[OTHER, ROOMS]);
        let (measured, (returned, peak)) = self.measure(run)?;
        let live = |place: usize| run.latencies_unwatched(place).each_ns;
        let (same, returned_live) = (live(ROOMS), live(apart[0]));
        let positions = run.fleet.positions().unwrap_or_default();
        let limit_ns = to_ns(self.limit);
        let outcome = Outcome {
            live_members: run.setup.scenario.groups[ROOMS].connections() - returning,
            returning_members: returning,
            missed: self.missed,
            within_seconds: self.within.as_secs_f64(),
            limit_us: limit_ns as f64 / 1e3,
            same_room: Live::of(&same_calm, &same, limit_ns),
            other_room: Live::of(&other_calm, &measured.latencies.each_ns, limit_ns),
            returned_live_us: Latency::of(&returned_live),
            server_pss_peak_bytes: peak,
            ..Outcome::of(&returned, &before, &positions)
        };
        run.report.set_interval(&measured.interval);
        run.report.set_latencies(Latency::of(&same), None);
        run.report.add_fault(outcome.not_served > 0);
        run.report.add_section("recovery", &outcome);
        Ok(())
    }
}

impl Options {
    /// Drops those who will come back, and publishes what they miss.
    fn miss(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.watch_while("missing", |fleet| {
            fleet.each(|driver| {
                driver.drop_away();
                Ok(())
            })?;
            fleet.each(|driver| driver.publish_in_each_room(ROOMS, self.missed))
        })?;
        run.drain()
    }

    /// Brings them back, and measures what goes on meanwhile.
    fn measure(&self, run: &mut Run<'_>) -> Result<(crate::run::Outcome, Recovered), Failure> {
        let is_hopeless = AtomicBool::new(false);
        let threads = u32::try_from(run.fleet.threads()).unwrap_or(u32::MAX);
        let (clock, server) = (run.clock, run.setup.server.clone());
        run.measure_while("recovering", self.within, |fleet| {
            let from_ns = clock.now_ns();
            let plan = ReturnPlan {
                loss: Loss::Dropped,
                together: (self.together / threads).max(1),
                from_ns,
                within_ns: to_ns(self.within),
                end_ns: from_ns + to_ns(self.within + self.patience),
                keeps_pauses: true,
                is_hopeless: &is_hopeless,
            };
            let (returned, peak) = peak_memory(server.as_ref(), || fleet.come_back(&plan));
            Ok((AllReturned::of(&returned?), peak))
        })
    }
}

/// Those who came back, and the most memory that the server had.
type Recovered = (AllReturned, Option<u64>);

/// What came of it. The names are the JSON's.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// Members of the rooms who stayed.
    pub(crate) live_members: u64,
    pub(crate) returning_members: u64,
    /// What was published to each room while they were away.
    pub(crate) missed: u32,
    pub(crate) within_seconds: f64,
    /// Members that were told that nothing is missing.
    pub(crate) recovered: u64,
    /// Those that were told that something is.
    pub(crate) not_recovered: u64,
    /// Publications that were sent again, over all members.
    pub(crate) replayed: u64,
    /// Those that members were told to have missed for good.
    pub(crate) evicted: u64,
    /// From when the first came until the last had everything.
    pub(crate) all_served_seconds: f64,
    /// How many had not when patience ended.
    pub(crate) not_served: u64,
    pub(crate) attempts: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    /// From when each was due to come until it had everything.
    pub(crate) served_us: Option<Latency>,
    /// From each attempt that succeeded to its 101.
    pub(crate) handshake_us: Option<Latency>,
    pub(crate) limit_us: f64,
    /// Of those who stayed.
    pub(crate) same_room: Live,
    /// Of a room that nobody left.
    pub(crate) other_room: Live,
    /// Of those who came back: what was published after that.
    pub(crate) returned_live_us: Option<Latency>,
    pub(crate) server_pss_peak_bytes: Option<u64>,
}

/// How late deliveries were to members who were there.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Live {
    /// While everybody was there.
    pub(crate) calm_us: Option<Latency>,
    /// While the others recovered.
    pub(crate) meanwhile_us: Option<Latency>,
    /// Deliveries that took longer than the limit meanwhile.
    pub(crate) late: u64,
}

impl Live {
    fn of(calm_ns: &Histogram<u64>, meanwhile_ns: &Histogram<u64>, limit_ns: u64) -> Self {
        Self {
            calm_us: Latency::of(calm_ns),
            meanwhile_us: Latency::of(meanwhile_ns),
            late: meanwhile_ns.len() - meanwhile_ns.count_between(0, limit_ns),
        }
    }
}

impl Outcome {
    fn of(all: &AllReturned, before: &PositionTally, now: &PositionTally) -> Self {
        Self {
            recovered: now.recovered - before.recovered,
            not_recovered: now.not_recovered - before.not_recovered,
            replayed: now.replayed - before.replayed,
            evicted: now.evicted - before.evicted,
            all_served_seconds: all.last_ns as f64 / 1e9,
            not_served: all.missing,
            attempts: all.opening.attempts,
            refusals: all.opening.refusals_by_name(),
            served_us: Latency::of(&all.served_ns),
            handshake_us: Latency::of(&all.opening.handshake_ns),
            ..Self::default()
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            returning_members: returning,
            live_members: live,
            missed,
            recovered,
            not_recovered,
            replayed,
            evicted,
            ..
        } = self;
        writeln!(
            f,
            "recovery       {returning} came back within {} s, having missed {missed}; {live} stayed",
            self.within_seconds
        )?;
        let seconds = self.all_served_seconds;
        match self.not_served {
            0 => writeln!(f, "               all had everything after {seconds:.3} s")?,
            missing => writeln!(f, "               {missing} did NOT get everything")?,
        }
        writeln!(
            f,
            "               {recovered} recovered, {not_recovered} not; {replayed} replayed, {evicted} told to be gone"
        )?;
        let refusals = listed(&self.refusals);
        writeln!(
            f,
            "               {} attempts, refused: {refusals}",
            self.attempts
        )?;
        for (name, latency) in [
            ("served", &self.served_us),
            ("handshakes", &self.handshake_us),
            ("back, live", &self.returned_live_us),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "  {name:<12} {}", latency.in_words())?;
            }
        }
        for (name, live) in [
            ("same room", &self.same_room),
            ("other room", &self.other_room),
        ] {
            live.write(name, self.limit_us, f)?;
        }
        match self.server_pss_peak_bytes {
            Some(peak) => writeln!(f, "  memory peak  {}", Bytes(peak as f64)),
            None => Ok(()),
        }
    }
}

impl Live {
    fn write(&self, name: &str, limit_us: f64, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(calm) = &self.calm_us {
            writeln!(f, "  {name:<12} {}, everybody there", calm.in_words())?;
        }
        if let Some(meanwhile) = &self.meanwhile_us {
            writeln!(f, "  {:<12} {}, meanwhile", "", meanwhile.in_words())?;
            let (limit, late, count) = (Micros(limit_us), self.late, meanwhile.count);
            writeln!(f, "  {:<12} {late} of {count} over {limit}", "")?;
        }
        Ok(())
    }
}
