//! How a run went over time: a point a second, each with what happened since the one before.
//!
//! It is told when to close a point and what the clocks and counters say then; it reads none.

use std::iter::Sum;
use std::time::Duration;

use serde::Serialize;

use crate::clock::to_ns;
use crate::latencies::Latencies;
use crate::report::figures::ratio;
use crate::report::latency::to_us;

/// What a driver has counted since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) at_ns: u64,
    pub(crate) connections: u64,
    pub(crate) publications: u64,
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    /// Of the driver's threads.
    pub(crate) cpu: Duration,
}

impl Sum for Counters {
    /// Those of several drivers, at the moment of the latest.
    fn sum<I: Iterator<Item = Self>>(drivers: I) -> Self {
        drivers.fold(Self::default(), |sum, driver| Self {
            at_ns: sum.at_ns.max(driver.at_ns),
            connections: sum.connections + driver.connections,
            publications: sum.publications + driver.publications,
            deliveries: sum.deliveries + driver.deliveries,
            lost: sum.lost + driver.lost,
            cpu: sum.cpu + driver.cpu,
        })
    }
}

/// What processes have used since they began; none where it was not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) at_ns: u64,
    /// Of the server's processes.
    pub(crate) server_cpu: Option<Duration>,
    /// Of this process, all threads.
    pub(crate) own_cpu: Option<Duration>,
    /// Of all processes of the machine.
    pub(crate) machine_cpu: Option<Duration>,
    /// The server's proportional set size now.
    pub(crate) server_pss_bytes: Option<u64>,
}

/// One second of a run, or less if the run is short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Point {
    /// Its end, from the beginning of the first measurement.
    pub(crate) seconds: f64,
    connections: u64,
    publications_per_second: f64,
    deliveries_per_second: f64,
    latency_us: Option<PointLatency>,
    /// Since the run began.
    lost: u64,
    /// Of one core, as all percentages here.
    server_cpu_percent: Option<f64>,
    pub(crate) server_pss_bytes: Option<u64>,
    driver_cpu_percent: f64,
    /// Of neither the server nor this program; unknown without the server's process.
    others_cpu_percent: Option<f64>,
}

/// The latencies of a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct PointLatency {
    p50: f64,
    p99: f64,
    max: f64,
}

/// All points of a run.
#[derive(Debug)]
pub(crate) struct Series {
    interval_ns: u64,
    points: Vec<Point>,
    /// When the first measurement began.
    origin_ns: Option<u64>,
    /// Where the current point begins; none while nothing is measured.
    from: Option<(Counters, Resources)>,
    due_ns: u64,
    latencies: Latencies,
}

/// A point a second says enough of what changes quickly.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A run of hours has points further apart: more of them no plot can show.
const POINTS_MAX: u32 = 3600;

impl Series {
    /// No points yet, of a run that measures for so long: one a second, or ten in a shorter run.
    pub(crate) fn new(measured: Duration) -> Self {
        let interval = (measured / 10).min(INTERVAL_MAX).max(measured / POINTS_MAX);
        Self {
            interval_ns: to_ns(interval).max(1),
            points: Vec::new(),
            origin_ns: None,
            from: None,
            due_ns: 0,
            latencies: Latencies::default(),
        }
    }

    /// How long a point is.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// A measurement begins.
    pub(crate) fn begin(&mut self, counters: Counters, resources: Resources) {
        self.origin_ns.get_or_insert(counters.at_ns);
        self.from = Some((counters, resources));
        self.due_ns = counters.at_ns + self.interval_ns;
        self.latencies.reset();
    }

    /// Whether a point ends at this moment or should have.
    pub(crate) fn is_due(&self, at_ns: u64) -> bool {
        self.from.is_some() && at_ns >= self.due_ns
    }

    /// Counts latencies to the current point.
    pub(crate) fn add(&mut self, latencies: &Latencies) {
        if self.from.is_some() {
            self.latencies.merge(latencies);
        }
    }

    /// Ends a point and begins the next.
    pub(crate) fn close(&mut self, counters: Counters, resources: Resources) {
        let (Some(origin_ns), Some((before, used))) = (self.origin_ns, self.from) else {
            return;
        };
        self.from = Some((counters, resources));
        self.due_ns = (self.due_ns + self.interval_ns).max(counters.at_ns);
        let seconds = seconds(before.at_ns, counters.at_ns);
        let rate = |now: u64, then: u64| {
            ratio(now.saturating_sub(then) as f64, seconds).unwrap_or_default()
        };
        let driver_cpu = counters.cpu.saturating_sub(before.cpu).as_secs_f64();
        let [server_cpu_percent, others_cpu_percent] = percentages(&used, &resources);
        self.points.push(Point {
            seconds: self::seconds(origin_ns, counters.at_ns),
            connections: counters.connections,
            publications_per_second: rate(counters.publications, before.publications),
            deliveries_per_second: rate(counters.deliveries, before.deliveries),
            latency_us: PointLatency::of(&self.latencies),
            lost: counters.lost,
            server_cpu_percent,
            server_pss_bytes: resources.server_pss_bytes,
            driver_cpu_percent: ratio(driver_cpu * 100.0, seconds).unwrap_or_default(),
            others_cpu_percent,
        });
        self.latencies.reset();
    }

    /// The measurement ends; what is left of a point is one too, unless it is too short to say
    /// anything.
    pub(crate) fn end(&mut self, counters: Counters, resources: Resources) {
        let from_ns = self.from.map_or(u64::MAX, |(before, _)| before.at_ns);
        if counters.at_ns.saturating_sub(from_ns) * 2 > self.interval_ns {
            self.close(counters, resources);
        }
        self.from = None;
    }

    /// All points, in order.
    pub(crate) fn into_points(self) -> Vec<Point> {
        self.points
    }
}

impl PointLatency {
    fn of(latencies: &Latencies) -> Option<Self> {
        let each = &latencies.each_ns;
        let us = |quantile| to_us(each.value_at_quantile(quantile));
        (!each.is_empty()).then(|| Self {
            p50: us(0.5),
            p99: us(0.99),
            max: us(1.0),
        })
    }
}

/// Of one core: the server, and everybody but the server and this program.
fn percentages(from: &Resources, to: &Resources) -> [Option<f64>; 2] {
    let seconds = seconds(from.at_ns, to.at_ns);
    let used = |of: fn(&Resources) -> Option<Duration>| {
        let used = of(to)?.saturating_sub(of(from)?);
        ratio(used.as_secs_f64() * 100.0, seconds)
    };
    let server = used(|resources| resources.server_cpu);
    let others = || {
        let all = used(|resources| resources.machine_cpu)?;
        let own = used(|resources| resources.own_cpu)?;
        // Ticks are counted at different moments, so a quiet machine may come out below nothing.
        Some((all - own - server?).max(0.0))
    };
    [server, others()]
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(seconds: u64, deliveries: u64) -> Counters {
        Counters {
            at_ns: seconds * SECOND_NS,
            deliveries,
            connections: 7,
            publications: deliveries / 10,
            lost: 1,
            cpu: Duration::from_millis(500 * seconds),
        }
    }

    fn used(seconds: u64) -> Resources {
        let share = |percent: u64| Some(Duration::from_millis(percent * 10 * seconds));
        Resources {
            at_ns: seconds * SECOND_NS,
            server_cpu: share(80),
            own_cpu: share(60),
            machine_cpu: share(190),
            server_pss_bytes: Some(seconds * 1000),
        }
    }

    #[test]
    fn a_point_says_what_happened_since_the_one_before() {
        let mut series = Series::new(Duration::from_secs(10));
        series.begin(at(5, 1000), used(5));
        assert!(!series.is_due(5_999_999_999) && series.is_due(6 * SECOND_NS));
        let mut latencies = Latencies::default();
        latencies.each_ns.record(2_000_000).unwrap();
        series.add(&latencies);
        series.close(at(6, 3000), used(6));
        series.close(at(8, 3000), used(8));
        series.end(at(8, 3000), used(8));
        let points = series.into_points();
        assert_eq!(points.len(), 2, "{points:?}");
        let first = &points[0];
        assert_eq!((first.seconds, points[1].seconds), (1.0, 3.0));
        assert_eq!(first.deliveries_per_second, 2000.0);
        assert_eq!(first.publications_per_second, 200.0);
        assert_eq!((first.connections, first.lost), (7, 1));
        assert_eq!(first.driver_cpu_percent, 50.0);
        let percent = (first.server_cpu_percent, first.others_cpu_percent);
        assert_eq!(percent, (Some(80.0), Some(50.0)));
        assert_eq!(first.server_pss_bytes, Some(6000));
        assert!((first.latency_us.unwrap().max / 2000.0 - 1.0).abs() < 0.01);
        assert_eq!(points[1].latency_us, None, "nothing was timed in it");
        assert_eq!(points[1].deliveries_per_second, 0.0);
    }

    #[test]
    fn what_is_not_measured_is_unknown() {
        let mut series = Series::new(Duration::from_secs(10));
        series.begin(at(0, 0), Resources::default());
        series.close(at(1, 10), used(1));
        let point = &series.into_points()[0];
        let percent = (point.server_cpu_percent, point.others_cpu_percent);
        assert_eq!(percent, (None, None));
    }

    #[test]
    fn short_runs_have_ten_points_and_long_ones_not_too_many() {
        let interval = |seconds| Series::new(Duration::from_secs_f64(seconds)).interval_ns;
        assert_eq!(interval(0.5), SECOND_NS / 20);
        assert_eq!(interval(60.0), SECOND_NS);
        assert_eq!(interval(36_000.0), 10 * SECOND_NS);
    }

    #[test]
    fn nothing_is_counted_between_measurements() {
        let mut series = Series::new(Duration::from_secs(10));
        assert!(!series.is_due(u64::MAX));
        series.begin(at(0, 0), used(0));
        series.end(at(1, 10), used(1));
        assert!(!series.is_due(u64::MAX));
        series.begin(at(9, 10), used(9));
        series.end(at(10, 30), used(10));
        let points = series.into_points();
        assert_eq!(points.len(), 2);
        assert_eq!(
            (points[1].seconds, points[1].deliveries_per_second),
            (10.0, 20.0)
        );
    }
}
