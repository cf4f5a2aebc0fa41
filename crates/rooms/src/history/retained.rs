//! The history of one room: publications, keys, and what waits for the journal.

use super::keys::Keys;
use super::publications::Publications;
use super::staged::Stage;
use crate::class::RoomClass;
use crate::position::Ancestor;
use crate::time::Moment;

/// The history of one room. Only [`Histories`](super::Histories) changes it.
#[derive(Debug)]
pub(super) struct History {
    pub(super) publications: Publications,
    pub(super) keys: Keys,
    pub(super) stage: Stage,
    /// The room's epochs in earlier processes, as far as positions of them mean something.
    pub(super) lineage: Vec<Ancestor>,
    /// Until then a room without members is remembered even if it retains nothing: its last member
    /// may have lost its connection for a moment only.
    lingers_until: Option<Moment>,
    /// The time of the room's live entry in the expiry heap.
    pub(super) due: Moment,
}

impl History {
    /// Creates an empty history.
    pub(super) fn new() -> Self {
        Self {
            publications: Publications::default(),
            keys: Keys::default(),
            stage: Stage::default(),
            lineage: Vec::new(),
            lingers_until: None,
            due: Moment::NEVER,
        }
    }

    /// Returns the bytes that all of it takes, without the room itself.
    pub(super) const fn cost_bytes(&self) -> usize {
        self.publications.cost_bytes()
            + self.keys.cost_bytes()
            + self.stage.cost_bytes()
            + self.lineage.len() * size_of::<Ancestor>()
    }

    /// Remembers the room for as long as a history lasts.
    pub(super) fn linger(&mut self, now: Moment, class: &RoomClass) {
        self.lingers_until = Some(now.after(class.history.age_max_ms));
    }

    /// Drops everything but what waits for the journal.
    pub(super) fn clear(&mut self) {
        self.publications.clear();
        self.keys.clear();
        self.lingers_until = None;
    }

    /// Returns when the next entry expires; none if no entry ever does.
    pub(super) fn next_expiry(&self, class: &RoomClass) -> Option<Moment> {
        let publication = self.publication_expiry(class);
        let key = self.key_expiry(class);
        let all = [publication, key, self.lingers_until];
        all.into_iter().flatten().min()
    }

    fn publication_expiry(&self, class: &RoomClass) -> Option<Moment> {
        let oldest_at = self.publications.oldest_at()?;
        Some(oldest_at.after(class.history.age_max_ms))
    }

    fn key_expiry(&self, class: &RoomClass) -> Option<Moment> {
        Some(self.keys.oldest()?.at.after(class.key_window_ms))
    }

    /// Drops at most `count_max` entries that have expired by `now`; returns how many it dropped.
    pub(super) fn expire(&mut self, now: Moment, class: &RoomClass, count_max: usize) -> usize {
        let is_over = |at: Moment| at <= now;
        let mut count = 0;
        while count < count_max && self.publication_expiry(class).is_some_and(is_over) {
            self.publications.drop_oldest();
            count += 1;
        }
        while count < count_max && self.key_expiry(class).is_some_and(is_over) {
            self.keys.drop_oldest();
            count += 1;
        }
        self.lingers_until = self.lingers_until.filter(|until| !is_over(*until));
        count
    }

    /// Drops the one entry that expires first, if it does by `due`; returns when it would have.
    pub(super) fn evict(&mut self, due: Moment, class: &RoomClass) -> Option<Moment> {
        let first = self.next_expiry(class).filter(|at| *at <= due)?;
        if self.publication_expiry(class) == Some(first) {
            self.publications.drop_oldest();
        } else if self.key_expiry(class) == Some(first) {
            self.keys.drop_oldest();
        } else {
            self.lingers_until = None;
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proto::SharedFrame;

    use super::super::keys::{HashedKey, TABLE_SPARE};
    use super::super::places::PLACES_SPARE;
    use super::*;
    use crate::class::HistoryLimits;

    fn class(publications_max: u32, bytes_max: usize, keys_max: u32) -> RoomClass {
        RoomClass {
            history: HistoryLimits {
                publications_max,
                bytes_max,
                age_max_ms: 1000,
            },
            key_window_ms: 500,
            keys_max,
            ..RoomClass::default()
        }
    }

    fn key(hash: u64, text: &str) -> HashedKey<'_> {
        HashedKey { hash, text }
    }

    fn frame(len: usize) -> SharedFrame {
        vec![0; len].into()
    }

    #[test]
    fn each_limit_alone_drops_the_oldest() {
        let mut by_count = History::new();
        let mut by_bytes = History::new();
        for offset in 1..=100 {
            by_count
                .publications
                .push(frame(10), Moment(offset), &class(7, 1 << 20, 0).history);
            by_bytes
                .publications
                .push(frame(10), Moment(offset), &class(1000, 55, 0).history);
        }
        assert_eq!(by_count.publications.len(), 7);
        assert_eq!(by_bytes.publications.len(), 5);
        assert_eq!(by_bytes.publications.skip(2).count(), 3);
        assert_eq!(by_bytes.publications.skip(5).count(), 0);

        let mut nothing_fits = History::new();
        nothing_fits
            .publications
            .push(frame(56), Moment(1), &class(1000, 55, 0).history);
        assert_eq!(nothing_fits.publications.len(), 0);
    }

    #[test]
    fn keys_are_found_until_they_are_too_many_or_too_old() {
        let class = class(0, 0, 3);
        let mut history = History::new();
        for (offset, text) in (1..).zip(["a", "b", "c", "d"]) {
            history
                .keys
                .push(key(7, text), offset, Moment(offset * 100), class.keys_max);
        }
        assert_eq!(history.keys.find(key(7, "a")), None);
        assert_eq!(history.keys.find(key(7, "b")), Some(2));
        assert_eq!(history.next_expiry(&class), Some(Moment(700)));
        assert_eq!(history.expire(Moment(800), &class, 9), 2);
        assert_eq!(
            (
                history.keys.find(key(7, "c")),
                history.keys.find(key(7, "d"))
            ),
            (None, Some(4))
        );
        assert_eq!(history.expire(Moment(900), &class, 9), 1);
        assert_eq!(history.next_expiry(&class), None);
        assert_eq!(history.cost_bytes(), 0);
    }

    #[test]
    fn what_expires_first_is_evicted_first_and_nothing_is_counted_twice() {
        let class = class(100, 1 << 20, 100);
        let mut history = History::new();
        history
            .publications
            .push(frame(10), Moment(0), &class.history);
        history.keys.push(key(1, "k"), 1, Moment(0), class.keys_max);
        history
            .publications
            .push(frame(10), Moment(100), &class.history);
        history.evict(Moment::NEVER, &class);
        assert_eq!(history.keys.find(key(1, "k")), None, "it would go at 500");
        history.evict(Moment::NEVER, &class);
        assert_eq!(history.publications.oldest_at(), Some(Moment(100)));
        history.linger(Moment(50), &class);
        history.evict(Moment::NEVER, &class);
        assert_eq!(
            history.next_expiry(&class),
            Some(Moment(1100)),
            "the lingering would have ended at 1050"
        );
        history.evict(Moment::NEVER, &class);
        assert_eq!(history.next_expiry(&class), None);
        assert_eq!(history.cost_bytes(), 0);
    }

    #[test]
    fn much_that_is_gone_leaves_little_memory_behind() {
        let class = class(100_000, 1 << 30, 100_000);
        let mut history = History::new();
        for offset in 0..50_000 {
            history
                .publications
                .push(frame(1), Moment(0), &class.history);
            let text = offset.to_string();
            history
                .keys
                .push(key(offset, &text), offset, Moment(0), class.keys_max);
        }
        assert_eq!(history.expire(Moment(10_000), &class, 60_000), 60_000);
        assert_eq!(history.publications.len(), 0);
        assert_eq!(history.expire(Moment(10_000), &class, 60_000), 40_000);
        assert_eq!(history.next_expiry(&class), None);
        assert!(history.publications.capacity() <= PLACES_SPARE);
        let [queue, table] = history.keys.capacities();
        assert!(queue <= PLACES_SPARE && table <= TABLE_SPARE);
    }
}
