//! A timer that wakes a readiness loop on time.
//!
//! The loop's own timeout has milliseconds; a publication that is sent a millisecond late would be
//! measured as a slow server.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// One deadline at a time.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: OwnedFd,
    armed_for_ns: Option<u64>,
}

impl Timer {
    /// Makes a timer whose expirations are readiness of `token`.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self {
            fd,
            armed_for_ns: None,
        })
    }

    /// Expires once at `deadline_ns`; a system call only if that is another deadline than before.
    ///
    /// Setting a timer also makes an expiration that was not read into one that never was, so
    /// nobody has to read it.
    pub(crate) fn arm(&mut self, deadline_ns: u64, now_ns: u64) -> io::Result<()> {
        if self.armed_for_ns == Some(deadline_ns) {
            return Ok(());
        }
        // Zero would disarm it.
        let wait = Duration::from_nanos(deadline_ns.saturating_sub(now_ns).max(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(wait).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        self.armed_for_ns = Some(deadline_ns);
        Ok(())
    }
}
