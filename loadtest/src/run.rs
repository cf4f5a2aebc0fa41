//! The phases of a run, one function for each mode, and what is measured around them.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cli::Setup;
use crate::clock::{Clock, to_ns};
use crate::driver::Connected;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::limits;
use crate::plan::Plan;
use crate::process::ServerProcess;
use crate::report::{Latency, Memory, Neighbour, Report};
use crate::scenario::Mode;
use crate::shared::Shared;
use crate::{churn, slow, storm};

/// The least time that publications under way at the end are waited for.
const DRAIN_MIN: Duration = Duration::from_secs(10);

/// After Ctrl-C nobody wants to wait.
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(2);

/// What was used and done in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) elapsed: Duration,
    pub(crate) deliveries: u64,
    pub(crate) publications: u64,
    pub(crate) reads: u64,
    /// Of all threads together.
    pub(crate) driver_cpu: Duration,
    /// Of the thread that used most.
    pub(crate) busiest_thread_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
}

/// Does what the command line asked for.
pub(crate) fn run(setup: &Setup, interrupted: &AtomicBool) -> Result<Report, Failure> {
    let visitors = match setup.scenario.mode {
        Mode::Churn => u64::from(setup.churn.visitors_max),
        _ => 0,
    };
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

struct Run<'a> {
    setup: &'a Setup,
    clock: Clock,
    driver: Fleet<'a>,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, parts: &'a [Plan], shared: &'a Shared<'a>) -> Result<Self, Failure> {
        let clock = Clock::start();
        let driver = Fleet::new(setup, parts, shared, clock)?;
        Ok(Self {
            setup,
            clock,
            driver,
            report: Report::new(setup),
        })
    }

    fn run(mut self) -> Result<Report, Failure> {
        let mut memory = Memory {
            before: self.pss_bytes(),
            after: None,
        };
        if self.setup.scenario.mode == Mode::Slow {
            let members = self.setup.scenario.connections();
            slow::choose(&mut self.driver, self.setup.slow, members)?;
        }
        let connected = self.driver.connect_all()?;
        self.report.set_connected(connected);
        match self.setup.scenario.mode {
            Mode::Churn => self.churn(&mut memory)?,
            Mode::FanOut => self.fan_out(&mut memory)?,
            Mode::Idle => self.idle(&mut memory, connected)?,
            Mode::Neighbour => self.neighbour(&mut memory)?,
            Mode::Slow => self.slow(&mut memory)?,
            Mode::Storm => self.storm(&mut memory)?,
        }
        self.report.server_pss_bytes = memory;
        self.report.set_outcome(&self.driver);
        Ok(self.report)
    }

    fn fan_out(&mut self, memory: &mut Memory) -> Result<(), Failure> {
        self.driver.probe_members(true)?;
        let interval = self.measure(&[0])?;
        memory.after = self.pss_bytes();
        self.drain()?;
        let latency = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        self.report.set_interval(&interval, latency);
        Ok(())
    }

    fn idle(&mut self, memory: &mut Memory, connected: Connected) -> Result<(), Failure> {
        self.driver
            .run_until(self.clock.now_ns() + to_ns(self.setup.scenario.settle))?;
        memory.after = self.pss_bytes();
        let received = self.driver.probe_members(false)?;
        self.report.set_idle(memory, connected, received);
        Ok(())
    }

    fn neighbour(&mut self, memory: &mut Memory) -> Result<(), Failure> {
        self.driver.probe_members(true)?;
        self.measure(&[0])?;
        self.drain()?;
        let alone = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        let interval = self.measure(&[0, 1])?;
        memory.after = self.pss_bytes();
        self.drain()?;
        let flooded = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        let flood = Latency::of(&self.driver.ledger().tally(1).latency_ns);
        self.report.set_interval(&interval, flood);
        self.report.neighbour = Some(Neighbour { alone, flooded });
        Ok(())
    }

    fn churn(&mut self, memory: &mut Memory) -> Result<(), Failure> {
        self.driver.probe_members(true)?;
        self.driver.start(&[0]);
        let measured = self.setup.scenario.measured;
        let (options, clock) = (self.setup.churn, self.clock);
        let (interval, mut outcome) =
            self.measure_while(|driver| churn::run(driver, options, measured, clock))?;
        memory.after = self.pss_bytes();
        self.drain()?;
        let latency = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        self.report.set_interval(&interval, latency);
        self.report.forget_cost_of_deliveries();
        outcome.set_server_cpu(interval.server_cpu);
        self.report.churn = Some(outcome);
        Ok(())
    }

    fn slow(&mut self, memory: &mut Memory) -> Result<(), Failure> {
        let (setup, clock) = (self.setup, self.clock);
        let server = setup.server.as_ref();
        self.driver.probe_members(true)?;
        self.measure(&[0])?;
        self.drain()?;
        let without = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        let mut watched = slow::begin(&mut self.driver, clock)?;
        let interval = watched.meanwhile(server, clock, || {
            let interval = self.measure(&[0])?;
            memory.after = self.pss_bytes();
            self.drain()?;
            Ok(interval)
        })?;
        let with = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        let mut outcome = slow::finish(&mut self.driver, &watched)?;
        (outcome.latency_without_us, outcome.latency_with_us) = (without, with);
        self.report.set_interval(&interval, with);
        self.report.slow = Some(outcome);
        Ok(())
    }

    fn storm(&mut self, memory: &mut Memory) -> Result<(), Failure> {
        let (setup, clock) = (self.setup, self.clock);
        let rooms = setup.scenario.groups.iter().map(|group| group.rooms).sum();
        self.driver.probe_members(true)?;
        let mut interval = self.measure(&[0])?;
        self.drain()?;
        let mut outcome = storm::Outcome::default();
        for _ in 0..setup.storm.storms {
            let server = setup.server.as_ref();
            let storm = storm::strike(&mut self.driver, setup.storm, rooms, server, clock)?;
            if self.driver.is_interrupted() {
                break; // nobody waited for those who are not back
            }
            let all_are_back = storm.not_served == 0;
            outcome.storms.push(storm);
            if !all_are_back {
                break;
            }
            // That all are served is proved by publications that nobody may miss.
            interval = self.measure(&[0])?;
            self.drain()?;
        }
        memory.after = self.pss_bytes();
        let latency = Latency::of(&self.driver.ledger().tally(0).latency_ns);
        self.report.set_interval(&interval, latency);
        self.report.storm = Some(outcome);
        Ok(())
    }

    /// Lets groups publish, and measures after the warm-up.
    fn measure(&mut self, groups: &[usize]) -> Result<Interval, Failure> {
        self.driver.start(groups);
        self.driver
            .run_until(self.clock.now_ns() + to_ns(self.setup.scenario.warmup))?;
        let (clock, measured_ns) = (self.clock, to_ns(self.setup.scenario.measured));
        let (interval, ()) =
            self.measure_while(|driver| driver.run_until(clock.now_ns() + measured_ns))?;
        Ok(interval)
    }

    /// Measures what something takes, while groups publish.
    fn measure_while<T>(
        &mut self,
        work: impl FnOnce(&mut Fleet<'a>) -> Result<T, Failure>,
    ) -> Result<(Interval, T), Failure> {
        let (start_ns, before) = self.sample()?;
        let cpu_before = self.driver.cpu_of_each();
        self.driver.forget_latencies();
        self.driver.time_only(start_ns..u64::MAX);
        let worked = work(&mut self.driver)?;
        let (end_ns, after) = self.sample()?;
        // What is still under way is timed when it arrives; what is published later is not.
        self.driver.time_only(start_ns..end_ns);
        let cpu_of_each = self.driver.cpu_of_each().into_iter().zip(cpu_before);
        let cpu_of_each = cpu_of_each.map(|(after, before)| after.saturating_sub(before));
        let interval = Interval {
            elapsed: Duration::from_nanos(end_ns - start_ns),
            deliveries: after.deliveries - before.deliveries,
            publications: after.publications - before.publications,
            reads: after.reads - before.reads,
            driver_cpu: after.driver_cpu.saturating_sub(before.driver_cpu),
            busiest_thread_cpu: cpu_of_each.max().unwrap_or_default(),
            server_cpu: after
                .server_cpu
                .zip(before.server_cpu)
                .map(|(b, a)| b.saturating_sub(a)),
        };
        Ok((interval, worked))
    }

    /// Everything that counts up, now.
    fn sample(&self) -> Result<(u64, Interval), Failure> {
        let server_cpu = self
            .setup
            .server
            .as_ref()
            .map(ServerProcess::cpu)
            .transpose()?;
        let ledger = self.driver.ledger();
        let totals = Interval {
            elapsed: Duration::ZERO,
            deliveries: ledger.deliveries(),
            publications: ledger.publications(),
            reads: self.driver.reads(),
            driver_cpu: self.driver.cpu_of_each().iter().sum(),
            busiest_thread_cpu: Duration::ZERO,
            server_cpu,
        };
        Ok((self.clock.now_ns(), totals))
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let patience = if self.driver.is_interrupted() {
            DRAIN_INTERRUPTED
        } else {
            self.setup.scenario.measured.max(DRAIN_MIN)
        };
        self.driver.drain(patience)
    }

    fn pss_bytes(&self) -> Option<u64> {
        self.setup
            .server
            .as_ref()
            .and_then(ServerProcess::pss_bytes)
    }
}
