//! Time, and the processor time of this thread. The only file that reads either.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the run began, which is what payloads carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts a clock that stands at zero.
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock that everything else is given"
    )]
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Returns the nanoseconds since [`start`](Self::start).
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        to_ns(self.origin.elapsed())
    }
}

/// Returns the processor time that this thread has used, user and system.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Returns the date and time in UTC, as RFC 3339 writes it.
pub(crate) fn date_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Returns a duration in nanoseconds; 584 years are enough for everybody.
#[inline]
pub(crate) fn to_ns(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos())
}
