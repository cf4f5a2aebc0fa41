//! What this process asks of the operating system before it begins: open files, and a CPU.

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Files besides the sockets: standard streams, the server's figures.
const OTHER_FILES: u64 = 32;

/// Each thread has two readiness sets, a timer, and what wakes it.
const FILES_PER_THREAD: u64 = 4;

/// Raises the limit of open files as far as it goes, and checks that the connections fit.
pub(crate) fn raise_file_limit(connections: u64, threads: usize) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).map_err(|error| Failure::System(error.into()))?;
    }
    let needed = connections + OTHER_FILES + threads as u64 * FILES_PER_THREAD;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if needed > allowed {
        return Err(Failure::FileLimit {
            connections,
            needed,
            allowed,
        });
    }
    Ok(())
}

/// The first two CPUs that this process may use, if there are two.
pub(crate) fn first_two_cpus() -> Result<Option<(usize, usize)>, Failure> {
    let allowed = sched_getaffinity(None).map_err(|error| Failure::System(error.into()))?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    Ok(allowed.next().zip(allowed.next()))
}

/// How many connections may be open at once, if there is a limit.
pub(crate) fn connections_allowed() -> Option<u64> {
    let files = getrlimit(Resource::Nofile).maximum?;
    Some(files.saturating_sub(OTHER_FILES))
}

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<(), Failure> {
    let refused = |error| Failure::Pin { cpu, error };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(rustix::io::Errno::INVAL.into()));
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| refused(error.into()))
}
