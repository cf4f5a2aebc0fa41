//! The files under their names: a check that the next process will find what is written.
//!
//! A file that was moved, replaced or removed while it is open takes every write, and none of it is
//! there after a restart. So each commit compares the files under the names with the open ones.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::directory::{FILE, JOURNAL};
use crate::error::CommitError;
use crate::witness::WITNESS;

/// The files that the names led to when they were opened.
#[derive(Debug)]
pub(crate) struct Footing {
    watched: [Watched; 4],
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Mode, user, group.
    rights: (u32, u32, u32),
    /// The length after the last commit; nobody else makes the file shorter. 0 for a directory.
    len: u64,
}

impl Footing {
    /// Notes the directory and the files in it, all of which are open.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            watched: [
                Watched::new(directory.to_owned())?,
                Watched::new(directory.join(FILE))?,
                Watched::new(directory.join(JOURNAL))?,
                Watched::new(directory.join(WITNESS))?,
            ],
        })
    }

    /// Checks before a commit that the files are as the last one left them.
    pub(crate) fn check_before(&mut self) -> Result<(), CommitError> {
        for file in &mut self.watched {
            let metadata = file.check()?;
            if len_of(&metadata) < file.len {
                return Err(CommitError::Cut {
                    path: file.path.clone(),
                });
            }
        }
        Ok(())
    }

    /// Checks after a commit that the next process will find it.
    pub(crate) fn check_after(&mut self) -> Result<(), CommitError> {
        for file in &mut self.watched {
            let metadata = file.check()?;
            file.len = len_of(&metadata);
        }
        Ok(())
    }
}

impl Watched {
    fn new(path: PathBuf) -> io::Result<Self> {
        let metadata = fs::metadata(&path)?;
        Ok(Self {
            path,
            identity: identity_of(&metadata),
            rights: rights_of(&metadata),
            len: len_of(&metadata),
        })
    }

    fn check(&mut self) -> Result<Metadata, CommitError> {
        let unreachable = |source| CommitError::Unreachable {
            path: self.path.clone(),
            source,
        };
        let metadata = fs::metadata(&self.path).map_err(unreachable)?;
        if identity_of(&metadata) != self.identity {
            return Err(CommitError::Moved {
                path: self.path.clone(),
            });
        }
        let rights = rights_of(&metadata);
        if rights != self.rights {
            // An open file stays usable; the next process must be able to open it.
            let mut access = Access::READ_OK | Access::WRITE_OK;
            if metadata.is_dir() {
                access |= Access::EXEC_OK;
            }
            accessat(CWD, &self.path, access, AtFlags::EACCESS)
                .map_err(|error| unreachable(error.into()))?;
            self.rights = rights;
        }
        Ok(metadata)
    }
}

fn identity_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn rights_of(metadata: &Metadata) -> (u32, u32, u32) {
    (metadata.mode(), metadata.uid(), metadata.gid())
}

/// Returns the length of a file. A directory's own length means nothing.
fn len_of(metadata: &Metadata) -> u64 {
    if metadata.is_file() {
        metadata.len()
    } else {
        0
    }
}
