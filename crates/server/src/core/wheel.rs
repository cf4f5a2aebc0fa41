//! When to look at a connection again: a coarse wheel, one entry a slot.
//!
//! A timer per connection would cost memory and a wake-up each. Here a connection costs 4 bytes and
//! a bit, and is looked at only when its earliest deadline may have come; if it was active
//! meanwhile, it is put back to its new one.
//!
//! Invariant: a slot has at most one entry. The entry may outlive the connection: the next one in
//! the slot inherits it, and is looked at too early at worst.

use std::time::{Duration, Instant};

use rooms::Slot;

/// Slots by when they are to be looked at.
#[derive(Debug)]
pub(crate) struct Wheel {
    started: Instant,
    granularity: Duration,
    /// `buckets[tick % len]` is due at `tick`.
    buckets: Vec<Vec<Slot>>,
    /// The first tick that has not been handed out.
    next_tick: u64,
    /// Which slots have an entry.
    scheduled: Vec<u64>,
    entry_count: usize,
}

/// Slots of the wheel; what is due later is looked at in between.
const BUCKET_COUNT: u64 = 512;

impl Wheel {
    /// Returns an empty wheel. Entries are handed out up to `granularity` after they are due.
    pub(crate) fn new(now: Instant, granularity: Duration) -> Self {
        Self {
            started: now,
            granularity,
            buckets: (0..BUCKET_COUNT).map(|_| Vec::new()).collect(),
            next_tick: 1,
            scheduled: Vec::new(),
            entry_count: 0,
        }
    }

    /// Asks for the slot to be handed out at `due` or a little later. A slot that has an entry
    /// keeps it.
    pub(crate) fn schedule(&mut self, slot: Slot, due: Instant) {
        let (word, bit) = (slot.index() / 64, 1 << (slot.index() % 64));
        if self.scheduled.len() <= word {
            self.scheduled.resize(word + 1, 0);
        }
        if self.scheduled[word] & bit != 0 {
            return;
        }
        self.scheduled[word] |= bit;
        self.entry_count += 1;
        let last = self.next_tick + BUCKET_COUNT - 1;
        let tick = (self.tick_at(due) + 1).clamp(self.next_tick, last);
        self.bucket(tick).push(slot);
    }

    /// Moves the slots that are due into `into`; they have no entry any more.
    pub(crate) fn advance(&mut self, now: Instant, into: &mut Vec<Slot>) {
        let reached = self.tick_at(now);
        if self.entry_count == 0 {
            self.next_tick = self.next_tick.max(reached + 1);
            return;
        }
        // Once round is every bucket, however long nobody called.
        let last = reached.min(self.next_tick + BUCKET_COUNT - 1);
        for tick in self.next_tick..=last {
            let slots = std::mem::take(self.bucket(tick));
            self.entry_count -= slots.len();
            for slot in slots {
                self.scheduled[slot.index() / 64] &= !(1 << (slot.index() % 64));
                into.push(slot);
            }
        }
        self.next_tick = self.next_tick.max(reached + 1);
    }

    /// Returns the time at which the next slot is due, if one is.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.entry_count == 0 {
            return None;
        }
        let ticks = self.next_tick..self.next_tick + BUCKET_COUNT;
        let tick = ticks
            .into_iter()
            .find(|tick| !self.buckets[index(*tick)].is_empty())?;
        Some(self.started + self.granularity * u32::try_from(tick).unwrap_or(u32::MAX))
    }

    fn tick_at(&self, time: Instant) -> u64 {
        let elapsed = time.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_nanos() / self.granularity.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    fn bucket(&mut self, tick: u64) -> &mut Vec<Slot> {
        &mut self.buckets[index(tick)]
    }
}

fn index(tick: u64) -> usize {
    usize::try_from(tick % BUCKET_COUNT).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<Slot> {
        let mut slots = Vec::new();
        wheel.advance(now, &mut slots);
        slots
    }

    #[test]
    fn a_slot_is_handed_out_once_and_not_before_it_is_due() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new(start, Duration::from_millis(100));
        wheel.schedule(Slot(7), at(250));
        wheel.schedule(Slot(7), at(900));
        assert_eq!(due(&mut wheel, at(250)), []);
        assert_eq!(wheel.next_due(), Some(at(300)));
        assert_eq!(due(&mut wheel, at(300)), [Slot(7)]);
        assert_eq!(due(&mut wheel, at(10_000)), []);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn what_lies_beyond_the_wheel_and_what_is_past_are_handed_out_too() {
        let start = clock::now();
        let mut wheel = Wheel::new(start, Duration::from_millis(10));
        assert_eq!(due(&mut wheel, start + Duration::from_secs(60)), []);
        wheel.schedule(Slot(1), start);
        wheel.schedule(Slot(2), start + Duration::from_secs(600));
        assert_eq!(due(&mut wheel, start + Duration::from_secs(61)), [Slot(1)]);
        assert_eq!(
            due(&mut wheel, start + Duration::from_secs(3600)),
            [Slot(2)],
            "early, but not late"
        );
        wheel.schedule(Slot(3), start + Duration::from_secs(3601));
        assert_eq!(
            due(&mut wheel, start + Duration::from_secs(7200)),
            [Slot(3)]
        );
    }
}
