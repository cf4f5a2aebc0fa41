//! The one place that reads the time. Everything else is given it.

use std::time::Instant;

/// The time now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that the ban points to"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, in Unix milliseconds: what is written into publications and what histories expire
/// by. It may jump when somebody sets the system's clock.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
