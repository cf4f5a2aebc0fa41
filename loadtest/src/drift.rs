//! What changed while a run lasted: latency in its parts, and the slope of memory.

use std::time::Duration;

use crate::clock::to_ns;
use crate::series::Point;
use crate::tally::Latency;

/// Latencies in equal parts of the time, the more parts the longer it lasts, up to a bound.
///
/// When there would be too many, neighbours are put together and parts are twice as long from then
/// on. So a run of unknown length, or one that is interrupted, still has a first and a last tenth.
#[derive(Debug)]
pub(crate) struct Slots {
    width_ns: u64,
    origin_ns: Option<u64>,
    slots: Vec<Latency>,
}

/// At some 200 KB each, 8 MB.
const SLOTS_MAX: usize = 40;

impl Slots {
    /// Makes room for a run that measures for so long.
    pub(crate) fn new(measured: Duration) -> Self {
        let parts = u32::try_from(SLOTS_MAX).expect("it is small");
        Self {
            width_ns: to_ns(measured / parts).max(1),
            origin_ns: None,
            slots: Vec::new(),
        }
    }

    /// Counts latencies to the part that this moment is in.
    pub(crate) fn add(&mut self, at_ns: u64, latency: &Latency) {
        if latency.count() == 0 {
            return;
        }
        let elapsed_ns = at_ns.saturating_sub(*self.origin_ns.get_or_insert(at_ns));
        while elapsed_ns / self.width_ns >= SLOTS_MAX as u64 {
            self.halve();
        }
        let index = usize::try_from(elapsed_ns / self.width_ns).expect("below the bound");
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Latency::default);
        }
        self.slots[index] += latency;
    }

    /// Returns the first tenth of the time and the last; none if there is no time between them.
    pub(crate) fn first_and_last_tenth(&self) -> Option<(Latency, Latency)> {
        let tenth = self.slots.len().div_ceil(10);
        if self.slots.len() < 2 * tenth || tenth == 0 {
            return None;
        }
        let first = sum(&self.slots[..tenth]);
        let last = sum(&self.slots[self.slots.len() - tenth..]);
        Some((first, last))
    }

    fn halve(&mut self) {
        self.slots = self.slots.chunks(2).map(sum).collect();
        self.width_ns *= 2;
    }
}

fn sum(slots: &[Latency]) -> Latency {
    let mut sum = Latency::default();
    slots.iter().for_each(|slot| sum += slot);
    sum
}

/// A straight line: what something was at the beginning, and by how much it grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) start: f64,
    pub(crate) per_second: f64,
}

impl Line {
    /// Fits a line to the memory of a series by least squares, in bytes;
    /// none for fewer than two points.
    pub(crate) fn through_memory(points: &[Point]) -> Option<Self> {
        let known = points
            .iter()
            .filter_map(|point| Some((point.seconds, point.server_pss_bytes? as f64)));
        Self::through(&known.collect::<Vec<_>>())
    }

    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let covariance: f64 = points
            .iter()
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let per_second = covariance / variance;
        let start = mean_y - per_second * mean_x;
        per_second.is_finite().then_some(Self { start, per_second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(us: u64) -> Latency {
        let mut latency = Latency::default();
        latency.record(us * 1000);
        latency
    }

    /// The numbers of latencies in the first tenth and the last, and what the last was, in us.
    fn tenths(slots: &Slots) -> Option<(u64, u64, f64)> {
        let (first, last) = slots.first_and_last_tenth()?;
        Some((first.count(), last.count(), last.us(1.0)?))
    }

    #[test]
    fn a_run_of_the_expected_length_has_its_tenths() {
        let mut slots = Slots::new(Duration::from_secs(100));
        for second in 0..100_u64 {
            slots.add(second * 1_000_000_000, &of(10 * (second + 1)));
        }
        let (first, last, last_us) = tenths(&slots).unwrap();
        assert!(
            (8..=12).contains(&first) && (8..=12).contains(&last),
            "{first} {last}"
        );
        assert!((995.0..=1005.0).contains(&last_us), "{last_us}");
    }

    #[test]
    fn a_longer_run_puts_neighbours_together() {
        let mut slots = Slots::new(Duration::from_secs(10));
        for second in 0..1000_u64 {
            slots.add(second * 1_000_000_000, &of(10));
        }
        assert!(slots.slots.len() <= SLOTS_MAX);
        let (first, last, _) = tenths(&slots).unwrap();
        assert!(
            (80..=150).contains(&first) && (60..=150).contains(&last),
            "{first} {last}"
        );
    }

    #[test]
    fn a_run_that_hardly_began_has_none() {
        let mut slots = Slots::new(Duration::from_secs(100));
        assert_eq!(tenths(&slots), None);
        slots.add(5, &of(10));
        assert_eq!(tenths(&slots), None);
    }

    #[test]
    fn the_line_is_the_nearest_by_least_squares() {
        let exact = Line::through(&[(0.0, 100.0), (1.0, 110.0), (4.0, 140.0)]).unwrap();
        assert!((exact.start - 100.0).abs() < 1e-9 && (exact.per_second - 10.0).abs() < 1e-9);
        let noisy = Line::through(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)]).unwrap();
        assert!((noisy.start - 1.5).abs() < 1e-9 && (noisy.per_second - 0.5).abs() < 1e-9);
        assert_eq!(Line::through(&[(1.0, 5.0)]), None);
        assert_eq!(Line::through(&[]), None);
    }
}
