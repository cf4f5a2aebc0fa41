//! The phases that runs are made of, and what is measured around them. A mode puts them in order.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cli::Setup;
use crate::clock::{Clock, to_ns};
use crate::driver::Connected;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::interval::{Interval, ServerUse, Totals};
use crate::latencies::Latencies;
use crate::limits;
use crate::monitor::{Course, Monitor};
use crate::plan::Plan;
use crate::process::ServerProcess;
use crate::progress::{Goal, Phase, Progress};
use crate::report::{Latency, Memory, Report};
use crate::shared::Shared;

/// The least time that publications under way at the end are waited for.
const DRAIN_MIN: Duration = Duration::from_secs(10);

/// After a run of hours too, nobody waits longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How often a measurement asks whether it is hopeless.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// After Ctrl-C nobody wants to wait.
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(2);

/// A measurement, and how late the first group's deliveries were.
pub(crate) struct Outcome {
    pub(crate) interval: Interval,
    pub(crate) latencies: Latencies,
}

/// Does what the command line asked for.
pub(crate) fn run(setup: &Setup, interrupted: &AtomicBool) -> Result<Report, Failure> {
    let visitors = u64::from(setup.mode.load().visitors_max());
    limits::raise_file_limit(setup.scenario.connections() + visitors, setup.threads)?;
    setup.server.as_ref().map(ServerProcess::cpu).transpose()?;
    let parts = Plan::new(&setup.scenario.groups, fastrand::u32(..)).split(setup.threads);
    let shared = Shared::new(&parts, interrupted);
    Run::new(setup, &parts, &shared)?.run().map_err(|failure| {
        // Whatever broke, a server that is not there any more is the better explanation.
        match setup.server.as_ref().map(ServerProcess::cpu) {
            Some(Err(gone)) => gone,
            _ => failure,
        }
    })
}

/// One run of one mode.
pub(crate) struct Run<'a> {
    pub(crate) setup: &'a Setup,
    parts: &'a [Plan],
    shared: &'a Shared<'a>,
    pub(crate) clock: Clock,
    monitor: Monitor,
    pub(crate) fleet: Fleet<'a>,
    connected: Connected,
    memory: Memory,
    /// What will be printed, as far as it is known.
    pub(crate) report: Report,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, parts: &'a [Plan], shared: &'a Shared<'a>) -> Result<Self, Failure> {
        let clock = Clock::start();
        let progress = Progress::new(setup.output.progress);
        let measured = setup.scenario.measured;
        // Before the drivers are pinned: the monitor runs wherever there is time.
        let (monitor, outlets) =
            Monitor::start(clock, setup.server.clone(), parts.len(), measured, progress);
        Ok(Self {
            setup,
            parts,
            shared,
            clock,
            monitor,
            fleet: Fleet::new(setup, parts, shared, clock, outlets)?,
            connected: Connected::default(),
            memory: Memory::default(),
            report: Report::new(setup),
        })
    }

    fn run(mut self) -> Result<Report, Failure> {
        self.memory.before = self.pss_bytes();
        self.setup.mode.load().run(&mut self)?;
        self.report.server_pss_bytes = self.memory;
        self.report.add_outcome(&self.fleet);
        if let Some(course) = self.end_of_course() {
            self.report.series = course.points;
        }
        Ok(self.report)
    }

    /// Begins the series of points over time before anything is published.
    pub(crate) fn watch(&self) {
        self.monitor.begin(self.fleet.counters());
    }

    /// Opens all connections, each of which joins its room.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        let goal = Goal::Connections(self.setup.scenario.connections());
        self.monitor.phase(Phase::new("connecting", goal));
        self.connected = self.fleet.connect_all()?;
        self.report.set_connected(self.connected);
        self.report.server.version = self.fleet.server_name().map(str::to_owned);
        Ok(())
    }

    /// The same, and publishes probes until everybody is known to be in their room.
    pub(crate) fn assemble(&mut self) -> Result<(), Failure> {
        self.connect()?;
        self.prove_members()
    }

    fn prove_members(&mut self) -> Result<(), Failure> {
        self.monitor.phase(Phase::new("joining", Goal::Open));
        self.fleet.probe_members(true)?;
        Ok(())
    }

    /// Lets the only group publish, measures, waits for what is under way, and reports it.
    pub(crate) fn measure_and_report(&mut self) -> Result<(), Failure> {
        let outcome = self.measure(&[0])?;
        self.report(&outcome);
        Ok(())
    }

    /// Reports a measurement of the first group.
    pub(crate) fn report(&mut self, outcome: &Outcome) {
        let latencies = &outcome.latencies;
        let [each, last] = [&latencies.each_ns, &latencies.last_ns].map(Latency::of);
        self.report.set_interval(&outcome.interval);
        self.report.set_latencies(each, last);
    }

    /// Leaves the connections alone, measures the memory, and counts who is there.
    pub(crate) fn rest(&mut self, settle: Duration) -> Result<(), Failure> {
        let (_, until_ns) = self.enter("settling".into(), settle);
        self.fleet.run_until(until_ns)?;
        self.memory.after = self.pss_bytes();
        self.monitor.end(self.fleet.counters());
        self.monitor.phase(Phase::new("counting", Goal::Open));
        let received = self.fleet.probe_members(false)?;
        self.report.set_idle(&self.memory, self.connected, received);
        Ok(())
    }

    /// Lets groups publish, and measures after the warm-up.
    pub(crate) fn measure(&mut self, groups: &[usize]) -> Result<Outcome, Failure> {
        self.warm_up(groups, self.setup.scenario.warmup)?;
        self.measure_for("measuring", self.setup.scenario.measured, None)
    }

    /// Lets groups publish from now on.
    pub(crate) fn start(&mut self, groups: &[usize]) {
        self.fleet.start(groups);
    }

    /// Lets groups publish, uncounted.
    pub(crate) fn warm_up(&mut self, groups: &[usize], duration: Duration) -> Result<(), Failure> {
        self.start(groups);
        let (_, until_ns) = self.enter("warming up".into(), duration);
        self.fleet.run_until(until_ns)
    }

    /// Measures for a time, or until so much is under way that it is `hopeless`.
    pub(crate) fn measure_for(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        duration: Duration,
        hopeless: Option<&dyn Fn(usize) -> bool>,
    ) -> Result<Outcome, Failure> {
        let clock = self.clock;
        let work = |fleet: &mut Fleet<'a>| {
            let mut now_ns = clock.now_ns();
            let until_ns = now_ns + to_ns(duration);
            // Every look ends the threads' phase and begins another.
            let look_ns = hopeless.map_or(u64::MAX, |_| to_ns(LOOK_INTERVAL));
            while now_ns < until_ns
                && !fleet.is_interrupted()
                && !hopeless.is_some_and(|hopeless| hopeless(fleet.ledger().under_way()))
            {
                fleet.run_until(now_ns.saturating_add(look_ns).min(until_ns))?;
                now_ns = clock.now_ns();
            }
            Ok(())
        };
        let (outcome, ()) = self.measure_while(name, duration, work)?;
        Ok(outcome)
    }

    /// Measures while something is done that takes about so long. Then nothing more is published, and
    /// what is under way is waited for.
    ///
    /// Processes are looked at by the monitor meanwhile: that takes milliseconds, in which nobody
    /// would read what arrives.
    pub(crate) fn measure_while<T>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        duration: Duration,
        work: impl FnOnce(&mut Fleet<'a>) -> Result<T, Failure>,
    ) -> Result<(Outcome, T), Failure> {
        self.enter(name.into(), duration);
        self.fleet.forget_latencies();
        self.monitor.begin(self.fleet.counters());
        let before = Totals::of(&self.fleet, self.clock.now_ns());
        self.fleet.align_readings(before.at_ns);
        self.fleet.time_only(before.at_ns..u64::MAX);
        let worked = work(&mut self.fleet)?;
        let after = Totals::of(&self.fleet, self.clock.now_ns());
        // What is still under way is timed when it arrives; what is published later is not.
        self.fleet.time_only(before.at_ns..after.at_ns);
        self.fleet.tell();
        self.monitor.end(self.fleet.counters());
        self.drain()?;
        Ok((self.outcome(&before, &after)?, worked))
    }

    /// Follows what is not measured: it is in the series and on the screen.
    pub(crate) fn watch_while<T>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce(&mut Fleet<'a>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.monitor.phase(Phase::new(name, Goal::Open));
        self.watch();
        let worked = work(&mut self.fleet);
        self.monitor.end(self.fleet.counters());
        worked
    }

    fn outcome(&mut self, before: &Totals, after: &Totals) -> Result<Outcome, Failure> {
        self.memory.after = self.pss_bytes();
        let server = self.setup.server.as_ref();
        server.map(ServerProcess::cpu).transpose()?;
        let cpus = server.and_then(ServerProcess::cpus_allowed);
        let measured = self.monitor.measured();
        let server = ServerUse::between(&measured.before, &measured.after, cpus);
        Ok(Outcome {
            interval: Interval::between(before, after, server),
            latencies: measured.latencies,
        })
    }

    /// Publications of an open loop go out at another rate.
    pub(crate) fn set_rate(&mut self, group: usize, per_second: f64) {
        self.fleet.set_rate(group, per_second);
    }

    /// Closes all connections, and opens as many with nothing under way.
    pub(crate) fn begin_anew(&mut self) -> Result<(), Failure> {
        self.report.add_outcome(&self.fleet);
        let outlets = self.fleet.take_outlets();
        self.fleet.close();
        self.shared.begin_anew();
        self.fleet = Fleet::new(self.setup, self.parts, self.shared, self.clock, outlets)?;
        self.assemble()
    }

    /// Deliveries that went wrong up to now, if nothing more arrives, and members that are gone.
    pub(crate) fn faults_so_far(&self) -> u64 {
        let faults = self.fleet.ledger().faults();
        let wrong = faults.lost + faults.repeated + faults.reordered + faults.truncated;
        wrong + self.fleet.disconnects().count + self.fleet.errors().count
    }

    /// Whether all the time that there was is over; it begins with the run.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.clock.now_ns() >= to_ns(self.setup.scenario.measured)
    }

    /// Whether Ctrl-C ended the run.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.fleet.is_interrupted()
    }

    /// Ends the monitor; what it knows, the first time it is asked.
    pub(crate) fn end_of_course(&mut self) -> Option<Course> {
        self.monitor.stop()
    }

    /// Publishes nothing more, and waits for what is under way.
    pub(crate) fn drain(&mut self) -> Result<(), Failure> {
        self.monitor.phase(Phase::new("draining", Goal::Open));
        let patience = if self.fleet.is_interrupted() {
            DRAIN_INTERRUPTED
        } else {
            self.setup.scenario.measured.clamp(DRAIN_MIN, DRAIN_MAX)
        };
        self.fleet.drain(patience)?;
        self.fleet.tell_all();
        Ok(())
    }

    /// The latencies of another group than the first.
    pub(crate) fn latencies_unwatched(&self, group: usize) -> Latencies {
        self.fleet.ledger().latencies(group)
    }

    /// Begins a phase of this length; when it began and when it is over.
    fn enter(&self, name: Cow<'static, str>, duration: Duration) -> (u64, u64) {
        let from_ns = self.clock.now_ns();
        let until_ns = from_ns + to_ns(duration);
        let goal = Goal::Time { from_ns, until_ns };
        self.monitor.phase(Phase::new(name, goal));
        (from_ns, until_ns)
    }

    fn pss_bytes(&self) -> Option<u64> {
        self.setup
            .server
            .as_ref()
            .and_then(ServerProcess::pss_bytes)
    }
}
