//! Histories on disk: one thread writes down what the rooms' table says, in batches behind it, and
//! gives it back after a restart.
//!
//! Invariants:
//! - what is on disk is what was in memory at some moment, room for room, or the journal is failing
//!   and says so;
//! - after a failure nothing is written until the store was opened again, and then everything anew,
//!   at once. The journal fails until that is done;
//! - what follows from something that is missing is on disk before anybody is told of it;
//! - with `fsync = always` nobody has seen a publication before it is on disk.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rooms::{Journal, RoomTable, WriteOrder};
use store::{Opened, Options, RoomRecord, Store, Tightened, Vouched};

use crate::clock::{self, AgeClock};
use crate::config::{Disk, Fsync, OnFailure};

mod metrics;
mod records;
mod restore;
mod writer;

pub(crate) use metrics::JournalMetrics;
pub use restore::{RestoreError, restore_histories};
pub(crate) use store::OpenError;
pub(crate) use writer::Writing;

use records::image_of;
use writer::Writer;

/// Bytes queued for the disk at which publishers are held back.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// The file that says how the process before wrote.
const ORDER_FILE: &str = "write-order";

/// That file while it is written.
const ORDER_FILE_NEW: &str = "write-order.new";

/// The directory of the store.
const STORE_DIRECTORY: &str = "store";

/// The text of that file if nobody could see what was not on disk.
const AHEAD: &str = "ahead\n";

/// Histories that were opened, and are not yet written to.
pub(crate) struct Histories {
    journal: Arc<Journal>,
    disk: Disk,
    store: Option<Store>,
    rooms: Vec<RoomRecord>,
    /// True if all that the process before published is there.
    is_complete: bool,
    /// Batches that were reported as committed and are missing; 1 if nobody knows.
    lost_batches: u64,
    clock: AgeClock,
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
            lost_batches: 0,
            clock: AgeClock::new(),
        };
        match histories.open_store() {
            Ok(()) => {}
            Err(error) if disk.on_failure() == OnFailure::Serve && is_the_disks_fault(&error) => {
                tracing::error!(
                    error = %crate::explain(&error),
                    "histories are retained in memory only until the next start"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(histories)
    }

    /// Returns the journal that the table is to write its changes to.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        self.journal.clone()
    }

    /// Returns the clock that what is held ages by. It goes on from where it was when the disk was
    /// last written to.
    pub(crate) const fn clock(&self) -> AgeClock {
        self.clock
    }

    fn open_store(&mut self) -> Result<(), OpenError> {
        let path = &self.disk.path;
        let io_error = |source: io::Error| OpenError::Io {
            path: path.clone(),
            source,
        };
        prepare(path).map_err(io_error)?;
        let opened = open_in(path)?;
        let was_ahead = fs::read_to_string(path.join(ORDER_FILE)).is_ok_and(|text| text == AHEAD);
        self.lost_batches = lost_batches(path, opened.vouched);
        self.is_complete = self.lost_batches == 0 && (opened.clean || was_ahead);
        if let Some(last) = last_time(&opened) {
            self.clock = AgeClock::resumed(clock::unix_ms(), last.age_ms, last.unix_ms);
        }
        // What is served without being written breaks the promise that the file makes.
        let keeps_ahead =
            self.disk.fsync == Fsync::Always && self.disk.on_failure() == OnFailure::Refuse;
        write_order(path, if keeps_ahead { AHEAD } else { "behind\n" }).map_err(io_error)?;
        self.store = Some(opened.store);
        self.rooms = opened.rooms;
        Ok(())
    }

    /// Gives the rooms back to the table, and begins to write. What cannot be given back is
    /// forgotten.
    ///
    /// What that changes, new epochs above all, is on disk when this returns: who was told of an
    /// epoch that the next process does not know would be told wrong things by that one.
    pub(crate) fn start(self, table: Arc<RoomTable>) -> (Writing, Arc<JournalMetrics>) {
        let metrics = Arc::<JournalMetrics>::default();
        let writing = self.start_counting(table, metrics.clone());
        (writing, metrics)
    }

    fn start_counting(self, table: Arc<RoomTable>, metrics: Arc<JournalMetrics>) -> Writing {
        let now = self.clock.now();
        let room_count = self.rooms.len();
        let mut restored_count = 0;
        for room in self.rooms {
            let name = room.name.clone();
            if table.restore(image_of(room), self.is_complete, now) {
                restored_count += 1;
            } else {
                table.forget_image(&name);
            }
        }
        metrics.lost(self.lost_batches);
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
        Writer::new(
            (table, self.journal),
            store,
            self.disk,
            (metrics, self.clock),
        )
        .start()
    }
}

/// Returns whether the name of a directory, or the rights on it, is wrong: that will be so
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

/// Returns whether the disk failed, and not whoever named the directory.
fn is_the_disks_fault(error: &OpenError) -> bool {
    match error {
        OpenError::Corrupted { .. } => true,
        OpenError::Io { source, .. } => !is_about_the_path(source.kind()),
        OpenError::Another { .. }
        | OpenError::InUse { .. }
        | OpenError::NotAStore { .. }
        | OpenError::Version { .. } => false,
    }
}

/// Opens the store in a directory, and says whom it was open to.
fn open_in(path: &Path) -> Result<Opened, OpenError> {
    let opened = Store::open(&path.join(STORE_DIRECTORY), &Options::default())?;
    let Tightened { closed, open } = &opened.tightened;
    for path in closed {
        let path = path.display();
        tracing::warn!(%path, "permissions were too open: now private to the owner");
    }
    for path in open {
        let path = path.display();
        tracing::warn!(%path, "cannot restrict permissions: other users can read it");
    }
    Ok(opened)
}

/// Returns the batches that were reported as committed and are missing; 1 if nobody knows. Says so.
fn lost_batches(path: &Path, vouched: Vouched) -> u64 {
    let path = path.display();
    match vouched {
        Vouched::Everything => 0,
        Vouched::NoWitness => {
            tracing::info!(
                %path,
                "opened histories of an earlier version: lost data is detected from now on"
            );
            0
        }
        Vouched::AllBut { missing } => {
            tracing::error!(
                %path,
                batches = missing,
                "stored histories are missing: rooms continue in new epochs"
            );
            missing
        }
        Vouched::Nothing => {
            tracing::error!(
                %path,
                "cannot verify that histories are complete: rooms continue in new epochs"
            );
            1
        }
    }
}

/// Returns the time at which what was opened was last written to; none if it never was.
fn last_time(opened: &Opened) -> Option<store::Clock> {
    let publications = opened.rooms.iter().flat_map(|room| &room.publications);
    let keys = opened.rooms.iter().flat_map(|room| &room.keys);
    let times = publications.map(|publication| publication.at_ms);
    let newest_ms = times.chain(keys.map(|key| key.at_ms)).max();
    let noted = opened.clock.filter(|clock| clock.age_ms > 0);
    let Some(newest_ms) = newest_ms else {
        return noted;
    };
    // Earlier versions let histories age by the time of day.
    let noted = noted.unwrap_or(store::Clock {
        age_ms: newest_ms,
        unix_ms: newest_ms,
    });
    Some(store::Clock {
        age_ms: noted.age_ms.max(newest_ms),
        ..noted
    })
}

/// Creates the directory for its owner alone; takes one that is there, and has nothing of anybody
/// else's in it, from all others.
fn prepare(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        return fs::set_permissions(path, Permissions::from_mode(0o700));
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let ours = [ORDER_FILE, ORDER_FILE_NEW, STORE_DIRECTORY, "lost+found"];
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| ours.iter().any(|name| entry.file_name() == *name))
    };
    let (directory, path) = (path, path.display());
    if !fs::read_dir(directory)?.all(is_ours) {
        tracing::warn!(
            %path,
            "permissions kept, because it contains other files: other users can read it"
        );
    } else if let Err(error) = fs::set_permissions(directory, Permissions::from_mode(mode & 0o7700))
    {
        tracing::warn!(%path, %error, "cannot restrict permissions: other users can read it");
    } else {
        tracing::warn!(%path, "permissions were too open: now private to the owner");
    }
    Ok(())
}

/// Says how this process writes, so that the next one knows what an end without a close means.
fn write_order(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.join(ORDER_FILE_NEW);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(ORDER_FILE))?;
    File::open(path)?.sync_all()
}
