//! The phases that runs are made of, and what is measured around them. A mode puts them in order.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Setup;
use crate::clock::{Clock, to_ns};
use crate::fleet::Fleet;
use crate::limits;
use crate::monitor::{Measured, Monitor, Note};
use crate::plan::Plan;
use crate::process::ServerProcess;
use crate::progress::{Goal, Phase, Progress};
use crate::report::{Memory, Report};
use crate::shared::Shared;

/// The least time that publications under way at the end are waited for.
const DRAIN_MIN: Duration = Duration::from_secs(10);

/// After a run of hours too, nobody waits longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How often a measurement asks whether it is hopeless.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// After Ctrl-C nobody wants to wait.
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(2);

/// Does what the command line asked for.
pub(crate) fn run(setup: &Setup, interrupted: &AtomicBool) -> Result<Report> {
    let visitors = u64::from(setup.mode.load().1.visitors_max());
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
    pub(crate) monitor: Monitor,
    pub(crate) fleet: Fleet<'a>,
    /// What will be printed, as far as it is known.
    pub(crate) report: Report,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, parts: &'a [Plan], shared: &'a Shared<'a>) -> Result<Self> {
        let clock = Clock::start();
        let progress = Progress::new(setup.output.progress);
        let measured = setup.scenario.measured;
        // Before the drivers are pinned: the monitor runs wherever there is time.
        let (monitor, outlets) =
            Monitor::start(clock, setup.server.clone(), parts.len(), measured, progress);
        let fleet = Fleet::new(setup, parts, shared, clock, outlets)?;
        Ok(Self {
            setup,
            parts,
            shared,
            clock,
            monitor,
            fleet,
            report: Report::new(setup),
        })
    }

    fn run(mut self) -> Result<Report> {
        let before = self.pss_bytes();
        self.report.server_pss_bytes = Memory {
            before,
            after: None,
        };
        self.setup.mode.load().1.run(&mut self)?;
        self.report
            .add_outcome(self.fleet.outcome(), self.is_interrupted());
        if let Some(course) = self.monitor.stop() {
            self.report.series = course.points;
        }
        Ok(self.report)
    }

    /// Begins the series of points over time before anything is published.
    pub(crate) fn watch(&self) {
        self.monitor.tell(Note::Begin(self.fleet.counters()));
    }

    /// Opens all connections, each of which joins its room.
    pub(crate) fn connect(&mut self) -> Result<()> {
        let goal = Goal::Connections(self.setup.scenario.connections());
        self.enter("connecting", goal);
        self.report.set_connected(self.fleet.connect_all()?);
        self.report.server.version = self.fleet.server_name();
        Ok(())
    }

    /// Does the same, and publishes probes until everybody is known to be in their room.
    pub(crate) fn assemble(&mut self) -> Result<()> {
        self.connect()?;
        self.enter("joining", Goal::Open);
        self.fleet.probe_members(true).map(drop)
    }

    /// Leaves the connections alone, measures the memory, and counts who is there.
    pub(crate) fn rest(&mut self, settle: Duration) -> Result<()> {
        let until_ns = self.enter_for("settling", settle);
        self.fleet.run_until(until_ns)?;
        self.report.server_pss_bytes.after = self.pss_bytes();
        self.monitor.tell(Note::End(self.fleet.counters()));
        self.enter("counting", Goal::Open);
        let received = self.fleet.probe_members(false)?;
        self.report.set_idle(self.report.server_pss_bytes, received);
        Ok(())
    }

    /// Lets groups publish, and measures after the warm-up.
    pub(crate) fn measure(&mut self, groups: &[usize]) -> Result<Measured> {
        self.warm_up(groups, self.setup.scenario.warmup)?;
        self.measure_for("measuring", self.setup.scenario.measured, None)
    }

    /// Lets groups publish, uncounted.
    pub(crate) fn warm_up(&mut self, groups: &[usize], duration: Duration) -> Result<()> {
        self.fleet.start(groups);
        let until_ns = self.enter_for("warming up", duration);
        self.fleet.run_until(until_ns)
    }

    /// Measures for a time, or until so much is under way that it is `hopeless`.
    pub(crate) fn measure_for(
        &mut self,
        name: &str,
        duration: Duration,
        hopeless: Option<&dyn Fn(u64) -> bool>,
    ) -> Result<Measured> {
        let clock = self.clock;
        let work = |fleet: &mut Fleet<'a>| {
            let mut now_ns = clock.now_ns();
            let until_ns = now_ns + to_ns(duration);
            // Every look ends the threads' phase and begins another.
            let look_ns = hopeless.map_or(u64::MAX, |_| to_ns(LOOK_INTERVAL));
            while now_ns < until_ns
                && !fleet.shared.is_interrupted()
                && !hopeless.is_some_and(|hopeless| {
                    hopeless(fleet.total(|driver| driver.ledger.under_way() as u64))
                })
            {
                fleet.run_until(until_ns.min(now_ns.saturating_add(look_ns)))?;
                now_ns = clock.now_ns();
            }
            Ok(())
        };
        let (measured, ()) = self.measure_while(name, duration, work)?;
        Ok(measured)
    }

    /// Measures while something is done that takes about so long. Then nothing more is published,
    /// and what is under way is waited for.
    ///
    /// Processes are looked at by the monitor meanwhile: that takes milliseconds, in which nobody
    /// would read what arrives.
    pub(crate) fn measure_while<T>(
        &mut self,
        name: &str,
        duration: Duration,
        work: impl FnOnce(&mut Fleet<'a>) -> Result<T>,
    ) -> Result<(Measured, T)> {
        self.enter_for(name, duration);
        self.watch();
        let from_ns = self.clock.now_ns();
        self.fleet.begin_timing(from_ns);
        let worked = work(&mut self.fleet)?;
        // What is still under way is timed when it arrives; what is published later is not.
        self.fleet.time_only(from_ns..self.clock.now_ns());
        self.fleet.tell();
        self.monitor.tell(Note::End(self.fleet.counters()));
        self.drain()?;
        self.report.server_pss_bytes.after = self.pss_bytes();
        self.setup
            .server
            .as_ref()
            .map(ServerProcess::cpu)
            .transpose()?;
        Ok((self.monitor.measured(), worked))
    }

    /// Follows what is not measured: it is in the series and on the screen.
    pub(crate) fn watch_while<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Fleet<'a>) -> Result<T>,
    ) -> Result<T> {
        self.enter(name, Goal::Open);
        self.watch();
        let worked = work(&mut self.fleet);
        self.monitor.tell(Note::End(self.fleet.counters()));
        worked
    }

    /// Closes all connections, and opens as many with nothing under way.
    pub(crate) fn begin_anew(&mut self) -> Result<()> {
        self.report
            .add_outcome(self.fleet.outcome(), self.is_interrupted());
        let outlets = self.fleet.close();
        self.shared.begin_anew();
        self.fleet = Fleet::new(self.setup, self.parts, self.shared, self.clock, outlets)?;
        self.assemble()
    }

    /// Returns how many deliveries went wrong up to now, if nothing more arrives, and members are
    /// gone.
    pub(crate) fn faults_so_far(&self) -> u64 {
        let outcome = self.fleet.outcome();
        let faults = outcome.faults;
        let wrong = faults.lost + faults.repeated + faults.reordered + faults.truncated;
        wrong + outcome.disconnected + outcome.server_errors
    }

    /// Returns whether all the time that there was is over; it begins with the run.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.clock.now_ns() >= to_ns(self.setup.scenario.measured)
    }

    /// Returns whether Ctrl-C ended the run.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.shared.is_interrupted()
    }

    /// Publishes nothing more, and waits for what is under way.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.enter("draining", Goal::Open);
        let patience = if self.is_interrupted() {
            DRAIN_INTERRUPTED
        } else {
            self.setup.scenario.measured.clamp(DRAIN_MIN, DRAIN_MAX)
        };
        self.fleet.drain(patience)
    }

    fn enter(&self, name: &str, goal: Goal) {
        let name = name.to_owned();
        self.monitor.tell(Note::Phase(Phase { name, goal }));
    }

    /// Begins a phase of this length; returns when it is over.
    fn enter_for(&self, name: &str, duration: Duration) -> u64 {
        let from_ns = self.clock.now_ns();
        let until_ns = from_ns + to_ns(duration);
        self.enter(name, Goal::Time { from_ns, until_ns });
        until_ns
    }

    fn pss_bytes(&self) -> Option<u64> {
        self.setup.server.as_ref()?.pss_bytes()
    }
}
