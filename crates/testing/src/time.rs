//! How long tests wait.

use std::thread;
use std::time::{Duration, Instant};

/// The time that anything may take before a test fails: dozens of times what the slowest step needs
/// on a busy machine, so that only what never comes is waited for in vain.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks at a value that another thread changes: short, and long enough to leave the
/// processor to that thread.
const PAUSE: Duration = Duration::from_millis(2);

/// The time now.
#[expect(
    clippy::disallowed_methods,
    reason = "the server's clock is its own; this is the tests'"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until there is something to see; fails with what `missing` says if that never comes.
pub fn until<T>(mut look: impl FnMut() -> Option<T>, missing: impl Fn() -> String) -> T {
    let deadline = now() + TIMEOUT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now() < deadline, "{}", missing());
        thread::sleep(PAUSE);
    }
}
