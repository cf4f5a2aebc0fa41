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
