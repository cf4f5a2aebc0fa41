//! What came of attempts to open a connection, where a refusal is a figure and not the run's end.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind};

use hdrhistogram::Histogram;

use crate::latencies::latency_histogram;

/// Why a connection did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The server opened it and closed it before it was of use.
    ClosedAtOnce,
    /// Nobody listens, or the queue of those who wait is full.
    ConnectionRefused,
    /// The answer was not HTTP, or proved nothing.
    Malformed,
    /// This machine has no port or no file left, or another error of its own.
    Local,
    /// TCP's reset, or its end without an answer.
    Reset,
    /// HTTP's status.
    Status(u16),
    /// There was no answer for too long.
    TimedOut,
}

impl Refusal {
    /// What an error of a socket means before the connection is open.
    pub(crate) fn of(error: &io::Error) -> Self {
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

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedAtOnce => f.write_str("closed_at_once"),
            Self::ConnectionRefused => f.write_str("connection_refused"),
            Self::Local => f.write_str("local_error"),
            Self::Malformed => f.write_str("malformed"),
            Self::Reset => f.write_str("reset"),
            Self::Status(status) => write!(f, "status_{status}"),
            Self::TimedOut => f.write_str("timed_out"),
        }
    }
}

/// Attempts and what came of them.
#[derive(Clone, Debug)]
pub(crate) struct OpeningTally {
    /// Connections begun.
    pub(crate) attempts: u64,
    /// Answered with 101.
    pub(crate) opened: u64,
    /// Not opened, by reason.
    pub(crate) refusals: BTreeMap<Refusal, u64>,
    /// Nanoseconds to each 101.
    pub(crate) handshake_ns: Histogram<u64>,
}

impl OpeningTally {
    /// Of nothing.
    pub(crate) fn new() -> Self {
        Self {
            attempts: 0,
            opened: 0,
            refusals: BTreeMap::new(),
            handshake_ns: latency_histogram(),
        }
    }

    /// A connection opened after so long.
    pub(crate) fn open(&mut self, after_ns: u64) {
        self.opened += 1;
        self.handshake_ns.saturating_record(after_ns);
    }

    /// A connection did not open.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        *self.refusals.entry(refusal).or_default() += 1;
    }

    /// Takes over what came of others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.opened += other.opened;
        for (&refusal, &count) in &other.refusals {
            *self.refusals.entry(refusal).or_default() += count;
        }
        self.handshake_ns
            .add(&other.handshake_ns)
            .expect("all histograms have the same bounds");
    }

    /// The refusals by name, for programs.
    pub(crate) fn refusals_by_name(&self) -> BTreeMap<String, u64> {
        let named = self.refusals.iter();
        named
            .map(|(refusal, &n)| (refusal.to_string(), n))
            .collect()
    }
}

/// Counts by name, as a text says them: `3 reset, 2 status_503`, or `none`.
pub(crate) fn listed(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let each: Vec<_> = counts
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    each.join(", ")
}
