//! The drivers of a run, one on each thread, as if they were one.
//!
//! Every phase of a run is done by all drivers at the same time, each on a thread of its own that
//! lasts as long as the phase; between phases nothing runs, and figures are summed. One driver runs
//! on the caller's thread.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Setup;
use crate::clock::Clock;
use crate::driver::{Connected, Driver, Outcome, ReturnPlan, Returned};
use crate::limits;
use crate::monitor::Outlet;
use crate::plan::Plan;
use crate::probe::Counters;
use crate::shared::Shared;
use crate::tally::{Latencies, sum};

/// All drivers of a run.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    pub(crate) drivers: Vec<Driver<'a>>,
    /// The CPU of each, or none.
    pins: &'a [usize],
    clock: Clock,
    pub(crate) shared: &'a Shared<'a>,
}

impl<'a> Fleet<'a> {
    /// Makes a driver for each part of the plan, without sockets, and with an outlet for each.
    pub(crate) fn new(
        setup: &'a Setup,
        parts: &'a [Plan],
        shared: &'a Shared<'a>,
        clock: Clock,
        outlets: Vec<Outlet>,
    ) -> Result<Self> {
        let driver = |(part, outlet)| Driver::new(part, setup, clock, shared, outlet);
        let drivers: Result<Vec<_>> = parts.iter().zip(outlets).map(driver).collect();
        let fleet = Self {
            drivers: drivers?,
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
        work: impl Fn(&mut Driver<'a>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
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
                let joined = thread.join();
                joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            // All are waited for before the first failure is looked for.
            done.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Returns how many threads there are.
    pub(crate) fn threads(&self) -> u32 {
        u32::try_from(self.drivers.len()).expect("the command line allows 256 threads")
    }

    /// Opens all connections and lets each join its room, unless Ctrl-C comes first.
    pub(crate) fn connect_all(&mut self) -> Result<Connected> {
        self.each(Driver::connect_all).map(sum)
    }

    /// Publishes once in every room and waits until all members have it; returns how many have.
    /// With `again`, rooms are probed until that is so.
    pub(crate) fn probe_members(&mut self, again: bool) -> Result<u32> {
        let received = self.each(|driver| driver.probe_members(again))?;
        Ok(received.into_iter().sum())
    }

    /// Lets groups begin to publish, at the same moment on all threads.
    pub(crate) fn start(&mut self, groups: &[usize]) {
        let now_ns = self.clock.now_ns();
        for driver in &mut self.drivers {
            groups.iter().for_each(|&group| driver.start(group, now_ns));
        }
    }

    /// Runs until a moment, or until Ctrl-C.
    pub(crate) fn run_until(&mut self, end_ns: u64) -> Result<()> {
        self.each(|driver| driver.run_until(end_ns)).map(drop)
    }

    /// Publishes nothing more, and runs until what is under way has arrived or is given up. Then
    /// the monitor is told everything.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<()> {
        self.shared.begin_waiting();
        self.each(|driver| driver.drain(patience))?;
        self.drivers.iter_mut().for_each(Driver::tell_all);
        Ok(())
    }

    /// Resets the connections of those who will come back, all at once.
    pub(crate) fn drop_away(&mut self) -> Result<()> {
        let drop_away = |driver: &mut Driver<'a>| {
            driver.drop_away();
            Ok(())
        };
        self.each(drop_away).map(drop)
    }

    /// Brings everybody back who is away, or will be.
    pub(crate) fn come_back(&mut self, plan: &ReturnPlan<'_>) -> Result<Returned> {
        self.shared.begin_waiting();
        self.each(|driver| driver.come_back(plan)).map(sum)
    }

    /// Lets an open loop go on at another rate.
    pub(crate) fn set_rate(&mut self, group: usize, per_second: f64) {
        for driver in &mut self.drivers {
            driver.pace.set_rate(group, per_second);
        }
    }

    /// Returns what each driver has counted so far.
    pub(crate) fn counters(&self) -> Vec<Counters> {
        self.drivers.iter().map(Driver::counters).collect()
    }

    /// Tells the monitor how it goes, if there is room.
    pub(crate) fn tell(&mut self) {
        self.drivers.iter_mut().for_each(Driver::tell);
    }

    /// Begins latencies anew, of what is due from now on, and lets readings have their distances
    /// from this moment.
    pub(crate) fn begin_timing(&mut self, now_ns: u64) {
        self.time_only(now_ns..u64::MAX);
        for driver in &mut self.drivers {
            driver.ledger.forget_latencies();
            driver.outlet.align(now_ns);
        }
    }

    /// Records the latency of publications that are due in this time, and of no others.
    pub(crate) fn time_only(&mut self, due_ns: Range<u64>) {
        for driver in &mut self.drivers {
            driver.ledger.timed_ns = due_ns.clone();
        }
    }

    /// Closes all connections; returns the ways to the monitor, for the drivers that come after
    /// these.
    pub(crate) fn close(&mut self) -> Vec<Outlet> {
        self.drivers.drain(..).map(|driver| driver.outlet).collect()
    }

    /// Returns what the server called itself, if it did.
    pub(crate) fn server_name(&self) -> Option<String> {
        let mut drivers = self.drivers.iter();
        drivers.find_map(|driver| driver.server_name.clone())
    }

    /// Returns what went wrong so far.
    pub(crate) fn outcome(&self) -> Outcome {
        sum(self.drivers.iter().map(Driver::outcome))
    }

    /// Returns the latencies of a group that the monitor does not follow.
    pub(crate) fn latencies(&self, group: usize) -> Latencies {
        let drivers = self.drivers.iter();
        sum(drivers.map(|driver| driver.ledger.latencies(group).clone()))
    }

    /// Adds up a figure of all drivers.
    pub(crate) fn total(&self, figure: impl Fn(&Driver<'a>) -> u64) -> u64 {
        self.drivers.iter().map(figure).sum()
    }
}
