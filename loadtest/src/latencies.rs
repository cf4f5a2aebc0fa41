//! How late deliveries were: counts per latency, cheap to add to and to put together.

use std::ops::Range;

use hdrhistogram::Histogram;

/// Latencies from a microsecond to ten minutes, to three digits.
const LATENCY_NS: Range<u64> = 1_000..600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// What one group of rooms had to wait for, in nanoseconds from when a publication was due.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// To each member that received it.
    pub(crate) each_ns: Histogram<u64>,
    /// To the last member, of publications that reached all members in order.
    pub(crate) last_ns: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let empty = Histogram::new_with_bounds(LATENCY_NS.start, LATENCY_NS.end, LATENCY_DIGITS)
            .expect("the constants are bounds that a histogram takes");
        Self {
            each_ns: empty.clone(),
            last_ns: empty,
        }
    }
}

impl Latencies {
    /// Adds another's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        let same = "all have the same bounds";
        if !other.each_ns.is_empty() {
            self.each_ns.add(&other.each_ns).expect(same);
        }
        if !other.last_ns.is_empty() {
            self.last_ns.add(&other.last_ns).expect(same);
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        if !self.each_ns.is_empty() {
            self.each_ns.reset();
        }
        if !self.last_ns.is_empty() {
            self.last_ns.reset();
        }
    }
}
