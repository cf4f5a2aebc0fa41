//! Latencies as they are reported: percentiles, and the whole distribution for a plot.

use hdrhistogram::Histogram;
use serde::Serialize;

/// From when a publication was due to its deliveries, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// How many were timed.
    pub(crate) count: u64,
    /// Pairs of a quantile, from 0 to 1, and its microseconds.
    distribution: Vec<(f64, f64)>,
}

/// Steps between a quantile and half-way from there to 1: five give about a hundred points for a
/// million deliveries, half of them beyond the 99th percentile.
const STEPS_PER_HALF: u32 = 5;

impl Latency {
    /// The percentiles of nanoseconds; none if nothing was timed.
    pub(crate) fn of(latency_ns: &Histogram<u64>) -> Option<Self> {
        if latency_ns.is_empty() {
            return None;
        }
        let us = |quantile| to_us(latency_ns.value_at_quantile(quantile));
        let steps = latency_ns.iter_quantiles(STEPS_PER_HALF);
        Some(Self {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: us(1.0),
            count: latency_ns.len(),
            distribution: steps
                .map(|step| (step.quantile_iterated_to(), to_us(step.value_iterated_to())))
                .collect(),
        })
    }
}

/// Nanoseconds in microseconds.
pub(crate) fn to_us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_rises_to_the_maximum_and_is_densest_there() {
        let mut histogram = Histogram::new_with_bounds(1_000, 600_000_000_000, 3).unwrap();
        assert_eq!(Latency::of(&histogram), None);
        // Half of a million below 20 us, a thousandth above 10 ms, the last at 10 s.
        for rank in 0..1_000_000_u64 {
            histogram
                .record(10_000_000_000 / (1_000_000 - rank))
                .unwrap();
        }
        let latency = Latency::of(&histogram).unwrap();
        let points = &latency.distribution;
        assert!((60..160).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert!(points.iter().filter(|point| point.0 >= 0.99).count() * 2 > points.len());
        assert_eq!(points.last(), Some(&(1.0, latency.max)));
        assert!((latency.p50 / 20.0 - 1.0).abs() < 0.03, "{latency:?}");
    }
}
