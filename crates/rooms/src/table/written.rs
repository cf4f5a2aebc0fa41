//! What becomes of publications that are written down, or cannot be, and of rooms that were.

use proto::SharedFrame;

use super::RoomTable;
use super::deliver::{Encoder, Wakes, wake_all};
use crate::class::Classes;
use crate::handle::RoomHandle;
use crate::id::{RoomId, Wire};
use crate::journal::{Change, Entry, RoomImage};
use crate::kept::{self, Kept};
use crate::key::{RoomKey, Space};
use crate::mailbox::Command;
use crate::position::Ancestor;
use crate::publication::Publication;
use crate::shard::{NewRoom, Retention, Room, Shard};
use crate::time::Moment;

/// How many earlier epochs of a room are remembered: as many crashes within the age of a history.
const LINEAGE_MAX: usize = 16;

impl RoomTable {
    /// Says that publications of a room up to this offset are written down: they are delivered, kept,
    /// and acknowledged. Nothing if the journal is not written [ahead](crate::WriteOrder::Ahead).
    pub fn commit(&self, handle: &RoomHandle, offset: u64) {
        let mut wakes = Wakes::new();
        let mut shard = self.shard(handle.hash).lock();
        self.settle_locked(&mut shard, handle, (offset, true), &mut wakes);
        drop(shard);
        wake_all(&mut wakes);
    }

    /// Delivers or refuses what is staged of a room up to an offset.
    fn settle_locked(
        &self,
        shard: &mut Shard,
        handle: &RoomHandle,
        (offset, is_written): (u64, bool),
        wakes: &mut Wakes,
    ) {
        let (rooms, retention) = (&mut shard.rooms, &mut shard.retention);
        let Some(room) = rooms.find_mut(handle.hash, |room| room.handle.id == handle.id) else {
            return;
        };
        if room.kept.is_none() {
            return;
        }
        let class = room.class;
        let mut staged = Vec::new();
        retention.keep(room, class, Moment::default(), &self.house(), |kept| {
            staged.extend(std::iter::from_fn(|| kept.take_staged(offset)));
        });
        for item in staged {
            if is_written || !item.is_publication() {
                self.deliver_staged(room, retention, &item, wakes);
            }
            for waiting in item.waiting {
                let frame = if is_written {
                    waiting.acknowledgement
                } else {
                    waiting.refusal
                };
                let connection = waiting.connection;
                let answer = Command::Answer { connection, frame };
                wakes.push(self.mailbox(connection.core()).push(answer));
            }
        }
        if !is_written {
            let committed = room.offset;
            let forget = |kept: &mut Kept| kept.forget_keys_behind(committed);
            retention.keep(room, class, Moment::default(), &self.house(), forget);
        }
    }

    fn deliver_staged(
        &self,
        room: &mut Room,
        retention: &mut Retention,
        item: &kept::Staged,
        wakes: &mut Wakes,
    ) {
        room.offset += u64::from(item.is_publication());
        let mut frames = Encoded(&item.frames);
        let mut encoder = Encoder::new(&mut frames, None);
        self.deliver(room, (item.delivery, item.except), &mut encoder, wakes);
        if item.is_publication() {
            let written = (item.at, Some(encoder.frame(self.history_wire)), None);
            let class = room.class;
            self.keep(room, retention, class, written, (true, true));
        }
    }

    /// Does not write down anything any more, until [`resume_journal`](Self::resume_journal): what waits
    /// to be written down is delivered and acknowledged as if it had been.
    pub fn abandon_journal(&self) {
        self.settle_all(true);
    }

    fn settle_all(&self, is_accepted: bool) {
        for shard in &self.shards {
            let mut wakes = Wakes::new();
            let mut shard = shard.lock();
            shard.is_journaled = false;
            for handle in with_staged(&shard) {
                let all = (u64::MAX, is_accepted);
                self.settle_locked(&mut shard, &handle, all, &mut wakes);
            }
            drop(shard);
            wake_all(&mut wakes);
        }
    }

    /// The same, but what waits to be written down is refused. The journal must
    /// [refuse](crate::Journal::set_refuses) new publications by now.
    pub fn roll_back_journal(&self) {
        self.settle_all(false);
    }

    /// Writes down again, beginning with all that rooms keep, since what is written may lack anything.
    pub fn resume_journal(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            if std::mem::replace(&mut shard.is_journaled, true) {
                continue;
            }
            for room in &shard.rooms {
                if room.class.history.is_on() {
                    self.write_image(room);
                }
            }
        }
    }

    /// Writes down a room anew.
    fn write_image(&self, room: &Room) {
        let house = self.house();
        let RoomImage {
            epoch,
            lineage,
            offset,
            publications,
            keys,
            ..
        } = room.image();
        house.write(&room.handle, Change::Forget);
        house.write(&room.handle, Change::Epoch { epoch, lineage });
        let first = offset + 1 - publications.len() as u64;
        // A key whose publication is not held any more cannot be written without it.
        let key_of = |offset: u64| {
            let found = keys.binary_search_by_key(&offset, |(_, of, _)| *of);
            found.ok().map(|index| keys[index].0.clone())
        };
        for (offset, (at, frame)) in (first..).zip(publications) {
            let change = Change::Publication {
                epoch,
                offset,
                at,
                frame,
                key: key_of(offset),
            };
            house.write(&room.handle, change);
        }
        house.write(&room.handle, Change::Trim { first });
    }

    /// Makes a room as it was written down. If its class keeps no history any more, or it is there
    /// already, nothing is made and false returned.
    ///
    /// `ended_clean` says whether all that its last process published is in the image. If not, nobody
    /// knows how much is missing: the room goes on in a new epoch, and positions of the old one are
    /// answered from what there is.
    pub fn restore(&self, image: RoomImage, ended_clean: bool, now: Moment) -> bool {
        let RoomImage {
            name,
            epoch,
            mut lineage,
            offset,
            publications,
            keys,
        } = image;
        let key = RoomKey::from(&*name);
        let hash = self.hash_of(key);
        let mut shard = self.shard(hash).lock();
        let class = shard.classes.of(key);
        if !class.history.is_on() || shard.find(hash, key).is_some() {
            return false;
        }
        if !ended_clean {
            lineage.push(Ancestor {
                epoch,
                last_offset: offset,
                complete: false,
            });
        }
        let surplus = lineage.len().saturating_sub(LINEAGE_MAX);
        lineage.drain(..surplus);
        let frames = publications.iter();
        let bytes: usize = frames
            .map(|(_, frame)| kept::publication_cost(frame.len()))
            .sum();
        let key_bytes: usize = keys.iter().map(|(key, ..)| kept::key_cost(key.len())).sum();
        let cost = kept::cost_at_most(0, name.len(), 0) + bytes + key_bytes + LINEAGE_MAX * 32;
        if !shard.make_memory(cost, now, &self.house()) {
            return false;
        }
        let draw = |id: RoomId, classes: &Classes| {
            let new = self.draw(id, key, classes);
            let epoch = if ended_clean { epoch } else { new.epoch };
            Ok::<_, std::convert::Infallible>(NewRoom { epoch, ..new })
        };
        let Ok((room, retention)) = shard.find_or_create(hash, key, draw);
        room.offset = offset;
        let written = lineage.clone();
        retention.keep(room, class, now, &self.house(), |kept| {
            kept.set_lineage(lineage);
            for (at, frame) in publications {
                kept.push(frame, at, class);
            }
            for (text, offset, at) in keys {
                let hash = self.hasher.hash_one(&*text);
                kept.push_key((hash, &text), offset, at, class);
            }
            kept.linger(now, class);
        });
        if !ended_clean {
            let change = Change::Epoch {
                epoch: room.epoch,
                lineage: written,
            };
            self.house().write(&room.handle, change);
        }
        !shard.forget_unused((hash, key), &self.house())
    }

    /// Writes down that a room is not wanted any more that could not be [restored](Self::restore).
    pub fn forget_image(&self, name: &str) {
        let handle = RoomHandle {
            id: RoomId::new(0, 0),
            hash: self.hash_of(name.into()),
            space: Space::DEFAULT,
            name: name.into(),
            slow_consumer: crate::class::SlowConsumer::Disconnect,
        };
        if let Some(journal) = &self.journal {
            let entry = Entry {
                room: handle,
                change: Change::Forget,
            };
            journal.queue.push(entry).wake_quietly();
        }
    }
}

/// The rooms of a shard of which something waits to be written down.
fn with_staged(shard: &Shard) -> Vec<RoomHandle> {
    let staged = shard
        .rooms
        .iter()
        .filter(|room| room.kept.as_ref().is_some_and(|kept| kept.has_staged()));
    staged.map(|room| room.handle.clone()).collect()
}

/// A publication whose frames are there.
struct Encoded<'a>(&'a [(Wire, SharedFrame)]);

impl Publication for Encoded<'_> {
    fn encode(&mut self, wire: Wire, _: Option<u64>) -> SharedFrame {
        let found = self.0.iter().find(|(encoded, _)| *encoded == wire);
        found.map_or_else(SharedFrame::default, |(_, frame)| frame.clone())
    }
}
