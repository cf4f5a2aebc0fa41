//! The phases that runs are made of, and what is measured around them. A mode puts them in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cli::Setup;
use crate::clock::{Clock, to_ns};
use crate::driver::Connected;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::latencies::Latencies;
use crate::limits;
use crate::machine;
use crate::monitor::{Course, Monitor};
use crate::plan::Plan;
use crate::process::{self, ServerProcess};
use crate::progress::{Goal, Phase, Progress};
use crate::report::figures::ratio;
use crate::report::verdict::Usage;
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

/// What was used and done in a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) elapsed: Duration,
    pub(crate) deliveries: u64,
    pub(crate) publications: u64,
    pub(crate) reads: u64,
    /// Of all threads together.
    pub(crate) driver_cpu: Duration,
    /// Of the generator's thread that used most.
    pub(crate) busiest_thread_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
    /// Of the server's thread that used most.
    pub(crate) server_busiest_thread: Option<Duration>,
    /// How many CPUs the server may use.
    pub(crate) server_cpus: Option<u32>,
    /// Of whoever is neither the server nor this program.
    pub(crate) others_cpu: Option<Duration>,
}

/// Everything that counts up, at one moment.
struct Totals {
    at_ns: u64,
    deliveries: u64,
    publications: u64,
    reads: u64,
    /// Of each thread of the generator.
    driver_cpu: Vec<Duration>,
    server_cpu: Option<Duration>,
    server_threads: HashMap<u32, Duration>,
    own_cpu: Option<Duration>,
    machine_cpu: Option<Duration>,
}

impl Interval {
    fn between(before: &Totals, after: &Totals, server_cpus: Option<u32>) -> Self {
        let used =
            |of: fn(&Totals) -> Option<Duration>| Some(of(after)?.saturating_sub(of(before)?));
        let server_cpu = used(|totals| totals.server_cpu);
        let others_cpu = || {
            let own = used(|totals| totals.own_cpu)?;
            let all = used(|totals| totals.machine_cpu)?;
            Some(all.saturating_sub(own).saturating_sub(server_cpu?))
        };
        let own = after.driver_cpu.iter().zip(&before.driver_cpu);
        let own = own.map(|(after, before)| after.saturating_sub(*before));
        let threads = after.server_threads.iter().map(|(thread, used)| {
            let before = before.server_threads.get(thread);
            used.saturating_sub(before.copied().unwrap_or_default())
        });
        Self {
            elapsed: Duration::from_nanos(after.at_ns - before.at_ns),
            deliveries: after.deliveries - before.deliveries,
            publications: after.publications - before.publications,
            reads: after.reads - before.reads,
            driver_cpu: own.clone().sum(),
            busiest_thread_cpu: own.max().unwrap_or_default(),
            server_busiest_thread: threads.max(),
            server_cpus,
            others_cpu: others_cpu(),
            server_cpu,
        }
    }

    /// What is judged by.
    pub(crate) fn usage(&self) -> Usage {
        let seconds = self.elapsed.as_secs_f64();
        let percent = |used: Duration| ratio(used.as_secs_f64() * 100.0, seconds);
        let of_cpus = |used, cpus: f64| ratio(percent(used)?, cpus);
        let server_busy = self.server_cpu.and_then(|used| {
            let cpus = self.server_cpus.unwrap_or(1);
            let thread = self.server_busiest_thread.and_then(percent);
            Some(of_cpus(used, f64::from(cpus))?.max(thread.unwrap_or_default()))
        });
        let cpus = machine::cpus() as f64;
        Usage {
            driver_percent: percent(self.busiest_thread_cpu).unwrap_or_default(),
            server_busy_percent: server_busy,
            others_percent: self.others_cpu.and_then(|used| of_cpus(used, cpus)),
        }
    }
}

/// Does what the command line asked for.
pub(crate) fn run(setup: &Setup, interrupted: &AtomicBool) -> Result<Report, Failure> {
    limits::raise_file_limit(setup.scenario.connections(), setup.threads)?;
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
    setup: &'a Setup,
    parts: &'a [Plan],
    shared: &'a Shared<'a>,
    clock: Clock,
    monitor: Monitor,
    fleet: Fleet<'a>,
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
            Monitor::start(clock, setup.server, parts.len(), measured, progress);
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

    /// Publishes probes until everybody is known to be in their room.
    pub(crate) fn prove_members(&mut self) -> Result<(), Failure> {
        self.monitor.phase(Phase::new("joining", Goal::Open));
        self.fleet.probe_members(true)?;
        Ok(())
    }

    /// Lets the only group publish, measures, waits for what is under way, and reports it.
    pub(crate) fn measure_and_report(&mut self) -> Result<(), Failure> {
        let interval = self.measure(&[0])?;
        let latencies = self.drain()?;
        let [each, last] = [&latencies.each_ns, &latencies.last_ns].map(Latency::of);
        self.report.set_interval(&interval);
        self.report.set_latencies(each, last);
        Ok(())
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
    pub(crate) fn measure(&mut self, groups: &[usize]) -> Result<Interval, Failure> {
        self.warm_up(groups, self.setup.scenario.warmup)?;
        self.measure_for("measuring", self.setup.scenario.measured, None)
    }

    /// Lets groups publish, uncounted.
    pub(crate) fn warm_up(&mut self, groups: &[usize], duration: Duration) -> Result<(), Failure> {
        self.fleet.start(groups);
        let (_, until_ns) = self.enter("warming up".into(), duration);
        self.fleet.run_until(until_ns)
    }

    /// Measures for a time, or until so much is under way that it is `hopeless`.
    pub(crate) fn measure_for(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        duration: Duration,
        hopeless: Option<&dyn Fn(usize) -> bool>,
    ) -> Result<Interval, Failure> {
        self.fleet.tell_all();
        self.fleet.forget_latencies();
        self.monitor.begin(self.fleet.counters());
        let before = self.totals()?;
        self.fleet.time_only(before.at_ns..u64::MAX);
        let (mut now_ns, until_ns) = self.enter(name.into(), duration);
        // Every look ends the threads' phase and begins another.
        let look_ns = hopeless.map_or(u64::MAX, |_| to_ns(LOOK_INTERVAL));
        while now_ns < until_ns
            && !self.is_interrupted()
            && !hopeless.is_some_and(|hopeless| hopeless(self.fleet.ledger().under_way()))
        {
            self.fleet
                .run_until(now_ns.saturating_add(look_ns).min(until_ns))?;
            now_ns = self.clock.now_ns();
        }
        let after = self.totals()?;
        // What is still under way is timed when it arrives; what is published later is not.
        self.fleet.time_only(before.at_ns..after.at_ns);
        self.fleet.tell_all();
        self.monitor.end(self.fleet.counters());
        self.memory.after = self.pss_bytes();
        let server = self.setup.server.as_ref();
        let cpus = server.and_then(ServerProcess::cpus_allowed);
        Ok(Interval::between(&before, &after, cpus))
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
        self.connect()?;
        self.prove_members()
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

    /// Publishes nothing more, and waits for what is under way; the latencies of the first group.
    pub(crate) fn drain(&mut self) -> Result<Latencies, Failure> {
        self.monitor.phase(Phase::new("draining", Goal::Open));
        let patience = if self.fleet.is_interrupted() {
            DRAIN_INTERRUPTED
        } else {
            self.setup.scenario.measured.clamp(DRAIN_MIN, DRAIN_MAX)
        };
        self.fleet.drain(patience)?;
        self.fleet.tell_all();
        Ok(self.monitor.latencies())
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

    fn totals(&self) -> Result<Totals, Failure> {
        let server = self.setup.server.as_ref();
        let ledger = self.fleet.ledger();
        Ok(Totals {
            deliveries: ledger.deliveries(),
            publications: ledger.publications(),
            reads: self.fleet.reads(),
            driver_cpu: self.fleet.cpu_of_each(),
            server_cpu: server.map(ServerProcess::cpu).transpose()?,
            server_threads: server.map(ServerProcess::cpu_by_thread).unwrap_or_default(),
            own_cpu: process::own_cpu(),
            machine_cpu: machine::busy(),
            at_ns: self.clock.now_ns(),
        })
    }

    fn pss_bytes(&self) -> Option<u64> {
        self.setup
            .server
            .as_ref()
            .and_then(ServerProcess::pss_bytes)
    }
}
