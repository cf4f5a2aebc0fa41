//! A thread beside the driver's: it takes the driver's readings, samples the processes, shows the
//! progress, and keeps what the report says about the course of a run.
//!
//! ```text
//! driver ──Reading, five a second──▶ monitor ──▶ progress, series, latencies in all
//!        ◀──empty histograms────────         ◀── /proc
//! ```
//!
//! The driver hands over a histogram by swapping it for an empty one and never waits: a reading that
//! finds no room is part of the next. So nothing here can delay a delivery on the driver's thread,
//! however long a figure of a huge process takes to read.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, to_ns};
use crate::drift::Slots;
use crate::latencies::Latencies;
use crate::ledger::Ledger;
use crate::machine;
use crate::process::{self, ServerProcess};
use crate::progress::{Phase, Progress};
use crate::series::{Counters, Point, Resources, Series};

/// How often a driver tells: as often as a person can read.
const READING_INTERVAL: Duration = Duration::from_millis(200);

/// Readings of each driver that may wait. The monitor takes a fraction of a millisecond for one, and a reading of a
/// large process's memory may take it a second.
const NOTES_MAX: usize = 16;

/// Histograms of each driver to swap, of some 400 KB each.
const SPARES: usize = 3;

/// Of its time, the monitor may spend this part in reading how much memory the server has: while it
/// is read, the server's own requests for memory wait.
const PSS_TIME_SHARE: u32 = 100;

/// What the monitor is told.
enum Note {
    Begin(Vec<Counters>),
    Collect(SyncSender<Latencies>),
    End(Vec<Counters>),
    Phase(Phase),
    Reading {
        driver: usize,
        counters: Counters,
        latencies: Option<Box<Latencies>>,
    },
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

/// The thread, for whoever puts the phases of a run in order.
#[derive(Debug)]
pub(crate) struct Monitor {
    notes: SyncSender<Note>,
    thread: Option<JoinHandle<Course>>,
}

/// One driver's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    driver: usize,
    notes: SyncSender<Note>,
    spares: Receiver<Box<Latencies>>,
    /// One that came back because there was no room.
    spare: Option<Box<Latencies>>,
    interval_ns: u64,
    next_ns: u64,
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
        let interval_ns = reading_interval_ns(series.interval_ns());
        let (emptied, outlets) = (0..drivers)
            .map(|driver| {
                let (emptied, spares) = sync_channel(SPARES);
                for _ in 0..SPARES {
                    // There is room for all, and nobody has hung up.
                    let _ = emptied.try_send(Box::default());
                }
                let outlet = Outlet {
                    driver,
                    notes: notes.clone(),
                    spares,
                    spare: None,
                    interval_ns,
                    next_ns: 0,
                };
                (emptied, outlet)
            })
            .unzip();
        let watch = Watch {
            probe: Probe::new(clock, server),
            series,
            slots: Slots::new(measured),
            total: Latencies::default(),
            progress,
            latest: vec![Counters::default(); drivers],
            emptied,
        };
        let thread = Some(thread::spawn(move || watch.run(&inbox)));
        (Self { notes, thread }, outlets)
    }

    /// Another part of the run begins.
    pub(crate) fn phase(&self, phase: Phase) {
        self.tell(Note::Phase(phase));
    }

    /// Something is measured from now on; latencies begin anew.
    pub(crate) fn begin(&self, counters: Vec<Counters>) {
        self.tell(Note::Begin(counters));
    }

    /// It is not any more; latencies of what is under way still count.
    pub(crate) fn end(&self, counters: Vec<Counters>) {
        self.tell(Note::End(counters));
    }

    /// All latencies since the last beginning.
    pub(crate) fn latencies(&self) -> Latencies {
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

    fn tell(&self, note: Note) {
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
    /// One that leads nowhere.
    pub(crate) fn closed() -> Self {
        Self {
            driver: 0,
            notes: sync_channel(0).0,
            spares: sync_channel(0).1,
            spare: None,
            interval_ns: u64::MAX,
            next_ns: u64::MAX,
        }
    }

    /// Whether it is time for a reading.
    #[inline]
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Hands over a reading with the latencies of the first group, without waiting for anybody.
    pub(crate) fn tell(&mut self, counters: Counters, ledger: &mut Ledger) {
        // Equal distances, so that points have equal lengths.
        self.next_ns = (self.next_ns + self.interval_ns).max(counters.at_ns);
        let spare = self.spare.take().or_else(|| self.spares.try_recv().ok());
        let refused = self.notes.try_send(self.reading(counters, spare, ledger));
        if let Err(TrySendError::Full(Note::Reading {
            latencies: Some(mut latencies),
            ..
        })) = refused
        {
            // It is part of the next reading.
            ledger.swap_latencies(WATCHED_GROUP, &mut latencies);
            self.spare = Some(latencies);
        }
    }

    /// The same, waiting for room: where a measurement begins and ends, everything has to be there.
    pub(crate) fn tell_all(&mut self, counters: Counters, ledger: &mut Ledger) {
        self.next_ns = counters.at_ns + self.interval_ns;
        let spare = self.spare.take().or_else(|| self.spares.recv().ok());
        // The monitor takes notes until it is stopped.
        let _ = self.notes.send(self.reading(counters, spare, ledger));
    }

    fn reading(
        &self,
        counters: Counters,
        spare: Option<Box<Latencies>>,
        ledger: &mut Ledger,
    ) -> Note {
        let latencies = spare.map(|mut latencies| {
            ledger.swap_latencies(WATCHED_GROUP, &mut latencies);
            latencies
        });
        Note::Reading {
            driver: self.driver,
            counters,
            latencies,
        }
    }
}

/// So that a whole number of readings makes a point.
fn reading_interval_ns(point_ns: u64) -> u64 {
    point_ns / point_ns.div_ceil(to_ns(READING_INTERVAL))
}

/// The group whose latencies are followed: the only one, or the small room beside a flood.
pub(crate) const WATCHED_GROUP: usize = 0;

/// What the thread has.
struct Watch {
    probe: Probe,
    series: Series,
    slots: Slots,
    total: Latencies,
    progress: Progress,
    /// Of each driver.
    latest: Vec<Counters>,
    /// To each driver.
    emptied: Vec<SyncSender<Box<Latencies>>>,
}

impl Watch {
    fn run(mut self, inbox: &Receiver<Note>) -> Course {
        for note in inbox {
            match note {
                Note::Begin(counters) => {
                    self.total.reset();
                    self.latest = counters;
                    self.series.begin(self.counters(), self.probe.read());
                }
                Note::Collect(answer) => {
                    let _ = answer.send(self.total.clone());
                }
                Note::End(counters) => {
                    self.latest = counters;
                    self.series.end(self.counters(), self.probe.read());
                }
                Note::Phase(phase) => self.progress.begin(phase),
                Note::Reading {
                    driver,
                    counters,
                    latencies,
                } => {
                    self.latest[driver] = counters;
                    self.take(driver, latencies);
                }
                Note::Stop => break,
            }
        }
        self.progress.clear();
        Course {
            points: self.series.into_points(),
            slots: self.slots,
        }
    }

    /// Of all drivers together.
    fn counters(&self) -> Counters {
        self.latest.iter().copied().sum()
    }

    fn take(&mut self, driver: usize, latencies: Option<Box<Latencies>>) {
        let counters = self.counters();
        if let Some(mut latencies) = latencies {
            self.total.merge(&latencies);
            self.series.add(&latencies);
            self.slots.add(counters.at_ns, &latencies.each_ns);
            latencies.reset();
            // The driver may have gone.
            let _ = self.emptied[driver].try_send(latencies);
        }
        if self.series.is_due(counters.at_ns) {
            self.series.close(counters, self.probe.read());
        }
        self.progress.show(&counters, &self.total.each_ns);
    }
}

/// What reads the processes.
struct Probe {
    clock: Clock,
    server: Option<ServerProcess>,
    pss_due_ns: u64,
}

impl Probe {
    fn new(clock: Clock, server: Option<ServerProcess>) -> Self {
        let pss_due_ns = 0;
        Self {
            clock,
            server,
            pss_due_ns,
        }
    }

    fn read(&mut self) -> Resources {
        let server_pss_bytes = self.pss_bytes();
        let server = self.server.as_ref();
        Resources {
            server_cpu: server.and_then(|server| server.cpu().ok()),
            own_cpu: process::own_cpu(),
            machine_cpu: machine::busy(),
            at_ns: self.clock.now_ns(),
            server_pss_bytes,
        }
    }

    /// The server's memory, unless it was read a short while ago and took long.
    fn pss_bytes(&mut self) -> Option<u64> {
        let began_ns = self.clock.now_ns();
        if began_ns < self.pss_due_ns {
            return None;
        }
        let bytes = self.server.as_ref()?.pss_bytes();
        let ended_ns = self.clock.now_ns();
        self.pss_due_ns = ended_ns + (ended_ns - began_ns) * u64::from(PSS_TIME_SHARE);
        bytes
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
        let (mut monitor, mut outlets) = Monitor::start(clock, None, 1, second, Progress::none());
        let outlet = &mut outlets[0];
        let group = Group {
            rooms: 1,
            members_per_room: 1,
            publishers: 1,
            pacing: Pacing::Open { per_second: 1.0 },
            urgent: false,
        };
        let plan = Plan::new(&[group], 0);
        let mut ledger = Ledger::new(&plan, Arc::default());
        ledger.time_only(0..u64::MAX);
        monitor.begin(vec![Counters::default()]);
        let stream = StreamId(0);
        for at_ns in 0..1000 {
            let number = ledger.publish(stream, at_ns);
            let stamp = Stamp {
                stream,
                number,
                due_ns: 0,
            };
            ledger.deliver(MemberId(0), stamp, at_ns);
            let at_ns = at_ns * 1_000_000;
            outlet.tell(
                Counters {
                    at_ns,
                    ..Counters::default()
                },
                &mut ledger,
            );
        }
        let at_ns = 1_000_000_000;
        let end = Counters {
            at_ns,
            ..Counters::default()
        };
        outlet.tell_all(end, &mut ledger);
        monitor.end(vec![end]);
        let latencies = monitor.latencies();
        assert_eq!(
            (latencies.each_ns.len(), latencies.last_ns.len()),
            (1000, 1000)
        );
        let course = monitor.stop().unwrap();
        // How many readings found room depends on the machine; the last always does.
        let last = course.points.last().unwrap();
        assert!((last.seconds - 1.0).abs() < 1e-9, "{:?}", course.points);
    }
}
