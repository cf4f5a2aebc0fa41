//! Publications: their offsets, their receivers, and what is retained of them.

use smallvec::SmallVec;

use super::RoomTable;
use super::deliver::{Cast, Encoder, Wakes, wake_all};
use crate::backpressure::{Backpressure, Full};
use crate::class::{Classes, RoomClass};
use crate::delivery::Delivery;
use crate::error::{Lacks, Overloaded, PublishError};
use crate::history::{self, Arrival, HashedKey, Histories, NoMemory, Staged, Stream, Waiting};
use crate::id::{RoomId, WireSet};
use crate::journal::Journal;
use crate::key::{Named, RoomKey};
use crate::publication::{KEY_LEN_MAX, Outgoing, Published};
use crate::room::{NewRoom, Room};
use crate::shard::Shard;

impl RoomTable {
    /// Publishes to a room: gives the publication the room's next offset, retains it if the room's
    /// class keeps a history, and sends one command to each core for each wire that has members
    /// there.
    ///
    /// If the key was published to the room before, the publication is not published again.
    ///
    /// The [excepted](Outgoing::except) connection never receives the publication, even when
    /// delivery waits for the journal. Everybody else does, whether the excepted connection is a
    /// member or not. The publication has its offset and is retained: a replay sends it to
    /// everybody, the excepted connection included. No `gap` begins or ends with a publication that
    /// its member was excepted from, but a gap may span one.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nobody received it.
    pub fn publish<'a>(
        &self,
        name: impl Into<RoomKey<'a>>,
        outgoing: Outgoing<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_as(name.into(), outgoing, false)
    }

    /// Publishes to a room for a publisher that cannot pause: not if a core with members of the
    /// room has a full mailbox.
    ///
    /// # Errors
    ///
    /// [`PublishError`], also [`PublishError::Overloaded`]; nobody received it.
    pub fn try_publish<'a>(
        &self,
        name: impl Into<RoomKey<'a>>,
        outgoing: Outgoing<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_as(name.into(), outgoing, true)
    }

    fn publish_as(
        &self,
        name: RoomKey<'_>,
        outgoing: Outgoing<'_>,
        is_tried: bool,
    ) -> Result<Published, PublishError> {
        let mut publishing = Publishing {
            named: self.check_name(name)?,
            key: self.check_key(outgoing.key)?,
            outgoing,
            is_tried,
            wakes: Wakes::new(),
        };
        let placed = {
            let mut shard = self.shard(publishing.named.hash).lock();
            let placed = self.place(&mut shard, &mut publishing);
            let is_counted = match &placed {
                Ok(published) => !published.duplicate,
                Err(NotPlaced::Nobody) => true,
                Err(NotPlaced::Refused(_)) => false,
            };
            shard.publication_count += u64::from(is_counted);
            placed
        };
        let mut published = match placed {
            Ok(published) => {
                wake_all(&mut publishing.wakes);
                published
            }
            Err(NotPlaced::Nobody) => Published::default(),
            Err(NotPlaced::Refused(error)) => return Err(error),
        };
        // Still there: the publisher need not wait for the journal.
        if let Some((connection, acknowledge)) = publishing.outgoing.answer {
            let frame = acknowledge.acknowledge(published.position, published.duplicate);
            let full = self.answer(connection, frame).0;
            published.backpressure.0 = published.backpressure.0.or(full);
        }
        Ok(published)
    }

    /// Does everything about a publication that needs the shard's lock. Takes the answer out of the
    /// publication if the publisher must wait for the journal.
    fn place(
        &self,
        shard: &mut Shard,
        publishing: &mut Publishing<'_, '_>,
    ) -> Result<Published, NotPlaced> {
        self.check_frames(shard, publishing)?;
        let created_count = shard.created_count;
        let fits = self.make_memory(shard, publishing);
        let placed = self.place_in(shard, publishing, fits);
        let is_new = shard.created_count > created_count;
        if is_new && shard.remove_unused(publishing.named) {
            // There was no memory for it after all.
            return placed.and(Err(NotPlaced::Nobody));
        }
        placed
    }

    fn place_in(
        &self,
        shard: &mut Shard,
        publishing: &mut Publishing<'_, '_>,
        fits: bool,
    ) -> Result<Published, NotPlaced> {
        let mut is_new = false;
        let (room, histories) = shard.find_or_create(publishing.named, |id, classes| {
            is_new = true;
            self.room_for(publishing, fits, id, classes)
        })?;
        let class = room.stream.class;
        check_size(&publishing.outgoing, class)?;
        if let Some(offset) = publishing.find_key(room) {
            return repeat(room, offset, &mut publishing.outgoing);
        }
        self.check_tried(room, publishing.is_tried)
            .map_err(PublishError::from)?;
        self.check_journal(class, fits)?;
        if histories.journals(&room.stream) {
            if is_new {
                histories.write_epoch(&room.stream);
            }
            if self.journal.as_deref().is_some_and(Journal::is_ahead) {
                return Ok(self.stage(room, histories, publishing)?);
            }
        }
        let outgoing = &mut publishing.outgoing;
        let offset = room.stream.advance();
        let mut encoder = Encoder::new(outgoing.publication, Some(offset));
        let cast = Cast {
            delivery: Delivery::Publication(offset),
            except: outgoing.except,
        };
        let mut published = self.deliver(room, cast, &mut encoder, &mut publishing.wakes);
        published.position = Some(room.stream.position());
        if retains(class, publishing.key) {
            let is_on = class.history.is_on();
            let arrival = Arrival {
                at: outgoing.at,
                frame: is_on.then(|| encoder.frame(self.history_wire)),
                key: publishing.key,
            };
            if histories.publish(&mut room.stream, arrival, fits) {
                published.backpressure = Backpressure(Some(Full::Journal));
            }
        }
        Ok(published)
    }

    /// Returns the room to create for a publication, if it needs one.
    fn room_for(
        &self,
        publishing: &Publishing<'_, '_>,
        fits: bool,
        id: RoomId,
        classes: &Classes,
    ) -> Result<NewRoom, NotPlaced> {
        let new = self.new_room(id, publishing.named.key, classes);
        check_size(&publishing.outgoing, new.class)?;
        if !retains(new.class, publishing.key) {
            return Err(NotPlaced::Nobody);
        }
        self.check_journal(new.class, fits)?;
        // Without memory, nothing would say when the room is not needed any more.
        if fits {
            Ok(new)
        } else {
            Err(NotPlaced::Nobody)
        }
    }

    /// Gives a publication its offset, and lets it wait for the journal.
    fn stage(
        &self,
        room: &mut Room,
        histories: &mut Histories,
        publishing: &mut Publishing<'_, '_>,
    ) -> Result<Published, PublishError> {
        let outgoing = &mut publishing.outgoing;
        let offset = room.stream.next_staged_offset();
        let mut encoder = Encoder::new(outgoing.publication, Some(offset));
        let frame = encoder.frame(self.history_wire);
        let frames = self.wires().iter().map(|wire| (wire, encoder.frame(wire)));
        let staged = Staged {
            delivery: Delivery::Publication(offset),
            except: outgoing.except,
            frames: frames.collect(),
            at: outgoing.at,
            waiting: SmallVec::new(),
        };
        let arrival = Arrival {
            at: outgoing.at,
            frame: Some(frame),
            key: publishing.key,
        };
        let staged = histories.stage(&mut room.stream, staged, &arrival);
        let is_full = staged.map_err(|NoMemory| PublishError::NoMemory)?;
        wait_for(&mut room.stream, offset, outgoing, false);
        Ok(Published {
            member_count: room.members.total(),
            position: Some(room.stream.position_of(offset)),
            duplicate: false,
            backpressure: Backpressure(is_full.then_some(Full::Journal)),
        })
    }

    /// Checks that the publication has the frames that it needs, before anything changes. One that
    /// is rejected anyway needs none.
    #[inline]
    fn check_frames(
        &self,
        shard: &Shard,
        publishing: &Publishing<'_, '_>,
    ) -> Result<(), PublishError> {
        let framed = publishing.outgoing.publication.wires();
        let lacking = self.wires().without(framed);
        if lacking.is_empty() {
            return Ok(());
        }
        self.check_lacking(shard, publishing, lacking)
    }

    #[cold]
    fn check_lacking(
        &self,
        shard: &Shard,
        publishing: &Publishing<'_, '_>,
        lacking: WireSet,
    ) -> Result<(), PublishError> {
        let room = shard.find(publishing.named);
        let class = shard.class_of(room, publishing.named);
        let journal = self.journal.as_deref().filter(|_| class.history.is_on());
        if !self.is_new(publishing, room, class) || journal.is_some_and(Journal::refuses) {
            return Ok(());
        }
        if shard.histories.is_journaled() && journal.is_some_and(Journal::is_ahead) {
            // Nobody knows yet who will be a member when the journal has it.
            return Ok(Lacks::check(lacking)?);
        }
        let mut needed = room.map_or_else(WireSet::default, |room| room.members.wires());
        if class.history.is_on() {
            needed.insert(self.history_wire);
        }
        Ok(Lacks::check(lacking.intersection(needed))?)
    }

    /// Returns whether there is memory to retain a publication, if need be by evicting others.
    fn make_memory(&self, shard: &mut Shard, publishing: &Publishing<'_, '_>) -> bool {
        let Publishing { named, key, .. } = *publishing;
        if !shard.keeps_histories && key.is_none() {
            return false;
        }
        let key_len = key.map_or(0, |key| key.text.len());
        let payload_len = publishing.outgoing.payload_len;
        let mut bytes = history::cost_at_most(payload_len, named.key.name.len(), key_len);
        if self.journal.as_deref().is_some_and(Journal::is_ahead) {
            // While it waits for the journal, it has a frame on every wire.
            bytes *= 1 + self.wires().len();
        }
        if shard.histories.has_memory(bytes) {
            return true;
        }
        // A publication that is rejected, a repeat, or not retained evicts nothing.
        let room = shard.find(named);
        let class = shard.class_of(room, named);
        let is_wanted = retains(class, key) && self.is_new(publishing, room, class);
        is_wanted && shard.make_memory(bytes, publishing.outgoing.at)
    }

    /// Returns whether a room of this class, if it exists, neither rejects the publication nor has
    /// it already.
    fn is_new(
        &self,
        publishing: &Publishing<'_, '_>,
        room: Option<&Room>,
        class: &RoomClass,
    ) -> bool {
        let is_new = |room| {
            let is_fine = self.check_tried(room, publishing.is_tried).is_ok();
            is_fine && publishing.find_key(room).is_none()
        };
        check_size(&publishing.outgoing, class).is_ok() && room.is_none_or(is_new)
    }

    /// Checks the cores of a room's members for a publisher that cannot pause.
    fn check_tried(&self, room: &Room, is_tried: bool) -> Result<(), Overloaded> {
        if is_tried {
            self.check_members(room)?;
        }
        Ok(())
    }

    /// Checks that a publication which must go to the journal can.
    fn check_journal(&self, class: &RoomClass, fits: bool) -> Result<(), PublishError> {
        let Some(journal) = self.journal.as_deref().filter(|_| class.history.is_on()) else {
            return Ok(());
        };
        if journal.refuses() {
            return Err(PublishError::Storage);
        }
        if journal.is_ahead() && !fits {
            return Err(PublishError::NoMemory);
        }
        Ok(())
    }

    fn check_key<'a>(&self, key: Option<&'a str>) -> Result<Option<HashedKey<'a>>, PublishError> {
        match key.map(str::len) {
            Some(key_len) if key_len == 0 || key_len > KEY_LEN_MAX => {
                Err(PublishError::Key { key_len })
            }
            _ => Ok(key.map(|text| self.hashed(text))),
        }
    }
}

/// One publication on its way into its room.
struct Publishing<'a, 'o> {
    named: Named<'a>,
    key: Option<HashedKey<'o>>,
    outgoing: Outgoing<'o>,
    /// True to reject the publication if a core of the room's members has too much to do.
    is_tried: bool,
    /// The cores to wake when no lock is held. Here and not returned: it is large to move.
    wakes: Wakes,
}

impl Publishing<'_, '_> {
    /// Returns the offset of the publication that came with the same key.
    fn find_key(&self, room: &Room) -> Option<u64> {
        room.stream.find_key(self.key?)
    }
}

/// The reason why a publication has no place in a room.
enum NotPlaced {
    /// The room has no members, and nothing of the publication would be retained.
    Nobody,
    Refused(PublishError),
}

impl From<PublishError> for NotPlaced {
    fn from(error: PublishError) -> Self {
        Self::Refused(error)
    }
}

fn check_size(outgoing: &Outgoing<'_>, class: &RoomClass) -> Result<(), PublishError> {
    let payload_len_max = class.publication_bytes_max;
    let payload_len = outgoing.payload_len;
    if payload_len > payload_len_max as usize {
        return Err(PublishError::TooLarge {
            payload_len,
            payload_len_max,
        });
    }
    Ok(())
}

/// Returns whether a room of this class retains anything of a publication with this key.
const fn retains(class: &RoomClass, key: Option<HashedKey<'_>>) -> bool {
    class.history.is_on() || key.is_some() && class.key_window_ms > 0
}

/// Answers the repeat of a publication.
fn repeat(
    room: &mut Room,
    offset: u64,
    outgoing: &mut Outgoing<'_>,
) -> Result<Published, NotPlaced> {
    if !wait_for(&mut room.stream, offset, outgoing, true) {
        return Err(PublishError::NoMemory.into());
    }
    Ok(Published {
        member_count: room.members.total(),
        position: Some(room.stream.position_of(offset)),
        duplicate: true,
        ..Published::default()
    })
}

/// Lets the publisher of a publication, or of a repeat of it, wait if the publication waits for the
/// journal. False if too many wait for it.
fn wait_for(
    stream: &mut Stream,
    offset: u64,
    outgoing: &mut Outgoing<'_>,
    duplicate: bool,
) -> bool {
    let position = stream.position_of(offset);
    let Some(waiting) = stream.waiting_for(offset) else {
        return true;
    };
    if waiting.len() >= WAITING_MAX {
        return false;
    }
    if let Some((connection, answer)) = outgoing.answer.take() {
        waiting.push(Waiting {
            connection,
            acknowledgement: answer.acknowledge(Some(position), duplicate),
            refusal: answer.refuse(),
        });
    }
    true
}

/// The publishers that may wait for one publication: its own, and some that repeat it.
const WAITING_MAX: usize = 64;
