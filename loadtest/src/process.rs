//! What the server's process uses: CPU time and memory, its children included.
//!
//! All of it is read from `/proc`; nothing is asked of the server.

pub(crate) mod listener;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::failure::Failure;

/// A running process and its descendants. All copies are of the same one, which may be
/// [another](Self::replace) after a restart.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcess {
    pid: Arc<AtomicU32>,
}

impl ServerProcess {
    /// The process with this id, which may or may not run.
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Arc::new(AtomicU32::new(pid));
        Self { pid }
    }

    /// The server was restarted, and this is it now.
    pub(crate) fn replace(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        cpu_ticks(self.pid()).is_some()
    }

    /// User and system time, of live descendants and of those that were waited for.
    ///
    /// The kernel counts it in ticks, mostly of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let pid = self.pid();
        let own = cpu_ticks(pid).ok_or(Failure::ProcessGone { pid })?;
        // A child that ends in between is missed once and then counted by its parent.
        let children = descendants(pid).into_iter().filter_map(cpu_ticks);
        Ok(ticks_to_time(own + children.sum::<u64>()))
    }

    /// The same for each of its threads that runs now, and its descendants'.
    pub(crate) fn cpu_by_thread(&self) -> HashMap<u32, Duration> {
        let mut processes = descendants(self.pid());
        processes.push(self.pid());
        let threads = processes.into_iter().flat_map(threads);
        threads
            .filter_map(|(pid, thread)| {
                let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
                // A thread's own time; that of children is the process's.
                let ticks = parse_times(&stat)?.take(2).sum();
                Some((thread, ticks_to_time(ticks)))
            })
            .collect()
    }

    /// How many CPUs it may use; a server that is pinned to one has no more than that.
    pub(crate) fn cpus_allowed(&self) -> Option<u32> {
        parse_cpus_allowed(&fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?)
    }

    /// Its command line.
    pub(crate) fn command(&self) -> Option<String> {
        let words = fs::read(format!("/proc/{}/cmdline", self.pid())).ok()?;
        let words = String::from_utf8_lossy(&words);
        let words: Vec<&str> = words.split_terminator('\0').collect();
        Some(words.join(" "))
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Proportional set size in bytes: private memory, and its share of what others map too.
    ///
    /// None if the kernel does not say, as for another user's process.
    pub(crate) fn pss_bytes(&self) -> Option<u64> {
        let own = pss_bytes(self.pid())?;
        Some(
            own + descendants(self.pid())
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
    Some(parse_times(stat)?.sum())
}

/// The four times of a process that is not gone or a zombie.
fn parse_times(stat: &str) -> Option<impl Iterator<Item = u64>> {
    // The name before the parenthesis may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let times = fields.skip(10).take(4);
    Some(times.map_while(|field| field.parse().ok()))
}

/// Ticks as the kernel counts them in `/proc`.
pub(crate) fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).unwrap_or(100)
}

/// The CPU time of this process, all threads.
pub(crate) fn own_cpu() -> Option<Duration> {
    cpu_ticks(std::process::id()).map(ticks_to_time)
}

fn parse_cpus_allowed(status: &str) -> Option<u32> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let digits = mask.trim().chars().filter_map(|digit| digit.to_digit(16));
    Some(digits.map(u32::count_ones).sum()).filter(|cpus| *cpus > 0)
}

/// The threads of a process, each with the process.
fn threads(pid: u32) -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| Some((pid, name.to_str()?.parse().ok()?)))
        .collect()
}

fn pss_bytes(pid: u32) -> Option<u64> {
    parse_pss_bytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse_pss_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Children, their children, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    // Not every kernel is built to list children.
    if !fs::exists("/proc/thread-self/children").unwrap_or(false) {
        return descendants_among(pid, &all_parents());
    }
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&child) = found.get(next) {
        found.extend(children(child));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let lists = threads(pid).into_iter().filter_map(|(pid, thread)| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()
    });
    lists
        .flat_map(|list| {
            list.split(' ')
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// Every process that can be seen, with its parent.
fn all_parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse_parent(&stat)?))
    })
    .collect()
}

fn parse_parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

fn descendants_among(pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| child));
        next += 1;
    }
    found.split_off(1)
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
    fn descendants_are_found_by_their_parents() {
        let parents = [(2, 1), (3, 2), (4, 9), (5, 3), (6, 2)];
        assert_eq!(descendants_among(2, &parents), [3, 6, 5]);
        assert!(descendants_among(5, &parents).is_empty());
        assert_eq!(parse_parent("42 (a) S) (b) S 17 42 42 0"), Some(17));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_cpus_that_a_process_may_use_are_counted() {
        assert_eq!(
            parse_cpus_allowed("Name: a\nCpus_allowed:\tff,00000003\n"),
            Some(10)
        );
        assert_eq!(parse_cpus_allowed("Cpus_allowed: 0\n"), None);
        assert!(
            ServerProcess::new(std::process::id())
                .cpus_allowed()
                .is_some()
        );
    }

    #[test]
    fn threads_have_their_own_times() {
        let own = ServerProcess::new(std::process::id());
        assert!(
            own.cpu_by_thread().len() >= 2,
            "the test's, and the main one"
        );
    }

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert!(ServerProcess::new(std::process::id()).cpu().is_ok());
        assert!(ServerProcess::new(u32::MAX).cpu().is_err());
        assert_eq!(ServerProcess::new(u32::MAX).pss_bytes(), None);
    }

    #[test]
    fn a_server_that_was_restarted_is_another_for_everybody_who_watches_it() {
        let server = ServerProcess::new(u32::MAX);
        let watched = server.clone();
        assert!(!watched.is_running());
        server.replace(std::process::id());
        assert!(watched.is_running());
    }
}
