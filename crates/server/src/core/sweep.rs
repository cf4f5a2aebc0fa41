//! What ages: what rooms keep, and when it expires.

use std::time::{Duration, Instant};

use super::Core;
use super::share::{self, Deadline};
use crate::engine;

/// Time between two looks for what has expired in rooms. Ages are minutes, so a second late is on
/// time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Core {
    /// Reads the time of day, once a turn, and tells the rooms what time it is on their clock.
    pub(super) fn note_time(&mut self, now: Instant) {
        let now = self.engine.clock.at(now);
        engine::begin_turn(now);
        self.local.set_now(now);
    }

    /// Drops what has expired of what rooms keep, about once a second while they keep something, in
    /// slices.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|due| due <= now) {
            self.sweep_some(now);
        }
        if self.sweep_at.is_none() && self.engine.table.keeps_something() {
            self.sweep_at = Some(now + SWEEP_INTERVAL);
        }
    }

    /// Goes on with the sweep that is due. One that is not done stays due, so the next turn comes
    /// at once.
    fn sweep_some(&mut self, now: Instant) {
        let (table, age) = (&self.engine.table, self.engine.clock.at(now));
        let slice = Deadline::after(share::SWEEP);
        while let Some(next) = table.sweep_some(self.id, age, self.sweep_next) {
            self.sweep_next = next;
            if slice.is_past() {
                return;
            }
        }
        self.sweep_next = 0;
        self.sweep_at = None;
    }
}
