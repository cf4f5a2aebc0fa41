//! fjall, with limits that suit a server that has other things to do.

use std::path::Path;

use anyhow::Result;
use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Batch, Durability, Engine, Key};

/// A database with one keyspace.
pub(super) struct Fjall {
    database: Database,
    entries: Keyspace,
    mode: PersistMode,
}

impl Fjall {
    pub(super) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size(1 << 20)
            // One flushes while the other compacts: alone, a compaction of seconds holds memory up.
            .worker_threads(2)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(4 << 20)
                .filter_policy(FilterPolicy::disabled())
        };
        let entries = database.keyspace("entries", options)?;
        let mode = match durability {
            Durability::Buffered => PersistMode::Buffer,
            Durability::Synced => PersistMode::SyncData,
        };
        Ok(Self {
            database,
            entries,
            mode,
        })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let mut changes = self.database.batch().durability(Some(self.mode));
        for (key, value) in &batch.puts {
            changes.insert(&self.entries, key.bytes(), value.as_slice());
        }
        for key in &batch.removes {
            changes.remove(&self.entries, key.bytes());
        }
        Ok(changes.commit()?)
    }

    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()> {
        for entry in self.entries.iter() {
            let (key, value) = entry.into_inner()?;
            visit(Key::read(&key)?, &value);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
