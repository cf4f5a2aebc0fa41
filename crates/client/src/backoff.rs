//! When to come back, and whether: docs/protocol.md, "Closing" and "Coming back". Pure.

use std::time::Duration;

use serde::Deserialize;

/// The pauses before another attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The ceiling after the first failure (default 500 ms); it doubles with each.
    pub first: Duration,
    /// The last ceiling (default 30 s).
    pub last: Duration,
    /// A connection that lasted so long was a good one: the next failure counts as the first
    /// (default 10 s).
    pub steady: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            last: Duration::from_secs(30),
            steady: Duration::from_secs(10),
        }
    }
}

/// The pauses of one client, with full jitter: clients that were sent away together spread.
#[derive(Clone, Debug)]
pub struct Backoff {
    pauses: Pauses,
    rng: fastrand::Rng,
    failure_count: u32,
}

impl Backoff {
    /// Returns the pauses of a client that has not failed yet. `seed` decides the random part.
    pub fn new(pauses: Pauses, seed: u64) -> Self {
        Self {
            pauses,
            rng: fastrand::Rng::with_seed(seed),
            failure_count: 0,
        }
    }

    /// Returns how long to wait after a connection that lasted so long, zero if it never opened.
    pub fn next(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.pauses.steady {
            self.failure_count = 0;
        }
        let factor = 1_u32.checked_shl(self.failure_count).unwrap_or(u32::MAX);
        let ceiling = self.pauses.first.saturating_mul(factor);
        self.failure_count = (self.failure_count + 1).min(31);
        ceiling.min(self.pauses.last).mul_f64(self.rng.f64())
    }
}

/// Returns the pause that this close code and its reason ask for; `None` is to stay away.
pub(crate) fn after_close(code: u16, reason: &str) -> Option<Duration> {
    match code {
        // RFC 6455, section 7.4.1: finished, or the server rejects how we speak. 1009 is not among
        // them: one message was too large.
        1000 | 1002 | 1003 | 1007 | 1008 | 1010 | 4000..4100 => None,
        4100..4200 => Some(pause(reason)),
        _ => Some(Duration::ZERO),
    }
}

/// Reads the pause in a reason such as `{"reason":"drain","after_ms":1730}`.
fn pause(reason: &str) -> Duration {
    #[derive(Deserialize)]
    struct Reason {
        after_ms: u64,
    }
    let asked = serde_json::from_str::<Reason>(reason).map_or(0, |reason| reason.after_ms);
    Duration::from_millis(asked).min(PAUSE_MAX)
}

/// The longest pause that a server may ask for: a wrong figure must not mean for ever.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_last_and_begin_again_after_a_good_connection() {
        let longest = |backoff: &Backoff, lasted| {
            let pauses = (0..1000).map(|seed| {
                let mut other = backoff.clone();
                other.rng = fastrand::Rng::with_seed(seed);
                other.next(lasted)
            });
            pauses.max().unwrap()
        };
        let mut backoff = Backoff::new(Pauses::default(), 1);
        for ceiling_ms in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let longest = longest(&backoff, Duration::ZERO);
            assert!(
                longest <= ceiling && longest > ceiling / 2,
                "{longest:?} of {ceiling:?}"
            );
            backoff.next(Duration::ZERO);
        }
        assert!(longest(&backoff, Duration::from_secs(10)) <= Duration::from_millis(500));
        (0..100).for_each(|_| _ = backoff.next(Duration::ZERO));
        assert!(longest(&backoff, Duration::ZERO) <= Duration::from_secs(30));
    }

    #[test]
    fn close_codes_say_whether_to_come_back_and_when() {
        for code in [1000, 1002, 1003, 1007, 1008, 1010, 4000, 4099] {
            assert_eq!(after_close(code, r#"{"after_ms":5}"#), None, "{code}");
        }
        for code in [1001, 1006, 1009, 1011, 1012, 4200] {
            assert_eq!(
                after_close(code, r#"{"after_ms":5}"#),
                Some(Duration::ZERO),
                "{code}"
            );
        }
        let reason = r#"{"reason":"drain","after_ms":1730}"#;
        let pause = Some(Duration::from_millis(1730));
        assert_eq!(after_close(4100, reason), pause);
        assert_eq!(after_close(4102, reason), pause);
        assert_eq!(after_close(4102, "slow"), Some(Duration::ZERO));
        let for_ever = r#"{"after_ms":18446744073709551615}"#;
        assert_eq!(after_close(4102, for_ever), Some(PAUSE_MAX));
    }
}
