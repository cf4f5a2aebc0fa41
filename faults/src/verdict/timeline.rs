//! The one order of a room's publications, put together from what everybody was given and told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::record::{Entry, Key, Position, Record};

use super::{Epochs, Findings};

/// What was published to a room, in order.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    lives: Vec<Life>,
    /// Which publication is at which index; none if somebody was beyond it and nobody had it.
    keys: Vec<Option<Key>>,
    /// In which epoch each was first, by its place among `lives`.
    first_life: HashMap<Key, usize>,
    /// How many were published a second time since the server had forgotten them, as it may.
    pub(super) republished_count: u64,
}

/// One epoch.
#[derive(Debug)]
struct Life {
    epoch: Arc<str>,
    /// The index of each publication by its offset.
    indexes: BTreeMap<u64, usize>,
    /// The same indexes.
    held: HashSet<usize>,
    /// How long the order was before it.
    start: usize,
}

/// What is known of one epoch.
#[derive(Debug, Default)]
struct Known {
    keys: BTreeMap<u64, Key>,
    /// The largest offset that anybody heard of.
    last: u64,
    /// The last offset that it has from the epoch before, if somebody knows: who had seen more
    /// there was told to go on from here.
    carried_to: Option<u64>,
}

impl Known {
    /// Notes that this place was heard of, and what is there.
    fn note(&mut self, room: u32, position: &Position, key: Option<Key>, findings: &mut Findings) {
        self.last = self.last.max(position.offset);
        let Some(key) = key else { return };
        let before = self.keys.insert(position.offset, key);
        if let Some(before) = before.filter(|before| *before != key) {
            let Position { epoch, offset } = position;
            findings.add(format!(
                "room {room} has two orders: {before} and {key} at {epoch}:{offset}"
            ));
        }
    }

    /// Every offset up to the last, those that nobody has too: from 1 on if the epoch began anew,
    /// else from the first that is known.
    fn offsets(&self, is_anew: bool, room: u32, findings: &mut Findings) -> Vec<u64> {
        let known = self.keys.keys().copied();
        let first = known.clone().next().unwrap_or(self.last).max(1);
        let first = if is_anew { 1 } else { first };
        let count = self.last.saturating_add(1).saturating_sub(first);
        let hole_count = count.saturating_sub(self.keys.len() as u64);
        if hole_count > HOLES_MAX {
            findings.add(format!(
                "room {room} has {hole_count} offsets that nobody has"
            ));
            return known.collect();
        }
        (first..=self.last).collect()
    }
}

/// More holes than this in one epoch are said and not counted: the offsets are wrong, not the
/// deliveries.
const HOLES_MAX: u64 = 10_000;

impl Timeline {
    /// The order of a room, from everybody's record.
    pub(super) fn of(
        room: u32,
        records: &[&Record],
        epochs: Epochs,
        findings: &mut Findings,
    ) -> Self {
        let known = gather(room, records, findings);
        let order = order_of_epochs(room, records, findings);
        for epoch in known.keys().filter(|epoch| !order.contains(epoch)) {
            findings.add(format!("nobody ever joined room {room} in epoch {epoch}"));
        }
        let mut timeline = Self::default();
        let acknowledged = acknowledgements(room, records);
        for epoch in order {
            if let Some(known) = known.get(&epoch) {
                timeline.append(room, epoch, known, (epochs, &acknowledged), findings);
            }
        }
        if epochs == Epochs::One && timeline.lives.len() > 1 {
            let count = timeline.lives.len();
            findings.add(format!("room {room} has had {count} epochs in one server"));
        }
        timeline.check_publishers(room, records, epochs, findings);
        timeline
    }

    /// How many publications there are.
    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Which publication is at this index.
    pub(super) fn key(&self, index: usize) -> Option<Key> {
        self.keys.get(index).copied().flatten()
    }

    /// Every publication that is known.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.keys.iter().filter_map(|key| *key)
    }

    /// The index of the publication at this place.
    pub(super) fn index_of(&self, position: &Position) -> Option<usize> {
        let life = self.life(&position.epoch)?;
        life.indexes.get(&position.offset).copied()
    }

    /// The index of the first publication behind this place.
    pub(super) fn index_behind(&self, position: &Position) -> usize {
        let Some(life) = self.life(&position.epoch) else {
            return self.len();
        };
        let before = life.indexes.range(..=position.offset).next_back();
        before.map_or(life.start, |(_, index)| index + 1)
    }

    /// The indexes of the publications from one offset to another, both included.
    pub(super) fn range(&self, epoch: &str, from: u64, to: u64) -> impl Iterator<Item = usize> {
        let indexes = self.life(epoch).map(|life| life.indexes.range(from..=to));
        indexes.into_iter().flatten().map(|(_, index)| *index)
    }

    /// Whether the publication at this index was before an epoch, which does not have it any more.
    pub(super) fn is_forgotten_by(&self, epoch: &str, index: usize) -> bool {
        self.life(epoch)
            .is_some_and(|life| index < life.start && !life.held.contains(&index))
    }

    fn life(&self, epoch: &str) -> Option<&Life> {
        self.lives.iter().find(|life| *life.epoch == *epoch)
    }

    /// Puts an epoch behind the others. What an earlier one had too stays where it is.
    fn append(
        &mut self,
        room: u32,
        epoch: Arc<str>,
        known: &Known,
        (epochs, acknowledged): (Epochs, &HashMap<Key, Position>),
        findings: &mut Findings,
    ) {
        let mut life = Life {
            start: self.len(),
            indexes: BTreeMap::new(),
            held: HashSet::new(),
            epoch,
        };
        let is_anew = self.lives.is_empty() || epochs == Epochs::Forgotten;
        for offset in known.offsets(is_anew, room, findings) {
            let key = known.keys.get(&offset).copied();
            let is_new = is_anew || known.carried_to.is_some_and(|last| offset > last);
            let carried = if is_new {
                None
            } else {
                self.carried(offset, key)
            };
            let index = carried.unwrap_or_else(|| {
                if let Some(key) = key {
                    self.check_again(room, key, (epochs, acknowledged), findings);
                }
                self.keys.push(key);
                self.keys.len() - 1
            });
            life.indexes.insert(offset, index);
            life.held.insert(index);
        }
        self.lives.push(life);
    }

    /// Where the publication is if an earlier epoch had it too.
    fn carried(&self, offset: u64, key: Option<Key>) -> Option<usize> {
        let mut lives = self.lives.iter().rev();
        let index = lives.find_map(|life| life.indexes.get(&offset).copied())?;
        (key.is_none() || self.keys[index] == key).then_some(index)
    }

    /// Complains of a publication that is in the order already, unless the server may have
    /// forgotten it.
    fn check_again(
        &mut self,
        room: u32,
        key: Key,
        (epochs, acknowledged): (Epochs, &HashMap<Key, Position>),
        findings: &mut Findings,
    ) {
        let life = self.lives.len();
        let Some(first_life) = self.first_life.insert(key, life) else {
            return;
        };
        let is_forgotten = matches!(epochs, Epochs::Forgotten | Epochs::TailForgotten);
        // Who was told in an earlier epoch that it is published does not send it again.
        let was_told = acknowledged
            .get(&key)
            .is_some_and(|position| self.life(&position.epoch).is_some());
        if is_forgotten && first_life < life && !was_told {
            self.republished_count += 1;
        } else {
            findings.add(format!("{key} was published twice in room {room}"));
        }
    }

    /// Whoever published has its publications in the order in which it published them.
    fn check_publishers(
        &self,
        room: u32,
        records: &[&Record],
        epochs: Epochs,
        findings: &mut Findings,
    ) {
        let put_off = records.iter().any(|record| record.put_off_count > 0);
        // What an overloaded server put off may come behind what was sent after it.
        if put_off {
            return;
        }
        let mut last: HashMap<u32, u32> = HashMap::new();
        for (index, key) in self.keys.iter().enumerate() {
            let begins = self.lives.iter().any(|life| life.start == index);
            if begins && epochs != Epochs::Carried {
                last.clear();
            }
            let Some(key) = key else { continue };
            let before = last.insert(key.client, key.number);
            if before.is_some_and(|before| before > key.number) {
                findings.add(format!(
                    "{key} comes too late in room {room}: its publisher's order"
                ));
            }
        }
    }
}

/// What is known of each epoch, and complaints where two say different things.
fn gather(room: u32, records: &[&Record], findings: &mut Findings) -> HashMap<Arc<str>, Known> {
    let mut known: HashMap<Arc<str>, Known> = HashMap::new();
    for record in records {
        let mut reached: Option<Position> = None;
        for entry in entries_of(record, room) {
            let (position, key) = match entry {
                Entry::Joined { position, .. } => (position.clone(), None),
                Entry::Missing { epoch, to, .. } => {
                    let (epoch, offset) = (epoch.clone(), *to);
                    (Position { epoch, offset }, None)
                }
                Entry::MissingUnknown => continue,
                Entry::Publication { position, key } => (position.clone(), Some(*key)),
            };
            let of_epoch = known.entry(position.epoch.clone()).or_default();
            of_epoch.note(room, &position, key, findings);
            let offset = match entry {
                Entry::Joined { reached, .. } => *reached,
                _ => position.offset,
            };
            let now = Position { offset, ..position };
            if let Some(before) = reached.filter(|of| of.epoch != now.epoch && of.offset > offset) {
                let last = of_epoch.carried_to.unwrap_or(before.offset);
                of_epoch.carried_to = Some(last.min(offset));
            }
            reached = Some(now);
        }
        for acknowledged in record.acknowledged.iter().filter(|of| of.room == room) {
            if let Some(position) = &acknowledged.position {
                let of_epoch = known.entry(position.epoch.clone()).or_default();
                of_epoch.note(room, position, Some(acknowledged.key), findings);
            }
        }
    }
    known
}

/// What a client was given and told of a room.
fn entries_of(record: &Record, room: u32) -> &[Entry] {
    record.rooms.get(&room).map_or(&[][..], |of| &of.entries)
}

/// Where each publication was said to be when it was acknowledged.
fn acknowledgements(room: u32, records: &[&Record]) -> HashMap<Key, Position> {
    let acknowledged = records.iter().flat_map(|record| &record.acknowledged);
    let of_room = acknowledged.filter(|of| of.room == room);
    of_room
        .filter_map(|of| Some((of.key, of.position.clone()?)))
        .collect()
}

/// The epochs in the order in which members went through them.
fn order_of_epochs(room: u32, records: &[&Record], findings: &mut Findings) -> Vec<Arc<str>> {
    let mut order: Vec<Arc<str>> = Vec::new();
    let mut steps: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for record in records {
        let epochs = entries_of(record, room)
            .iter()
            .filter_map(|entry| match entry {
                Entry::Joined { position, .. } => Some(position.epoch.clone()),
                _ => None,
            });
        let mut before: Option<Arc<str>> = None;
        for epoch in epochs {
            if !order.contains(&epoch) {
                order.push(epoch.clone());
            }
            let step = before.replace(epoch.clone()).map(|before| (before, epoch));
            steps.extend(step.filter(|step| step.0 != step.1 && !steps.contains(step)));
        }
    }
    // There are as few as restarts: each pass puts at least one step right.
    for _ in 0..=steps.len() {
        for step in &steps {
            let (before, after) = places(&order, step);
            if after < before {
                let moved = order.remove(after);
                order.insert(before, moved);
            }
        }
    }
    let is_wrong = |step| {
        let (before, after) = places(&order, step);
        after < before
    };
    if steps.iter().any(is_wrong) {
        findings.add(format!(
            "members of room {room} went through its epochs in two orders"
        ));
    }
    order
}

/// Where the two are among the epochs, which they are.
fn places(order: &[Arc<str>], (before, after): &(Arc<str>, Arc<str>)) -> (usize, usize) {
    let place = |epoch| order.iter().position(|of| of == epoch).unwrap_or(0);
    (place(before), place(after))
}
