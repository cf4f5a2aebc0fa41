//! The directory of a store: its files, and who may use them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};
use crate::modes;

/// The name of the database in the directory.
pub(crate) const FILE: &str = "histories.sqlite";

/// The name of SQLite's journal: what was committed and is not yet in the database.
pub(crate) const JOURNAL: &str = "histories.sqlite-wal";

/// Files that users other than their owner could use when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tightened {
    /// Files that they no longer can use.
    pub closed: Vec<PathBuf>,
    /// Files that they still can use, because the system did not let that be changed.
    pub open: Vec<PathBuf>,
}

/// Creates the directory and its parents, so that they survive a loss of power.
///
/// # Errors
///
/// [`OpenError::Io`] from the system, [`OpenError::NotAStore`] if the directory has other files,
/// and [`OpenError::Corrupted`] if only a journal is left.
pub(crate) fn prepare(path: &Path) -> Result<(), OpenError> {
    let at = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    create_directory(path).map_err(at)?;
    check_names(path)?;
    // SQLite would remove the journal, and begin without its contents.
    let len = |name| fs::metadata(path.join(name)).map(|metadata| metadata.len());
    match (len(FILE), len(JOURNAL)) {
        (Err(_), Ok(_)) => Err(OpenError::damaged(path, Damage::NoFile)),
        (Ok(0), Ok(1..)) => Err(OpenError::damaged(path, Damage::EmptyFile)),
        _ => Ok(()),
    }
}

/// Checks that a directory has no files of anybody else.
pub(crate) fn check_names(path: &Path) -> Result<(), OpenError> {
    let at = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(FILE) && name != LOST_AND_FOUND {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

/// Removes everybody's access to the directory and its files but their owner's.
pub(crate) fn tighten(path: &Path) -> Result<Tightened, OpenError> {
    let at = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut tightened = Tightened::default();
    let mut tighten = |path: PathBuf| match modes::tighten(&path) {
        Ok(false) => {}
        Ok(true) => tightened.closed.push(path),
        Err(_) => tightened.open.push(path),
    };
    tighten(path.to_owned());
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        if entry.file_name() != LOST_AND_FOUND {
            tighten(entry.path());
        }
    }
    Ok(tightened)
}

fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    create_directory(&parent)?;
    match modes::create_directory(path) {
        // Another process created it, and is about to take it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.and_then(|()| fs::File::open(parent)?.sync_all()),
    }
}

/// The entry that the root of a file system has.
const LOST_AND_FOUND: &str = "lost+found";
