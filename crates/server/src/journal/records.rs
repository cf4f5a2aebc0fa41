//! From the table's changes to the store's records, and back.

use std::collections::HashMap;

use rooms::{Ancestor, Change, Entry, Epoch, Moment, RoomHandle, RoomImage};
use store::{Record, RoomRecord};

/// Returns the records that the store is to write. Of what is trimmed only the last word counts.
pub(super) fn records_of(entries: &[Entry]) -> Vec<Record> {
    let mut last_trim = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let kind = match &entry.change {
            Change::Trim { .. } => 0,
            Change::ExpireKeys { .. } => 1,
            _ => continue,
        };
        last_trim.insert((&entry.room.name, kind), index);
    }
    let is_wanted = |index: usize, entry: &Entry| match &entry.change {
        Change::Trim { .. } => last_trim.get(&(&entry.room.name, 0)) == Some(&index),
        Change::ExpireKeys { .. } => last_trim.get(&(&entry.room.name, 1)) == Some(&index),
        _ => true,
    };
    let wanted = entries.iter().enumerate();
    wanted
        .filter(|(index, entry)| is_wanted(*index, entry))
        .map(|(_, entry)| record_of(entry))
        .collect()
}

/// Returns the record of one change that the store is to write.
pub(super) fn record_of(entry: &Entry) -> Record {
    let change = match &entry.change {
        Change::Epoch { epoch, lineage } => store::Change::Epoch {
            epoch: epoch.0,
            lineage: lineage.iter().map(stored_ancestor).collect(),
        },
        Change::ExpireKeys { first } => store::Change::ExpireKeys { first: *first },
        Change::Forget => store::Change::Forget,
        Change::Publication {
            epoch,
            offset,
            at,
            frame,
            key,
        } => store::Change::Publication {
            epoch: epoch.0,
            offset: *offset,
            at_ms: at.0,
            frame: frame.clone(),
            key: key.clone(),
        },
        Change::Trim { first } => store::Change::Trim { first: *first },
    };
    Record {
        room: entry.room.name.clone(),
        change,
    }
}

fn stored_ancestor(ancestor: &Ancestor) -> store::Ancestor {
    store::Ancestor {
        epoch: ancestor.epoch.0,
        last_offset: ancestor.last_offset,
        complete: ancestor.complete,
    }
}

/// Returns a room as the table takes it.
pub(super) fn image_of(room: RoomRecord) -> RoomImage {
    let ancestor = |stored: &store::Ancestor| Ancestor {
        epoch: Epoch(stored.epoch),
        last_offset: stored.last_offset,
        complete: stored.complete,
    };
    let publications = room.publications.into_iter();
    let keys = room.keys.into_iter();
    RoomImage {
        name: room.name,
        epoch: Epoch(room.epoch),
        lineage: room.lineage.iter().map(ancestor).collect(),
        offset: room.last_offset,
        publications: publications.map(|p| (Moment(p.at_ms), p.frame)).collect(),
        keys: keys
            .map(|key| (key.key, key.offset, Moment(key.at_ms)))
            .collect(),
    }
}

/// Returns the last publication of each room in a batch.
pub(super) fn last_offsets(batch: &[Entry]) -> Vec<(RoomHandle, u64)> {
    let mut last: HashMap<rooms::RoomId, (RoomHandle, u64)> = HashMap::new();
    for entry in batch {
        if let Change::Publication { offset, .. } = entry.change {
            last.insert(entry.room.id, (entry.room.clone(), offset));
        }
    }
    last.into_values().collect()
}
