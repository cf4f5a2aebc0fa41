//! Looking at something now and then on a thread of its own, while something else happens.
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
pub(crate) fn meanwhile<T>(
    interval: Duration,
    mut look: impl FnMut() + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (done, is_done) = sync_channel::<()>(0);
    thread::scope(|scope| {
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
    })
}

/// Does `work`, and returns the most memory that the server had in the meantime, if it can be known.
pub(crate) fn peak_memory<T>(
    server: Option<&ServerProcess>,
    work: impl FnOnce() -> T,
) -> (T, Option<u64>) {
    let Some(server) = server else {
        return (work(), None);
    };
    let mut peak = None;
    let look = || peak = peak.max(server.pss_bytes());
    let worked = meanwhile(MEMORY_INTERVAL, look, work);
    (worked, peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_before_and_after() {
        let mut looks = 0;
        assert_eq!(meanwhile(MEMORY_INTERVAL, || looks += 1, || 7), 7);
        assert!(looks >= 2, "{looks}");
    }

    #[test]
    fn the_peak_is_at_least_what_is_there_now() {
        let this = ServerProcess::new(std::process::id());
        let ((), peak) = peak_memory(Some(&this), || ());
        assert!(peak > Some(0));
        assert_eq!(peak_memory(None, || 7), (7, None));
    }
}
