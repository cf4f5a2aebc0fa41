//! Publications: their offsets, who gets them, and what of them is kept.

use std::sync::Arc;

use proto::SharedFrame;
use smallvec::SmallVec;

use super::deliver::{Encoder, Wakes, wake_all};
use super::RoomTable;
use crate::backpressure::{Backpressure, Full};
use crate::class::RoomClass;
use crate::delivery::Delivery;
use crate::error::{Lacks, Overloaded, PublishError};
use crate::id::WireSet;
use crate::journal::{Change, Journal};
use crate::kept::{self, Staged, Waiting};
use crate::key::RoomKey;
use crate::position::StreamPosition;
use crate::publication::{KEY_LEN_MAX, Outgoing, Published};
use crate::shard::{Retention, Room, Shard};
use crate::time::Moment;

impl RoomTable {
    /// Publishes to a room: gives the publication the room's next offset, keeps it if the room's class
    /// keeps a history, and sends one command to each core for each wire that has members there.
    ///
    /// A publication with a key that was published there before is not published again.
    ///
    /// Who is [excepted](Outgoing::except) is not sent it, also if it waits to be written down first, and all
    /// others are, whether that one is a member or not. The publication has its offset, and is kept:
    /// a history replays it to everybody, to who was excepted too. No `gap` begins or ends with what
    /// its member was excepted from, but one that tells of what is before and behind that goes across it.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nobody got it.
    pub fn publish<'a>(
        &self,
        name: impl Into<RoomKey<'a>>,
        outgoing: Outgoing<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_unless(name.into(), outgoing, |_| Ok(()))
    }

    /// The same for publishers that cannot be held back otherwise: not if a core with members of the
    /// room has a full mailbox.
    ///
    /// # Errors
    ///
    /// [`PublishError`], also [`PublishError::Overloaded`]; nobody got it.
    pub fn try_publish<'a>(
        &self,
        name: impl Into<RoomKey<'a>>,
        outgoing: Outgoing<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_unless(name.into(), outgoing, |room| self.check_members(room))
    }

    fn publish_unless(
        &self,
        name: RoomKey<'_>,
        mut outgoing: Outgoing<'_>,
        check: impl Fn(&Room) -> Result<(), Overloaded>,
    ) -> Result<Published, PublishError> {
        let named = self.check_name(name)?;
        let key = self.check_key(outgoing.key)?;
        // Handed down and not back up with the rest: it is large to move.
        let mut wakes = Wakes::new();
        let placed = {
            let mut shard = self.shard(named.0).lock();
            let outgoing = &mut outgoing;
            let placed = self.place(&mut shard, named, outgoing, key, &check, &mut wakes);
            let is_counted = match &placed {
                Ok(published) => !published.duplicate,
                Err(NoRoom::Nobody) => true,
                Err(NoRoom::Refused(_)) => false,
            };
            shard.publication_count += u64::from(is_counted);
            placed
        };
        let answer = outgoing.answer;
        let mut published = match placed {
            Ok(published) => {
                wake_all(&mut wakes);
                published
            }
            Err(NoRoom::Nobody) => Published::default(),
            Err(NoRoom::Refused(error)) => return Err(error),
        };
        // Not taken: it need not wait for anything.
        if let Some((connection, acknowledge)) = answer {
            let Published {
                position,
                duplicate,
                ..
            } = published;
            let frame = acknowledge.acknowledge(position, duplicate);
            let full = self.answer(connection, frame).0;
            published.backpressure.0 = published.backpressure.0.or(full);
        }
        Ok(published)
    }

    /// Everything about a publication that the shard's lock is held for. Takes the answer out of
    /// `outgoing` if it must wait.
    fn place(
        &self,
        shard: &mut Shard,
        (hash, name): (u64, RoomKey<'_>),
        outgoing: &mut Outgoing<'_>,
        key: Option<(u64, &str)>,
        check: &impl Fn(&Room) -> Result<(), Overloaded>,
        wakes: &mut Wakes,
    ) -> Result<Published, NoRoom> {
        let framed = self.check_frames(shard, (hash, name), outgoing, key, check);
        framed.map_err(NoRoom::Refused)?;
        let created_count = shard.created_count;
        let fits = self.make_memory(shard, (hash, name), outgoing, key, check);
        let placed = self.place_in(shard, (hash, name), outgoing, key, (check, fits), wakes);
        if shard.created_count > created_count && shard.forget_unused((hash, name), &self.house()) {
            // There was no memory for it after all.
            return placed.and(Err(NoRoom::Nobody));
        }
        placed
    }

    fn place_in(
        &self,
        shard: &mut Shard,
        (hash, name): (u64, RoomKey<'_>),
        outgoing: &mut Outgoing<'_>,
        key: Option<(u64, &str)>,
        (check, fits): (&impl Fn(&Room) -> Result<(), Overloaded>, bool),
        wakes: &mut Wakes,
    ) -> Result<Published, NoRoom> {
        let is_journaled = shard.is_journaled;
        let mut is_new = false;
        let (room, retention) = shard.find_or_create(hash, name, |id, classes| {
            let new = self.draw(id, name, classes);
            let class = new.class;
            check_size(outgoing, class).map_err(NoRoom::Refused)?;
            is_new = true;
            if !is_kept(class, key.is_some()) {
                return Err(NoRoom::Nobody);
            }
            // Without memory it could not even be remembered that the room is not needed any more.
            let journal = self.journal.as_deref().filter(|_| class.history.is_on());
            match journal.and_then(|journal| refusal(journal, fits)) {
                Some(refused) => Err(NoRoom::Refused(refused)),
                None if fits => Ok(new),
                None => Err(NoRoom::Nobody),
            }
        })?;
        let class = room.class;
        check_size(outgoing, class).map_err(NoRoom::Refused)?;
        if let Some(offset) = find_key(room, key) {
            if !wait_for(room, offset, outgoing, true) {
                return Err(NoRoom::Refused(PublishError::NoMemory));
            }
            return Ok(duplicate(room, offset));
        }
        check(room).map_err(|error| NoRoom::Refused(error.into()))?;
        let journal = self.journal.as_deref().filter(|_| class.history.is_on());
        if let Some(refused) = journal.and_then(|journal| refusal(journal, fits)) {
            return Err(NoRoom::Refused(refused));
        }
        let journal = journal.filter(|_| is_journaled);
        if let Some(journal) = journal {
            if is_new {
                self.write_epoch(room);
            }
            if journal.is_ahead() {
                let staged = self.stage(room, retention, class, outgoing, key);
                return staged.map_err(NoRoom::Refused);
            }
        }
        room.offset += 1;
        let mut encoder = Encoder::new(outgoing.publication, Some(room.offset));
        let delivery = (Delivery::Publication(room.offset), outgoing.except);
        let mut published = self.deliver(room, delivery, &mut encoder, wakes);
        published.position = Some(room.position());
        if is_kept(class, key.is_some()) {
            let frame = class
                .history
                .is_on()
                .then(|| encoder.frame(self.history_wire));
            if let (Some(_), Some(frame)) = (journal, &frame) {
                let key = key.map(|(_, text)| Arc::from(text));
                if self.write_publication(room, outgoing.at, frame.clone(), key) {
                    published.backpressure = Backpressure(Some(Full::Journal));
                }
            }
            let trims = journal.is_some();
            self.keep(
                room,
                retention,
                class,
                (outgoing.at, frame, key),
                (fits, trims),
            );
        }
        Ok(published)
    }

    /// Keeps a publication, and its key, as the room's class says.
    pub(super) fn keep(
        &self,
        room: &mut Room,
        retention: &mut Retention,
        class: &RoomClass,
        (at, frame, key): (Moment, Option<SharedFrame>, Option<(u64, &str)>),
        (fits, is_journaled): (bool, bool),
    ) {
        if !fits && room.kept.is_none() {
            return;
        }
        let offset = room.offset;
        let first_before = is_journaled.then(|| room.first_offset());
        retention.keep(room, class, at, &self.house(), |kept| {
            if !fits {
                // No memory even at the expense of all others: no history rather than one with a hole.
                return kept.clear_publications();
            }
            if let Some(frame) = frame {
                kept.push(frame, at, class);
            }
            if let Some(key) = key.filter(|_| class.key_window_ms > 0) {
                kept.push_key(key, offset, at, class);
            }
        });
        let Some(first_before) = first_before else {
            return;
        };
        // Each publication makes one older one go: what is written down may hold some more than that.
        let first = room.first_offset();
        if first / TRIM_EVERY > first_before / TRIM_EVERY || !fits {
            self.house().write(&room.handle, Change::Trim { first });
        }
    }

    /// Gives a publication its offset and lets it wait until it is written down.
    fn stage(
        &self,
        room: &mut Room,
        retention: &mut Retention,
        class: &RoomClass,
        outgoing: &mut Outgoing<'_>,
        key: Option<(u64, &str)>,
    ) -> Result<Published, PublishError> {
        let (offset, at) = (room.staged_offset() + 1, outgoing.at);
        let mut encoder = Encoder::new(outgoing.publication, Some(offset));
        let frame = encoder.frame(self.history_wire);
        let frames = self.wires().iter().map(|wire| (wire, encoder.frame(wire)));
        let staged = Staged {
            delivery: Delivery::Publication(offset),
            except: outgoing.except,
            frames: frames.collect(),
            at,
            waiting: SmallVec::new(),
        };
        let house = self.house();
        let (name_len, key_len) = (room.handle.name.len(), key.map_or(0, |(_, key)| key.len()));
        let bytes = staged.cost_bytes() + kept::cost_at_most(0, name_len, key_len);
        if !retention.reserve(bytes, at, &house) {
            return Err(PublishError::NoMemory);
        }
        retention.keep(room, class, at, &house, |kept| {
            kept.stage(staged);
            if let Some(key) = key.filter(|_| class.key_window_ms > 0) {
                kept.push_key(key, offset, at, class);
            }
        });
        wait_for(room, offset, outgoing, false);
        let key = key.map(|(_, text)| Arc::from(text));
        let change = Change::Publication {
            epoch: room.epoch,
            offset,
            at,
            frame,
            key,
        };
        let full = house.write(&room.handle, change);
        Ok(Published {
            member_count: room.member_count(),
            position: Some(StreamPosition {
                offset,
                ..room.position()
            }),
            duplicate: false,
            backpressure: Backpressure(full.then_some(Full::Journal)),
        })
    }

    pub(super) fn write_epoch(&self, room: &Room) {
        let change = Change::Epoch {
            epoch: room.epoch,
            lineage: Vec::new(),
        };
        self.house().write(&room.handle, change);
    }

    fn write_publication(
        &self,
        room: &Room,
        at: Moment,
        frame: SharedFrame,
        key: Option<Arc<str>>,
    ) -> bool {
        let change = Change::Publication {
            epoch: room.epoch,
            offset: room.offset,
            at,
            frame,
            key,
        };
        self.house().write(&room.handle, change)
    }

    /// Whether the publication has the frames that it needs. Looked at before anything is changed, or made
    /// for it; what would not be published anyway needs none.
    #[inline]
    fn check_frames(
        &self,
        shard: &Shard,
        named: (u64, RoomKey<'_>),
        outgoing: &Outgoing<'_>,
        key: Option<(u64, &str)>,
        check: &impl Fn(&Room) -> Result<(), Overloaded>,
    ) -> Result<(), PublishError> {
        let lacking = self.wires().without(outgoing.publication.wires());
        if lacking.is_empty() {
            return Ok(());
        }
        self.check_lacking(shard, named, (outgoing, lacking), key, check)
    }

    #[cold]
    fn check_lacking(
        &self,
        shard: &Shard,
        (hash, name): (u64, RoomKey<'_>),
        (outgoing, lacking): (&Outgoing<'_>, WireSet),
        key: Option<(u64, &str)>,
        check: &impl Fn(&Room) -> Result<(), Overloaded>,
    ) -> Result<(), PublishError> {
        let room = shard.find(hash, name);
        let class = match room {
            Some(room) => room.class,
            None => shard.classes.of(name),
        };
        let journal = self.journal.as_deref().filter(|_| class.history.is_on());
        let is_refused = check_size(outgoing, class).is_err()
            || room.is_some_and(|room| find_key(room, key).is_some() || check(room).is_err())
            || journal.is_some_and(Journal::refuses);
        if is_refused {
            return Ok(());
        }
        if shard.is_journaled && journal.is_some_and(Journal::is_ahead) {
            // Who is a member when it is written down is not known yet.
            return Ok(Lacks::check(lacking)?);
        }
        let mut needed = room.map_or_else(WireSet::default, Room::wires);
        if class.history.is_on() {
            needed.insert(self.history_wire);
        }
        Ok(Lacks::check(lacking.intersection(needed))?)
    }

    /// Whether there is memory to keep a publication, if need be at the expense of what others keep.
    fn make_memory(
        &self,
        shard: &mut Shard,
        (hash, name): (u64, RoomKey<'_>),
        outgoing: &Outgoing<'_>,
        key: Option<(u64, &str)>,
        check: &impl Fn(&Room) -> Result<(), Overloaded>,
    ) -> bool {
        if !shard.keeps_histories && key.is_none() {
            return false;
        }
        let key_len = key.map_or(0, |(_, key)| key.len());
        let mut bytes = kept::cost_at_most(outgoing.payload_len, name.name.len(), key_len);
        if self
            .journal
            .as_ref()
            .is_some_and(|journal| journal.is_ahead())
        {
            // Until it is written down, on every wire.
            bytes *= 1 + self.wires().len();
        }
        if shard.retention.has_memory(bytes) {
            return true;
        }
        // What is refused, a repeat, or kept by nobody takes nothing from others.
        let room = shard.find(hash, name);
        let class = match room {
            Some(room) => room.class,
            None => shard.classes.of(name),
        };
        let is_wanted = is_kept(class, key.is_some())
            && check_size(outgoing, class).is_ok()
            && room.is_none_or(|room| find_key(room, key).is_none() && check(room).is_ok());
        is_wanted && shard.make_memory(bytes, outgoing.at, &self.house())
    }

    fn check_key<'a>(&self, key: Option<&'a str>) -> Result<Option<(u64, &'a str)>, PublishError> {
        match key.map(str::len) {
            Some(key_len) if key_len == 0 || key_len > KEY_LEN_MAX => {
                Err(PublishError::Key { key_len })
            }
            _ => Ok(key.map(|key| (self.hasher.hash_one(key), key))),
        }
    }
}

/// Lets the publisher of a staged publication, or of a repeat of it, wait until it is written down. False
/// if too many wait for it.
fn wait_for(room: &mut Room, offset: u64, outgoing: &mut Outgoing<'_>, duplicate: bool) -> bool {
    let position = StreamPosition {
        offset,
        ..room.position()
    };
    let staged = room.kept.as_mut().and_then(|kept| kept.staged_mut(offset));
    let Some(staged) = staged else { return true };
    if staged.waiting.len() >= WAITING_MAX {
        return false;
    }
    if let Some((connection, answer)) = outgoing.answer.take() {
        staged.waiting.push(Waiting {
            connection,
            acknowledgement: answer.acknowledge(Some(position), duplicate),
            refusal: answer.refuse(),
        });
    }
    true
}

/// How many may wait for one publication: whoever repeats it is refused beyond that.
const WAITING_MAX: usize = 64;

/// How many publications may be written down still though they are not held any more.
const TRIM_EVERY: u64 = 64;

/// Why a publication creates no room.
enum NoRoom {
    /// Nobody is there, and nothing of it would be kept.
    Nobody,
    Refused(PublishError),
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

/// Whether anything of a publication would be kept in a room of this class.
const fn is_kept(class: &RoomClass, has_key: bool) -> bool {
    class.history.is_on() || has_key && class.key_window_ms > 0
}

/// What the publisher of a repeat is told.
fn duplicate(room: &Room, offset: u64) -> Published {
    let position = StreamPosition {
        offset,
        ..room.position()
    };
    Published {
        member_count: room.member_count(),
        position: Some(position),
        duplicate: true,
        ..Published::default()
    }
}

/// Why a publication that is to be written down cannot be, if it cannot.
fn refusal(journal: &Journal, fits: bool) -> Option<PublishError> {
    if journal.refuses() {
        return Some(PublishError::Storage);
    }
    (journal.is_ahead() && !fits).then_some(PublishError::NoMemory)
}

fn find_key(room: &Room, key: Option<(u64, &str)>) -> Option<u64> {
    let (hash, text) = key?;
    room.kept.as_ref()?.find_key(hash, text)
}
