//! The machine that this runs on: what it is, and how busy all of it is.
//!
//! All of it is read from `/proc`. What cannot be read is unknown and stops nothing.

use std::fs;
use std::thread;
use std::time::Duration;

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
    /// This one.
    pub(crate) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            cpu: cpu_name(&read("/proc/cpuinfo")),
            cpus: cpus(),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            kernel: Some(kernel).filter(|release| !release.is_empty()),
        }
    }
}

/// How many CPUs there are; if nobody knows, those that this thread may use.
pub(crate) fn cpus() -> usize {
    match count_cpus(&fs::read_to_string("/proc/stat").unwrap_or_default()) {
        0 => thread::available_parallelism().map_or(1, usize::from),
        cpus => cpus,
    }
}

fn count_cpus(stat: &str) -> usize {
    let numbered = |line: &&str| {
        let number = line.strip_prefix("cpu");
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(numbered).count()
}

/// The time that all CPUs have worked for processes, or for other guests of the same host.
///
/// Interrupts are left out: on loopback they are the packets of the server and of this program, and
/// would count as somebody else's.
pub(crate) fn busy() -> Option<Duration> {
    parse_busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(ticks_to_time)
}

fn parse_busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [
        user,
        nice,
        system,
        _idle,
        _iowait,
        _irq,
        _softirq,
        steal,
        ..,
    ] = ticks[..]
    else {
        return None;
    };
    Some(user + nice + system + steal)
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let name = |line: &str| {
        Some(
            line.strip_prefix("model name")?
                .split_once(':')?
                .1
                .to_owned(),
        )
    };
    let name = cpuinfo.lines().find_map(name)?;
    Some(name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_processes_and_other_guests_used() {
        let stat = "cpu  100 20 30 4000 50 6 70 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!((parse_busy_ticks(stat), count_cpus(stat)), (Some(158), 1));
        assert_eq!(parse_busy_ticks("cpu  100 20 30\n"), None);
        assert_eq!(parse_busy_ticks(""), None);
    }

    #[test]
    fn the_machine_is_found_in_its_files() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(cpu_name(cpuinfo).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(
            memory_bytes("MemTotal:  24 kB\nMemFree: 1 kB\n"),
            Some(24 * 1024)
        );
        assert_eq!((cpu_name(""), memory_bytes("")), (None, None));
        assert!(Machine::this().cpus > 0);
    }
}
