//! What the server's process uses: CPU time and memory, its children included.
//!
//! All of it is read from `/proc`; nothing is asked of the server.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::failure::Failure;

/// A running process and its descendants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerProcess {
    pid: u32,
}

impl ServerProcess {
    /// The process with this id, which may or may not run.
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// User and system time, of live descendants and of those that were waited for.
    ///
    /// The kernel counts it in ticks, mostly of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let gone = Failure::ProcessGone { pid: self.pid };
        let own = cpu_ticks(self.pid).ok_or(gone)?;
        // A child that ends in between is missed once and then counted by its parent.
        let children = descendants(self.pid).into_iter().filter_map(cpu_ticks);
        let ticks = own + children.sum::<u64>();
        Ok(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).unwrap_or(100))
    }

    /// Proportional set size in bytes: private memory, and its share of what others map too.
    ///
    /// None if the kernel does not say, as for another user's process.
    pub(crate) fn pss_bytes(&self) -> Option<u64> {
        let own = pss_bytes(self.pid)?;
        Some(
            own + descendants(self.pid)
                .into_iter()
                .filter_map(pss_bytes)
                .sum::<u64>(),
        )
    }
}

/// `utime + stime + cutime + cstime`, unless the process is gone or a zombie.
fn cpu_ticks(pid: u32) -> Option<u64> {
    parse_cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    // The name before the parenthesis may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let times = fields
        .skip(10)
        .take(4)
        .map(|field| field.parse::<u64>().ok());
    times.sum()
}

fn pss_bytes(pid: u32) -> Option<u64> {
    parse_pss_bytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse_pss_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Children, their children, and so on, as far as the kernel lists them.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&child) = found.get(next) {
        found.extend(children(child));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split(' ')
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a) S) (b) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 30 2 20 0 1 0 100";
        assert_eq!(parse_cpu_ticks(stat), Some(44));
        assert_eq!(parse_cpu_ticks(&stat.replace("(b) S", "(b) Z")), None);
        assert_eq!(parse_cpu_ticks("42 (a) S 1"), Some(0));
    }

    #[test]
    fn pss_is_told_from_its_parts() {
        let rollup =
            "55-7f ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:      812 kB\nPss_Anon: 4 kB\n";
        assert_eq!(parse_pss_bytes(rollup), Some(812 * 1024));
        assert_eq!(parse_pss_bytes("Rss: 900 kB\n"), None);
    }

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert!(ServerProcess::new(std::process::id()).cpu().is_ok());
        assert!(ServerProcess::new(u32::MAX).cpu().is_err());
        assert_eq!(ServerProcess::new(u32::MAX).pss_bytes(), None);
    }
}
