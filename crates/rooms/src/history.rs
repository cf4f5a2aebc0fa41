//! Histories of rooms, and the one owner of everything they retain: [`Histories`].
//!
//! Invariants, under the shard's lock. A [`Stream`] hands out nothing that could break them.
//! - *Retained:* the publications of a room are the last ones of its stream, without holes. If
//!   there is no memory for one, all of them go.
//! - *Counted:* the bytes in use are the sum of what all rooms retain. Bytes are reserved before
//!   they are used, so the shards together never exceed the limit of the [`Pool`].
//! - *Due:* every room that retains something has a live entry in the expiry heap, due no later
//!   than its earliest expiry. There are at most about as many stale entries as live ones.
//! - *Written:* while there is a journal, it hears of every change that the next process must know,
//!   in the order of the changes.

mod expiry;
mod image;
mod keys;
mod places;
mod pool;
mod publications;
mod retained;
mod staged;
mod stream;

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use proto::SharedFrame;

use crate::allocation::{COUNTS_LEN, allocated_bytes};
use crate::class::RoomClass;
use crate::journal::{Change, Entry, Journal, RoomImage};
use crate::members::Members;
use crate::time::Moment;

pub(crate) use self::expiry::Due;
use self::expiry::Expiry;
pub(crate) use self::keys::HashedKey;
use self::keys::{KEY_COST, Remembered, key_cost};
use self::pool::Allotment;
pub(crate) use self::pool::Pool;
use self::publications::{Held, PUBLICATION_COST, publication_cost};
use self::retained::History;
pub(crate) use self::staged::{Staged, Waiting};
use self::stream::Bounds;
pub(crate) use self::stream::Stream;

/// The owner of everything that the rooms of a shard retain.
#[derive(Debug)]
pub(crate) struct Histories {
    memory: Allotment,
    journal: Option<Arc<Journal>>,
    expiry: Expiry,
    /// The number of rooms that retain something.
    room_count: usize,
    /// The number of publications and keys that were dropped early, for want of memory.
    evicted_count: u64,
    /// True while changes go to the journal.
    is_journaled: bool,
}

/// A publication as a history takes it.
pub(crate) struct Arrival<'a> {
    pub(crate) at: Moment,
    /// The frame on the histories' wire; none if the room keeps no history.
    pub(crate) frame: Option<SharedFrame>,
    pub(crate) key: Option<HashedKey<'a>>,
}

/// The entries that a visit to a room drops.
#[derive(Clone, Copy)]
pub(crate) enum Visit {
    /// The one that expires first, unless it does so later than the room is due.
    Evict,
    /// The expired ones.
    Expire {
        /// The most that are dropped.
        count_max: usize,
    },
}

/// The pool lacks the memory for something that must wait for the journal.
pub(crate) struct NoMemory;

impl Histories {
    /// Creates the owner of nothing.
    pub(crate) fn new(pool: Arc<CachePadded<Pool>>, journal: Option<Arc<Journal>>) -> Self {
        Self {
            memory: Allotment::new(pool),
            is_journaled: journal.is_some(),
            journal,
            expiry: Expiry::default(),
            room_count: 0,
            evicted_count: 0,
        }
    }

    /// Retains the publication that the stream was just [advanced](Stream::advance) for, as the
    /// room's class says, and queues it for the journal. Returns whether the journal is full.
    ///
    /// Without memory (`fits`) the room loses its history: none is better than one with a hole.
    pub(crate) fn publish(
        &mut self,
        stream: &mut Stream,
        arrival: Arrival<'_>,
        fits: bool,
    ) -> bool {
        let is_full = self.write_publication(stream, stream.offset, &arrival);
        self.retain(stream, arrival, fits);
        is_full
    }

    /// Lets a publication wait for the journal. Returns whether the journal is full.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]; nothing has changed.
    pub(crate) fn stage(
        &mut self,
        stream: &mut Stream,
        staged: Staged,
        arrival: &Arrival<'_>,
    ) -> Result<bool, NoMemory> {
        let (class, at) = (stream.class, arrival.at);
        let key_len = arrival.key.map_or(0, |key| key.text.len());
        let bytes = staged.cost_bytes() + cost_at_most(0, stream.handle.name.len(), key_len);
        if !self.reserve(bytes, at) {
            return Err(NoMemory);
        }
        let offset = stream.next_staged_offset();
        self.change(stream, at, |history| {
            history.stage.push(staged);
            remember(history, arrival.key, offset, at, class);
        });
        Ok(self.write_publication(stream, offset, arrival))
    }

    /// Returns whether an event that must wait behind publications has the memory for that.
    pub(crate) const fn has_memory_for_event(&self) -> bool {
        self.memory.has(EVENT_COST_MAX)
    }

    /// Lets an event wait behind publications. Returns false, and changes nothing, if it is too
    /// large for that.
    pub(crate) fn stage_event(&mut self, stream: &mut Stream, staged: Staged) -> bool {
        let fits = staged.cost_bytes() <= EVENT_COST_MAX;
        if fits {
            self.change(stream, Moment::default(), |history| {
                history.stage.push(staged);
            });
        }
        fits
    }

    /// Takes everything up to `offset` that waits for the journal.
    pub(crate) fn take_staged(&mut self, stream: &mut Stream, offset: u64) -> Vec<Staged> {
        let mut taken = Vec::new();
        if stream.has_staged() {
            self.change(stream, Moment::default(), |history| {
                taken.extend(std::iter::from_fn(|| history.stage.take(offset)));
            });
        }
        taken
    }

    /// Retains a publication that waited, and that the stream was [advanced](Stream::advance) for.
    pub(crate) fn retain_staged(&mut self, stream: &mut Stream, at: Moment, frame: SharedFrame) {
        let arrival = Arrival {
            at,
            frame: Some(frame),
            key: None,
        };
        self.retain(stream, arrival, true);
    }

    /// Forgets the keys of publications that the journal refused.
    pub(crate) fn forget_refused_keys(&mut self, stream: &mut Stream) {
        let committed = stream.offset;
        if stream.has_history() {
            self.change(stream, Moment::default(), |history| {
                history.keys.drop_behind(committed);
            });
        }
    }

    /// Remembers a room that has lost its last member, for as long as a history lasts. Returns
    /// whether the room stays: if not, the journal was told that it is gone.
    pub(crate) fn linger(&mut self, stream: &mut Stream, now: Moment) -> bool {
        let class = stream.class;
        if class.history.is_on() {
            let cost = cost_at_most(0, stream.handle.name.len(), 0);
            if self.reserve(cost, now) {
                self.change(stream, now, |history| history.linger(now, class));
            }
        }
        if !stream.has_history() {
            self.forget(stream);
        }
        stream.has_history()
    }

    /// Tells the journal that a room which retains nothing is gone.
    pub(crate) fn forget(&self, stream: &Stream) {
        debug_assert!(!stream.has_history(), "its bytes would be lost");
        self.write(stream, Change::Forget);
    }

    /// Takes memory from the pool, so that so many more bytes can be retained; false if it lacks
    /// them.
    pub(crate) fn reserve(&mut self, bytes: usize, now: Moment) -> bool {
        self.memory.reserve(bytes, now)
    }

    /// Returns whether so many more bytes can be retained at once.
    #[inline]
    pub(crate) const fn has_memory(&self, bytes: usize) -> bool {
        self.memory.has(bytes)
    }

    /// Returns the earliest entry of the expiry heap. Its room is the next to
    /// [visit](Self::visit_first).
    pub(crate) fn first_due(&self) -> Option<Due> {
        self.expiry.first()
    }

    /// Returns whether something has expired by `now`.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.first_due().is_some_and(|due| due.at <= now)
    }

    /// Removes the earliest entry of the expiry heap, which no room has as its live one.
    pub(crate) fn drop_stale(&mut self) {
        self.expiry.pop();
    }

    /// Visits the room that is due first, which gets a new entry in the expiry heap, or retains
    /// nothing any more. Returns how many entries it dropped.
    pub(crate) fn visit_first(
        &mut self,
        stream: &mut Stream,
        has_members: bool,
        now: Moment,
        visit: Visit,
    ) -> usize {
        let (class, bounds) = (stream.class, stream.bounds());
        let due = self.expiry.first().filter(|due| stream.is_due(*due));
        let (Some(due), Some(history)) = (due, &mut stream.history) else {
            return 0;
        };
        self.expiry.pop();
        let before = history.cost_bytes();
        let dropped = match visit {
            Visit::Evict => {
                let evicted = history.evict(due.at, class);
                // An entry that had expired already was not evicted, only found late.
                self.evicted_count += u64::from(evicted.is_some_and(|at| at > now));
                usize::from(evicted.is_some())
            }
            Visit::Expire { count_max } => history.expire(now, class, count_max),
        };
        let mut freed_bytes = before - history.cost_bytes();
        match history.next_expiry(class) {
            None if history.stage.is_empty() => {
                freed_bytes += history.cost_bytes() + room_cost(stream.handle.name.len());
                stream.history = None;
                self.room_count -= 1;
            }
            next => {
                // A room that waits for the journal is visited again a little later.
                let at = next.unwrap_or_else(|| now.max(due.at).after(STAGED_LOOK_MS));
                history.due = at;
                self.expiry.push(Due { at, ..due });
            }
        }
        self.memory.free_bytes(freed_bytes);
        if stream.has_history() || has_members {
            self.write_bounds(stream, bounds);
        } else {
            self.forget(stream);
        }
        dropped
    }

    /// Writes to the journal where a history begins that began at `before`.
    fn write_bounds(&self, stream: &Stream, before: Bounds) {
        let Bounds { first, first_key } = stream.bounds();
        if first > before.first {
            self.write(stream, Change::Trim { first });
        }
        if first_key > before.first_key {
            let first = first_key;
            self.write(stream, Change::ExpireKeys { first });
        }
    }

    /// Returns unused memory to the pool and to the allocator. `streams` are all of the shard.
    pub(crate) fn tidy<'a>(&mut self, streams: impl Iterator<Item = &'a Stream>) {
        self.memory.give_back();
        self.expiry
            .tidy(self.room_count, streams.filter_map(Stream::due));
    }

    /// Sets whether changes go to the journal; returns whether they did.
    pub(crate) const fn set_journaled(&mut self, is_journaled: bool) -> bool {
        std::mem::replace(&mut self.is_journaled, is_journaled)
    }

    /// Returns whether changes go to the journal at present.
    pub(crate) const fn is_journaled(&self) -> bool {
        self.is_journaled
    }

    /// Returns whether changes of a room go to the journal.
    pub(crate) const fn journals(&self, stream: &Stream) -> bool {
        self.is_journaled && stream.class.history.is_on()
    }

    /// Returns the bytes that all rooms retain.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.memory.used()
    }

    /// Returns how many publications and keys were dropped early, for want of memory.
    pub(crate) const fn evicted_count(&self) -> u64 {
        self.evicted_count
    }

    /// Returns how many entries the expiry heap has, stale or not.
    pub(crate) fn due_count(&self) -> usize {
        self.expiry.len()
    }

    fn retain(&mut self, stream: &mut Stream, arrival: Arrival<'_>, fits: bool) {
        if !fits && !stream.has_history() {
            return;
        }
        let Arrival { at, frame, key } = arrival;
        let (class, offset) = (stream.class, stream.offset);
        let first_before = stream.first_offset();
        self.change(stream, at, |history| {
            if !fits {
                return history.publications.clear();
            }
            if let Some(frame) = frame {
                history.publications.push(frame, at, &class.history);
            }
            remember(history, key, offset, at, class);
        });
        // Every publication makes an older one go: the journal hears of it only now and then.
        let first = stream.first_offset();
        if first / TRIM_EVERY > first_before / TRIM_EVERY || !fits {
            self.write(stream, Change::Trim { first });
        }
    }

    /// Changes the history of a room, which gets one if it has none, and counts the difference.
    ///
    /// If there is no memory for that, the room loses all that may be dropped. Whatever may not be
    /// dropped must have been [reserved](Self::reserve).
    fn change(&mut self, stream: &mut Stream, now: Moment, change: impl FnOnce(&mut History)) {
        let is_new = !stream.has_history();
        let base = if is_new {
            room_cost(stream.handle.name.len())
        } else {
            0
        };
        let history = stream
            .history
            .get_or_insert_with(|| Box::new(History::new()));
        let before = history.cost_bytes();
        change(history);
        let more = |history: &History| (base + history.cost_bytes()).saturating_sub(before);
        if !self.memory.reserve(more(history), now) {
            history.clear();
            if is_new && !self.memory.reserve(more(history), now) {
                stream.history = None;
                return;
            }
        }
        match (base + history.cost_bytes()).checked_sub(before) {
            Some(more) => self.memory.use_bytes(more),
            None => self.memory.free_bytes(before - history.cost_bytes()),
        }
        self.room_count += usize::from(is_new);
        let at = match history.next_expiry(stream.class) {
            // The next sweep finds that nothing is left.
            None if is_new => now,
            next => next.unwrap_or(Moment::NEVER),
        };
        if at < history.due {
            history.due = at;
            self.expiry.push(Due {
                at,
                room: stream.handle.id,
                hash: stream.handle.hash,
            });
        }
    }

    /// Queues a publication for the journal. Returns whether the journal is full.
    fn write_publication(&self, stream: &Stream, offset: u64, arrival: &Arrival<'_>) -> bool {
        let frame = arrival.frame.as_ref().filter(|_| self.journals(stream));
        let change = frame.map(|frame| Change::Publication {
            epoch: stream.epoch,
            offset,
            at: arrival.at,
            frame: frame.clone(),
            key: arrival.key.map(|key| Arc::from(key.text)),
        });
        change.is_some_and(|change| self.write(stream, change))
    }

    /// Queues a change for the journal, if the room is journaled. Returns whether the journal is
    /// full.
    fn write(&self, stream: &Stream, change: Change) -> bool {
        let Some(journal) = self.journal.as_ref().filter(|_| self.journals(stream)) else {
            return false;
        };
        let room = stream.handle.clone();
        let pushed = journal.queue.push(Entry { room, change });
        let full = pushed.full;
        // The writer's waker takes no lock that is held here.
        pushed.wake_quietly();
        full
    }
}

/// Remembers the key of a publication, if it has one and the room's class remembers keys.
fn remember(
    history: &mut History,
    key: Option<HashedKey<'_>>,
    offset: u64,
    at: Moment,
    class: &RoomClass,
) {
    if let Some(key) = key.filter(|_| class.key_window_ms > 0) {
        history.keys.push(key, offset, at, class.keys_max);
    }
}

/// Returns the most that a publication with this payload counts for, in bytes.
///
/// Its envelope has the room's name, of which a character may take six bytes, and numbers. An
/// application that writes larger frames may be off: what counts in the end is the frame.
pub(crate) const fn cost_at_most(payload_len: usize, name_len: usize, key_len: usize) -> usize {
    // More than `allocated_bytes` makes of a frame.
    let frame = (payload_len + 6 * name_len) * 3 / 2;
    frame + 2 * key_len + ROOM_COST + PUBLICATION_COST + KEY_COST + 512
}

/// Returns the most that a room counts for that is restored from its image, in bytes.
pub(crate) fn image_cost(image: &RoomImage) -> usize {
    let frames = image.publications.iter();
    let publications = frames.map(|(_, frame)| publication_cost(frame.len()));
    let keys = image.keys.iter().map(|(key, ..)| key_cost(key.len()));
    let base = cost_at_most(0, image.name.len(), 0) + size_of_val(&image.lineage[..]);
    base + publications.sum::<usize>() + keys.sum::<usize>()
}

/// Returns the bytes that a room with a name of this length takes once it retains something.
const fn room_cost(name_len: usize) -> usize {
    ROOM_COST + allocated_bytes(COUNTS_LEN + name_len)
}

/// The bytes of a room in the table of its shard.
pub(crate) const ROOM_BYTES: usize = size_of::<(Stream, Members)>();

/// The bytes that a room that retains something takes beside its name: its history, itself in a
/// table that is a third to a half full, its entries in the expiry heap, the smallest table of
/// keys, and places for a second publication and a second key.
const ROOM_COST: usize = allocated_bytes(size_of::<History>())
    + (ROOM_BYTES + 1) * 11 / 4
    + 176
    + size_of::<Held>()
    + size_of::<Remembered>();

/// The most bytes that an event takes while it waits behind publications. A larger event does not
/// wait, nor does one for which there is no memory.
const EVENT_COST_MAX: usize = 16 * 1024;

/// The journal is told where a history begins once in so many publications. It holds at most so
/// many that the history has dropped.
const TRIM_EVERY: u64 = 64;

/// A room that waits for the journal is visited again after so many milliseconds.
const STAGED_LOOK_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::class::HistoryLimits;
    use crate::delivery::Delivery;
    use crate::id::{RoomId, Wire};
    use crate::key::{Named, RoomKey};
    use crate::position::Epoch;

    const CLASS: RoomClass = RoomClass {
        history: HistoryLimits {
            publications_max: 20,
            bytes_max: 2000,
            age_max_ms: 300,
        },
        key_window_ms: 200,
        keys_max: 10,
        ..RoomClass::PLAIN
    };

    /// A few streams and their owner, with too little memory for all.
    struct World {
        rng: fastrand::Rng,
        histories: Histories,
        streams: Vec<Stream>,
        now: Moment,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let pool = Arc::new(CachePadded::new(Pool::new(12_000, 1)));
            let stream = |n: u64| {
                let key = RoomKey::from("tea");
                Stream::new(RoomId::new(n, 0), Named { hash: n, key }, Epoch(n), &CLASS)
            };
            Self {
                rng: fastrand::Rng::with_seed(seed),
                histories: Histories::new(pool, None),
                streams: (1..=8).map(stream).collect(),
                now: Moment(10_000),
            }
        }

        /// Does something to one of the streams, or to the one that is due first.
        fn step(&mut self) {
            let (rng, histories, now) = (&mut self.rng, &mut self.histories, self.now);
            let stream = rng.choice(&mut self.streams).expect("there are some");
            let text = rng.u8(..).to_string();
            let hash = text.len() as u64;
            let key = HashedKey { hash, text: &text };
            let frame: SharedFrame = vec![0; rng.usize(..300)].into();
            let arrival = Arrival {
                at: now,
                frame: Some(frame.clone()),
                key: Some(key).filter(|key| stream.find_key(*key).is_none()),
            };
            match rng.u8(..10) {
                0..=3 if !stream.has_staged() => {
                    let fits = histories.reserve(cost_at_most(frame.len(), 3, 3), now);
                    stream.advance();
                    histories.publish(stream, arrival, fits);
                }
                4..=5 => {
                    let staged = Staged {
                        delivery: Delivery::Publication(stream.next_staged_offset()),
                        except: None,
                        frames: SmallVec::from_iter([(Wire(0), frame)]),
                        at: now,
                        waiting: SmallVec::new(),
                    };
                    _ = histories.stage(stream, staged, &arrival);
                }
                6 => {
                    let is_accepted = rng.bool();
                    for mut staged in histories.take_staged(stream, u64::MAX) {
                        if is_accepted && let Some((_, frame)) = staged.frames.pop() {
                            stream.advance();
                            histories.retain_staged(stream, staged.at, frame);
                        }
                    }
                    histories.forget_refused_keys(stream);
                }
                7 => _ = histories.linger(stream, now),
                8 => self.now = Moment(now.0 + rng.u64(..100)),
                _ => self.visit_first(),
            }
        }

        fn visit_first(&mut self) {
            let Some(due) = self.histories.first_due() else {
                return;
            };
            let Some(stream) = self.streams.iter_mut().find(|it| it.is_due(due)) else {
                return self.histories.drop_stale();
            };
            let visit = match self.rng.bool() {
                false => Visit::Evict,
                true => Visit::Expire { count_max: 3 },
            };
            self.histories.visit_first(stream, true, self.now, visit);
        }

        fn check(&self) {
            let kept = self
                .streams
                .iter()
                .filter_map(|it| Some((it, it.history.as_deref()?)));
            let cost = |(stream, history): (&Stream, &History)| {
                room_cost(stream.handle.name.len()) + history.cost_bytes()
            };
            let used: usize = kept.clone().map(cost).sum();
            assert_eq!(self.histories.used_bytes(), used);
            assert_eq!(self.histories.room_count, kept.clone().count());
            for (stream, history) in kept {
                let due = stream.due().expect("it has a history");
                assert!(self.histories.expiry.has(due));
                assert!(history.next_expiry(&CLASS).is_none_or(|at| due.at <= at));
            }
        }
    }

    #[test]
    fn whatever_happens_to_streams_each_byte_is_counted_once_and_each_room_is_due() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut world = World::new(seed);
            for _ in 0..500 {
                world.step();
                world.check();
            }
            for stream in &mut world.streams {
                world.histories.take_staged(stream, u64::MAX);
            }
            world.now = Moment(1_000_000);
            while world.histories.first_due().is_some() {
                world.visit_first();
            }
            assert_eq!(world.histories.used_bytes(), 0);
            assert_eq!(world.histories.room_count, 0);
        }
    }
}
