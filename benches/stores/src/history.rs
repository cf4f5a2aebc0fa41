//! Made-up histories: publications whose bytes say where they belong, and windows that roll.

use std::collections::VecDeque;

use crate::engine::{Batch, Key};

/// Publications to rooms drawn at random, the same for the same seed.
pub struct History {
    random: fastrand::Rng,
    rooms: Vec<VecDeque<u64>>,
    window: usize,
    bytes: usize,
}

impl History {
    /// `window`: how many publications each room keeps. `bytes`: how many bytes each has.
    pub fn new(rooms: usize, window: usize, bytes: usize, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            rooms: vec![VecDeque::new(); rooms],
            window,
            bytes,
        }
    }

    /// The next publications, and what falls out of their rooms' windows.
    pub fn batch(&mut self, publications: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..publications {
            let room = self.random.usize(..self.rooms.len());
            let held = &mut self.rooms[room];
            let room = u32::try_from(room).expect("rooms are few");
            let offset = held.back().map_or(1, |last| last + 1);
            held.push_back(offset);
            let key = Key { room, offset };
            batch.puts.push((key, publication(key, self.bytes)));
            if held.len() > self.window {
                let offset = held.pop_front().expect("one was just added");
                batch.removes.push(Key { room, offset });
            }
        }
        batch
    }

    /// What the rooms hold now, in the order of the keys.
    pub fn held(&self) -> Vec<Key> {
        let rooms = self.rooms.iter().enumerate();
        let keys = rooms.flat_map(|(room, held)| {
            let room = u32::try_from(room).expect("rooms are few");
            held.iter().map(move |&offset| Key { room, offset })
        });
        keys.collect()
    }
}

/// The bytes of a publication, which no other has.
pub fn publication(key: Key, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(key.room) << 40 | key.offset);
    let mut bytes = vec![0; bytes];
    random.fill(&mut bytes);
    bytes
}
