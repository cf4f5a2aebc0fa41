//! Publications of one client that are not acknowledged yet. Pure.
//!
//! Each has a key, the same for every sending: what was sent on a connection that is gone is sent again,
//! in the order in which it was published, and the server delivers it once.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The most publications that wait for their acknowledgement. More are not taken.
pub const PUBLICATIONS_MAX: usize = 1000;

/// The most of them that are under way at once.
const IN_FLIGHT_MAX: usize = 32;

/// What is not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// By number.
    waiting: BTreeMap<u32, Waiting>,
    in_flight_count: usize,
    last_number: u32,
}

#[derive(Debug)]
struct Waiting {
    room: u32,
    /// Sent on this connection.
    is_in_flight: bool,
    put_off_until: Option<Instant>,
}

impl Outbox {
    /// Takes a publication and returns its number; none at the bound.
    pub(super) fn take(&mut self, room: u32) -> Option<u32> {
        if self.waiting.len() >= PUBLICATIONS_MAX {
            return None;
        }
        self.last_number += 1;
        let waiting = Waiting {
            room,
            is_in_flight: false,
            put_off_until: None,
        };
        self.waiting.insert(self.last_number, waiting);
        Some(self.last_number)
    }

    /// The next that is to be sent, with its room; it is under way then.
    pub(super) fn next_unsent(&mut self, now: Instant) -> Option<(u32, u32)> {
        if self.in_flight_count >= IN_FLIGHT_MAX {
            return None;
        }
        let mut unsent = self.waiting.iter_mut().filter(|(_, waiting)| {
            !waiting.is_in_flight && waiting.put_off_until.is_none_or(|until| until <= now)
        });
        let (number, waiting) = unsent.next()?;
        waiting.is_in_flight = true;
        self.in_flight_count += 1;
        Some((*number, waiting.room))
    }

    /// When the next that was put off is due.
    pub(super) fn put_off_until(&self) -> Option<Instant> {
        let waiting = self
            .waiting
            .values()
            .filter(|waiting| !waiting.is_in_flight);
        waiting.filter_map(|waiting| waiting.put_off_until).min()
    }

    /// It has its answer. Returns its room; none if it was not waiting for one.
    pub(super) fn settle(&mut self, number: u32) -> Option<u32> {
        let waiting = self.waiting.remove(&number)?;
        self.in_flight_count -= usize::from(waiting.is_in_flight);
        Some(waiting.room)
    }

    /// The server asks for it again then.
    pub(super) fn put_off(&mut self, number: u32, until: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            self.in_flight_count -= usize::from(waiting.is_in_flight);
            waiting.is_in_flight = false;
            waiting.put_off_until = Some(until);
        }
    }

    /// The connection is gone, and with it what was under way: all is to be sent again.
    pub(super) fn lose(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.is_in_flight = false;
        }
        self.in_flight_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sent(outbox: &mut Outbox, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| outbox.next_unsent(now).map(|(number, _)| number)).collect()
    }

    #[test]
    fn what_has_no_answer_is_sent_again_in_its_order() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        (0..5).for_each(|room| _ = outbox.take(room));
        assert_eq!(sent(&mut outbox, now), [1, 2, 3, 4, 5]);
        assert_eq!(outbox.settle(2), Some(1));
        assert_eq!(outbox.settle(2), None);
        assert_eq!(sent(&mut outbox, now), [0; 0]);
        outbox.lose();
        assert_eq!(sent(&mut outbox, now), [1, 3, 4, 5]);
    }

    #[test]
    fn what_was_put_off_is_sent_when_it_is_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut outbox = Outbox::default();
        (0..2).for_each(|room| _ = outbox.take(room));
        assert_eq!(sent(&mut outbox, now), [1, 2]);
        outbox.put_off(1, later);
        assert_eq!(sent(&mut outbox, now), [0; 0]);
        assert_eq!(outbox.put_off_until(), Some(later));
        assert_eq!(sent(&mut outbox, later), [1]);
        assert_eq!(outbox.put_off_until(), None);
    }

    #[test]
    fn no_more_are_taken_or_under_way_than_may() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let taken = (0..PUBLICATIONS_MAX + 5).filter(|_| outbox.take(0).is_some());
        assert_eq!(taken.count(), PUBLICATIONS_MAX);
        assert_eq!(sent(&mut outbox, now).len(), IN_FLIGHT_MAX);
        outbox.settle(1);
        assert_eq!(sent(&mut outbox, now).len(), 1);
        assert!(outbox.take(0).is_some());
    }
}
