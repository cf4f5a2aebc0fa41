//! What the processes of this machine have used up to a moment: the server's, this one, all.
//!
//! It runs on the monitor's thread. A figure takes from microseconds to a second to read, by how many
//! processes there are and how much memory they have.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Clock;
use crate::machine;
use crate::process::{self, ServerProcess};

/// What processes have used since they began; none where it was not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) at_ns: u64,
    /// Of the server's processes.
    pub(crate) server_cpu: Option<Duration>,
    /// Of this process, all threads.
    pub(crate) own_cpu: Option<Duration>,
    /// Of all processes of the machine.
    pub(crate) machine_cpu: Option<Duration>,
    /// The server's proportional set size now.
    pub(crate) server_pss_bytes: Option<u64>,
}

/// The same where a measurement begins or ends, with what is worth its time only there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) resources: Resources,
    /// Of each thread of the server.
    pub(crate) server_threads: HashMap<u32, Duration>,
}

/// Of its time, the monitor may spend this part in reading how much memory the server has: while it
/// is read, the server's own requests for memory wait.
const PSS_TIME_SHARE: u32 = 400;

/// What reads the processes.
#[derive(Debug)]
pub(crate) struct Probe {
    clock: Clock,
    server: Option<ServerProcess>,
    pss_due_ns: u64,
}

impl Probe {
    /// Of this server, or of none.
    pub(crate) fn new(clock: Clock, server: Option<ServerProcess>) -> Self {
        Self {
            clock,
            server,
            pss_due_ns: 0,
        }
    }

    /// Everything for a point of a series.
    pub(crate) fn read(&mut self) -> Resources {
        let server = self.server.as_ref();
        Resources {
            server_cpu: server.and_then(|server| server.cpu().ok()),
            own_cpu: process::own_cpu(),
            machine_cpu: machine::busy(),
            at_ns: self.clock.now_ns(),
            // The slowest last: the moment above is that of the others.
            server_pss_bytes: self.pss_bytes(),
        }
    }

    /// Everything for the beginning or the end of a measurement.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let resources = self.read();
        let server = self.server.as_ref();
        Snapshot {
            resources,
            server_threads: server.map(ServerProcess::cpu_by_thread).unwrap_or_default(),
        }
    }

    /// The server's memory, unless it was read a short while ago and took long.
    fn pss_bytes(&mut self) -> Option<u64> {
        let began_ns = self.clock.now_ns();
        if began_ns < self.pss_due_ns {
            return None;
        }
        let bytes = self.server.as_ref()?.pss_bytes();
        let ended_ns = self.clock.now_ns();
        self.pss_due_ns = ended_ns + (ended_ns - began_ns) * u64::from(PSS_TIME_SHARE);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_as_a_server_and_its_memory_not_all_the_time() {
        let server = ServerProcess::new(std::process::id());
        let mut probe = Probe::new(Clock::start(), Some(server));
        let first = probe.snapshot();
        assert!(first.resources.server_cpu.is_some() && first.resources.own_cpu.is_some());
        assert!(first.resources.server_pss_bytes.is_some() && !first.server_threads.is_empty());
        probe.pss_due_ns = u64::MAX;
        assert_eq!(probe.read().server_pss_bytes, None);
    }

    #[test]
    fn without_a_server_the_machine_is_read() {
        let resources = Probe::new(Clock::start(), None).read();
        assert_eq!(
            (resources.server_cpu, resources.server_pss_bytes),
            (None, None)
        );
        assert!(resources.machine_cpu.is_some());
    }
}
