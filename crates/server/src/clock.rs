//! The one place that reads the time. Everything else is given it.

use std::time::{Duration, Instant};

use rooms::Moment;

/// Returns the time now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that the ban points to"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the time of day, in Unix milliseconds: what is written into publications. It may jump
/// when somebody sets the system's clock, so no duration is measured by it.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The clock that histories and keys age by.
///
/// It moves on with the system's monotonic clock, whatever is done to the time of day. So only the
/// time counts in which the server runs: none while the machine is suspended, and at most
/// [`DOWN_MAX`] for the time between two processes, of which only the time of day tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeClock {
    began: Instant,
    began_at: Moment,
}

/// Maximum time by which what is held ages from one process to the next. A restart takes seconds;
/// what takes longer may as well be a clock that was set.
const DOWN_MAX: Duration = Duration::from_secs(60);

impl AgeClock {
    /// Returns a clock for what begins to be held now. It shows the time of day, which makes its
    /// numbers easier to read.
    pub(crate) fn new() -> Self {
        let unix_ms = unix_ms();
        Self::resumed(unix_ms, unix_ms, unix_ms)
    }

    /// Goes on, at this time of day, from a time that an earlier process has noted, on this clock
    /// and of the day, in milliseconds.
    pub(crate) fn resumed(unix_ms: u64, age_ms: u64, noted_unix_ms: u64) -> Self {
        let down_max_ms = u64::try_from(DOWN_MAX.as_millis()).unwrap_or(u64::MAX);
        let down_ms = unix_ms.saturating_sub(noted_unix_ms).min(down_max_ms);
        Self {
            began: now(),
            began_at: Moment(age_ms.saturating_add(down_ms)),
        }
    }

    /// Returns the moment now.
    pub(crate) fn now(&self) -> Moment {
        self.at(now())
    }

    /// Returns the moment at this time.
    pub(crate) fn at(&self, time: Instant) -> Moment {
        let since = time.saturating_duration_since(self.began).as_millis();
        let since_ms = u64::try_from(since).unwrap_or(u64::MAX);
        Moment(self.began_at.0.saturating_add(since_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[test]
    fn what_is_held_ages_by_the_pause_between_two_processes_up_to_a_minute() {
        let noted_unix_ms = 400 * DAY_MS;
        let aged_ms = |unix_ms| {
            let clock = AgeClock::resumed(unix_ms, 7 * DAY_MS, noted_unix_ms);
            clock.at(clock.began).0 - 7 * DAY_MS
        };
        assert_eq!(aged_ms(noted_unix_ms + 5_000), 5_000);
        // The clock was set, or the machine was off for long: nobody knows which.
        assert_eq!(aged_ms(noted_unix_ms + 365 * DAY_MS), 60_000);
        assert_eq!(aged_ms(noted_unix_ms - 365 * DAY_MS), 0);
    }

    #[test]
    fn it_moves_on_with_the_monotonic_clock_from_there() {
        let clock = AgeClock::resumed(0, DAY_MS, DAY_MS);
        let later = clock.began + Duration::from_millis(1234);
        assert_eq!(clock.at(later), Moment(DAY_MS + 1234));
    }
}
