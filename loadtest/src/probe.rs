//! What was counted and used up to a moment: by the drivers, the server's processes, everybody.
//!
//! Processes are read on the monitor's thread. A figure takes from microseconds to a second to
//! read, by how many processes there are and how much memory they have.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Clock;
use crate::machine;
use crate::process::{self, ServerProcess};

/// What a driver has counted since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) at_ns: u64,
    pub(crate) connections: u64,
    pub(crate) publications: u64,
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    /// Successful reads of all sockets.
    pub(crate) reads: u64,
    /// Of its thread.
    pub(crate) cpu: Duration,
}

impl Counters {
    /// Adds up those of several drivers, at the moment of the latest.
    pub(crate) fn sum(drivers: &[Self]) -> Self {
        drivers.iter().fold(Self::default(), |sum, driver| Self {
            at_ns: sum.at_ns.max(driver.at_ns),
            connections: sum.connections + driver.connections,
            publications: sum.publications + driver.publications,
            deliveries: sum.deliveries + driver.deliveries,
            lost: sum.lost + driver.lost,
            reads: sum.reads + driver.reads,
            cpu: sum.cpu + driver.cpu,
        })
    }
}

/// What processes have used since they began; none where it was not measured.
#[derive(Clone, Debug, Default)]
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
    /// Of each thread of the server; read only where a measurement begins or ends.
    pub(crate) server_threads: HashMap<i32, Duration>,
    /// How many CPUs the server may use; read only there, too.
    pub(crate) server_cpus: Option<u32>,
}

/// Where a measurement, or a point of a series, begins or ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) drivers: Vec<Counters>,
    pub(crate) resources: Resources,
}

/// Of its time, the monitor may spend this part in reading how much memory the server has: while it
/// is read, the server's own requests for memory wait.
const PSS_TIME_SHARE: u32 = 400;

/// What reads the processes.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) clock: Clock,
    pub(crate) server: Option<ServerProcess>,
    pub(crate) pss_due_ns: u64,
}

impl Probe {
    /// Reads everything for a point of a series.
    pub(crate) fn read(&mut self) -> Resources {
        let server = self.server.as_ref();
        Resources {
            server_cpu: server.and_then(|server| server.cpu().ok()),
            own_cpu: process::own_cpu(),
            machine_cpu: machine::busy(),
            at_ns: self.clock.now_ns(),
            // The slowest last: the moment above is that of the others.
            server_pss_bytes: self.pss_bytes(),
            ..Resources::default()
        }
    }

    /// Reads everything for the beginning or the end of a measurement.
    pub(crate) fn read_all(&mut self) -> Resources {
        let resources = self.read();
        let server = self.server.as_ref();
        Resources {
            server_threads: server.map(ServerProcess::cpu_by_thread).unwrap_or_default(),
            server_cpus: server.and_then(ServerProcess::cpus_allowed),
            ..resources
        }
    }

    /// Reads the server's memory, unless it was read a short while ago and took long.
    fn pss_bytes(&mut self) -> Option<u64> {
        if self.clock.now_ns() < self.pss_due_ns {
            return None;
        }
        let tree = self.server.as_ref()?.tree();
        let began_ns = self.clock.now_ns();
        let bytes = process::pss_bytes_of(&tree);
        let ended_ns = self.clock.now_ns();
        self.pss_due_ns = ended_ns + (ended_ns - began_ns) * u64::from(PSS_TIME_SHARE);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(server: Option<ServerProcess>) -> Probe {
        let clock = Clock::start();
        Probe {
            clock,
            server,
            pss_due_ns: 0,
        }
    }

    #[test]
    fn this_process_is_read_as_a_server_and_its_memory_not_all_the_time() {
        let mut probe = probe(Some(ServerProcess::new(std::process::id())));
        let first = probe.read_all();
        assert!(first.server_cpu.is_some() && first.own_cpu.is_some());
        assert!(first.server_pss_bytes.is_some() && !first.server_threads.is_empty());
        probe.pss_due_ns = u64::MAX;
        assert_eq!(probe.read().server_pss_bytes, None);
    }

    #[test]
    fn without_a_server_the_machine_is_read() {
        let resources = probe(None).read_all();
        assert_eq!(
            (resources.server_cpu, resources.server_pss_bytes),
            (None, None)
        );
        assert!(resources.machine_cpu.is_some());
    }
}
