//! What this process asks of the operating system before it begins: open files, and a CPU.

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Files besides the sockets: standard streams, the server's figures.
const OTHER_FILES: u64 = 32;

/// Each thread has two readiness sets, a timer, and what wakes it.
const FILES_PER_THREAD: u64 = 4;

/// Raises the limit of open files as far as it goes, and checks that the connections fit.
pub(crate) fn raise_file_limit(connections: u64, threads: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    let needed = connections + OTHER_FILES + threads as u64 * FILES_PER_THREAD;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        needed <= allowed,
        "{connections} connections need {needed} open files and {allowed} are allowed; raise the \
         hard limit (ulimit -Hn), or try fewer --members"
    );
    Ok(())
}

/// Returns the first two CPUs that this process may use, if there are two.
pub(crate) fn first_two_cpus() -> Result<Option<(usize, usize)>> {
    let allowed = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    Ok(allowed.next().zip(allowed.next()))
}

/// Returns how many connections may be open at once, if there is a limit.
pub(crate) fn connections_allowed() -> Option<u64> {
    let files = getrlimit(Resource::Nofile).maximum?;
    Some(files.saturating_sub(OTHER_FILES))
}

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    let pinned = if cpu < CpuSet::MAX_CPU {
        cpus.set(cpu);
        sched_setaffinity(None, &cpus)
    } else {
        Err(Errno::INVAL)
    };
    let refused = || format!("cannot run on CPU {cpu}; see `nproc` for what there is");
    pinned.with_context(refused)
}
