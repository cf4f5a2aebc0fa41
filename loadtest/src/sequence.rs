//! Whether every number arrived once and in order, for each member and stream: a *lane*.
//!
//! A number that is skipped counts as lost until it arrives after all; then it counts as reordered.
//! So two neighbours swapped are one reordering and no loss. A number that had arrived already is a
//! repetition. Only a fault allocates.

use std::collections::HashMap;
use std::ops::Range;

use derive_more::AddAssign;
use serde::Serialize;

/// What went wrong, in deliveries.
#[derive(AddAssign, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    /// Published, and never delivered to a member that should have had it.
    pub(crate) lost: u64,
    /// Delivered to the same member again.
    pub(crate) repeated: u64,
    /// Delivered after a later one of the same stream.
    pub(crate) reordered: u64,
    /// Delivered with its stamp, but with another length than was published.
    pub(crate) truncated: u64,
}

/// What one number was to its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Later than expected numbers, which are missing from now on.
    Ahead { missing: Range<u32> },
    /// The expected one.
    InOrder,
    /// One of the missing.
    Late,
    /// One that had arrived.
    Repeated,
}

/// The numbers that every lane expects and misses.
#[derive(Debug, Default)]
pub(crate) struct SequenceChecker {
    expected: Vec<u32>,
    /// For lanes that ever missed something: what they miss, ascending.
    missing: HashMap<usize, Vec<Range<u32>>>,
    /// What was found so far, without what is [`outstanding`](Self::outstanding).
    pub(crate) faults: Faults,
}

impl SequenceChecker {
    /// Makes lanes that expect zero.
    pub(crate) fn new(lanes: usize) -> Self {
        Self::expecting(vec![0; lanes])
    }

    /// Makes lanes that expect these.
    pub(crate) fn expecting(expected: Vec<u32>) -> Self {
        Self {
            expected,
            ..Self::default()
        }
    }

    /// Takes the next number that arrived on a lane.
    #[inline]
    pub(crate) fn check(&mut self, lane: usize, number: u32) -> Arrival {
        let expected = &mut self.expected[lane];
        if number == *expected {
            *expected += 1;
            return Arrival::InOrder;
        }
        self.check_faulty(lane, number)
    }

    #[cold]
    fn check_faulty(&mut self, lane: usize, number: u32) -> Arrival {
        let expected = self.expected[lane];
        if number > expected {
            self.expected[lane] = number + 1;
            self.missing.entry(lane).or_default().push(expected..number);
            self.faults.lost += u64::from(number - expected);
            return Arrival::Ahead {
                missing: expected..number,
            };
        }
        let missing = self.missing.get_mut(&lane);
        if missing.is_some_and(|missing| remove(missing, number)) {
            self.faults.lost -= 1;
            self.faults.reordered += 1;
            return Arrival::Late;
        }
        self.faults.repeated += 1;
        Arrival::Repeated
    }

    /// Returns the numbers below `published` that a lane still expects. If nothing more can come,
    /// they are lost.
    pub(crate) fn outstanding(&self, lane: usize, published: u32) -> Range<u32> {
        self.expected[lane]..published
    }
}

/// Takes a number out of ascending ranges; false if it is in none.
fn remove(ranges: &mut Vec<Range<u32>>, number: u32) -> bool {
    let index = ranges.partition_point(|range| range.end <= number);
    let Some(range) = ranges.get(index).filter(|range| range.contains(&number)) else {
        return false;
    };
    let parts = [range.start..number, number + 1..range.end];
    ranges.splice(
        index..=index,
        parts.into_iter().filter(|part| !part.is_empty()),
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a single lane reports of `published` numbers of which these arrived.
    fn faults(arrived: &[u32], published: u32) -> (u64, u64, u64) {
        let mut checker = SequenceChecker::new(1);
        for number in arrived {
            checker.check(0, *number);
        }
        let faults = checker.faults;
        let tail = checker.outstanding(0, published).len() as u64;
        (faults.lost + tail, faults.repeated, faults.reordered)
    }

    #[test]
    fn each_fault_is_reported_exactly() {
        assert_eq!(faults(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(faults(&[0, 2, 3], 4), (1, 0, 0), "one dropped");
        assert_eq!(faults(&[0, 1], 4), (2, 0, 0), "the end dropped");
        assert_eq!(faults(&[3], 4), (3, 0, 0), "the beginning dropped");
        assert_eq!(faults(&[0, 0, 1, 1, 1], 2), (0, 3, 0), "repeated");
        assert_eq!(faults(&[0, 2, 1, 3], 4), (0, 0, 1), "swapped");
        assert_eq!(faults(&[3, 2, 1, 0], 4), (0, 0, 3), "reversed");
        assert_eq!(
            faults(&[0, 2, 1, 1, 3], 4),
            (0, 1, 1),
            "swapped and repeated"
        );
        assert_eq!(faults(&[], 4), (4, 0, 0), "nothing arrived");
    }

    #[test]
    fn a_shuffle_with_losses_and_repeats_agrees_with_a_naive_count() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..500 {
            let published = random.u32(1..40);
            let mut arrived: Vec<_> = (0..published).filter(|_| random.u32(0..4) != 0).collect();
            let repeats = random.usize(0..5).min(arrived.len());
            arrived.extend_from_within(..repeats);
            random.shuffle(&mut arrived);

            let (mut seen, mut repeated, mut reordered) = (vec![false; published as usize], 0, 0);
            let mut highest = None;
            for &number in &arrived {
                if std::mem::replace(&mut seen[number as usize], true) {
                    repeated += 1;
                } else if highest > Some(number) {
                    reordered += 1;
                }
                highest = highest.max(Some(number));
            }
            let lost = seen.iter().filter(|&&seen| !seen).count() as u64;
            assert_eq!(
                faults(&arrived, published),
                (lost, repeated, reordered),
                "{arrived:?}"
            );
        }
    }

    #[test]
    fn lanes_do_not_know_each_other() {
        let mut checker = SequenceChecker::new(2);
        assert_eq!(checker.check(0, 0), Arrival::InOrder);
        assert_eq!(checker.check(1, 1), Arrival::Ahead { missing: 0..1 });
        assert_eq!(checker.check(0, 0), Arrival::Repeated);
        assert_eq!(checker.check(1, 0), Arrival::Late);
    }
}
