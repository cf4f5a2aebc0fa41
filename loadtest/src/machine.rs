//! The machine that this runs on: what it is, and how busy all of it is.
//!
//! All of it is read from `/proc`. What cannot be read is unknown and stops nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use procfs::{CpuInfo, Current as _, CurrentSI as _, KernelStats, Meminfo};
use serde::Serialize;

use crate::process::ticks_to_time;

/// What a figure of this machine has to be read with.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    cpu: Option<String>,
    cpus: usize,
    memory_bytes: Option<u64>,
    /// The kernel's release.
    kernel: Option<String>,
}

impl Machine {
    /// Describes this one.
    pub(crate) fn this() -> Self {
        let info = CpuInfo::current().ok();
        let name = info.as_ref().and_then(|info| info.model_name(0));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cpu: name.map(|name| name.split_whitespace().collect::<Vec<_>>().join(" ")),
            cpus: cpus(),
            memory_bytes: Meminfo::current().ok().map(|memory| memory.mem_total),
            kernel: kernel.ok().map(|release| release.trim().to_owned()),
        }
    }
}

/// Returns how many CPUs there are; if nobody knows, those that this thread may use.
pub(crate) fn cpus() -> usize {
    let allowed = || thread::available_parallelism().map_or(1, usize::from);
    KernelStats::current().map_or_else(|_| allowed(), |stats| stats.cpu_time.len())
}

/// Returns the time that all CPUs have worked for processes, or for other guests of the same host.
///
/// Interrupts are left out: on loopback they are the packets of the server and of this program, and
/// would count as somebody else's.
pub(crate) fn busy() -> Option<Duration> {
    let all = KernelStats::current().ok()?.total;
    Some(ticks_to_time(
        all.user + all.nice + all.system + all.steal.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_found_and_works() {
        let machine = Machine::this();
        assert!(machine.cpus > 0 && machine.memory_bytes > Some(0) && machine.kernel.is_some());
        assert!(busy() > Some(Duration::ZERO));
    }
}
