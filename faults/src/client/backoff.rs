//! When to come back, and whether: docs/protocol.md, "Closing" and "Coming back". Pure.

use std::time::Duration;

use serde::Deserialize;

/// How long to wait before another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The ceiling after the first failure; it doubles with each.
    pub first: Duration,
    /// The last ceiling.
    pub last: Duration,
    /// A connection that lasted so long was a good one: the next failure is a first one.
    pub steady: Duration,
}

impl Default for Pauses {
    /// What docs/protocol.md says.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            last: Duration::from_secs(30),
            steady: Duration::from_secs(10),
        }
    }
}

/// The pauses of one client, with full jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    pauses: Pauses,
    failure_count: u32,
}

impl Backoff {
    /// A client that has not failed yet.
    pub const fn new(pauses: Pauses) -> Self {
        Self {
            pauses,
            failure_count: 0,
        }
    }

    /// How long to wait after a connection that lasted so long, none if it never was one.
    pub fn next(&mut self, lasted: Duration, rng: &mut fastrand::Rng) -> Duration {
        if lasted >= self.pauses.steady {
            self.failure_count = 0;
        }
        let factor = 1_u32.checked_shl(self.failure_count).unwrap_or(u32::MAX);
        let ceiling = self
            .pauses
            .first
            .saturating_mul(factor)
            .min(self.pauses.last);
        self.failure_count = (self.failure_count + 1).min(31);
        ceiling.mul_f64(rng.f64())
    }
}

/// What a close code asks of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// To come back after this, with jitter added.
    After(Duration),
    /// To stay away: the same would only happen again.
    Never,
}

/// What this close code and its reason ask of a client.
pub fn after_close(code: u16, reason: &str) -> Return {
    match code {
        1000 | 1002 | 1003 | 1007 | 1008 | 1010 | 4000..4100 => Return::Never,
        4100..4200 => Return::After(pause(reason)),
        _ => Return::After(Duration::ZERO),
    }
}

/// The pause in a reason such as `{"reason":"drain","after_ms":1730}`.
fn pause(reason: &str) -> Duration {
    #[derive(Deserialize)]
    struct Reason {
        after_ms: u64,
    }
    let asked = serde_json::from_str::<Reason>(reason).map_or(0, |reason| reason.after_ms);
    Duration::from_millis(asked).min(PAUSE_MAX)
}

/// A wrong figure must not mean for ever.
const PAUSE_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_last_and_begin_anew_after_a_good_connection() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut longest = |backoff: &Backoff, lasted| {
            let pauses = (0..1000).map(|_| backoff.clone().next(lasted, &mut rng));
            pauses.max().unwrap()
        };
        let mut backoff = Backoff::new(Pauses::default());
        for ceiling_ms in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let longest = longest(&backoff, Duration::ZERO);
            assert!(
                longest <= ceiling && longest > ceiling / 2,
                "{longest:?} of {ceiling:?}"
            );
            backoff.next(Duration::ZERO, &mut fastrand::Rng::with_seed(2));
        }
        assert!(longest(&backoff, Duration::from_secs(10)) <= Duration::from_millis(500));
        (0..100).for_each(|_| _ = backoff.next(Duration::ZERO, &mut fastrand::Rng::new()));
        assert!(longest(&backoff, Duration::ZERO) <= Duration::from_secs(30));
    }

    #[test]
    fn close_codes_say_whether_to_come_back_and_when() {
        for code in [1000, 1002, 1003, 1007, 1008, 1010, 4000, 4099] {
            assert_eq!(
                after_close(code, r#"{"after_ms":5}"#),
                Return::Never,
                "{code}"
            );
        }
        for code in [1001, 1006, 1009, 1011, 1012, 4200] {
            let at_once = Return::After(Duration::ZERO);
            assert_eq!(after_close(code, r#"{"after_ms":5}"#), at_once, "{code}");
        }
        let reason = r#"{"reason":"drain","after_ms":1730}"#;
        let pause = Return::After(Duration::from_millis(1730));
        assert_eq!(after_close(4100, reason), pause);
        assert_eq!(after_close(4102, reason), pause);
        assert_eq!(after_close(4102, "slow"), Return::After(Duration::ZERO));
        let for_ever = r#"{"after_ms":18446744073709551615}"#;
        assert_eq!(after_close(4102, for_ever), Return::After(PAUSE_MAX));
    }
}
