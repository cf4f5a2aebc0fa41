//! What the server's process uses: CPU time and memory, its children included.
//!
//! All of it is read from `/proc`; nothing is asked of the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::ProcResult;
use procfs::process::{Process, Stat, Task, all_processes};

/// A running process and its descendants. All copies are of the same one, which may be
/// [another](Self::replace) after a restart.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcess {
    pid: Arc<AtomicU32>,
}

impl ServerProcess {
    /// Names the process with this id, which may or may not run.
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Arc::new(AtomicU32::new(pid));
        Self { pid }
    }

    /// Goes on with another process: the server was restarted.
    pub(crate) fn replace(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Returns its id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Returns whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        process(self.pid()).is_some_and(|process| process.is_alive())
    }

    /// Returns user and system time, of live descendants and of those that were waited for.
    ///
    /// The kernel counts it in ticks, mostly of 10 ms.
    ///
    /// # Errors
    ///
    /// That the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let pid = self.pid();
        let own = process(pid).and_then(|process| cpu_of(&process));
        let own = own.with_context(|| {
            format!(
                "process {pid} is not running; give --server-pid the id of the server, and see its \
                 log if it ended"
            )
        })?;
        // A child that ends in between is missed once and then counted by its parent.
        Ok(own + tree(pid).iter().skip(1).filter_map(cpu_of).sum())
    }

    /// Returns the same for each of its threads that runs now, and its descendants'.
    pub(crate) fn cpu_by_thread(&self) -> HashMap<i32, Duration> {
        let tree = tree(self.pid());
        let threads = tree.iter().flat_map(tasks);
        // A thread's own time; that of children is the process's.
        let time = |stat: Stat| ticks_to_time(stat.utime + stat.stime);
        threads
            .filter_map(|thread| Some((thread.tid, time(thread.stat().ok()?))))
            .collect()
    }

    /// Returns how many CPUs it may use; a server that is pinned to one has no more than that.
    pub(crate) fn cpus_allowed(&self) -> Option<u32> {
        let mask = process(self.pid())?.status().ok()?.cpus_allowed?;
        Some(mask.into_iter().map(u32::count_ones).sum()).filter(|cpus| *cpus > 0)
    }

    /// Returns its command line.
    pub(crate) fn command(&self) -> Option<String> {
        Some(process(self.pid())?.cmdline().ok()?.join(" "))
    }

    /// Returns its proportional set size in bytes: private memory, and its share of what others map
    /// too.
    ///
    /// None if the kernel does not say, as for another user's process.
    pub(crate) fn pss_bytes(&self) -> Option<u64> {
        pss_bytes_of(&self.tree())
    }

    /// Returns it and its descendants.
    pub(crate) fn tree(&self) -> Vec<Process> {
        tree(self.pid())
    }
}

/// Returns the sum of the sizes of a process and its descendants; none if the first has none.
pub(crate) fn pss_bytes_of(tree: &[Process]) -> Option<u64> {
    let mut sizes = tree.iter().map(pss_bytes);
    let own = sizes.next()??;
    Some(own + sizes.flatten().sum::<u64>())
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Returns the times of a process that is not gone or a zombie.
fn cpu_of(process: &Process) -> Option<Duration> {
    let stat = process
        .stat()
        .ok()
        .filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
    let children = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
    Some(ticks_to_time(stat.utime + stat.stime + children))
}

/// Converts ticks as the kernel counts them in `/proc`.
pub(crate) fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / u32::try_from(procfs::ticks_per_second()).unwrap_or(100)
}

/// Returns the CPU time of this process, all threads.
pub(crate) fn own_cpu() -> Option<Duration> {
    cpu_of(&Process::myself().ok()?)
}

fn pss_bytes(process: &Process) -> Option<u64> {
    let rollup = process.smaps_rollup().ok()?.memory_map_rollup;
    rollup.iter().next()?.extension.map.get("Pss").copied()
}

fn tasks(process: &Process) -> impl Iterator<Item = Task> {
    process.tasks().into_iter().flatten().flatten()
}

/// Returns a process, its children, their children, and so on.
fn tree(pid: u32) -> Vec<Process> {
    let mut found = Vec::from_iter(process(pid));
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let children = children(parent);
        found.extend(children.into_iter().filter_map(process));
        next += 1;
    }
    found
}

fn children(parent: &Process) -> Vec<u32> {
    let lists: ProcResult<Vec<_>> = tasks(parent).map(|thread| thread.children()).collect();
    if let Ok(lists) = lists {
        return lists.concat();
    }
    // Not every kernel is built to list children.
    let all = all_processes().into_iter().flatten().flatten();
    let children = all.filter(|it| it.stat().is_ok_and(|stat| stat.ppid == parent.pid));
    children
        .filter_map(|it| u32::try_from(it.pid).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn descendants_are_found_and_counted() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        while tree(shell.id()).len() < 2 {
            std::thread::yield_now();
        }
        let tree: Vec<i32> = tree(std::process::id()).iter().map(Process::pid).collect();
        assert!(
            tree.len() >= 3 && tree[0] == std::process::id().cast_signed(),
            "{tree:?}"
        );
        assert!(tree.contains(&shell.id().cast_signed()));
        for child in children(&process(shell.id()).unwrap()) {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(child.cast_signed()).unwrap(),
                rustix::process::Signal::KILL,
            )
            .unwrap();
        }
        shell.wait().unwrap();
    }

    #[test]
    fn this_process_has_figures_and_an_impossible_one_has_none() {
        let own = ServerProcess::new(std::process::id());
        assert!(own.cpu().is_ok() && own.cpus_allowed() > Some(0) && own.pss_bytes() > Some(0));
        assert!(
            own.cpu_by_thread().len() >= 2,
            "the test's, and the main one"
        );
        let none = ServerProcess::new(u32::MAX);
        assert!(
            none.cpu()
                .unwrap_err()
                .to_string()
                .contains("is not running")
        );
        assert_eq!((none.pss_bytes(), none.cpus_allowed()), (None, None));
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
