//! redb, with a file that can leave `fdatasync` out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{Batch, Durability, Engine, KEY_BYTES, Key};

const ENTRIES: TableDefinition<'_, [u8; KEY_BYTES], &[u8]> = TableDefinition::new("entries");

/// A database with one table.
pub(super) struct Redb {
    database: Database,
    durability: redb::Durability,
}

impl Redb {
    /// `in_process`: what is only buffered is kept in the process.
    pub(super) fn open(directory: &Path, durability: Durability, in_process: bool) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("redb"))?;
        let buffered = durability == Durability::Buffered;
        let backend = Unsynced {
            file,
            syncs: !buffered || in_process,
        };
        let database = Builder::new()
            .set_cache_size(32 << 20)
            .create_with_backend(backend)?;
        let durability = if buffered && in_process {
            redb::Durability::None
        } else {
            redb::Durability::Immediate
        };
        Ok(Self {
            database,
            durability,
        })
    }
}

impl Engine for Redb {
    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let mut changes = self.database.begin_write()?;
        changes.set_durability(self.durability)?;
        {
            let mut entries = changes.open_table(ENTRIES)?;
            for (key, value) in &batch.puts {
                entries.insert(key.bytes(), value.as_slice())?;
            }
            for key in &batch.removes {
                entries.remove(key.bytes())?;
            }
        }
        Ok(changes.commit()?)
    }

    fn scan(&self, visit: &mut dyn FnMut(Key, &[u8])) -> Result<()> {
        let entries = self.database.begin_read()?.open_table(ENTRIES)?;
        for entry in entries.iter()? {
            let (key, value) = entry?;
            visit(Key::read(&key.value())?, value.value());
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A file, with `fdatasync` or without. One process has it: nothing is locked.
#[derive(Debug)]
struct Unsynced {
    file: File,
    syncs: bool,
}

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
