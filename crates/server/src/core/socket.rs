//! What a core keeps for each connection beside its membership and its outbox.

use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use proto::{MessageReader, Role};

use super::lines::Waits;
use crate::accept::admission::Permit;

/// A connection's socket and the state of its protocol.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: socket2::Socket,
    pub(super) reader: MessageReader,
    /// Bytes that were read and not taken in yet, because the connection is held back or its slice
    /// is over.
    pub(super) stash: Option<Box<[u8]>>,
    /// The line in which it waits to be read from, if it does.
    pub(super) waits: Waits,
    /// Size of the answers since its outbox was empty, in units of 64 bytes.
    pub(super) answered: u16,
    pub(super) phase: Phase,
    /// True if the readiness set tells of space to write too.
    pub(super) watches_writable: bool,
    /// The readiness set has told of the stream's end, which it does once: whatever comes before
    /// it, the socket is to be read until that is reached.
    pub(super) ended: bool,
    /// The peer takes nothing any more: what it has sent is read to its end, whatever waits for it.
    pub(super) is_dead: bool,
    /// When the peer was asked for a sign of life, if none came since.
    pub(super) asked_at: Option<Stamp>,
    /// When the last sign of life came: a byte, or room in a socket that was full.
    pub(super) alive_at: Stamp,
    /// When the last message came.
    pub(super) message_at: Stamp,
    /// Amount that is still read of a connection that was sent its close frame, in KiB. Each read
    /// counts as one at least.
    pub(super) farewell_kib: u8,
    /// The place among the connections, given back when the socket is dropped.
    _place: Permit,
}

/// The phase of a connection on the way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// No more messages are read; the close frame is on its way through the mailbox, behind the
    /// answers to earlier messages.
    Ending,
    /// The close frame is queued. Nothing is read: who does not read either must wait.
    Closing,
    /// The close frame is sent and our side is shut: only the peer's end is awaited. What comes is
    /// read and forgotten, for unread bytes would make the kernel reset the connection and destroy
    /// the close frame. But not more than a peer sends that closes too.
    Shut,
}

/// Amount that is read and discarded behind our close frame, in KiB. Whoever sends more is not read
/// from any more, and its window closes.
const FAREWELL_KIB: u8 = 64;

/// A unit of what a connection was answered with: two bytes count to 4 MiB.
const ANSWERED_UNIT: usize = 64;

/// A time in 4 bytes: hundredths of a second since the core started. Good for 497 days, and then
/// for distances below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(NonZeroU32);

impl Stamp {
    pub(super) fn at(started: Instant, now: Instant) -> Self {
        let hundredths = now.saturating_duration_since(started).as_millis() / 10;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "wraps around, as `since` expects"
        )]
        let hundredths = hundredths as u32;
        // A hundredth early once in 497 days, so that a time that there may not be takes 4 bytes
        // too.
        Self(NonZeroU32::new(hundredths).unwrap_or(NonZeroU32::MIN))
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.get().wrapping_sub(earlier.0.get())) * 10)
    }
}

impl Socket {
    pub(super) fn new(stream: socket2::Socket, place: Permit, now: Stamp) -> Self {
        Self {
            stream,
            reader: MessageReader::new(Role::Server),
            stash: None,
            waits: Waits::Not,
            answered: 0,
            phase: Phase::Open,
            watches_writable: false,
            ended: false,
            is_dead: false,
            asked_at: None,
            alive_at: now,
            message_at: now,
            farewell_kib: FAREWELL_KIB,
            _place: place,
        }
    }

    /// Takes note of a sign of life.
    pub(super) const fn is_alive(&mut self, now: Stamp) {
        self.alive_at = now;
        self.asked_at = None;
    }

    /// Returns the maximum bytes that may be read now. Of a peer that has ended its side no more
    /// comes than lies there already.
    pub(super) const fn readable_max(&self) -> usize {
        match self.phase {
            Phase::Open | Phase::Ending => usize::MAX,
            Phase::Closing | Phase::Shut if self.ended => usize::MAX,
            Phase::Closing => 0,
            Phase::Shut => self.farewell_kib as usize * 1024,
        }
    }

    /// Takes note of how many bytes were read.
    pub(super) fn count_read(&mut self, len: usize) {
        if self.phase == Phase::Shut {
            let kib = u8::try_from(len.div_ceil(1024)).unwrap_or(u8::MAX);
            self.farewell_kib = self.farewell_kib.saturating_sub(kib);
        }
    }

    /// Takes note of an answer of so many bytes. Returns whether it was answered with more than so
    /// many since its outbox was empty.
    pub(super) fn count_answer(&mut self, len: usize, max: usize) -> bool {
        let units = |len: usize| u16::try_from(len.div_ceil(ANSWERED_UNIT)).unwrap_or(u16::MAX);
        self.answered = self.answered.saturating_add(units(len));
        self.answered > units(max).min(u16::MAX - 1)
    }

    /// Returns whether it once took less than it was offered.
    pub(super) const fn is_slow(&self) -> bool {
        self.watches_writable
    }

    /// Reads what has come, at most the buffer's length. Does not block.
    pub(super) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_two_cache_lines_beside_its_membership() {
        assert!(
            size_of::<Option<Socket>>() <= 128,
            "{}",
            size_of::<Option<Socket>>()
        );
    }
}
