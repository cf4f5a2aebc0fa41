//! What all links of a line are told.

use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;

/// How a line is.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Whether nothing fails by chance.
    pub(super) is_calm: bool,
    /// How often everything that was under way was ended.
    pub(super) calmed_count: u64,
    /// Until when the line is dropped.
    pub(super) outage_until: Option<Instant>,
    /// What was last done to every link.
    pub(super) inflicted: Option<Fault>,
    /// How often something was.
    pub(super) inflicted_count: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            is_calm: true,
            calmed_count: 0,
            outage_until: None,
            inflicted: None,
            inflicted_count: 0,
        }
    }
}

impl Weather {
    /// How long the line is still dropped; zero if it is not.
    pub(super) fn outage_left(&self, now: Instant) -> Duration {
        self.outage_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}
