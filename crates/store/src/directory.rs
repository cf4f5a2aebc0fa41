//! The directory of a store: which files are in it, and who may use them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};
use crate::modes;

/// The file's name in the directory.
pub(crate) const FILE: &str = "histories.sqlite";

/// The name of what was committed and is not yet in the file.
pub(crate) const JOURNAL: &str = "histories.sqlite-wal";

/// Files that others than their owner could use when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tightened {
    /// Those that they no longer can.
    pub closed: Vec<PathBuf>,
    /// Those that they still can, since the system did not let that be changed.
    pub open: Vec<PathBuf>,
}

/// Creates the directory, and those that it is in, so that they outlive a loss of power.
///
/// # Errors
///
/// The system's, [`OpenError::NotAStore`] if there is something else in it, and [`OpenError::Corrupted`] if a
/// journal is all that is left.
pub(crate) fn prepare(path: &Path) -> Result<(), OpenError> {
    let at = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    create_directory(path).map_err(at)?;
    check_names(path)?;
    // SQLite would remove the journal, and begin without what was in it.
    let len = |name| fs::metadata(path.join(name)).map(|metadata| metadata.len());
    match (len(FILE), len(JOURNAL)) {
        (Err(_), Ok(_)) => Err(OpenError::damaged(path, Damage::NoFile)),
        (Ok(0), Ok(1..)) => Err(OpenError::damaged(path, Damage::EmptyFile)),
        _ => Ok(()),
    }
}

/// Checks that a directory has nothing of anybody else's in it.
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

/// Takes the directory and its files from everybody but their owner.
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
        // By another process, which is then about to take it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.and_then(|()| fs::File::open(parent)?.sync_all()),
    }
}

/// In the root of a file system of its own.
const LOST_AND_FOUND: &str = "lost+found";
