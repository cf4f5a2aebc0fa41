//! What has a time of day: what rooms keep, and when it expires.

use std::time::{Duration, Instant};

use super::Core;
use crate::clock;
use crate::engine;

/// How often the rooms are looked at for what has expired. Ages are minutes, so a second late is on time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Core {
    /// Reads the time of day, once a turn.
    pub(super) fn note_time_of_day(&mut self) {
        let unix_ms = clock::unix_ms();
        engine::set_turn_ms(unix_ms);
        self.local.set_now_ms(unix_ms);
    }

    /// Drops what has expired of what rooms keep, about once a second while they keep something.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|due| due <= now) {
            self.engine.table.sweep(self.id, clock::unix_ms());
            self.sweep_at = None;
        }
        if self.sweep_at.is_none() && self.engine.table.keeps_something() {
            self.sweep_at = Some(now + SWEEP_INTERVAL);
        }
    }
}
