//! What was done and used between two moments, and who was the bottleneck.

use std::time::Duration;

use serde::Serialize;

use crate::machine;
use crate::probe::{Counters, Mark};
use crate::tally::ratio;

/// A measurement, or a point of a series. The names are the JSON's. Percentages are of one core.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Interval {
    /// How long deliveries were counted.
    pub(crate) measured_seconds: f64,
    pub(crate) publications: u64,
    pub(crate) publications_per_second: f64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    /// How many frames a read of a member's socket brought.
    pub(crate) deliveries_per_read: Option<f64>,
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    pub(crate) server_cpu_percent: Option<f64>,
    /// Of what the server can use: its busiest thread of a core, or all of it of the CPUs that it
    /// may run on, whichever is more.
    pub(crate) server_busy_percent: Option<f64>,
    pub(crate) driver_cpu_us_per_delivery: Option<f64>,
    pub(crate) driver_cpu_percent: f64,
    /// By neither the server nor this program.
    pub(crate) others_cpu_percent: Option<f64>,
    /// By the busiest thread of the generator: one that is out of time is a bottleneck, whatever
    /// the others have left.
    #[serde(skip)]
    pub(crate) busiest_driver_percent: f64,
    /// What the server used.
    #[serde(skip)]
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) verdict: Bottleneck,
}

/// Who kept the rates from being higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Bottleneck {
    /// The figures are this program's, not the server's.
    #[serde(rename = "generator_bottleneck")]
    Generator,
    /// Neither had all its time to do.
    #[serde(rename = "no_bottleneck")]
    None,
    /// The server could not have done more.
    #[serde(rename = "server_bottleneck")]
    Server,
    /// Nothing was measured, or not the server.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
}

/// Of a core of which this much is used there is no more to get: the rest is what the scheduler
/// gives to interrupts and to others.
const BUSY_PERCENT: f64 = 90.0;

/// Less than this is what any machine does beside.
const NOISE_PERCENT: f64 = 10.0;

impl Interval {
    /// Returns what lies between two moments.
    pub(crate) fn between(before: &Mark, after: &Mark) -> Self {
        let (from, to) = (
            Counters::sum(&before.drivers),
            Counters::sum(&after.drivers),
        );
        let seconds = seconds(from.at_ns, to.at_ns);
        let per_second = |count: u64| ratio(count as f64, seconds).unwrap_or_default();
        let publications = to.publications.saturating_sub(from.publications);
        let deliveries = to.deliveries.saturating_sub(from.deliveries);
        let per_delivery = |used: Duration| ratio(used.as_secs_f64() * 1e6, deliveries as f64);
        let server_cpu = difference(before.resources.server_cpu, after.resources.server_cpu);
        let driver_cpu_percent = percent(from.cpu, to.cpu, seconds).unwrap_or_default();
        let drivers = before.drivers.iter().zip(&after.drivers);
        let busiest = drivers.filter_map(|(from, to)| percent(from.cpu, to.cpu, seconds));
        let [server_cpu_percent, server_busy_percent, others_cpu_percent] = used(before, after);
        let mut interval = Self {
            measured_seconds: seconds,
            publications,
            publications_per_second: per_second(publications),
            deliveries,
            deliveries_per_second: per_second(deliveries),
            deliveries_per_read: ratio(
                deliveries as f64,
                to.reads.saturating_sub(from.reads) as f64,
            ),
            server_cpu_us_per_delivery: server_cpu.and_then(per_delivery),
            server_cpu_percent,
            server_busy_percent,
            driver_cpu_us_per_delivery: per_delivery(to.cpu.saturating_sub(from.cpu)),
            driver_cpu_percent,
            others_cpu_percent,
            busiest_driver_percent: busiest.fold(0.0, f64::max),
            server_cpu,
            verdict: Bottleneck::Unknown,
        };
        interval.verdict = interval.bottleneck();
        interval
    }

    fn bottleneck(&self) -> Bottleneck {
        match self.server_busy_percent.map(|busy| busy > BUSY_PERCENT) {
            None => Bottleneck::Unknown,
            Some(true) => Bottleneck::Server,
            Some(false) if self.busiest_driver_percent > BUSY_PERCENT => Bottleneck::Generator,
            Some(false) => Bottleneck::None,
        }
    }

    /// Says what the figures should not be trusted for; nothing if there is no objection.
    pub(crate) fn verdicts(&self) -> Vec<String> {
        let driver = self.busiest_driver_percent;
        let bottleneck = match self.verdict {
            Bottleneck::Generator => Some(format!(
                "the generator was the bottleneck: it used {driver:.0} % of its CPU, and the \
                 server had time left; more --threads, or another machine, would show more"
            )),
            Bottleneck::Server => {
                Some("the server was the bottleneck: it used all the CPU that it can".to_owned())
            }
            Bottleneck::Unknown if driver > BUSY_PERCENT => Some(
                "the generator had no time left, and nobody knows whether the server had: give \
                 --server-pid"
                    .to_owned(),
            ),
            Bottleneck::None | Bottleneck::Unknown => None,
        };
        let others = self.others_cpu_percent.unwrap_or_default() / machine::cpus() as f64;
        let noisy = (others > NOISE_PERCENT).then(|| {
            format!(
                "noisy: others took {others:.0} % of the machine while this ran; trust the CPU per \
                 delivery more than rates and latencies"
            )
        });
        bottleneck.into_iter().chain(noisy).collect()
    }
}

/// Returns the percentages of the server, of what it can use, and of who is neither it nor this
/// program.
fn used(before: &Mark, after: &Mark) -> [Option<f64>; 3] {
    let (from, to) = (&before.resources, &after.resources);
    // They are read a moment later than the drivers' counters.
    let seconds = seconds(from.at_ns, to.at_ns);
    let between = |from: Option<Duration>, to: Option<Duration>| percent(from?, to?, seconds);
    let server = between(from.server_cpu, to.server_cpu);
    let threads = to.server_threads.iter().filter_map(|(thread, used)| {
        let before = from.server_threads.get(thread).copied();
        percent(before.unwrap_or_default(), *used, seconds)
    });
    let thread = threads.fold(0.0, f64::max);
    let cpus = f64::from(to.server_cpus.unwrap_or(1));
    let others = || {
        let all = between(from.machine_cpu, to.machine_cpu)?;
        let own = between(from.own_cpu, to.own_cpu)?;
        // Ticks are counted at different moments, so a quiet machine may come out below nothing.
        Some((all - own - server?).max(0.0))
    };
    [server, server.map(|all| thread.max(all / cpus)), others()]
}

fn difference(from: Option<Duration>, to: Option<Duration>) -> Option<Duration> {
    Some(to?.saturating_sub(from?))
}

fn percent(from: Duration, to: Duration, seconds: f64) -> Option<f64> {
    ratio(to.saturating_sub(from).as_secs_f64() * 100.0, seconds)
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Resources;

    fn mark(seconds: u64, server_ms: u64, threads: &[(i32, u64)], server_cpus: u32) -> Mark {
        let ms = Duration::from_millis;
        let driver = |reads, cpu_ms| Counters {
            at_ns: seconds * 1_000_000_000,
            deliveries: 100 * seconds,
            publications: 10 * seconds,
            reads,
            cpu: ms(cpu_ms * seconds),
            ..Counters::default()
        };
        Mark {
            drivers: vec![driver(25 * seconds, 100), driver(75 * seconds, 400)],
            resources: Resources {
                at_ns: seconds * 1_000_000_000,
                server_cpu: Some(ms(server_ms)),
                own_cpu: Some(ms(500 * seconds)),
                machine_cpu: Some(ms(server_ms + 1500 * seconds)),
                server_threads: threads.iter().map(|(id, used)| (*id, ms(*used))).collect(),
                server_cpus: Some(server_cpus),
                ..Resources::default()
            },
        }
    }

    fn used(server_cpus: u32) -> Interval {
        let before = mark(0, 0, &[(1, 0)], server_cpus);
        // Thread 2 began in between.
        let after = mark(10, 12_000, &[(1, 2_000), (2, 9_500)], server_cpus);
        Interval::between(&before, &after)
    }

    #[test]
    fn a_measurement_is_what_lies_between_two_moments() {
        let interval = used(4);
        assert_eq!((interval.deliveries, interval.publications), (2000, 200));
        assert_eq!(interval.deliveries_per_second, 200.0);
        assert_eq!(interval.deliveries_per_read, Some(2.0));
        assert_eq!(interval.server_cpu_us_per_delivery, Some(6000.0));
        assert_eq!(interval.driver_cpu_us_per_delivery, Some(2500.0));
        assert_eq!(interval.driver_cpu_percent, 50.0);
        assert_eq!(interval.busiest_driver_percent, 40.0);
    }

    #[test]
    fn a_server_is_busy_if_a_thread_or_all_its_cpus_are() {
        assert_eq!(used(4).server_cpu_percent, Some(120.0));
        assert_eq!(
            used(4).server_busy_percent,
            Some(95.0),
            "its busiest thread"
        );
        assert_eq!(
            used(1).server_busy_percent,
            Some(120.0),
            "all that it may use"
        );
    }

    #[test]
    fn others_are_who_is_neither_the_server_nor_this_program() {
        assert_eq!(used(4).others_cpu_percent, Some(100.0));
        let mut unknown = mark(10, 0, &[], 1);
        unknown.resources.server_cpu = None;
        let unknown = Interval::between(&mark(0, 0, &[], 1), &unknown);
        assert_eq!(
            (unknown.others_cpu_percent, unknown.server_busy_percent),
            (None, None)
        );
    }

    fn verdicts(driver: f64, server: Option<f64>, others: f64) -> String {
        let mut interval = Interval {
            busiest_driver_percent: driver,
            server_busy_percent: server,
            others_cpu_percent: Some(others * machine::cpus() as f64),
            ..Interval::default()
        };
        interval.verdict = interval.bottleneck();
        interval.verdicts().join("; ")
    }

    #[test]
    fn the_generator_is_blamed_only_if_the_server_had_time() {
        assert!(verdicts(95.0, Some(50.0), 0.0).starts_with("the generator was the bottleneck"));
        assert!(verdicts(95.0, Some(99.0), 0.0).starts_with("the server was the bottleneck"));
        assert!(verdicts(50.0, Some(99.0), 0.0).starts_with("the server was the bottleneck"));
        assert!(verdicts(95.0, None, 0.0).contains("nobody knows whether the server had"));
        assert_eq!(
            verdicts(50.0, Some(50.0), 3.0) + &verdicts(50.0, None, 3.0),
            ""
        );
    }

    #[test]
    fn others_are_blamed_too_and_how_much_they_took_is_said() {
        let both = verdicts(95.0, Some(50.0), 31.4);
        assert!(
            both.starts_with("the generator was") && both.contains("others took 31 %"),
            "{both}"
        );
        assert!(verdicts(10.0, Some(10.0), 31.0).starts_with("noisy"));
    }
}
