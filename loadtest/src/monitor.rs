//! A thread beside the driver's: it takes the driver's readings, samples the processes, shows the
//! progress, and keeps what the report says about the course of a run.
//!
//! ```text
//! driver ──Reading, five a second──▶ monitor ──▶ progress, series, latencies in all
//!                                            ◀── /proc
//! ```
//!
//! The driver hands its histograms over and goes on with empty ones, and never waits: a reading
//! that finds no room is part of the next. So nothing here can delay a delivery on the driver's
//! thread, however long a figure of a huge process takes to read.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, to_ns};
use crate::drift::Slots;
use crate::interval::Interval;
use crate::ledger::Ledger;
use crate::probe::{Counters, Mark, Probe};
use crate::process::ServerProcess;
use crate::progress::{Phase, Progress};
use crate::series::{Point, Series};
use crate::tally::Latencies;

/// How often a driver tells: as often as a person can read.
const READING_INTERVAL: Duration = Duration::from_millis(200);

/// Readings of each driver that may wait, with histograms of some 400 KB. The monitor takes a
/// fraction of a millisecond for one, and a reading of a large process's memory may take it a
/// second.
const NOTES_MAX: usize = 16;

/// The group whose latencies are followed: the only one, or the small room beside a flood.
pub(crate) const WATCHED_GROUP: usize = 0;

/// What the monitor is told.
pub(crate) enum Note {
    /// A measurement begins; latencies begin anew.
    Begin(Vec<Counters>),
    /// Somebody asks for everything about the last measurement.
    Collect(SyncSender<Measured>),
    /// The measurement ends; latencies of what is under way still count.
    End(Vec<Counters>),
    /// Another part of the run begins.
    Phase(Phase),
    /// A driver says how it goes.
    Reading {
        driver: usize,
        counters: Counters,
        latencies: Box<Latencies>,
    },
    /// The run is over.
    Stop,
}

/// What is known at the end of a run.
#[derive(Debug)]
pub(crate) struct Course {
    /// The points of time.
    pub(crate) points: Vec<Point>,
    /// Latencies in parts of the measured time.
    pub(crate) slots: Slots,
}

/// What is known of a measurement when it has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// What was done and used.
    pub(crate) interval: Interval,
    /// How late the deliveries of the first group were, with what was under way at the end.
    pub(crate) latencies: Latencies,
}

/// The thread, for whoever puts the phases of a run in order.
#[derive(Debug)]
pub(crate) struct Monitor {
    notes: SyncSender<Note>,
    thread: Option<JoinHandle<Course>>,
}

/// One driver's end.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    driver: usize,
    notes: SyncSender<Note>,
    interval_ns: u64,
    /// When the next reading is due.
    pub(crate) next_ns: u64,
}

impl Monitor {
    /// Starts the thread, for so many drivers and a run that measures for so long.
    pub(crate) fn start(
        clock: Clock,
        server: Option<ServerProcess>,
        drivers: usize,
        measured: Duration,
        progress: Progress,
    ) -> (Self, Vec<Outlet>) {
        let (notes, inbox) = sync_channel(NOTES_MAX * drivers);
        let series = Series::new(measured);
        let interval_ns = reading_interval_ns(series.interval_ns);
        let outlet = |driver| Outlet {
            driver,
            notes: notes.clone(),
            interval_ns,
            next_ns: 0,
        };
        let outlets = (0..drivers).map(outlet).collect();
        let watch = Watch {
            probe: Probe {
                clock,
                server,
                pss_due_ns: 0,
            },
            series,
            slots: Slots::new(measured),
            before: Mark::default(),
            measured: Measured::default(),
            progress,
            latest: vec![Counters::default(); drivers],
        };
        let thread = Some(thread::spawn(move || watch.run(&inbox)));
        (Self { notes, thread }, outlets)
    }

    /// Returns everything about the last measurement; waits until the monitor has taken all notes.
    pub(crate) fn measured(&self) -> Measured {
        let (sender, answer) = sync_channel(1);
        self.tell(Note::Collect(sender));
        answer.recv().unwrap_or_default()
    }

    /// Ends the thread and clears the progress off the screen; nothing if it was ended before.
    pub(crate) fn stop(&mut self) -> Option<Course> {
        let thread = self.thread.take()?;
        self.tell(Note::Stop);
        thread.join().ok()
    }

    /// Tells it something.
    pub(crate) fn tell(&self, note: Note) {
        // It takes notes until it is stopped.
        let _ = self.notes.send(note);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Outlet {
    /// Lets readings have their distances from this moment on.
    pub(crate) fn align(&mut self, now_ns: u64) {
        self.next_ns = now_ns.saturating_add(self.interval_ns);
    }

    /// Hands over a reading with the latencies of the first group, without waiting for anybody.
    pub(crate) fn tell(&mut self, counters: Counters, ledger: &mut Ledger) {
        // Equal distances, so that points have equal lengths.
        self.next_ns = (self.next_ns + self.interval_ns).max(counters.at_ns);
        let refused = self.notes.try_send(self.reading(counters, ledger));
        if let Err(TrySendError::Full(Note::Reading { latencies, .. })) = refused {
            // They are part of the next reading.
            *ledger.latencies_mut(WATCHED_GROUP) = *latencies;
        }
    }

    /// Hands over the same, waiting for room: when nothing is under way any more, everything has to
    /// be there.
    pub(crate) fn tell_all(&self, counters: Counters, ledger: &mut Ledger) {
        // The monitor takes notes until it is stopped.
        let _ = self.notes.send(self.reading(counters, ledger));
    }

    fn reading(&self, counters: Counters, ledger: &mut Ledger) -> Note {
        let latencies = std::mem::take(ledger.latencies_mut(WATCHED_GROUP));
        let (driver, latencies) = (self.driver, Box::new(latencies));
        Note::Reading {
            driver,
            counters,
            latencies,
        }
    }
}

/// Divides a point into a whole number of readings.
fn reading_interval_ns(point_ns: u64) -> u64 {
    point_ns / point_ns.div_ceil(to_ns(READING_INTERVAL))
}

/// What the thread has.
struct Watch {
    probe: Probe,
    series: Series,
    slots: Slots,
    /// Where the measurement began.
    before: Mark,
    measured: Measured,
    progress: Progress,
    /// Of each driver.
    latest: Vec<Counters>,
}

impl Watch {
    fn run(mut self, inbox: &Receiver<Note>) -> Course {
        for note in inbox {
            match note {
                Note::Begin(counters) => {
                    let mark = self.mark(counters);
                    self.series.begin(mark.clone());
                    self.measured = Measured::default();
                    self.before = mark;
                }
                Note::Collect(answer) => {
                    let _ = answer.send(self.measured.clone());
                }
                Note::End(counters) => {
                    let mark = self.mark(counters);
                    self.measured.interval = Interval::between(&self.before, &mark);
                    self.series.end(mark);
                }
                Note::Phase(phase) => self.progress.begin(phase),
                Note::Reading {
                    driver,
                    counters,
                    latencies,
                } => {
                    self.latest[driver] = counters;
                    self.take(*latencies);
                }
                Note::Stop => break,
            }
        }
        self.progress.clear();
        Course {
            points: self.series.points,
            slots: self.slots,
        }
    }

    fn mark(&mut self, drivers: Vec<Counters>) -> Mark {
        let resources = self.probe.read_all();
        self.latest.clone_from(&drivers);
        Mark { drivers, resources }
    }

    fn take(&mut self, latencies: Latencies) {
        let counters = Counters::sum(&self.latest);
        self.series.add(&latencies.each);
        self.slots.add(counters.at_ns, &latencies.each);
        self.measured.latencies += latencies;
        if self.series.is_due(counters.at_ns) {
            let resources = self.probe.read();
            self.series.close(Mark {
                drivers: self.latest.clone(),
                resources,
            });
        }
        self.progress.show(&counters, &self.measured.latencies.each);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::payload::Stamp;
    use crate::plan::{MemberId, Plan, StreamId};
    use crate::scenario::{Group, Pacing};

    #[test]
    fn readings_divide_a_point_and_are_as_rare_as_they_may_be() {
        let interval_ms = |point_ms: u64| reading_interval_ns(point_ms * 1_000_000) / 1_000_000;
        assert_eq!(
            [1000, 300, 50, 10_000].map(interval_ms),
            [200, 150, 50, 200]
        );
    }

    #[test]
    fn what_the_driver_hands_over_is_counted_once_and_nothing_is_lost() {
        let clock = Clock::start();
        let second = Duration::from_secs(1);
        let progress = Progress::new(false);
        let (mut monitor, mut outlets) = Monitor::start(clock, None, 1, second, progress);
        let outlet = &mut outlets[0];
        let group = Group::alike(1, 1, 1, Pacing::Open { per_second: 1.0 });
        let mut ledger = Ledger::new(&Plan::new(&[group], 0), Arc::default());
        ledger.timed_ns = 0..u64::MAX;
        monitor.tell(Note::Begin(vec![Counters::default()]));
        let stream = StreamId(0);
        let at = |at_ns| Counters {
            at_ns,
            ..Counters::default()
        };
        for at_ns in 0..1000 {
            let number = ledger.publish(stream, at_ns);
            let stamp = Stamp {
                stream,
                number,
                due_ns: 0,
            };
            ledger.deliver(MemberId(0), stamp, at_ns);
            outlet.tell(at(at_ns * 1_000_000), &mut ledger);
        }
        let end = at(1_000_000_000);
        outlet.tell_all(end, &mut ledger);
        monitor.tell(Note::End(vec![end]));
        let Measured {
            latencies,
            interval,
        } = monitor.measured();
        assert_eq!(
            (latencies.each.count(), latencies.last.count()),
            (1000, 1000)
        );
        assert!((interval.measured_seconds - 1.0).abs() < 1e-9);
        let course = monitor.stop().unwrap();
        // How many readings found room depends on the machine; the last always does.
        let last = course.points.last().unwrap();
        assert!((last.seconds - 1.0).abs() < 1e-9, "{:?}", course.points);
    }
}
