//! The directory: whose it is, which format it has, and whether it was closed.
//!
//! ```text
//! lock        locked while a process has the directory; its number, for the others to say
//! format      "throng-store 1", written first
//! data        the log
//! clean       how many commits there were when it was closed; removed when it has been opened
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};

/// A directory that this process has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// What keeps others out.
    _lock: File,
}

impl Directory {
    /// Takes the directory, and creates it if it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let at = |source| io_error(path, source);
        create(path).map_err(at)?;
        refuse_others_files(path)?;
        let lock = lock(path)?;
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        directory.check_format()?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is, whether or not it is there.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// How many commits there were when it was closed, if it was.
    pub(crate) fn closed_with(&self) -> Result<Option<u64>, OpenError> {
        let path = self.path.join(CLEAN);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        };
        let commits = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.strip_suffix('\n')?.parse().ok());
        match commits {
            Some(commits) => Ok(Some(commits)),
            None => Err(self.damaged(Damage::File { name: CLEAN })),
        }
    }

    /// Says that it is open, or that it is closed with so many commits.
    pub(crate) fn mark(&self, closed_with: Option<u64>) -> io::Result<()> {
        let path = self.path.join(CLEAN);
        match closed_with {
            Some(commits) => write_whole(&path, &format!("{commits}\n"))?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        self.sync()
    }

    /// What all its files take on the disk, in bytes.
    pub(crate) fn disk_bytes(&self) -> io::Result<u64> {
        disk_bytes(&self.path)
    }

    pub(crate) fn damaged(&self, damage: Damage) -> OpenError {
        OpenError::Corrupted {
            path: self.path.clone(),
            damage,
        }
    }

    pub(crate) fn io_error(&self, source: io::Error) -> OpenError {
        io_error(&self.path, source)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.path.join(FORMAT);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return write_whole(&path, &format!("{FORMAT_NAME}{FORMAT_VERSION}\n"))
                    .and_then(|()| self.sync())
                    .map_err(|error| io_error(&path, error));
            }
            Err(error) => return Err(io_error(&path, error)),
        };
        let version = std::str::from_utf8(&text).ok().and_then(|text| {
            text.strip_prefix(FORMAT_NAME)?
                .strip_suffix('\n')?
                .parse()
                .ok()
        });
        match version {
            Some(FORMAT_VERSION) => Ok(()),
            Some(found) => Err(OpenError::Version {
                path: self.path.clone(),
                found,
                supported: FORMAT_VERSION,
            }),
            None => Err(self.damaged(Damage::File { name: FORMAT })),
        }
    }

    /// Makes the names in the directory outlive a loss of power.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Creates a directory, and those that it is in, so that they outlive a loss of power.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create(parent)?;
    match fs::create_dir(path) {
        // By another process, which is then about to take it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.and_then(|()| File::open(parent)?.sync_all()),
    }
}

/// A directory without a format is ours only if it is empty, or if a process died while it made it ours.
fn refuse_others_files(path: &Path) -> Result<(), OpenError> {
    let at = |source| io_error(path, source);
    if path.join(FORMAT).try_exists().map_err(at)? {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        let unfinished = format!("{FORMAT}{UNFINISHED}");
        if ![LOCK, FORMAT, &unfinished, LOST_AND_FOUND]
            .iter()
            .any(|ours| name == *ours)
        {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = path.join(LOCK);
    let at = |source| io_error(&lock_path, source);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(at)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&lock_path).ok();
            return Err(OpenError::InUse {
                path: path.to_owned(),
                holder: holder.and_then(|text| text.trim().parse().ok()),
            });
        }
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    // Only for the message above. On a full disk it may stay empty, and the lock still holds.
    drop(
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id())),
    );
    Ok(lock)
}

/// Writes a file so that it is there as a whole or not at all, once the directory is synced.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn disk_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // One that is gone since takes nothing.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path()).unwrap_or_default()
        } else {
            metadata.blocks() * BLOCK_BYTES
        };
    }
    Ok(bytes)
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

const LOCK: &str = "lock";
const FORMAT: &str = "format";
const DATA: &str = "data";
const CLEAN: &str = "clean";
const UNFINISHED: &str = ".new";
/// In the root of a file system of its own.
const LOST_AND_FOUND: &str = "lost+found";

const FORMAT_NAME: &str = "throng-store ";
/// One more whenever a store that was written before could no longer be read.
const FORMAT_VERSION: u32 = 1;

/// The unit that `stat` counts in, whatever the file system's.
const BLOCK_BYTES: u64 = 512;
