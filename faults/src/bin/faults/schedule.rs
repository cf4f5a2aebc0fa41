//! When the network is dropped and for whom, and who publishes what next: as the seed says.

use std::time::Duration;

use tokio::time::Instant;

/// Decides for a run.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// For drops.
    drops: fastrand::Rng,
    /// For publications, how many of which are drawn by when depends on the machine.
    publications: fastrand::Rng,
    began_at: Instant,
    rate: u32,
    published_count: u64,
}

/// How often something is published: often enough that no burst is long.
pub(crate) const TICK: Duration = Duration::from_millis(10);

impl Schedule {
    pub(crate) fn new(seed: u64, rate: u32, began_at: Instant) -> Self {
        let mut drops = fastrand::Rng::with_seed(seed);
        Self {
            publications: drops.fork(),
            drops,
            began_at,
            rate,
            published_count: 0,
        }
    }

    /// How many publications are due by now and were not taken yet. A second's at most: who was
    /// held up does not make up for everything at once.
    pub(crate) fn due(&mut self, now: Instant) -> u64 {
        let elapsed_ms = (now - self.began_at).as_millis();
        let by_now = elapsed_ms * u128::from(self.rate) / 1000;
        let by_now = u64::try_from(by_now).unwrap_or(u64::MAX);
        let due = by_now.saturating_sub(self.published_count);
        self.published_count = by_now;
        due.min(u64::from(self.rate))
    }

    /// One of so many.
    pub(crate) fn any(&mut self, count: usize) -> usize {
        self.publications.usize(..count)
    }

    /// Which of so many lines are dropped next: every other time all of them.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<usize> {
        if self.drops.bool() {
            return (0..count).collect();
        }
        let some: Vec<usize> = (0..count).filter(|_| self.drops.bool()).collect();
        if some.is_empty() {
            vec![self.drops.usize(..count)]
        } else {
            some
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_due_as_the_rate_says_and_not_all_after_a_pause() {
        let began_at = Instant::now();
        let mut schedule = Schedule::new(1, 250, began_at);
        let after = |ms| began_at + Duration::from_millis(ms);
        let due: u64 = (0..=100).map(|tick| schedule.due(after(tick * 10))).sum();
        assert_eq!(due, 250);
        assert_eq!(schedule.due(after(1004)), 1);
        assert_eq!(schedule.due(after(60_000)), 250);
        assert_eq!(schedule.due(after(60_004)), 1);
    }

    #[test]
    fn all_lines_are_dropped_or_some_and_the_seed_says_which() {
        let drops = |seed| {
            let mut schedule = Schedule::new(seed, 1, Instant::now());
            (0..50).map(|_| schedule.lines(8)).collect::<Vec<_>>()
        };
        assert_eq!(drops(1), drops(1));
        assert_ne!(drops(1), drops(2));
        assert!(drops(1).iter().any(|lines| lines.len() == 8));
        assert!(drops(1).iter().any(|lines| lines.len() < 8));
        assert!(drops(1).iter().all(|lines| !lines.is_empty()));
    }
}
