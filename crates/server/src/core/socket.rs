//! What a core keeps for each connection beside its membership and its outbox.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use proto::{MessageReader, Role};

use super::lines::Waits;
use crate::admission::Place;

/// A connection's socket and the state of its protocol.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: socket2::Socket,
    pub(super) reader: MessageReader,
    /// Bytes that were read and not taken in yet, because the connection is held back or its slice is
    /// over.
    pub(super) stash: Option<Box<[u8]>>,
    /// Whether and where it waits to be read from.
    pub(super) waits: Waits,
    pub(super) phase: Phase,
    /// Whether the readiness set tells of space to write too.
    pub(super) watches_writable: bool,
    /// The readiness set has told of the stream's end, which it does once: whatever comes before
    /// it, the socket is to be read until that is reached.
    pub(super) ended: bool,
    /// When a ping was sent, if nothing was heard since.
    pub(super) pinged_at: Option<Stamp>,
    /// When the last byte came.
    pub(super) heard_at: Stamp,
    /// When the last message came.
    pub(super) message_at: Stamp,
    /// The place among the connections, given back when the socket is dropped.
    _place: Place,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// No more messages are read; the close frame is on its way through the mailbox, behind the
    /// answers to earlier messages.
    Ending,
    /// The close frame is queued. What comes is read and forgotten, for unread bytes would make
    /// the kernel reset the connection and destroy the close frame.
    Closing,
    /// The close frame is sent and our side is shut: only the peer's end is awaited.
    Shut,
}

/// A time in 4 bytes: hundredths of a second since the core started. Good for 497 days, and then
/// for distances below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u32);

impl Stamp {
    pub(super) fn at(started: Instant, now: Instant) -> Self {
        let hundredths = now.saturating_duration_since(started).as_millis() / 10;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "wraps around, as `since` expects"
        )]
        Self(hundredths as u32)
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.wrapping_sub(earlier.0)) * 10)
    }
}

impl Socket {
    pub(super) fn new(stream: socket2::Socket, place: Place, now: Stamp) -> Self {
        Self {
            stream,
            reader: MessageReader::new(Role::Server),
            stash: None,
            waits: Waits::Not,
            phase: Phase::Open,
            watches_writable: false,
            ended: false,
            pinged_at: None,
            heard_at: now,
            message_at: now,
            _place: place,
        }
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
