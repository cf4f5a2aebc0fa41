//! Publications that the journal has written or refused, and rooms that it gives back.

use proto::SharedFrame;

use super::RoomTable;
use super::deliver::{Cast, Encoder, Wakes, wake_all};
use crate::class::{Classes, SlowConsumer};
use crate::handle::RoomHandle;
use crate::history::{self, Histories, Staged};
use crate::id::{RoomId, Wire};
use crate::journal::{Change, Entry, RoomImage};
use crate::key::{RoomKey, Space};
use crate::mailbox::Command;
use crate::position::Ancestor;
use crate::publication::Publication;
use crate::room::{NewRoom, Room};
use crate::shard::Shard;
use crate::time::Moment;

/// The earlier epochs of a room that are remembered: as many crashes within the age of a history.
const LINEAGE_MAX: usize = 16;

impl RoomTable {
    /// Settles the publications of a room up to this offset, which the journal has written:
    /// delivers, retains and acknowledges them. Does nothing if the journal is not written
    /// [ahead](crate::WriteOrder::Ahead).
    pub fn commit(&self, handle: &RoomHandle, offset: u64) {
        let mut wakes = Wakes::new();
        let mut shard = self.shard(handle.hash).lock();
        self.settle(&mut shard, handle, offset, true, &mut wakes);
        drop(shard);
        wake_all(&mut wakes);
    }

    /// Delivers or refuses everything up to an offset that waits for the journal in a room.
    fn settle(
        &self,
        shard: &mut Shard,
        handle: &RoomHandle,
        offset: u64,
        is_accepted: bool,
        wakes: &mut Wakes,
    ) {
        let (rooms, histories) = (&mut shard.rooms, &mut shard.histories);
        let is_it = |room: &Room| room.stream.handle.id == handle.id;
        let Some(room) = rooms.find_mut(handle.hash, is_it) else {
            return;
        };
        for staged in histories.take_staged(&mut room.stream, offset) {
            if is_accepted || !staged.is_publication() {
                self.deliver_staged(room, histories, &staged, wakes);
            }
            for waiting in staged.waiting {
                let connection = waiting.connection;
                let frame = if is_accepted {
                    waiting.acknowledgement
                } else {
                    waiting.refusal
                };
                let answer = Command::Answer { connection, frame };
                wakes.push(self.mailbox(connection.core()).push(answer));
            }
        }
        if !is_accepted {
            histories.forget_refused_keys(&mut room.stream);
        }
    }

    fn deliver_staged(
        &self,
        room: &mut Room,
        histories: &mut Histories,
        staged: &Staged,
        wakes: &mut Wakes,
    ) {
        let mut frames = Encoded(&staged.frames);
        let mut encoder = Encoder::new(&mut frames, None);
        let cast = Cast {
            delivery: staged.delivery,
            except: staged.except,
        };
        self.deliver(room, cast, &mut encoder, wakes);
        if staged.is_publication() {
            room.stream.advance();
            let frame = encoder.frame(self.history_wire);
            histories.retain_staged(&mut room.stream, staged.at, frame);
        }
    }

    /// Stops writing to the journal until [`resume_journal`](Self::resume_journal). Whatever waits
    /// for the journal is delivered and acknowledged as if it had been written.
    pub fn abandon_journal(&self) {
        self.settle_all(true);
    }

    /// Stops writing to the journal, and refuses whatever waits for it. The journal must
    /// [refuse](crate::Journal::set_refuses) new publications by now.
    pub fn roll_back_journal(&self) {
        self.settle_all(false);
    }

    fn settle_all(&self, is_accepted: bool) {
        for shard in &self.shards {
            let mut wakes = Wakes::new();
            let mut shard = shard.lock();
            shard.histories.set_journaled(false);
            for handle in with_staged(&shard) {
                self.settle(&mut shard, &handle, u64::MAX, is_accepted, &mut wakes);
            }
            drop(shard);
            wake_all(&mut wakes);
        }
    }

    /// Writes to the journal again. Begins with everything that rooms retain, because the journal
    /// may lack any of it.
    pub fn resume_journal(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            if shard.histories.set_journaled(true) {
                continue;
            }
            for room in &shard.rooms {
                shard.histories.write_image(&room.stream);
            }
        }
    }

    /// Creates a room from its image in the journal. Returns false, and creates nothing, if the
    /// room's class keeps no history any more, if there is no memory, or if the room exists.
    ///
    /// `ended_clean` says whether the image has everything that the last process published. If it
    /// may not, nobody knows how much is missing: the room goes on in a new epoch, and positions of
    /// the old one are answered from what there is.
    pub fn restore(&self, mut image: RoomImage, ended_clean: bool, now: Moment) -> bool {
        let (name, old) = (image.name.clone(), image.epoch);
        let named = self.named(&*name);
        let mut shard = self.shard(named.hash).lock();
        let class = shard.classes.of(named.key);
        if !class.history.is_on() || shard.find(named).is_some() {
            return false;
        }
        if !ended_clean {
            image.lineage.push(Ancestor {
                epoch: old,
                last_offset: image.offset,
                complete: false,
            });
        }
        let surplus = image.lineage.len().saturating_sub(LINEAGE_MAX);
        image.lineage.drain(..surplus);
        if !shard.make_memory(history::image_cost(&image), now) {
            return false;
        }
        let draw = |id: RoomId, classes: &Classes| {
            let new = self.new_room(id, named.key, classes);
            let epoch = if ended_clean { old } else { new.epoch };
            Ok::<_, std::convert::Infallible>(NewRoom { epoch, ..new })
        };
        let Ok((room, histories)) = shard.find_or_create(named, draw);
        let hash = |text: &str| self.hashed(text).hash;
        histories.restore(&mut room.stream, image, hash, now);
        if !ended_clean {
            histories.write_epoch(&room.stream);
        }
        !shard.remove_unused(named)
    }

    /// Tells the journal to forget a room that could not be [restored](Self::restore).
    pub fn forget_image(&self, name: &str) {
        let Some(journal) = &self.journal else {
            return;
        };
        let room = RoomHandle {
            id: RoomId::new(0, 0),
            hash: self.named(RoomKey::from(name)).hash,
            space: Space::DEFAULT,
            name: name.into(),
            slow_consumer: SlowConsumer::Disconnect,
        };
        let change = Change::Forget;
        journal.queue.push(Entry { room, change }).wake_quietly();
    }
}

/// Returns the rooms of a shard in which something waits for the journal.
fn with_staged(shard: &Shard) -> Vec<RoomHandle> {
    let rooms = shard.rooms.iter();
    let staged = rooms.filter(|room| room.stream.has_staged());
    staged.map(|room| room.stream.handle.clone()).collect()
}

/// A publication whose frames are encoded already.
struct Encoded<'a>(&'a [(Wire, SharedFrame)]);

impl Publication for Encoded<'_> {
    fn encode(&mut self, wire: Wire, _: Option<u64>) -> SharedFrame {
        let found = self.0.iter().find(|(encoded, _)| *encoded == wire);
        found.map_or_else(SharedFrame::default, |(_, frame)| frame.clone())
    }
}
