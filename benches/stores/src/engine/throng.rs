//! Throng's own, on SQLite: `crates/store`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use store::{Change, Options, Record, RoomRecord, Store};

use super::{Batch, Durability, Engine, Key};

/// A store, and what was in it when it was opened.
pub(super) struct Throng {
    store: Store,
    rooms: Vec<RoomRecord>,
    names: Vec<Arc<str>>,
    durability: store::Durability,
}

impl Throng {
    pub(super) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let opened = Store::open(directory, &Options::default())?;
        Ok(Self {
            store: opened.store,
            rooms: opened.rooms,
            names: Vec::new(),
            durability: match durability {
                Durability::Buffered => store::Durability::Buffered,
                Durability::Synced => store::Durability::Synced,
            },
        })
    }

    fn record(&mut self, room: u32, change: Change) -> Record {
        let room = room as usize;
        while self.names.len() <= room {
            self.names.push(Arc::from(self.names.len().to_string()));
        }
        Record {
            room: self.names[room].clone(),
            change,
        }
    }
}

impl Engine for Throng {
    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let mut records = Vec::with_capacity(batch.puts.len() + batch.removes.len());
        for (key, value) in &batch.puts {
            let change = Change::Publication {
                epoch: 1,
                offset: key.offset,
                at_ms: 0,
                frame: Arc::from(value.as_slice()),
                key: None,
            };
            records.push(self.record(key.room, change));
        }
        for key in &batch.removes {
            let first = key.offset + 1;
            records.push(self.record(key.room, Change::Trim { first }));
        }
        Ok(self.store.commit(&records, self.durability)?)
    }

    /// What was there when it was opened: it is read once.
    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()> {
        let mut rooms = Vec::new();
        for room in &self.rooms {
            rooms.push((room.name.parse()?, room));
        }
        rooms.sort_by_key(|(room, _)| *room);
        for (room, record) in rooms {
            for publication in &record.publications {
                let offset = publication.offset;
                visit(Key { room, offset }, &publication.frame);
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}
