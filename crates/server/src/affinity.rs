//! Threads that stay on one CPU.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns the CPUs that this process may use; none if the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let cpus = 0..CpuSet::MAX_CPU;
    cpus.filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keeps this thread on a CPU. Returns whether the system let it.
#[cfg(target_os = "linux")]
pub(crate) fn pin(cpu: usize) -> bool {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).is_ok()
}

/// Returns the CPUs that this process may use: the system does not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpus() -> Vec<usize> {
    Vec::new()
}

/// Keeps this thread on a CPU. Returns whether the system let it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_: usize) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_pinned_may_use_that_cpu_alone() {
        let pinned = std::thread::spawn(|| {
            let last = cpus().pop().unwrap();
            assert!(pin(last));
            (last, cpus())
        });
        let (last, allowed) = pinned.join().unwrap();
        assert_eq!(allowed, [last]);
    }
}
