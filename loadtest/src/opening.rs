//! What came of attempts to open a connection, where a refusal is a figure and not the run's end.

use std::io::{self, ErrorKind};

use derive_more::AddAssign;
use serde::Serialize;
use thiserror::Error;

use crate::tally::{Counts, Latency};

/// Why a connection did not open, as reports call it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server opened it and closed it before it was of use.
    #[error("closed_at_once")]
    ClosedAtOnce,
    /// Nobody listens, or the queue of those who wait is full.
    #[error("connection_refused")]
    ConnectionRefused,
    /// This machine has no port or no file left, or another error of its own.
    #[error("local_error")]
    Local,
    /// The answer was not HTTP, or proved nothing.
    #[error("malformed")]
    Malformed,
    /// TCP's reset, or its end without an answer.
    #[error("reset")]
    Reset,
    /// HTTP's status.
    #[error("status_{0}")]
    Status(u16),
    /// There was no answer for too long.
    #[error("timed_out")]
    TimedOut,
}

impl From<io::Error> for Refusal {
    /// Returns what an error of a socket means before the connection is open.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::Reset,
            ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Local,
        }
    }
}

/// Attempts and what came of them. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
pub(crate) struct OpeningTally {
    /// Connections begun.
    pub(crate) attempts: u64,
    /// Those that were answered with 101.
    pub(crate) connects: u64,
    /// Those that were not, by reason.
    pub(crate) refusals: Counts,
    /// From each attempt that succeeded to its 101; of a visitor from when it was due.
    pub(crate) handshake_us: Latency,
}

impl OpeningTally {
    /// Counts a connection that opened after so long.
    pub(crate) fn open(&mut self, after_ns: u64) {
        self.connects += 1;
        self.handshake_us.record(after_ns);
    }
}
