//! The keys of a room's recent publications: a repeat is recognized by them.
//!
//! Invariants: keys are in the order of their publications; each is in `by_text` once, under its
//! serial number; `cost_bytes` is the sum over the keys that are remembered.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::places::{grow, shrink};
use crate::time::Moment;

/// The text of a key, with its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashedKey<'a> {
    pub(crate) hash: u64,
    pub(crate) text: &'a str,
}

/// The keys that a room remembers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    remembered: VecDeque<Remembered>,
    /// Serial numbers, by the hash of the text.
    by_text: HashTable<u64>,
    /// The serial number of the oldest key.
    first_serial: u64,
    cost_bytes: usize,
}

/// One key, and the publication that it came with.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) text: Box<str>,
    hash: u64,
    pub(super) offset: u64,
    pub(super) at: Moment,
}

/// The bytes that a key takes beside its text: its place in the queue, its place in a table that is
/// a quarter full, as one is in which keys come and go, and the losses of moving both.
pub(super) const KEY_COST: usize = size_of::<Remembered>() * 2 + (size_of::<u64>() + 1) * 4;

/// The empty places that a small table may have.
pub(super) const TABLE_SPARE: usize = 16;

/// Returns the bytes that a key of this length takes.
#[inline]
pub(super) const fn key_cost(key_len: usize) -> usize {
    // As `allocated_bytes` says of an allocation as short as a key.
    KEY_COST + key_len.next_multiple_of(16)
}

impl Keys {
    /// Remembers a new key, and forgets the oldest ones over `count_max`.
    pub(super) fn push(&mut self, key: HashedKey<'_>, offset: u64, at: Moment, count_max: u32) {
        let HashedKey { hash, text } = key;
        let serial = self.first_serial + self.remembered.len() as u64;
        self.cost_bytes += key_cost(text.len());
        grow(&mut self.remembered);
        self.remembered.push_back(Remembered {
            text: text.into(),
            hash,
            offset,
            at,
        });
        let (remembered, first_serial) = (&self.remembered, self.first_serial);
        self.by_text.insert_unique(hash, serial, |serial| {
            hash_of(remembered, first_serial, *serial)
        });
        while self.remembered.len() > count_max as usize {
            self.drop_oldest();
        }
    }

    /// Returns the offset of the publication that came with this key.
    pub(super) fn find(&self, key: HashedKey<'_>) -> Option<u64> {
        let is_same = |serial: &u64| self.get(*serial).is_some_and(|it| *it.text == *key.text);
        let serial = self.by_text.find(key.hash, is_same)?;
        Some(self.get(*serial)?.offset)
    }

    /// Forgets the oldest key, if there is one.
    pub(super) fn drop_oldest(&mut self) {
        let Some(dropped) = self.remembered.pop_front() else {
            return;
        };
        let serial = self.first_serial;
        self.first_serial += 1;
        self.remove(&dropped, serial);
        shrink(&mut self.remembered);
        // The table grows by removals too: keys that come and go leave marks behind.
        let len = self.remembered.len();
        if self.by_text.capacity() > 4 * len + TABLE_SPARE {
            let (remembered, first_serial) = (&self.remembered, self.first_serial);
            self.by_text.shrink_to(len + len / 4, |serial| {
                hash_of(remembered, first_serial, *serial)
            });
        }
    }

    /// Forgets the keys of publications behind `offset`.
    pub(super) fn drop_behind(&mut self, offset: u64) {
        while self.remembered.back().is_some_and(|it| it.offset > offset) {
            let serial = self.first_serial + self.remembered.len() as u64 - 1;
            if let Some(dropped) = self.remembered.pop_back() {
                self.remove(&dropped, serial);
            }
        }
        shrink(&mut self.remembered);
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        while !self.remembered.is_empty() {
            self.drop_oldest();
        }
    }

    fn remove(&mut self, dropped: &Remembered, serial: u64) {
        self.cost_bytes -= key_cost(dropped.text.len());
        let entry = self
            .by_text
            .find_entry(dropped.hash, |found| *found == serial);
        if let Ok(entry) = entry {
            entry.remove();
        }
    }

    fn get(&self, serial: u64) -> Option<&Remembered> {
        let index = usize::try_from(serial - self.first_serial).ok()?;
        self.remembered.get(index)
    }

    /// Returns the oldest key.
    pub(super) fn oldest(&self) -> Option<&Remembered> {
        self.remembered.front()
    }

    /// Returns the key of the publication with this offset, if it came with one.
    pub(super) fn of(&self, offset: u64) -> Option<&str> {
        let found = self
            .remembered
            .binary_search_by_key(&offset, |it| it.offset);
        Some(&self.remembered.get(found.ok()?)?.text)
    }

    /// Returns the bytes that all of them take.
    pub(super) const fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.remembered.capacity(), self.by_text.capacity()]
    }
}

fn hash_of(remembered: &VecDeque<Remembered>, first_serial: u64, serial: u64) -> u64 {
    let index = usize::try_from(serial - first_serial).unwrap_or(usize::MAX);
    remembered.get(index).map_or(0, |it| it.hash)
}
