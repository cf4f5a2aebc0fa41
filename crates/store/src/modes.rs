//! Modes of files: only the owner may use them, whatever the umask.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of each file.
pub(crate) const FILE_MODE: u32 = 0o600;

/// The mode of a store's directory.
const DIRECTORY_MODE: u32 = 0o700;

/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Sets the mode of a file exactly.
pub(crate) fn set(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Creates a directory that only its owner may use.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    set(path, DIRECTORY_MODE)
}

/// Creates an empty file that only its owner may use, if there is none.
///
/// A file that exists is not opened: closing it would end the locks that this process has on it.
pub(crate) fn create_file(path: &Path) -> io::Result<()> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match created {
        Ok(_) => set(path, FILE_MODE),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes everybody's access to a file or directory but its owner's. Returns whether others could
/// use it.
///
/// # Errors
///
/// The system's error, if others still can.
pub(crate) fn tighten(path: &Path) -> io::Result<bool> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(false);
    }
    set(path, mode & 0o7777 & !OTHERS)?;
    Ok(true)
}
