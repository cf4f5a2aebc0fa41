//! What a store should say, from plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use throng_store::{Ancestor, Change, Record, RoomRecord, StoredKey, StoredPublication};

/// Rooms, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    pub(crate) rooms: BTreeMap<Arc<str>, NaiveRoom>,
}

/// A room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NaiveRoom {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    lineage: Vec<Ancestor>,
    publications: BTreeMap<u64, (u64, Arc<[u8]>)>,
    keys: BTreeMap<u64, (u64, Arc<str>)>,
}

impl Naive {
    /// Does what the record says.
    pub(crate) fn apply(&mut self, record: &Record) {
        let known = self.rooms.get_mut(&record.room);
        match &record.change {
            Change::Epoch { epoch, lineage } => {
                let room = self.rooms.entry(record.room.clone()).or_default();
                room.epoch = *epoch;
                room.lineage.clone_from(lineage);
            }
            Change::ExpireKeys { first } => {
                if let Some(room) = known {
                    room.keys.retain(|offset, _| offset >= first);
                }
            }
            Change::Forget => drop(self.rooms.remove(&record.room)),
            Change::Publication {
                epoch,
                offset,
                at_ms,
                frame,
                key,
            } => {
                let mut room = known.cloned().unwrap_or_default();
                if room.epoch != *epoch || !self.rooms.contains_key(&record.room) {
                    room = NaiveRoom {
                        epoch: *epoch,
                        last: offset - 1,
                        ..NaiveRoom::default()
                    };
                }
                room.publish(*offset, *at_ms, frame, key.as_ref());
                self.rooms.insert(record.room.clone(), room);
            }
            Change::Trim { first } => {
                if let Some(room) = known {
                    room.publications.retain(|offset, _| offset >= first);
                    room.last = room.last.max(first - 1);
                }
            }
        }
    }

    /// The rooms as a store hands them over, by name.
    pub(crate) fn records(&self) -> Vec<RoomRecord> {
        let record = |(name, room): (&Arc<str>, &NaiveRoom)| room.record(name);
        self.rooms.iter().map(record).collect()
    }
}

impl NaiveRoom {
    fn publish(&mut self, offset: u64, at_ms: u64, frame: &Arc<[u8]>, key: Option<&Arc<str>>) {
        if offset <= self.last {
            return;
        }
        if offset > self.last + 1 {
            self.publications.clear();
        }
        self.last = offset;
        self.publications.insert(offset, (at_ms, frame.clone()));
        if let Some(key) = key {
            self.keys.insert(offset, (at_ms, key.clone()));
        }
    }

    fn record(&self, name: &Arc<str>) -> RoomRecord {
        let publication =
            |(&offset, (at_ms, frame)): (&u64, &(u64, Arc<[u8]>))| StoredPublication {
                offset,
                at_ms: *at_ms,
                frame: frame.clone(),
            };
        let key = |(&offset, (at_ms, key)): (&u64, &(u64, Arc<str>))| StoredKey {
            key: key.clone(),
            offset,
            at_ms: *at_ms,
        };
        RoomRecord {
            name: name.clone(),
            epoch: self.epoch,
            lineage: self.lineage.clone(),
            last_offset: self.last,
            publications: self.publications.iter().map(publication).collect(),
            keys: self.keys.iter().map(key).collect(),
        }
    }
}

/// Handed over in whatever order, by name.
pub(crate) fn by_name(mut records: Vec<RoomRecord>) -> Vec<RoomRecord> {
    records.sort_by(|a, b| a.name.cmp(&b.name));
    records
}
