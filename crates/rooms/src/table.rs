//! The rooms of the process: N tables, each behind a lock, picked by the hash of the room's
//! space and name.
//!
//! Invariant: whatever orders a room is pushed to the mailboxes before its shard's lock is released.
//! What holds of the rooms under it is in `shard.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::task::Waker;

use ahash::RandomState;
use crossbeam_utils::CachePadded;
use proto::SharedFrame;

use crate::backpressure::{Backpressure, Full};
use crate::class::{Classes, RoomClass};
use crate::disconnect::Disconnect;
use crate::error::{NameError, Overloaded};
use crate::id::{ConnectionId, CoreId, RoomId, SHARD_COUNT_MAX, Wire, WireSet};
use crate::journal::Journal;
use crate::key::{RoomKey, Space};
use crate::mailbox::{Command, Mailbox};
use crate::memory::Pool;
use crate::position::{Epoch, StreamPosition};
use crate::queue::Pushed;
use crate::recovery::{Recovery, Since};
use crate::shard::{House, NewRoom, Room, Shard};
use crate::sync::Mutex;
use crate::time::Moment;

mod ask;
mod broadcast;
mod deliver;
mod dissolve;
mod emit;
mod join;
mod publish;
mod written;

/// How a [`RoomTable`] is built.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// How many cores there are, 1 to 256.
    pub core_count: usize,
    /// How many shards; rounded up to a power of two.
    pub shard_count: usize,
    /// The longest room name, in bytes.
    pub name_len_max: usize,
    /// From how many pending bytes on a core's mailbox is full.
    pub mailbox_bytes_max: usize,
    /// Whether [`Command::RoomCreated`] and [`Command::RoomRemoved`] are sent from the start.
    pub watch_rooms: bool,
    /// What is so of rooms, by their names.
    pub classes: Classes,
    /// As which wire's frames publications are kept.
    pub history_wire: Wire,
    /// The memory for what all rooms keep, in bytes. At the limit the oldest makes way.
    pub history_bytes_max: usize,
    /// The wires that connections may speak, as far as they are known by now:
    /// [`add_wire`](RoomTable::add_wire) adds others.
    pub wires: Vec<Wire>,
    /// Where what rooms with a history keep is written down, if it is.
    pub journal: Option<Arc<Journal>>,
}

impl Default for TableConfig {
    /// One core and four shards, names of 255 bytes, mailboxes of 16 MiB; every room plain; 256 MiB for
    /// histories, kept for wire 0.
    fn default() -> Self {
        Self {
            core_count: 1,
            shard_count: 4,
            name_len_max: 255,
            mailbox_bytes_max: 16 << 20,
            watch_rooms: false,
            classes: Classes::default(),
            history_wire: Wire(0),
            history_bytes_max: 256 << 20,
            wires: vec![Wire(0)],
            journal: None,
        }
    }
}

/// What somebody wants to be told on joining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its mark, for the answer.
    pub id: Option<u64>,
    /// What is to be replayed.
    pub since: Since,
}

/// How much of a history is given at once.
#[derive(Clone, Copy, Debug)]
pub struct PastLimits {
    /// How many publications.
    pub publications_max: usize,
    /// How many bytes of frames; but one frame is given however large it is.
    pub bytes_max: usize,
}

/// A part of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Of the last publication that is given; the room's position if none is.
    pub position: StreamPosition,
    /// From where on it is given.
    pub recovery: Option<Recovery>,
    /// The frames, in order.
    pub frames: Vec<SharedFrame>,
    /// Whether later publications are held.
    pub more: bool,
}

/// What a table has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rooms that were ever created.
    pub rooms_created: u64,
    /// Publications and events that were accepted.
    pub publications: u64,
    /// Publications and keys that made way because the memory for them was full.
    pub evictions: u64,
    /// Rooms that have members.
    pub rooms: usize,
    /// Rooms that have none, of which something is remembered.
    pub rooms_without_members: usize,
    /// What all rooms keep, in bytes.
    pub history_bytes: usize,
}

/// All rooms, shared by all cores.
///
/// # Examples
///
/// ```
/// use proto::SharedFrame;
/// use throng_rooms::{CoreId, LocalLimits, LocalRooms, RoomTable, TableConfig};
///
/// let table = RoomTable::new(TableConfig::default());
/// let mut core = LocalRooms::new(CoreId(0), LocalLimits::default());
/// let alice = core.open().expect("there is room for 16 million");
///
/// table.join(alice, "tea")?;
/// table.emit("tea", SharedFrame::from(&b"hot"[..]));
///
/// let mut commands = Vec::new();
/// table.mailbox(CoreId(0)).drain(&mut commands);
/// for command in commands {
///     core.apply(command, &table);
/// }
/// core.fan_out();
/// assert_eq!(core.outbox(alice.slot()).single(), Some(&b"hot"[..]));
/// # Ok::<(), throng_rooms::JoinError>(())
/// ```
#[derive(Debug)]
pub struct RoomTable {
    /// Each on cache lines of its own: neighbours must not share a line across threads.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    mailboxes: Box<[CachePadded<Mailbox>]>,
    hasher: RandomState,
    name_len_max: AtomicUsize,
    history_wire: Wire,
    pool: CachePadded<Pool>,
    /// Those in use, as a [`WireSet`]; only ever more. A member that speaks one was counted under its
    /// shard's lock after the wire was added, so who holds that sees the wires of all members.
    wires: AtomicU16,
    journal: Option<Arc<Journal>>,
    /// Only ever set, and read under a shard's lock: a room whose birth was not told may have its
    /// death told, never the other way round.
    watch_rooms: AtomicBool,
}

impl RoomTable {
    /// An empty table with its mailboxes. Names are hashed with a key drawn at random, so that
    /// nobody can choose names that collide.
    pub fn new(config: TableConfig) -> Self {
        let shard_count = config
            .shard_count
            .clamp(1, SHARD_COUNT_MAX)
            .next_power_of_two();
        let mailbox = || CachePadded::new(Mailbox::new(config.mailbox_bytes_max));
        let is_journaled = config.journal.is_some();
        let classes = Arc::new(config.classes);
        let history_wire = classes.keep_histories().then_some(config.history_wire);
        let shard = |index| Shard::new(index, is_journaled, classes.clone());
        let wires: WireSet = config.wires.into_iter().chain(history_wire).collect();
        Self {
            shards: (0..shard_count)
                .map(|index| CachePadded::new(Mutex::new(shard(index))))
                .collect(),
            mailboxes: (0..config.core_count.clamp(1, 256))
                .map(|_| mailbox())
                .collect(),
            hasher: RandomState::new(),
            name_len_max: AtomicUsize::new(config.name_len_max),
            history_wire: config.history_wire,
            pool: CachePadded::new(Pool::new(config.history_bytes_max, shard_count)),
            wires: AtomicU16::new(wires.0),
            journal: config.journal,
            watch_rooms: AtomicBool::new(config.watch_rooms),
        }
    }

    /// The mailbox of a core.
    ///
    /// # Panics
    ///
    /// If the table was built for fewer cores.
    pub fn mailbox(&self, core: CoreId) -> &Mailbox {
        &self.mailboxes[core.index()]
    }

    /// Says that connections will speak a wire, before the first that does is opened. To be called before
    /// anything is published: what waits to be written down by then has no frame for it, and members on
    /// it are not sent that.
    pub fn add_wire(&self, wire: Wire) {
        let added = WireSet::from_iter([wire]);
        self.wires.fetch_or(added.0, Ordering::Relaxed);
    }

    /// The wires that connections may speak.
    #[inline]
    fn wires(&self) -> WireSet {
        WireSet(self.wires.load(Ordering::Relaxed))
    }

    /// Returns the class that a room with this name gets if it is made now.
    pub fn class_of<'a>(&self, key: impl Into<RoomKey<'a>>) -> &'static RoomClass {
        let key = key.into();
        self.shard(self.hash_of(key)).lock().classes.of(key)
    }

    /// Sets the class that each room gets by its name when it is made. A room that exists keeps
    /// its own until it ends. Costs a lock for each shard.
    pub fn set_classes(&self, classes: Classes) {
        if classes.keep_histories() {
            self.add_wire(self.history_wire);
        }
        let classes = Arc::new(classes);
        for shard in &self.shards {
            shard.lock().set_classes(classes.clone());
        }
    }

    /// Sets the longest name, in bytes, with which a room can be joined or published to. Members
    /// of a room with a longer one stay, and can leave.
    pub fn set_name_len_max(&self, name_len_max: usize) {
        self.name_len_max.store(name_len_max, Ordering::Relaxed);
    }

    /// Sets from how many pending bytes on each core's mailbox is full.
    pub fn set_mailbox_bytes_max(&self, bytes_max: usize) {
        for mailbox in &self.mailboxes {
            mailbox.set_pending_bytes_max(bytes_max);
        }
    }

    /// The key with its hash, if a room can have that name.
    fn check_name<'a>(&self, key: RoomKey<'a>) -> Result<(u64, RoomKey<'a>), NameError> {
        let (name_len, name_len_max) = (key.name.len(), self.name_len_max.load(Ordering::Relaxed));
        if name_len == 0 {
            return Err(NameError::Empty);
        }
        if name_len > name_len_max {
            return Err(NameError::TooLong {
                name_len,
                name_len_max,
            });
        }
        Ok((self.hash_of(key), key))
    }

    fn house(&self) -> House<'_> {
        House {
            pool: &self.pool,
            journal: self.journal.as_deref(),
        }
    }

    /// What a new room is to be.
    fn draw(&self, id: RoomId, key: RoomKey<'_>, classes: &Classes) -> NewRoom {
        NewRoom {
            // The key is this process's own, so no other's epoch is hit but by chance.
            epoch: Epoch(self.hasher.hash_one(id).max(1)),
            class: classes.of(key),
        }
    }

    /// Whether a caller that cannot be held back may ask something of a core.
    ///
    /// Between this and the asking others may ask too, so what lies above a mailbox's bound is at
    /// most one command for each thread that asks.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the core's mailbox is over its bound of bytes. Being late is no reason: it passes
    /// within milliseconds.
    pub fn check_pressure(&self, core: CoreId) -> Result<(), Overloaded> {
        if self.mailbox(core).is_over_bound() {
            return Err(Overloaded { core });
        }
        Ok(())
    }

    fn check_members(&self, room: &Room) -> Result<(), Overloaded> {
        let mut members = room.members.iter();
        members.try_for_each(|members| self.check_pressure(members.core))
    }

    /// A part of a room's history, in the frames of the history's wire; none if the room does not
    /// exist. Costs a reference count a publication.
    pub fn past<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        since: Since,
        limits: PastLimits,
    ) -> Option<Past> {
        let key = key.into();
        let hash = self.hash_of(key);
        let shard = self.shard(hash).lock();
        let room = shard.find(hash, key)?;
        let recovery = room.recover(since);
        let first = recovery.map_or(room.offset + 1, |recovery| recovery.first);
        let mut bytes = 0;
        let frames: Vec<SharedFrame> = room
            .publications_from(first)
            .take(limits.publications_max)
            .take_while(|frame| {
                let is_first = bytes == 0;
                bytes += frame.len();
                is_first || bytes <= limits.bytes_max
            })
            .cloned()
            .collect();
        let next = first + frames.len() as u64;
        Some(Past {
            position: StreamPosition {
                offset: next - 1,
                ..room.position()
            },
            recovery,
            frames,
            more: next <= room.offset,
        })
    }

    /// Sends frames to one connection, after what it was sent before.
    pub fn direct(&self, connection: ConnectionId, frame: SharedFrame) -> Backpressure {
        self.send(connection, Command::Direct { connection, frame })
    }

    /// Sends frames to one connection, behind what rooms are published to in the same turn of its core:
    /// cheaper than [`direct`](Self::direct), which has to part the turn there.
    pub fn answer(&self, connection: ConnectionId, frame: SharedFrame) -> Backpressure {
        self.send(connection, Command::Answer { connection, frame })
    }

    /// Closes one connection, after what it was sent before.
    pub fn close(&self, connection: ConnectionId, disconnect: Disconnect) -> Backpressure {
        self.send(
            connection,
            Command::Close {
                connection,
                disconnect,
            },
        )
    }

    /// Asks every core to close its connections and to take no new ones.
    pub fn drain(&self) {
        for mailbox in &self.mailboxes {
            mailbox.push(Command::Drain).wake_quietly();
        }
    }

    fn send(&self, connection: ConnectionId, command: Command) -> Backpressure {
        let core = connection.core();
        self.mailbox(core).push(command).wake(core)
    }

    /// Drops what has expired of what rooms keep, in a core's share of the shards. Each core calls this
    /// about once a second while the table [keeps](Self::keeps_something) something.
    ///
    /// If a shard found the memory full lately, shards that use more than an equal share of it are
    /// brought down to that: a shard that came late gets its own.
    pub fn sweep(&self, core: CoreId, now: Moment) {
        let mut next = Some(0);
        while let Some(nth) = next {
            next = self.sweep_some(core, now, nth);
        }
    }

    /// Does a part of [`sweep`](Self::sweep): at most 4096 entries of the core's `nth` shard. Returns which
    /// of its shards to go on with, none after the last. A look at an empty shard costs little.
    pub fn sweep_some(&self, core: CoreId, now: Moment, nth: usize) -> Option<usize> {
        let bytes_max = if self.pool.is_wanting(now) {
            self.pool.bytes_max() / self.shards.len()
        } else {
            usize::MAX
        };
        let shard = core.index() + nth * self.mailboxes.len();
        let is_done = self
            .shards
            .get(shard)?
            .lock()
            .sweep(now, bytes_max, &self.house());
        Some(nth + usize::from(is_done))
    }

    /// How many entries say when something expires, for tests.
    #[doc(hidden)]
    pub fn expiry_entry_count(&self) -> usize {
        let count = |shard: &CachePadded<Mutex<Shard>>| shard.lock().retention.line_len();
        self.shards.iter().map(count).sum()
    }

    /// Whether a queue is full.
    pub fn is_full(&self, full: Full) -> bool {
        match full {
            Full::Core(core) => self.mailbox(core).is_full(),
            Full::Journal => self.journal.as_ref().is_some_and(|j| j.queue.is_full()),
        }
    }

    /// Whether a queue is full; if so, `stalled` is woken when it has been drained.
    pub fn poll_full(&self, full: Full, stalled: &Waker) -> bool {
        match full {
            Full::Core(core) => self.mailbox(core).poll_full(stalled),
            Full::Journal => {
                let journal = self.journal.as_ref();
                journal.is_some_and(|journal| journal.queue.poll_full(stalled))
            }
        }
    }

    /// Whether there is something to [sweep](Self::sweep).
    pub fn keeps_something(&self) -> bool {
        self.pool.held_bytes() > 0
    }

    /// Sends [`Command::RoomCreated`] and [`Command::RoomRemoved`] from now on.
    pub fn watch_rooms(&self) {
        self.watch_rooms.store(true, Ordering::Relaxed);
    }

    fn watches_rooms(&self) -> bool {
        self.watch_rooms.load(Ordering::Relaxed)
    }

    /// How many rooms have members. Locks the shards one after the other: for metrics and tests.
    pub fn room_count(&self) -> usize {
        self.totals().rooms
    }

    /// What was counted. Locks the shards one after the other: for metrics and tests.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            let shard = shard.lock();
            totals.rooms_created += shard.created_count;
            totals.publications += shard.publication_count;
            totals.evictions += shard.evicted_count;
            totals.rooms += shard.peopled_count;
            totals.rooms_without_members += shard.rooms.len() - shard.peopled_count;
            totals.history_bytes += shard.retention.used_bytes();
        }
        totals
    }

    /// How many members the room has, counting those whose `Attach` is on its way.
    pub fn member_count<'a>(&self, key: impl Into<RoomKey<'a>>) -> u32 {
        let key = key.into();
        let hash = self.hash_of(key);
        self.shard(hash)
            .lock()
            .find(hash, key)
            .map_or(0, Room::member_count)
    }

    /// Where the room's stream is; none if the room does not exist.
    pub fn position<'a>(&self, key: impl Into<RoomKey<'a>>) -> Option<StreamPosition> {
        let key = key.into();
        let hash = self.hash_of(key);
        self.shard(hash).lock().find(hash, key).map(Room::position)
    }

    /// What the fullest mailbox holds, in bytes.
    pub fn mailbox_pending_bytes(&self) -> u64 {
        self.mailboxes
            .iter()
            .map(|mailbox| mailbox.pending_bytes() as u64)
            .max()
            .unwrap_or(0)
    }

    /// What waits to be written down, in bytes.
    pub fn journal_pending_bytes(&self) -> u64 {
        let journal = self.journal.as_ref();
        journal.map_or(0, |journal| journal.queue.pending_bytes() as u64)
    }

    /// For how many rooms there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        let capacity = |shard: &CachePadded<Mutex<Shard>>| shard.lock().rooms.capacity();
        self.shards.iter().map(capacity).sum()
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The hash that a room is found by. In the default space it is that of the name alone.
    #[inline]
    fn hash_of(&self, key: RoomKey<'_>) -> u64 {
        let hash = self.hasher.hash_one(key.name);
        match key.space {
            Space::DEFAULT => hash,
            space => hash ^ self.hasher.hash_one(space),
        }
    }

    /// The index of the shard for a hash: bits that hashbrown uses neither for its bucket (the
    /// lowest) nor for its tag (the highest 7).
    fn shard_index(&self, hash: u64) -> usize {
        usize::try_from(hash >> 32 & 0xFF_FFFF).unwrap_or(0) & (self.shards.len() - 1)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[self.shard_index(hash)]
    }

    /// Pushes a room's birth or death to the one core that hears of this shard, so that the two
    /// cannot overtake each other. The shard is locked.
    fn tell_watcher(&self, command: Command, hash: u64) -> Pushed {
        self.mailbox(self.watcher(hash)).push(command)
    }

    fn watcher(&self, hash: u64) -> CoreId {
        let index = self.shard_index(hash) % self.mailboxes.len();
        CoreId(u8::try_from(index).expect("there are at most 256 cores"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rooms_of_one_name_spread_over_the_table_by_their_spaces() {
        let table = RoomTable::new(TableConfig::default());
        let hash_of = |space| table.hash_of(RoomKey::new(Space(space), "tea"));
        assert_eq!(hash_of(0), table.hasher.hash_one("tea"));
        let hashes: HashSet<u64> = (0..1000).map(hash_of).collect();
        assert_eq!(hashes.len(), 1000);
        let shards: HashSet<usize> = hashes.iter().map(|it| table.shard_index(*it)).collect();
        assert_eq!(shards.len(), table.shard_count());
    }
}
