//! How a run went over time: a point a second, each with what happened since the one before.
//!
//! It is told when to close a point and what the clocks and counters say then; it reads none.

use std::time::Duration;

use serde::Serialize;

use crate::clock::to_ns;
use crate::interval::Interval;
use crate::probe::{Counters, Mark};
use crate::tally::Latency;

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
    /// How long a point is.
    pub(crate) interval_ns: u64,
    pub(crate) points: Vec<Point>,
    /// When the first measurement began.
    origin_ns: Option<u64>,
    /// Where the current point begins; none while nothing is measured.
    from: Option<Mark>,
    due_ns: u64,
    latency: Latency,
}

/// A point a second says enough of what changes quickly.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A run of hours has points further apart: more of them no plot can show.
const POINTS_MAX: u32 = 3600;

impl Series {
    /// Makes room for a run that measures for so long: a point a second, or ten in a shorter run.
    pub(crate) fn new(measured: Duration) -> Self {
        let interval = (measured / 10).min(INTERVAL_MAX).max(measured / POINTS_MAX);
        Self {
            interval_ns: to_ns(interval).max(1),
            points: Vec::new(),
            origin_ns: None,
            from: None,
            due_ns: 0,
            latency: Latency::default(),
        }
    }

    /// Begins a measurement.
    pub(crate) fn begin(&mut self, mark: Mark) {
        let at_ns = Counters::sum(&mark.drivers).at_ns;
        self.origin_ns.get_or_insert(at_ns);
        self.from = Some(mark);
        self.due_ns = at_ns + self.interval_ns;
        self.latency.reset();
    }

    /// Returns whether a point ends at this moment or should have.
    pub(crate) fn is_due(&self, at_ns: u64) -> bool {
        self.from.is_some() && at_ns >= self.due_ns
    }

    /// Counts latencies to the current point.
    pub(crate) fn add(&mut self, latency: &Latency) {
        if self.from.is_some() {
            self.latency += latency;
        }
    }

    /// Ends a point and begins the next.
    pub(crate) fn close(&mut self, mark: Mark) {
        let (Some(origin_ns), Some(before)) = (self.origin_ns, self.from.take()) else {
            return;
        };
        let counters = Counters::sum(&mark.drivers);
        let interval = Interval::between(&before, &mark);
        let us = |quantile| self.latency.us(quantile);
        let latency_us = || {
            Some(PointLatency {
                p50: us(0.5)?,
                p99: us(0.99)?,
                max: us(1.0)?,
            })
        };
        self.points.push(Point {
            seconds: Duration::from_nanos(counters.at_ns - origin_ns).as_secs_f64(),
            connections: counters.connections,
            publications_per_second: interval.publications_per_second,
            deliveries_per_second: interval.deliveries_per_second,
            latency_us: latency_us(),
            lost: counters.lost,
            server_cpu_percent: interval.server_cpu_percent,
            server_pss_bytes: mark.resources.server_pss_bytes,
            driver_cpu_percent: interval.driver_cpu_percent,
            others_cpu_percent: interval.others_cpu_percent,
        });
        self.due_ns = (self.due_ns + self.interval_ns).max(counters.at_ns);
        self.from = Some(mark);
        self.latency.reset();
    }

    /// Ends the measurement; what is left of a point is one too, unless it is too short to say
    /// anything.
    pub(crate) fn end(&mut self, mark: Mark) {
        let at_ns = |mark: &Mark| Counters::sum(&mark.drivers).at_ns;
        let from_ns = self.from.as_ref().map_or(u64::MAX, at_ns);
        if at_ns(&mark).saturating_sub(from_ns) * 2 > self.interval_ns {
            self.close(mark);
        }
        self.from = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Resources;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(seconds: u64, deliveries: u64) -> Mark {
        let share = |percent: u64| Some(Duration::from_millis(percent * 10 * seconds));
        Mark {
            drivers: vec![Counters {
                at_ns: seconds * SECOND_NS,
                deliveries,
                connections: 7,
                publications: deliveries / 10,
                lost: 1,
                reads: 0,
                cpu: Duration::from_millis(500 * seconds),
            }],
            resources: Resources {
                at_ns: seconds * SECOND_NS,
                server_cpu: share(80),
                own_cpu: share(60),
                machine_cpu: share(190),
                server_pss_bytes: Some(seconds * 1000),
                ..Resources::default()
            },
        }
    }

    #[test]
    fn a_point_says_what_happened_since_the_one_before() {
        let mut series = Series::new(Duration::from_secs(10));
        series.begin(at(5, 1000));
        assert!(!series.is_due(5_999_999_999) && series.is_due(6 * SECOND_NS));
        let mut latency = Latency::default();
        latency.record(2_000_000);
        series.add(&latency);
        series.close(at(6, 3000));
        series.close(at(8, 3000));
        series.end(at(8, 3000));
        let points = series.points;
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
        series.begin(Mark {
            resources: Resources::default(),
            ..at(0, 0)
        });
        series.close(at(1, 10));
        let point = &series.points[0];
        assert_eq!(
            (point.server_cpu_percent, point.others_cpu_percent),
            (None, None)
        );
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
        series.begin(at(0, 0));
        series.end(at(1, 10));
        assert!(!series.is_due(u64::MAX));
        series.begin(at(9, 10));
        series.end(at(10, 30));
        let points = series.points;
        assert_eq!(points.len(), 2);
        assert_eq!(
            (points[1].seconds, points[1].deliveries_per_second),
            (10.0, 20.0)
        );
    }
}
