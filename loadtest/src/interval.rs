//! What was done and used in a measurement, from what was counted at its ends.

use std::time::Duration;

use crate::fleet::Fleet;
use crate::machine;
use crate::probe::Snapshot;
use crate::report::figures::ratio;
use crate::report::verdict::Usage;

/// A measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) elapsed: Duration,
    pub(crate) deliveries: u64,
    pub(crate) publications: u64,
    pub(crate) reads: u64,
    /// Of all threads of the generator together.
    pub(crate) driver_cpu: Duration,
    /// Of the one that used most.
    pub(crate) busiest_thread_cpu: Duration,
    pub(crate) server: ServerUse,
}

/// What the server used, and everybody else. It is looked at by another thread, a moment later.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerUse {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
    /// Of its thread that used most.
    pub(crate) busiest_thread_cpu: Option<Duration>,
    /// How many CPUs it may use.
    pub(crate) cpus_allowed: Option<u32>,
    /// Of whoever is neither the server nor this program.
    pub(crate) others_cpu: Option<Duration>,
}

/// Everything that the drivers count up, at one moment.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) at_ns: u64,
    deliveries: u64,
    publications: u64,
    reads: u64,
    /// Of each thread.
    cpu: Vec<Duration>,
}

impl Totals {
    /// Reads them; no system call, so that nobody waits for it.
    pub(crate) fn of(fleet: &Fleet<'_>, at_ns: u64) -> Self {
        let ledger = fleet.ledger();
        Self {
            at_ns,
            deliveries: ledger.deliveries(),
            publications: ledger.publications(),
            reads: fleet.reads(),
            cpu: fleet.cpu_of_each(),
        }
    }
}

impl Interval {
    /// What lies between.
    pub(crate) fn between(before: &Totals, after: &Totals, server: ServerUse) -> Self {
        let cpu = after.cpu.iter().zip(&before.cpu);
        let cpu = cpu.map(|(after, before)| after.saturating_sub(*before));
        Self {
            elapsed: Duration::from_nanos(after.at_ns - before.at_ns),
            deliveries: after.deliveries - before.deliveries,
            publications: after.publications - before.publications,
            reads: after.reads - before.reads,
            driver_cpu: cpu.clone().sum(),
            busiest_thread_cpu: cpu.max().unwrap_or_default(),
            server,
        }
    }

    /// What is judged by.
    pub(crate) fn usage(&self) -> Usage {
        let driver = percent(self.busiest_thread_cpu, self.elapsed);
        let others = self.server.others_cpu.and_then(|used| {
            let of_one = percent(used, self.server.elapsed)?;
            ratio(of_one, machine::cpus() as f64)
        });
        Usage {
            driver_percent: driver.unwrap_or_default(),
            server_busy_percent: self.server.busy_percent(),
            others_percent: others,
        }
    }
}

impl ServerUse {
    /// What lies between.
    pub(crate) fn between(before: &Snapshot, after: &Snapshot, cpus_allowed: Option<u32>) -> Self {
        let (from, to) = (&before.resources, &after.resources);
        let used = |to: Option<Duration>, from: Option<Duration>| Some(to?.saturating_sub(from?));
        let cpu = used(to.server_cpu, from.server_cpu);
        let own = used(to.own_cpu, from.own_cpu);
        let others = used(to.machine_cpu, from.machine_cpu)
            .zip(own.zip(cpu))
            .map(|(all, (own, server))| all.saturating_sub(own).saturating_sub(server));
        let threads = after.server_threads.iter().map(|(thread, used)| {
            let before = before.server_threads.get(thread);
            used.saturating_sub(before.copied().unwrap_or_default())
        });
        Self {
            elapsed: Duration::from_nanos(to.at_ns.saturating_sub(from.at_ns)),
            cpu,
            busiest_thread_cpu: threads.max(),
            cpus_allowed,
            others_cpu: others,
        }
    }

    /// Of one core.
    pub(crate) fn cpu_percent(&self) -> Option<f64> {
        percent(self.cpu?, self.elapsed)
    }

    /// Of what it can use.
    fn busy_percent(&self) -> Option<f64> {
        let cpus = f64::from(self.cpus_allowed.unwrap_or(1));
        let all = ratio(self.cpu_percent()?, cpus)?;
        let thread = self.busiest_thread_cpu;
        let thread = thread.and_then(|used| percent(used, self.elapsed));
        Some(all.max(thread.unwrap_or_default()))
    }
}

fn percent(used: Duration, elapsed: Duration) -> Option<f64> {
    ratio(used.as_secs_f64() * 100.0, elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Resources;

    fn snapshot(seconds: u64, server_ms: u64, threads: &[(u32, u64)]) -> Snapshot {
        let ms = Duration::from_millis;
        Snapshot {
            resources: Resources {
                at_ns: seconds * 1_000_000_000,
                server_cpu: Some(ms(server_ms)),
                own_cpu: Some(ms(500 * seconds)),
                machine_cpu: Some(ms(server_ms + 1500 * seconds)),
                server_pss_bytes: None,
            },
            server_threads: threads.iter().map(|(id, used)| (*id, ms(*used))).collect(),
        }
    }

    fn used(cpus_allowed: u32) -> ServerUse {
        let before = snapshot(0, 0, &[(1, 0)]);
        // Thread 2 began in between.
        let after = snapshot(10, 12_000, &[(1, 2_000), (2, 9_500)]);
        ServerUse::between(&before, &after, Some(cpus_allowed))
    }

    #[test]
    fn a_server_is_busy_if_a_thread_or_all_its_cpus_are() {
        assert_eq!(used(4).cpu_percent(), Some(120.0));
        assert_eq!(used(4).busy_percent(), Some(95.0), "its busiest thread");
        assert_eq!(used(1).busy_percent(), Some(120.0), "all that it may use");
    }

    #[test]
    fn others_are_who_is_neither_the_server_nor_this_program() {
        assert_eq!(used(4).others_cpu, Some(Duration::from_secs(10)));
        let mut unknown = snapshot(10, 0, &[]);
        unknown.resources.server_cpu = None;
        let used = ServerUse::between(&snapshot(0, 0, &[]), &unknown, None);
        assert_eq!((used.others_cpu, used.busy_percent()), (None, None));
    }
}
