//! The drivers of a run, one on each thread, as if they were one.
//!
//! Every phase of a run is done by all drivers at the same time, each on a thread of its own that
//! lasts as long as the phase; between phases nothing runs, and figures are summed. One driver runs on
//! the caller's thread.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::cli::Setup;
use crate::clock::Clock;
use crate::driver::{Connected, Disconnects, Driver, ReturnPlan, Returned, ServerErrors};
use crate::failure::Failure;
use crate::latencies::Latencies;
use crate::ledger::Ledger;
use crate::limits;
use crate::monitor::Outlet;
use crate::plan::Plan;
use crate::positions::PositionTally;
use crate::sequence::Faults;
use crate::series::Counters;
use crate::shared::Shared;

/// All drivers of a run.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    drivers: Vec<Driver<'a>>,
    /// The CPU of each, or none.
    pins: &'a [usize],
    clock: Clock,
    shared: &'a Shared<'a>,
}

impl<'a> Fleet<'a> {
    /// A driver for each part of the plan, without sockets, and with an outlet for each.
    pub(crate) fn new(
        setup: &'a Setup,
        parts: &'a [Plan],
        shared: &'a Shared<'a>,
        clock: Clock,
        outlets: Vec<Outlet>,
    ) -> Result<Self, Failure> {
        let payload_bytes = setup.scenario.payload_bytes;
        let drivers = parts.iter().zip(outlets).map(|(part, outlet)| {
            Driver::new(part, &setup.target, payload_bytes, clock, shared, outlet)
        });
        let fleet = Self {
            drivers: drivers.collect::<Result<_, _>>()?,
            pins: &setup.pin,
            clock,
            shared,
        };
        if let ([cpu], [_]) = (fleet.pins, &fleet.drivers[..]) {
            limits::pin(*cpu)?;
        }
        Ok(fleet)
    }

    /// Lets every driver do the same at the same time; returns what each made of it.
    ///
    /// # Errors
    ///
    /// The failure of one driver ends what the others do, and is returned.
    pub(crate) fn each<T: Send>(
        &mut self,
        work: impl Fn(&mut Driver<'a>) -> Result<T, Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        if let [driver] = &mut self.drivers[..] {
            return Ok(vec![driver.account(&work)?]);
        }
        let (pins, shared, work) = (self.pins, self.shared, &work);
        thread::scope(|scope| {
            let started = self.drivers.iter_mut().enumerate().map(|(index, driver)| {
                scope.spawn(move || {
                    let pinned = pins.get(index).map_or(Ok(()), |&cpu| limits::pin(cpu));
                    let done = pinned.and_then(|()| driver.account(work));
                    if done.is_err() {
                        shared.fail();
                    }
                    done
                })
            });
            let started: Vec<_> = started.collect();
            let done = started.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            // All are waited for before the first failure is looked for.
            done.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.drivers.len()
    }

    /// Opens all connections and lets each join its room, unless Ctrl-C comes first.
    pub(crate) fn connect_all(&mut self) -> Result<Connected, Failure> {
        let connected = self.each(Driver::connect_all)?;
        Ok(Connected {
            connections: connected.iter().map(|part| part.connections).sum(),
            elapsed: longest(connected.iter().map(|part| part.elapsed)),
        })
    }

    /// Publishes once in every room and waits until all members have it; returns how many have. With
    /// `again`, rooms are probed until that is so.
    pub(crate) fn probe_members(&mut self, again: bool) -> Result<u32, Failure> {
        let received = self.each(|driver| driver.probe_members(again))?;
        Ok(received.into_iter().sum())
    }

    /// Groups begin to publish, at the same moment on all threads.
    pub(crate) fn start(&mut self, groups: &[usize]) {
        let now_ns = self.clock.now_ns();
        for driver in &mut self.drivers {
            for &group in groups {
                driver.start(group, now_ns);
            }
        }
    }

    /// Runs until a moment, or until Ctrl-C.
    pub(crate) fn run_until(&mut self, end_ns: u64) -> Result<(), Failure> {
        self.each(|driver| driver.run_until(end_ns)).map(drop)
    }

    /// Publishes nothing more, and runs until what is under way has arrived or is given up.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<(), Failure> {
        self.shared.begin_waiting();
        self.each(|driver| driver.drain(patience)).map(drop)
    }

    /// How many members lose their connections in the course of the run.
    pub(crate) fn away_count(&self) -> u64 {
        self.drivers
            .iter()
            .map(|driver| driver.away_count() as u64)
            .sum()
    }

    /// Brings everybody back who is away, or will be; how each thread saw it.
    pub(crate) fn come_back(&mut self, plan: &ReturnPlan<'_>) -> Result<Vec<Returned>, Failure> {
        self.shared.begin_waiting();
        self.each(|driver| driver.come_back(plan))
    }

    /// An open loop goes on at another rate.
    pub(crate) fn set_rate(&mut self, group: usize, per_second: f64) {
        for driver in &mut self.drivers {
            driver.set_rate(group, per_second);
        }
    }

    /// What each driver has counted so far.
    pub(crate) fn counters(&self) -> Vec<Counters> {
        self.drivers.iter().map(Driver::counters).collect()
    }

    /// Tells the monitor how it goes, if there is room.
    pub(crate) fn tell(&mut self) {
        self.drivers.iter_mut().for_each(Driver::tell);
    }

    /// Readings have their distances from this moment on.
    pub(crate) fn align_readings(&mut self, now_ns: u64) {
        for driver in &mut self.drivers {
            driver.align_readings(now_ns);
        }
    }

    /// Tells the monitor everything up to now.
    pub(crate) fn tell_all(&mut self) {
        self.drivers.iter_mut().for_each(Driver::tell_all);
    }

    /// The ways to the monitor, for the drivers that come after these.
    pub(crate) fn take_outlets(&mut self) -> Vec<Outlet> {
        self.drivers.iter_mut().map(Driver::take_outlet).collect()
    }

    /// Closes all connections, of which none is needed any more.
    pub(crate) fn close(&mut self) {
        self.drivers.clear();
    }

    /// What the server called itself, if it did.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.drivers.iter().find_map(Driver::server_name)
    }

    /// Whether the run was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.shared.is_interrupted()
    }

    /// What each thread has used of a processor.
    pub(crate) fn cpu_of_each(&self) -> Vec<Duration> {
        self.drivers.iter().map(Driver::cpu).collect()
    }

    /// How long the thread that stood still longest did, while publications were under way.
    pub(crate) fn stood_still(&self) -> Duration {
        longest(self.drivers.iter().map(Driver::stood_still))
    }

    /// Successful reads so far, of all sockets.
    pub(crate) fn reads(&self) -> u64 {
        self.drivers.iter().map(Driver::reads).sum()
    }

    /// What the server complained about.
    pub(crate) fn errors(&self) -> ServerErrors {
        let mut errors = ServerErrors::default();
        for part in self.drivers.iter().map(Driver::errors) {
            errors.count += part.count;
            errors.first_text = errors.first_text.or_else(|| part.first_text.clone());
        }
        errors
    }

    /// What was heard of positions; none on a wire without them.
    pub(crate) fn positions(&self) -> Option<PositionTally> {
        let mut parts = self.drivers.iter().filter_map(Driver::positions);
        let mut sum = parts.next()?;
        parts.for_each(|part| sum += &part);
        Some(sum)
    }

    /// Whom the server closed.
    pub(crate) fn disconnects(&self) -> Disconnects {
        let mut disconnects = Disconnects::default();
        for part in self.drivers.iter().map(Driver::disconnects) {
            disconnects.count += part.count;
            let reason = disconnects.first_reason;
            disconnects.first_reason = reason.or_else(|| part.first_reason.clone());
        }
        disconnects
    }

    /// Records the latency of publications that are due in this time, and of no others.
    pub(crate) fn time_only(&mut self, due_ns: Range<u64>) {
        for driver in &mut self.drivers {
            driver.ledger_mut().time_only(due_ns.clone());
        }
    }

    /// Begins latencies anew.
    pub(crate) fn forget_latencies(&mut self) {
        for driver in &mut self.drivers {
            driver.ledger_mut().forget_latencies();
        }
    }

    /// The books of all threads, to be summed.
    pub(crate) fn ledger(&self) -> Ledgers<'_, 'a> {
        Ledgers(&self.drivers)
    }
}

/// The books of all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledgers<'f, 'a>(&'f [Driver<'a>]);

impl Ledgers<'_, '_> {
    fn sum(&self, figure: impl Fn(&Ledger) -> u64) -> u64 {
        self.0.iter().map(|driver| figure(driver.ledger())).sum()
    }

    /// Latencies of a group since they were last forgotten or taken.
    pub(crate) fn latencies(&self, group: usize) -> Latencies {
        let mut latencies = Latencies::default();
        for driver in self.0 {
            latencies.merge(driver.ledger().latencies(group));
        }
        latencies
    }

    /// How many publications are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.0
            .iter()
            .map(|driver| driver.ledger().under_way())
            .sum()
    }

    /// Deliveries of all groups so far.
    pub(crate) fn deliveries(&self) -> u64 {
        self.sum(Ledger::deliveries)
    }

    /// Publications of all groups so far.
    pub(crate) fn publications(&self) -> u64 {
        self.sum(Ledger::publications)
    }

    /// What went wrong, if nothing more arrives.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for driver in self.0 {
            faults += driver.ledger().faults();
        }
        faults
    }

    /// Frames that said `msg` and carried none of this run's publications, or one that the member
    /// should not have had.
    pub(crate) fn unreadable(&self) -> u64 {
        self.sum(Ledger::unreadable)
    }

    /// Publications that were given up.
    pub(crate) fn given_up(&self) -> u64 {
        self.sum(Ledger::given_up)
    }
}

fn longest(times: impl Iterator<Item = Duration>) -> Duration {
    times.max().unwrap_or_default()
}
