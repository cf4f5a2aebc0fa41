//! The thread that writes, and what it does while the disk fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use rooms::{Entry, Journal, RoomTable};
use store::{CommitError, Durability, OpenError, Store};
use thiserror::Error;

use super::JournalMetrics;
use super::records::{last_offsets, record_of, records_of};
use crate::clock::{self, AgeClock};
use crate::config::{Disk, Fsync, OnFailure};
use crate::log_limit::LogLimit;

/// Maximum bytes that are written in one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// For how long changes are collected before they are written, if nobody waits for that: a batch of
/// some milliseconds costs a fraction of what its publications would cost one by one.
const COLLECT: Duration = Duration::from_millis(10);

/// After how long a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Time between two measurements of the disk space.
const MEASURE: Duration = Duration::from_secs(10);

/// Time between two notes of the time while nothing is written: what is held ages by less than this
/// too little if the process is killed.
const NOTE_TIME: Duration = Duration::from_secs(60);

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writing {
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Writing {
    pub(crate) fn nothing() -> Self {
        Self {
            thread: None,
            stopping: Arc::default(),
        }
    }

    /// Writes what is left, closes the store, and waits for that.
    pub(crate) fn finish(mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that writes histories panicked");
            }
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    table: Arc<RoomTable>,
    journal: Arc<Journal>,
    store: Store,
    disk: Disk,
    metrics: Arc<JournalMetrics>,
    clock: AgeClock,
    stopping: Arc<AtomicBool>,
    synced_at: Instant,
    measured_at: Option<Instant>,
    noted_at: Instant,
    has_unsynced: bool,
    /// Limit of the log lines about a disk that fails.
    said: LogLimit,
}

/// Why a disk that failed still does.
#[derive(Debug, Error)]
enum StillFails {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Write(#[from] CommitError),
}

impl Writer {
    pub(super) fn new(
        (table, journal): (Arc<RoomTable>, Arc<Journal>),
        store: Store,
        disk: Disk,
        (metrics, clock): (Arc<JournalMetrics>, AgeClock),
    ) -> Self {
        Self {
            table,
            journal,
            store,
            disk,
            metrics,
            clock,
            stopping: Arc::default(),
            synced_at: clock::now(),
            measured_at: None,
            noted_at: clock::now(),
            has_unsynced: false,
            said: LogLimit::default(),
        }
    }

    /// Writes what reading has changed, as one batch, and starts the thread.
    pub(super) fn start(mut self) -> Writing {
        let stopping = self.stopping.clone();
        let mut entries = Vec::new();
        self.journal.queue.drain(&mut entries);
        self.set_time();
        let failure = self
            .store
            .commit(&records_of(&entries), Durability::Synced)
            .err();
        drop(entries);
        if let Some(failure) = &failure {
            self.begin_to_fail(failure);
        }
        let thread = thread::Builder::new()
            .name("throng-journal".to_owned())
            .spawn(move || self.run(failure.is_some()));
        match thread {
            Ok(thread) => Writing {
                thread: Some(thread),
                stopping,
            },
            Err(error) => {
                // The store went with the closure; without a thread nothing is ever written.
                tracing::error!(%error, "cannot start the thread that writes histories");
                Writing::nothing()
            }
        }
    }

    fn run(mut self, fails: bool) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut entries = Vec::new();
        if fails && !self.survive() {
            return;
        }
        loop {
            let stops = self.stopping.load(Ordering::Acquire);
            let has_some = self.journal.queue.poll_ready(&waker);
            if !has_some && !stops {
                thread::park_timeout(self.until_next());
            }
            if has_some && !stops && self.disk.fsync != Fsync::Always {
                thread::sleep(COLLECT);
            }
            self.journal.queue.drain(&mut entries);
            let written = self
                .write(&mut entries)
                .and_then(|()| self.do_what_is_due());
            if let Err(failure) = written {
                entries.clear();
                self.begin_to_fail(&failure);
                if !self.survive() {
                    return;
                }
            }
            self.measure();
            if stops && !has_some {
                break;
            }
        }
        self.set_time();
        if let Err(error) = self.store.close() {
            tracing::error!(error = %crate::explain(&error), "cannot close the histories");
        }
    }

    /// Returns the time for which nothing need be done if nothing comes.
    fn until_next(&self) -> Duration {
        let now = clock::now();
        let until = |at: Instant, interval: Duration| {
            interval.saturating_sub(now.saturating_duration_since(at))
        };
        let note = until(self.noted_at, NOTE_TIME);
        match self.disk.fsync {
            Fsync::Interval if self.has_unsynced => {
                note.min(until(self.synced_at, self.disk.fsync_interval))
            }
            _ => note,
        }
    }

    /// Writes the entries in batches, and says so to the table.
    fn write(&mut self, entries: &mut Vec<Entry>) -> Result<(), CommitError> {
        let durability = self.durability();
        let mut rest = std::mem::take(entries).into_iter().peekable();
        while rest.peek().is_some() {
            let mut bytes = 0;
            let mut batch = Vec::new();
            while let Some(entry) = rest.next_if(|_| bytes < BATCH_BYTES_MAX) {
                bytes += rooms::Weigh::cost(&entry);
                batch.push(entry);
            }
            let records = records_of(&batch);
            self.set_time();
            self.store.commit(&records, durability)?;
            self.has_unsynced = durability == Durability::Buffered;
            self.metrics.wrote(records.len());
            if self.disk.fsync == Fsync::Always {
                for (room, offset) in last_offsets(&batch) {
                    self.table.commit(&room, offset);
                }
            }
        }
        Ok(())
    }

    const fn durability(&self) -> Durability {
        match self.disk.fsync {
            Fsync::Always => Durability::Synced,
            Fsync::Interval | Fsync::Never => Durability::Buffered,
        }
    }

    /// Tells the store what time it is.
    fn set_time(&mut self) {
        self.noted_at = clock::now();
        self.store.set_time(self.time());
    }

    fn time(&self) -> store::Clock {
        store::Clock {
            age_ms: self.clock.now().0,
            unix_ms: clock::unix_ms(),
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), CommitError> {
        let now = clock::now();
        let is_due = |at, interval| now.saturating_duration_since(at) >= interval;
        if self.disk.fsync == Fsync::Interval
            && self.has_unsynced
            && is_due(self.synced_at, self.disk.fsync_interval)
        {
            self.store.sync()?;
            self.metrics.synced();
            self.has_unsynced = false;
            self.synced_at = now;
        }
        if is_due(self.noted_at, NOTE_TIME) {
            self.noted_at = now;
            if !self.store.is_empty() {
                self.store.note_time(self.time())?;
            }
        }
        Ok(())
    }

    fn begin_to_fail(&mut self, failure: &CommitError) {
        self.metrics.failed();
        self.metrics.set_failing(true);
        self.say_failing(failure);
        self.journal.set_refuses(self.refuses());
        self.suspend();
    }

    fn refuses(&self) -> bool {
        self.disk.on_failure() == OnFailure::Refuse
    }

    /// Lets the table write nothing down, and answers who waits for that.
    fn suspend(&self) {
        if self.refuses() {
            self.table.roll_back_journal();
        } else {
            self.table.abandon_journal();
        }
    }

    /// Goes on as is configured while the disk fails, and tries it again until it has everything.
    /// False if the server stopped meanwhile.
    fn survive(&mut self) -> bool {
        let mut discarded = Vec::new();
        loop {
            // What comes meanwhile is in memory, and is written with all the rest later.
            self.journal.queue.drain(&mut discarded);
            discarded.clear();
            if self.stopping.load(Ordering::Acquire) {
                tracing::error!("stopped while the disk was failing: recent histories are lost");
                return false;
            }
            thread::park_timeout(RETRY);
            match self.rewrite() {
                Ok(()) => break,
                Err(error) => {
                    self.say_failing(&error);
                    self.suspend();
                }
            }
        }
        self.journal.set_refuses(false);
        self.metrics.set_failing(false);
        if self.said.ended().is_some() {
            tracing::info!("writing histories again");
        }
        true
    }

    fn say_failing(&mut self, failure: &dyn std::error::Error) {
        let Some(times) = self.said.happened(clock::now()) else {
            return;
        };
        let outcome = if self.refuses() {
            "publications are refused"
        } else {
            "they are retained in memory only"
        };
        tracing::error!(
            error = %crate::explain(failure),
            path = %self.disk.path.display(),
            times,
            "cannot write histories: {outcome}"
        );
    }

    /// Opens the store again and writes all that is in memory in the place of what is there: all of
    /// it or nothing, for half of it would be less than was there before.
    fn rewrite(&mut self) -> Result<(), StillFails> {
        self.store.reopen()?;
        // Since the last drain nobody could push: the shards wrote nothing down.
        self.table.resume_journal();
        let mut entries = Vec::new();
        self.journal.queue.drain(&mut entries);
        let (record_count, last) = (entries.len(), last_offsets(&entries));
        let durability = match self.disk.fsync {
            Fsync::Always | Fsync::Interval => Durability::Synced,
            Fsync::Never => Durability::Buffered,
        };
        self.set_time();
        let records = entries.into_iter().map(|entry| record_of(&entry));
        self.store.replace(records, durability)?;
        self.has_unsynced = false;
        self.synced_at = clock::now();
        self.metrics.wrote(record_count);
        for (room, offset) in last {
            self.table.commit(&room, offset);
        }
        Ok(())
    }

    fn measure(&mut self) {
        let now = clock::now();
        let due = self
            .measured_at
            .is_none_or(|at| now.saturating_duration_since(at) >= MEASURE);
        if due && let Ok(bytes) = self.store.disk_bytes() {
            self.metrics.set_disk_bytes(bytes);
            self.measured_at = Some(now);
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
