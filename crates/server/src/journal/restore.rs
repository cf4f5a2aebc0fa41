//! New epochs for histories that were put back from a copy.

use ahash::RandomState;
use store::{Ancestor, Change, Durability, OpenError, Record, RoomRecord};
use thiserror::Error;

use super::{STORE_DIRECTORY, open_in};
use crate::config::Disk;

/// Histories that could not be given new epochs.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// There is no directory of histories.
    #[error("there are no histories in {}", .0.display())]
    Nothing(std::path::PathBuf),
    /// They could not be opened.
    #[error("cannot open the histories")]
    Open(#[source] OpenError),
    /// They could not be written.
    #[error("cannot write the histories")]
    Write(#[source] store::CommitError),
}

/// Gives every room in a directory of histories a new epoch, and returns how many rooms there are.
///
/// To be called when the directory was put back from a copy, before a server opens it: it has less
/// than clients have seen, and nothing in it says so. They are then told that something may be
/// missing, and positions that they have are never taken for those of publications to come.
///
/// # Errors
///
/// [`RestoreError`]; no room has a new epoch then. No server may have the directory open.
pub fn restore_histories(disk: &Disk) -> Result<usize, RestoreError> {
    let path = disk.path.join(STORE_DIRECTORY);
    if !path.is_dir() {
        return Err(RestoreError::Nothing(disk.path.clone()));
    }
    let mut opened = open_in(&disk.path).map_err(RestoreError::Open)?;
    let random = RandomState::new();
    let records = opened
        .rooms
        .iter()
        .map(|room| with_new_epoch(room, &random));
    let records: Vec<Record> = records.collect();
    let committed = opened.store.commit(&records, Durability::Synced);
    committed
        .and_then(|()| opened.store.close())
        .map_err(RestoreError::Write)?;
    Ok(records.len())
}

fn with_new_epoch(room: &RoomRecord, random: &RandomState) -> Record {
    let mut lineage = room.lineage.clone();
    lineage.push(Ancestor {
        epoch: room.epoch,
        last_offset: room.last_offset,
        complete: false,
    });
    Record {
        room: room.name.clone(),
        change: Change::Epoch {
            epoch: random.hash_one(&room.name).max(1),
            lineage,
        },
    }
}
