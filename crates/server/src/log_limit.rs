//! How often the log says the same thing.
//!
//! What a peer can cause as often as it likes, and a state that lasts, must not fill the log, nor
//! hide in it. So whoever logs in a loop, or for something that a peer does, asks here first.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The least time between two lines about the same thing.
const PAUSE: Duration = Duration::from_secs(10);

/// Maximum subjects that are told apart.
const SUBJECTS_MAX: usize = 256;

/// Lets a line through at most once in ten seconds, with how often there was a reason for it.
///
/// Of a state that lasts, every failure [`happened`](Self::happened), and the first success after
/// it [`ended`](Self::ended). One that comes and goes more often than every ten seconds is said to
/// begin and to end once in that time.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    said_at: Option<Instant>,
    /// Times that it has happened since the last line.
    unsaid: u64,
    /// The last line said that it lasts.
    is_open: bool,
}

impl LogLimit {
    /// Notes that it has happened. Returns how often it has since the last line, if it is time for
    /// another.
    pub(crate) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let is_early = |said_at| now.saturating_duration_since(said_at) < PAUSE;
        if self.said_at.is_some_and(is_early) {
            return None;
        }
        self.said_at = Some(now);
        self.is_open = true;
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Notes that it is over. Returns how often it has happened since the last line, if that said
    /// that it lasts.
    pub(crate) fn ended(&mut self) -> Option<u64> {
        std::mem::take(&mut self.is_open).then(|| std::mem::take(&mut self.unsaid))
    }
}

/// A [`LogLimit`] for each of the first 256 subjects, and one for all others together.
#[derive(Debug, Default)]
pub(crate) struct LogLimits {
    subjects: HashMap<Box<str>, LogLimit>,
    others: LogLimit,
}

impl LogLimits {
    /// Notes that it has happened to this subject, as [`LogLimit::happened`] does.
    pub(crate) fn happened(&mut self, subject: &str, now: Instant) -> Option<u64> {
        if let Some(limit) = self.subjects.get_mut(subject) {
            return limit.happened(now);
        }
        if self.subjects.len() >= SUBJECTS_MAX {
            return self.others.happened(now);
        }
        let limit = self.subjects.entry(subject.into()).or_default();
        limit.happened(now)
    }
}

/// Lets one line through for each of the first 256 subjects; for all others together one in ten
/// seconds.
#[derive(Debug, Default)]
pub(crate) struct LogOnce {
    subjects: HashSet<Box<str>>,
    others: LogLimit,
}

impl LogOnce {
    /// Notes a subject. Returns how many there were for this line, if it is time for one.
    pub(crate) fn noted(&mut self, subject: &str, now: Instant) -> Option<u64> {
        if self.subjects.contains(subject) {
            return None;
        }
        if self.subjects.len() >= SUBJECTS_MAX {
            return self.others.happened(now);
        }
        self.subjects.insert(subject.into());
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_state_is_said_when_it_begins_then_every_ten_seconds_with_a_count_and_when_it_ends() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = LogLimit::default();
        assert_eq!(limit.ended(), None, "it never began");
        let said = (0..=500).map(|step| limit.happened(at(step * 50)));
        let said: Vec<_> = said
            .enumerate()
            .filter(|(_, said)| said.is_some())
            .collect();
        assert_eq!(said, [(0, Some(1)), (200, Some(200)), (400, Some(200))]);
        assert_eq!(limit.ended(), Some(100));
        assert_eq!(limit.ended(), None, "it is over once");
    }

    #[test]
    fn a_state_that_comes_and_goes_is_said_to_do_so_once_in_ten_seconds() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = LogLimit::default();
        let mut lines = 0;
        for step in 0..300 {
            lines += u32::from(limit.happened(at(step * 100)).is_some());
            lines += u32::from(limit.ended().is_some());
        }
        assert_eq!(lines, 6, "two lines in each of three times ten seconds");
        assert_eq!(limit.happened(at(29_950)), None);
        assert_eq!(
            limit.happened(at(30_000)),
            Some(101),
            "the last time it stayed"
        );
    }

    #[test]
    fn subjects_have_limits_of_their_own_and_there_are_not_more_than_a_few() {
        let now = clock::now();
        let (mut limits, mut once) = (LogLimits::default(), LogOnce::default());
        let mut lines = (0, 0);
        for subject in 0..10_000 {
            let subject = subject.to_string();
            for _ in 0..2 {
                lines.0 += usize::from(limits.happened(&subject, now).is_some());
                lines.1 += usize::from(once.noted(&subject, now).is_some());
            }
        }
        assert_eq!(lines, (SUBJECTS_MAX + 1, SUBJECTS_MAX + 1));
        assert_eq!(limits.subjects.len(), SUBJECTS_MAX);
        assert_eq!(once.subjects.len(), SUBJECTS_MAX);
        let later = now + PAUSE;
        assert_eq!(limits.happened("0", later), Some(2));
        assert_eq!(once.noted("0", later), None, "once is enough");
        assert!(once.noted("another", later).is_some_and(|count| count > 1));
    }
}
