//! Looking at the server now and then on a thread of its own, while something else happens.
//!
//! Reading `/proc` takes the kernel milliseconds for a large server; on the driver's thread these
//! would be measured as the server's.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::process::ServerProcess;

/// How often memory is looked at: short against a storm, and a small part of a CPU.
pub(crate) const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// Does `work`, and calls `look` before it, after it, and once an `interval` in between.
///
/// Returns also the most memory that the server had meanwhile, if that can be known.
pub(crate) fn meanwhile<T>(
    server: Option<&ServerProcess>,
    interval: Duration,
    mut look: impl FnMut() + Send,
    work: impl FnOnce() -> T,
) -> (T, Option<u64>) {
    let mut peak = None;
    let mut look = || {
        look();
        peak = peak.max(server.and_then(ServerProcess::pss_bytes));
    };
    let (done, is_done) = sync_channel::<()>(0);
    let look = &mut look;
    let worked = thread::scope(|scope| {
        scope.spawn(move || {
            look();
            while is_done.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                look();
            }
            look();
        });
        let worked = work();
        drop(done);
        worked
    });
    (worked, peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_before_and_after_and_the_peak_is_at_least_what_is_there_now() {
        let (this, mut looks) = (ServerProcess::new(std::process::id()), 0);
        let (worked, peak) = meanwhile(Some(&this), MEMORY_INTERVAL, || looks += 1, || 7);
        assert_eq!(worked, 7);
        assert!(looks >= 2 && peak > Some(0), "{looks}, {peak:?}");
        assert_eq!(meanwhile(None, MEMORY_INTERVAL, || (), || 7), (7, None));
    }
}
