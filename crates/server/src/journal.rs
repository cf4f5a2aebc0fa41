//! Histories on disk: one thread writes down what the rooms' table says, in batches behind it, and gives
//! it back after a restart.
//!
//! Invariants:
//! - what is on disk is what was in memory at some moment, room for room, or the journal is failing and
//!   says so;
//! - after a failure nothing is written until the store was opened again, and then every room anew;
//! - with `fsync = always` nobody has seen a publication before it is on disk.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use rooms::{
    Ancestor, Change, Entry, Epoch, Journal, RoomHandle, RoomImage, RoomTable, WriteOrder,
};
use store::{Durability, Opened, Options, Record, RoomRecord, Store};

use crate::clock;
use crate::config::{Disk, Fsync, OnFailure};
use crate::log_limit::LogLimit;

mod metrics;

pub(crate) use metrics::JournalMetrics;
pub(crate) use store::OpenError;

/// How many bytes may wait to be written before publishers are held back.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// How many bytes are written in one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// For how long changes are collected before they are written, if nobody waits for that: a batch of
/// some milliseconds costs a fraction of what its publications would cost one by one.
const COLLECT: Duration = Duration::from_millis(10);

/// After how long a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often what the disk takes is looked at.
const MEASURE: Duration = Duration::from_secs(10);

/// The file that says how the process before wrote.
const ORDER_FILE: &str = "write-order";

/// The directory of the store.
const STORE_DIRECTORY: &str = "store";

/// What that file says if nobody could see what was not on disk.
const AHEAD: &str = "ahead\n";

/// Histories that were opened, and are not yet written to.
pub(crate) struct Histories {
    journal: Arc<Journal>,
    disk: Disk,
    store: Option<Store>,
    rooms: Vec<RoomRecord>,
    /// Whether all that the process before published is there.
    is_complete: bool,
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histories")
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

impl Histories {
    /// Opens the directory and reads all of it.
    ///
    /// # Errors
    ///
    /// The store's; the disk's faults only if the server is not to serve without it.
    pub(crate) fn open(disk: &Disk) -> Result<Self, OpenError> {
        let ahead = disk.fsync == Fsync::Always;
        let order = if ahead {
            WriteOrder::Ahead
        } else {
            WriteOrder::Behind
        };
        let mut histories = Self {
            journal: Arc::new(Journal::new(order, PENDING_BYTES_MAX)),
            disk: disk.clone(),
            store: None,
            rooms: Vec::new(),
            is_complete: true,
        };
        match histories.open_store() {
            Ok(()) => {}
            Err(error) if disk.on_failure() == OnFailure::Serve && is_the_disks_fault(&error) => {
                tracing::error!(
                    error = %crate::explain(&error),
                    "histories are kept in memory only until the next start"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(histories)
    }

    /// What the table is to write its changes to.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        self.journal.clone()
    }

    fn open_store(&mut self) -> Result<(), OpenError> {
        let path = &self.disk.path;
        let io_error = |source: io::Error| OpenError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(path).map_err(io_error)?;
        let Opened {
            store,
            rooms,
            clean,
        } = Store::open(&path.join(STORE_DIRECTORY), &Options::default())?;
        let was_ahead = fs::read_to_string(path.join(ORDER_FILE)).is_ok_and(|text| text == AHEAD);
        self.is_complete = clean || was_ahead;
        // What is served without being written breaks the promise that the file makes.
        let keeps_ahead =
            self.disk.fsync == Fsync::Always && self.disk.on_failure() == OnFailure::Refuse;
        write_order(path, if keeps_ahead { AHEAD } else { "behind\n" }).map_err(io_error)?;
        self.store = Some(store);
        self.rooms = rooms;
        Ok(())
    }

    /// Gives the rooms back to the table, and begins to write. What cannot be given back is forgotten.
    pub(crate) fn start(self, table: Arc<RoomTable>) -> (Writing, Arc<JournalMetrics>) {
        let metrics = Arc::<JournalMetrics>::default();
        let writing = self.start_counting(table, metrics.clone());
        (writing, metrics)
    }

    fn start_counting(self, table: Arc<RoomTable>, metrics: Arc<JournalMetrics>) -> Writing {
        let now_ms = clock::unix_ms();
        let room_count = self.rooms.len();
        let mut restored_count = 0;
        for room in self.rooms {
            let name = room.name.clone();
            if table.restore(image_of(room), self.is_complete, now_ms) {
                restored_count += 1;
            } else {
                table.forget_image(&name);
            }
        }
        let Some(store) = self.store else {
            table.abandon_journal();
            metrics.set_failing(true);
            return Writing::nothing();
        };
        tracing::info!(
            path = %self.disk.path.display(),
            fsync = %self.disk.fsync,
            rooms = room_count,
            restored = restored_count,
            complete = self.is_complete,
            "histories read"
        );
        let stopping = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            table,
            journal: self.journal,
            store,
            disk: self.disk,
            metrics,
            stopping: stopping.clone(),
            synced_at: clock::now(),
            measured_at: None,
            has_unsynced: false,
            said: LogLimit::default(),
        };
        let thread = thread::Builder::new()
            .name("throng-journal".to_owned())
            .spawn(move || writer.run());
        match thread {
            Ok(thread) => Writing {
                thread: Some(thread),
                stopping,
            },
            Err(error) => {
                // The store went with the closure; without a thread nothing is ever written.
                tracing::error!(%error, "no thread to write histories with");
                Writing::nothing()
            }
        }
    }
}

/// Whether the name of a directory, or the rights on it, is what is wrong: that will be so
/// tomorrow, too.
const fn is_about_the_path(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::AlreadyExists
            | Kind::InvalidFilename
            | Kind::InvalidInput
            | Kind::NotADirectory
            | Kind::NotFound
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
    )
}

/// Whether the disk failed, and not whoever named the directory.
fn is_the_disks_fault(error: &OpenError) -> bool {
    match error {
        OpenError::Corrupted { .. } => true,
        OpenError::Io { source, .. } => !is_about_the_path(source.kind()),
        OpenError::InUse { .. } | OpenError::NotAStore { .. } | OpenError::Version { .. } => false,
    }
}

/// Says how this process writes, so that the next one knows what an end without a close means.
fn write_order(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.join("write-order.new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(ORDER_FILE))?;
    File::open(path)?.sync_all()
}

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

struct Writer {
    table: Arc<RoomTable>,
    journal: Arc<Journal>,
    store: Store,
    disk: Disk,
    metrics: Arc<JournalMetrics>,
    stopping: Arc<AtomicBool>,
    synced_at: Instant,
    measured_at: Option<Instant>,
    has_unsynced: bool,
    /// What the log says of a disk that fails.
    said: LogLimit,
}

/// Why a batch, or a sync, did not succeed.
type Failure = store::CommitError;

impl Writer {
    fn run(mut self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut entries = Vec::new();
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
            let written = self.write(&mut entries).and_then(|()| self.sync_if_due());
            if let Err(failure) = written {
                entries.clear();
                if !self.survive(&failure) {
                    return;
                }
            }
            self.measure();
            if stops && !has_some {
                break;
            }
        }
        if let Err(error) = self.store.close() {
            tracing::error!(error = %crate::explain(&error), "the histories were not closed");
        }
    }

    /// Until when nothing need be done if nothing comes.
    fn until_next(&self) -> Duration {
        match self.disk.fsync {
            Fsync::Interval if self.has_unsynced => {
                let elapsed = clock::now().saturating_duration_since(self.synced_at);
                self.disk.fsync_interval.saturating_sub(elapsed)
            }
            _ => Duration::from_secs(3600),
        }
    }

    /// Writes the entries in batches, and says so to the table.
    fn write(&mut self, entries: &mut Vec<Entry>) -> Result<(), Failure> {
        let durability = match self.disk.fsync {
            Fsync::Always => Durability::Synced,
            Fsync::Interval | Fsync::Never => Durability::Buffered,
        };
        let mut rest = std::mem::take(entries).into_iter().peekable();
        while rest.peek().is_some() {
            let mut bytes = 0;
            let mut batch = Vec::new();
            while let Some(entry) = rest.next_if(|_| bytes < BATCH_BYTES_MAX) {
                bytes += rooms::Weigh::cost(&entry);
                batch.push(entry);
            }
            let records = records_of(&batch);
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

    fn sync_if_due(&mut self) -> Result<(), Failure> {
        let now = clock::now();
        let due = now.saturating_duration_since(self.synced_at) >= self.disk.fsync_interval;
        if self.disk.fsync == Fsync::Interval && self.has_unsynced && due {
            self.store.sync()?;
            self.metrics.synced();
            self.has_unsynced = false;
            self.synced_at = now;
        }
        Ok(())
    }

    /// Goes on as is configured while the disk fails, and tries it again until it does not. False if the
    /// server stopped meanwhile.
    fn survive(&mut self, failure: &Failure) -> bool {
        let refuses = self.disk.on_failure() == OnFailure::Refuse;
        self.metrics.failed();
        self.metrics.set_failing(true);
        self.say_failing(failure);
        if refuses {
            self.journal.set_refuses(true);
            self.table.roll_back_journal();
        } else {
            self.table.abandon_journal();
        }
        let mut discarded = Vec::new();
        loop {
            // What comes meanwhile is in memory, and is written with all the rest later.
            self.journal.queue.drain(&mut discarded);
            discarded.clear();
            if self.stopping.load(Ordering::Acquire) {
                tracing::error!("stopped while histories could not be written");
                return false;
            }
            thread::park_timeout(RETRY);
            match self.store.reopen() {
                Ok(_) => break,
                Err(error) => self.say_failing(&error),
            }
        }
        // Between the last drain and this nobody could push: the shards write nothing down.
        self.table.resume_journal();
        self.journal.set_refuses(false);
        self.metrics.set_failing(false);
        if self.said.ended().is_some() {
            tracing::info!("histories are written again");
        }
        true
    }

    fn say_failing(&mut self, failure: &dyn std::error::Error) {
        let Some(times) = self.said.happened(clock::now()) else {
            return;
        };
        let outcome = match self.disk.on_failure() {
            OnFailure::Refuse => "publications are refused",
            OnFailure::Serve => "they are kept in memory only",
        };
        tracing::error!(
            error = %crate::explain(failure),
            path = %self.disk.path.display(),
            times,
            "histories cannot be written: {outcome}"
        );
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

/// What the store is to write. Of what is trimmed only the last word counts.
fn records_of(entries: &[Entry]) -> Vec<Record> {
    let mut last_trim = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let kind = match &entry.change {
            Change::Trim { .. } => 0,
            Change::ExpireKeys { .. } => 1,
            _ => continue,
        };
        last_trim.insert((&entry.room.name, kind), index);
    }
    let is_wanted = |index: usize, entry: &Entry| match &entry.change {
        Change::Trim { .. } => last_trim.get(&(&entry.room.name, 0)) == Some(&index),
        Change::ExpireKeys { .. } => last_trim.get(&(&entry.room.name, 1)) == Some(&index),
        _ => true,
    };
    let wanted = entries.iter().enumerate();
    wanted
        .filter(|(index, entry)| is_wanted(*index, entry))
        .map(|(_, entry)| record_of(entry))
        .collect()
}

fn record_of(entry: &Entry) -> Record {
    let change = match &entry.change {
        Change::Epoch { epoch, lineage } => store::Change::Epoch {
            epoch: epoch.0,
            lineage: lineage.iter().map(stored_ancestor).collect(),
        },
        Change::ExpireKeys { first } => store::Change::ExpireKeys { first: *first },
        Change::Forget => store::Change::Forget,
        Change::Publication {
            epoch,
            offset,
            at_ms,
            frame,
            key,
        } => store::Change::Publication {
            epoch: epoch.0,
            offset: *offset,
            at_ms: *at_ms,
            frame: frame.clone(),
            key: key.clone(),
        },
        Change::Trim { first } => store::Change::Trim { first: *first },
    };
    Record {
        room: entry.room.name.clone(),
        change,
    }
}

fn stored_ancestor(ancestor: &Ancestor) -> store::Ancestor {
    store::Ancestor {
        epoch: ancestor.epoch.0,
        last_offset: ancestor.last_offset,
        complete: ancestor.complete,
    }
}

fn image_of(room: RoomRecord) -> RoomImage {
    let ancestor = |stored: &store::Ancestor| Ancestor {
        epoch: Epoch(stored.epoch),
        last_offset: stored.last_offset,
        complete: stored.complete,
    };
    let publications = room.publications.into_iter();
    let keys = room.keys.into_iter();
    RoomImage {
        name: room.name,
        epoch: Epoch(room.epoch),
        lineage: room.lineage.iter().map(ancestor).collect(),
        offset: room.last_offset,
        publications: publications.map(|p| (p.at_ms, p.frame)).collect(),
        keys: keys.map(|key| (key.key, key.offset, key.at_ms)).collect(),
    }
}

/// The last publication of each room in a batch.
fn last_offsets(batch: &[Entry]) -> Vec<(RoomHandle, u64)> {
    let mut last: HashMap<rooms::RoomId, (RoomHandle, u64)> = HashMap::new();
    for entry in batch {
        if let Change::Publication { offset, .. } = entry.change {
            last.insert(entry.room.id, (entry.room.clone(), offset));
        }
    }
    last.into_values().collect()
}
