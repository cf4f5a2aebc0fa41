//! How long a turn spends on each kind of work, and on each connection.
//!
//! Shares are of time and not of reads or messages: one message may cost a microsecond and another
//! a millisecond. A turn does each kind of work for one slice; what is left goes on in the next
//! turn. So the slices add up to what anybody may have to wait for a turn, whatever the others
//! send.

use std::time::{Duration, Instant};

use crate::clock;

/// Time of a turn for new connections.
pub(super) const ADOPT: Duration = Duration::from_millis(1);

/// Time of a turn for reading from the connections of each line.
pub(super) const READ: Duration = Duration::from_millis(1);

/// Time of a turn for commands.
pub(super) const APPLY: Duration = Duration::from_millis(1);

/// Buffers that a turn queues with members of small rooms, and again of large ones: half a
/// millisecond, at some 30 ns each. In buffers and not in time, since `rooms` reads no clock.
pub(super) const FAN_OUT_WORK: usize = 16 * 1024;

/// Frames that found an outbox full and that a turn tries again: each may cost a write, or the end
/// of a connection, some microseconds.
pub(super) const OVERFLOW_FRAMES: usize = 128;

/// Connections that a turn ends because their time to close is over.
pub(super) const ENDS: usize = 128;

/// Time of a turn for dropping what has expired.
pub(super) const SWEEP: Duration = Duration::from_micros(250);

/// Time for which each of the two lines is flushed before the loop goes round: together half a
/// millisecond, which bounds what a small room waits for a large one.
pub(super) const FLUSH: Duration = Duration::from_micros(250);

/// The share of a turn that one connection may use.
///
/// A connection that has used up its slice goes on in the backlog, so that those who send little
/// come first. The slice shrinks while the core is late with what the messages asked for: commands
/// and fan-outs are done for those who asked, and reading less is how they are slowed down.
#[derive(Debug)]
pub(super) struct ConnectionShare(Duration);

impl ConnectionShare {
    /// A quarter of a line's slice, so that some connections have a turn, and as long as some
    /// hundred small messages take.
    const MAX: Duration = Duration::from_micros(250);

    /// Enough for a few messages: one is always read, so nobody waits for ever.
    const MIN: Duration = Duration::from_micros(4);

    pub(super) const fn new() -> Self {
        Self(Self::MAX)
    }

    /// Returns the slice of a connection while so many wait to be read from, itself counted.
    ///
    /// Those few that wait share the whole slice of a line: a publisher that is alone with its
    /// burst gets it merged into one frame, not into several.
    pub(super) fn of(&self, waiting: usize) -> Duration {
        if self.0 < Self::MAX {
            return self.0;
        }
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
        (READ / waiting).max(Self::MAX)
    }

    /// Takes note whether the last turn has left work undone.
    pub(super) fn adapt(&mut self, late: bool) {
        self.0 = if late {
            (self.0 / 2).max(Self::MIN)
        } else {
            (self.0 * 5 / 4).min(Self::MAX)
        };
    }
}

/// In which line a connection waits to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Connections that have sent little. They come first.
    Fresh,
    /// Connections that have used up their slice, or may have sent more than one read takes.
    Backlog,
}

/// The end of a slice, which looks at the clock only now and then.
#[derive(Debug)]
pub(super) struct Deadline {
    end: Instant,
    steps: usize,
}

impl Deadline {
    /// Cheap steps between two looks at the clock. A look costs some 25 ns, a step a few hundred.
    const STEPS: usize = 4;

    /// Bytes of input that count as one more step.
    const BYTES_PER_STEP: usize = 1024;

    pub(super) const fn at(end: Instant) -> Self {
        Self { end, steps: 0 }
    }

    /// Returns a slice that begins now.
    pub(super) fn after(slice: Duration) -> Self {
        Self::at(clock::now() + slice)
    }

    /// Returns whether the slice is over, after one more step that has dealt with so many bytes.
    pub(super) fn is_over(&mut self, bytes: usize) -> bool {
        self.is_over_by(bytes, clock::now)
    }

    /// Returns whether the slice is over, by a look at the clock: for steps that may be dear.
    pub(super) fn is_past(&self) -> bool {
        clock::now() >= self.end
    }

    fn is_over_by(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        self.steps += 1 + bytes / Self::BYTES_PER_STEP;
        if self.steps < Self::STEPS {
            return false;
        }
        self.steps = 0;
        now() >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_at_the_first_look_at_the_clock_behind_its_end() {
        let end = clock::now();
        let before = || end - Duration::from_micros(1);
        let mut deadline = Deadline::at(end);
        for _ in 0..Deadline::STEPS - 1 {
            assert!(!deadline.is_over_by(0, || end), "no look yet");
        }
        assert!(!deadline.is_over_by(0, before));
        assert!(!deadline.is_over_by(0, || end), "no look yet");
        assert!(deadline.is_over_by(64 * 1024, || end), "a dear step");
    }

    #[test]
    fn a_connection_gets_less_while_the_core_is_late_and_as_much_again_after() {
        let mut share = ConnectionShare::new();
        assert_eq!(share.of(100), ConnectionShare::MAX);
        share.adapt(true);
        assert_eq!(share.of(100), ConnectionShare::MAX / 2);
        for _ in 0..100 {
            share.adapt(true);
        }
        assert_eq!(share.of(100), ConnectionShare::MIN);
        for _ in 0..100 {
            share.adapt(false);
        }
        assert_eq!(share.of(100), ConnectionShare::MAX);
    }

    #[test]
    fn few_connections_share_the_slice_of_a_line_unless_the_core_is_late() {
        let mut share = ConnectionShare::new();
        assert_eq!(
            [1, 2, 4].map(|waiting| share.of(waiting)),
            [READ, READ / 2, READ / 4]
        );
        share.adapt(true);
        assert_eq!(share.of(1), ConnectionShare::MAX / 2);
    }
}
