//! What an operator can set about histories on disk.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, str::FromStr};

use thiserror::Error;

/// Histories on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A directory of this server's own; made if it is not there.
    pub path: PathBuf,
    /// When what is written is brought to the disk.
    pub fsync: Fsync,
    /// Time between fsyncs, with [`Fsync::Interval`]: what a loss of power takes with it at most.
    pub fsync_interval: Duration,
    /// Treatment of publications while the disk fails; none is [`OnFailure::Refuse`] with
    /// [`Fsync::Always`], whose promise nothing else keeps, and [`OnFailure::Serve`] otherwise.
    pub on_failure: Option<OnFailure>,
}

impl Disk {
    /// Returns histories in a directory, with an fsync every second.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            fsync: Fsync::default(),
            fsync_interval: Duration::from_secs(1),
            on_failure: None,
        }
    }

    /// Returns what happens while the disk fails.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or(match self.fsync {
            Fsync::Always => OnFailure::Refuse,
            Fsync::Interval | Fsync::Never => OnFailure::Serve,
        })
    }
}

/// When histories are brought to the disk, and what an end without warning takes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Before anybody gets a publication, and before it is acknowledged: nothing is lost, whatever
    /// ends. A publication waits for the disk, together with all that came meanwhile.
    Always,
    /// Every so often. The end of the process takes some milliseconds with it, a loss of power the
    /// time since the last.
    #[default]
    Interval,
    /// When the kernel likes. The end of the process takes some milliseconds with it, a loss of
    /// power half a minute or more.
    Never,
}

/// Text that names no way to bring histories to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use always, interval or never")]
pub struct FsyncError;

impl FromStr for Fsync {
    type Err = FsyncError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "interval" => Ok(Self::Interval),
            "never" => Ok(Self::Never),
            _ => Err(FsyncError),
        }
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        })
    }
}

/// Treatment of publications to rooms with a history while the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused, with an `error` of code `storage`. The server does not start without its
    /// disk.
    Refuse,
    /// They are delivered and kept in memory only; when the disk takes them again, all that is in
    /// memory is written. The server starts without its disk, too.
    Serve,
}

/// Text that names nothing that happens while the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use refuse or serve")]
pub struct OnFailureError;

impl FromStr for OnFailure {
    type Err = OnFailureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "serve" => Ok(Self::Serve),
            _ => Err(OnFailureError),
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Serve => "serve",
        })
    }
}
