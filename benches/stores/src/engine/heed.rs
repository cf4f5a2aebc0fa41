//! LMDB through heed. The only file here with `unsafe`: opening asks for it.

use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::{Batch, Durability, Engine, Key};

/// An environment with one database.
pub(super) struct Heed {
    environment: &'static Env,
    entries: Database<'static, Bytes, Bytes>,
}

impl Heed {
    pub(super) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if durability == Durability::Buffered {
            // SAFETY: - a loss of power may leave a file that cannot be read. Nobody needs these.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: - the directory is this run's own, and nobody else writes to the file while it is
        //   mapped; `harm` writes to it before.
        let environment = unsafe { options.open(directory)? };
        // The database borrows from it, and a process opens one.
        let environment: &Env = Box::leak(Box::new(environment));
        let changes = environment.write_txn()?;
        let entries = environment
            .create_databases_and_commit(changes, |opener, changes| {
                let entries = opener.create_database(changes, None)?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(entries))
            })?
            .unwrap_commit();
        Ok(Self {
            environment,
            entries,
        })
    }
}

impl Engine for Heed {
    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let mut changes = self.environment.write_txn()?;
        for (key, value) in &batch.puts {
            self.entries.put(&mut changes, &key.bytes(), value)?;
        }
        for key in &batch.removes {
            self.entries.delete(&mut changes, &key.bytes())?;
        }
        Ok(changes.commit()?)
    }

    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()> {
        let view = self.environment.read_txn()?;
        for entry in self.entries.iter(&view)? {
            let (key, value) = entry?;
            visit(Key::read(key)?, value);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.environment.force_sync()?)
    }
}

/// The largest that a file may become. Address space only.
const MAP_BYTES: usize = 4 << 30;
