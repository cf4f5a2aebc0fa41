//! Made-up traffic that anybody can make up again, to see what became of it: rooms with windows,
//! and frames that say where they belong.

use std::sync::Arc;

use throng_store::{Change, Record, RoomRecord};

use crate::naive::{Naive, by_name};

/// Batches of one seed, each from the ones before.
pub(crate) struct Traffic {
    random: fastrand::Rng,
    naive: Naive,
    window: u64,
}

impl Traffic {
    /// `window`: how many publications a room holds.
    pub(crate) fn new(seed: u64, window: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            naive: Naive::default(),
            window,
        }
    }

    /// The next batch, of up to so many publications.
    pub(crate) fn batch(&mut self, publications_max: usize) -> Vec<Record> {
        let mut batch = Vec::new();
        for _ in 0..self.random.usize(1..=publications_max) {
            let room: Arc<str> = Arc::from(format!("room {}", self.random.u8(..20)));
            let known = self.naive.rooms.get(&room);
            let offset = known.map_or(0, |room| room.last) + 1;
            let mut changes = vec![self.publication(offset)];
            if offset > self.window {
                let first = offset - self.window + 1;
                changes.extend([Change::Trim { first }, Change::ExpireKeys { first }]);
            }
            if self.random.u32(..2000) == 0 {
                changes.push(Change::Forget);
            }
            for change in changes {
                let room = room.clone();
                let record = Record { room, change };
                self.naive.apply(&record);
                batch.push(record);
            }
        }
        batch
    }

    /// Returns what a store must give back that has all batches until now.
    pub(crate) fn holds(&self, rooms: &[RoomRecord]) -> bool {
        by_name(rooms.to_vec()) == self.naive.records()
    }

    fn publication(&mut self, offset: u64) -> Change {
        let mut frame = vec![0; self.random.usize(..400)];
        self.random.fill(&mut frame);
        let keyed = self.random.u8(..4) == 0;
        Change::Publication {
            epoch: 1,
            offset,
            at_ms: self.random.u64(..),
            frame: Arc::from(frame),
            key: keyed.then(|| Arc::from(format!("key {offset}"))),
        }
    }
}
