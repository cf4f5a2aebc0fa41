//! Figures of which threads, rooms or runs have a part each: they add up, and they serialize as
//! reports show them.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use derive_more::AddAssign;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Latencies from a microsecond to ten minutes, to three digits.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Steps between a quantile and half-way from there to 1: five give about a hundred points for a
/// million deliveries, half of them beyond the 99th percentile.
const STEPS_PER_HALF: u32 = 5;

/// Counts per latency, recorded in nanoseconds.
///
/// In a report it is percentiles and a distribution in microseconds, or `null` if nothing was
/// timed.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS);
        Self(histogram.expect("the constants are bounds that a histogram takes"))
    }
}

impl Latency {
    /// Counts one latency.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Returns how many were timed.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns a quantile in microseconds; none if nothing was timed.
    pub(crate) fn us(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| to_us(self.0.value_at_quantile(quantile)))
    }

    /// Returns how many were longer than this.
    pub(crate) fn count_over(&self, limit_ns: u64) -> u64 {
        self.count() - self.0.count_between(0, limit_ns)
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        if self.count() > 0 {
            self.0.reset();
        }
    }
}

fn to_us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

impl AddAssign<&Self> for Latency {
    fn add_assign(&mut self, other: &Self) {
        if other.count() > 0 {
            self.0.add(&other.0).expect("all have the same bounds");
        }
    }
}

impl AddAssign for Latency {
    fn add_assign(&mut self, other: Self) {
        *self += &other;
    }
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    count: u64,
    /// Pairs of a quantile, from 0 to 1, and its microseconds.
    distribution: Vec<(f64, f64)>,
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let us = |quantile| to_us(self.0.value_at_quantile(quantile));
        let steps = self.0.iter_quantiles(STEPS_PER_HALF);
        let percentiles = (self.count() > 0).then(|| Percentiles {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: us(1.0),
            count: self.count(),
            distribution: steps
                .map(|step| (step.quantile_iterated_to(), to_us(step.value_iterated_to())))
                .collect(),
        });
        percentiles.serialize(serializer)
    }
}

/// How late one group of rooms was, from when its publications were due.
#[derive(AddAssign, Clone, Debug, Default)]
pub(crate) struct Latencies {
    /// To each member that received them.
    pub(crate) each: Latency,
    /// To the last member, of those that reached all members in order.
    pub(crate) last: Latency,
}

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Counts one more of this name.
    pub(crate) fn count(&mut self, name: impl ToString) {
        *self.0.entry(name.to_string()).or_default() += 1;
    }

    /// Returns whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (name, count) in other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }
}

/// The first example of something that is counted elsewhere; a sum has the first of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct First(pub(crate) Option<String>);

impl First {
    /// Keeps this if it is the first.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        self.0.get_or_insert_with(text);
    }
}

impl AddAssign for First {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.take().or(other.0);
    }
}

/// A figure of which a sum has the largest of its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Most(pub(crate) f64);

impl AddAssign for Most {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }
}

/// A figure that only some wires or modes have; a sum has it if any of its parts does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T: AddAssign> AddAssign for Maybe<T> {
    fn add_assign(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(sum), Some(part)) => *sum += part,
            (sum, part) => *sum = sum.take().or(part),
        }
    }
}

/// Adds up the parts of several threads.
pub(crate) fn sum<T: AddAssign + Default>(parts: impl IntoIterator<Item = T>) -> T {
    parts.into_iter().fold(T::default(), |mut sum, part| {
        sum += part;
        sum
    })
}

/// Returns a quotient; none if there is nothing to divide by.
pub(crate) fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_distribution_rises_to_the_maximum_and_is_densest_there() {
        let mut latency = Latency::default();
        assert_eq!(serde_json::to_value(&latency).unwrap(), Value::Null);
        // Half of a million below 20 us, a thousandth above 10 ms, the last at 10 s.
        for rank in 0..1_000_000_u64 {
            latency.record(10_000_000_000 / (1_000_000 - rank));
        }
        let p50 = latency.us(0.5).unwrap();
        assert!((p50 / 20.0 - 1.0).abs() < 0.03, "{p50}");
        let latency = serde_json::to_value(&latency).unwrap();
        let points: Vec<(f64, f64)> =
            serde_json::from_value(latency["distribution"].clone()).unwrap();
        assert!((60..160).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert!(points.iter().filter(|point| point.0 >= 0.99).count() * 2 > points.len());
        assert_eq!(json!(points.last()), json!((1.0, &latency["max"])));
    }

    #[test]
    fn sums_have_what_any_part_has() {
        let [mut one, mut two] = [Counts::default(), Counts::default()];
        one.count("reset");
        two.count("reset");
        two.count(404);
        let counts = serde_json::to_value(sum([one, two])).unwrap();
        assert_eq!(counts, json!({ "404": 1, "reset": 2 }));
        let first = |text: Option<&str>| First(text.map(str::to_owned));
        let parts = [first(None), first(Some("a")), first(Some("b"))];
        assert_eq!(sum(parts), first(Some("a")));
        assert_eq!(
            sum([Maybe(None), Maybe(Some(2)), Maybe(Some(3))]),
            Maybe(Some(5))
        );
        assert_eq!(sum([Maybe::<u64>(None)]), Maybe(None));
    }
}
