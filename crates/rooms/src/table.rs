//! The rooms of the process: tables behind locks, picked by the hash of the room's key.
//!
//! Invariant: whatever orders a room is pushed to the mailboxes before its shard's lock is
//! released. `shard.rs` has the invariants of the rooms under it.

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
use crate::history::{HashedKey, Histories, Pool};
use crate::id::{ConnectionId, CoreId, RoomId, SHARD_COUNT_MAX, Wire, WireSet};
use crate::journal::Journal;
use crate::key::{Named, RoomKey, Space};
use crate::mailbox::{Command, Mailbox};
use crate::position::{Epoch, StreamPosition};
use crate::queue::Pushed;
use crate::recovery::Since;
use crate::room::{NewRoom, Room};
use crate::shard::Shard;
use crate::sync::Mutex;

mod ask;
mod broadcast;
mod deliver;
mod dissolve;
mod emit;
mod join;
mod journaled;
pub(crate) mod past;
mod publish;
mod sweep;
pub(crate) mod totals;

/// The settings of a [`RoomTable`].
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// The number of cores, 1 to 256.
    pub core_count: usize,
    /// The number of shards; rounded up to a power of two.
    pub shard_count: usize,
    /// The longest room name, in bytes.
    pub name_len_max: usize,
    /// The pending bytes from which on a core's mailbox is full.
    pub mailbox_bytes_max: usize,
    /// True to send [`Command::RoomCreated`] and [`Command::RoomRemoved`] from the start.
    pub watch_rooms: bool,
    /// The classes of rooms, chosen by name.
    pub classes: Classes,
    /// The wire whose frames histories retain.
    pub history_wire: Wire,
    /// The memory for the histories of all rooms, in bytes. At the limit the oldest entries go.
    pub history_bytes_max: usize,
    /// The wires that connections may speak, as far as they are known by now:
    /// [`add_wire`](RoomTable::add_wire) adds others.
    pub wires: Vec<Wire>,
    /// The journal of rooms with a history, if there is one.
    pub journal: Option<Arc<Journal>>,
}

impl Default for TableConfig {
    /// Returns settings for one core and four shards, names of 255 bytes, mailboxes of 16 MiB,
    /// every room plain, and 256 MiB for histories, retained for wire 0.
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

/// The part of a join that asks for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// The request's mark, for the answer.
    pub id: Option<u64>,
    /// The place to replay from.
    pub since: Since,
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
    pool: Arc<CachePadded<Pool>>,
    /// The wires in use, as a [`WireSet`]; the set only grows. A member is counted under its
    /// shard's lock after its wire was added, so whoever holds that lock sees the wires of all
    /// members.
    wires: AtomicU16,
    journal: Option<Arc<Journal>>,
    /// Only ever set, and read under a shard's lock: a room whose creation was not announced may
    /// have its removal announced, never the other way round.
    watch_rooms: AtomicBool,
}

impl RoomTable {
    /// Creates an empty table with its mailboxes. Names are hashed with a key drawn at random, so
    /// that nobody can choose names that collide.
    pub fn new(config: TableConfig) -> Self {
        let shard_count = config
            .shard_count
            .clamp(1, SHARD_COUNT_MAX)
            .next_power_of_two();
        let mailbox = || CachePadded::new(Mailbox::new(config.mailbox_bytes_max));
        let pool = Pool::new(config.history_bytes_max, shard_count);
        let pool = Arc::new(CachePadded::new(pool));
        let classes = Arc::new(config.classes);
        let history_wire = classes.keep_histories().then_some(config.history_wire);
        let shard = |index| {
            let histories = Histories::new(pool.clone(), config.journal.clone());
            Shard::new(index, classes.clone(), histories)
        };
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
            pool,
            wires: AtomicU16::new(wires.0),
            journal: config.journal,
            watch_rooms: AtomicBool::new(config.watch_rooms),
        }
    }

    /// Returns the mailbox of a core.
    ///
    /// # Panics
    ///
    /// If the table was built for fewer cores.
    pub fn mailbox(&self, core: CoreId) -> &Mailbox {
        &self.mailboxes[core.index()]
    }

    /// Adds a wire, before the first connection that speaks it is opened.
    ///
    /// Call it before anything is published: publications that wait for the journal by then have no
    /// frame for the wire, and its members do not receive them.
    pub fn add_wire(&self, wire: Wire) {
        let added = WireSet::from_iter([wire]);
        self.wires.fetch_or(added.0, Ordering::Relaxed);
    }

    /// Returns the wires that connections may speak.
    #[inline]
    fn wires(&self) -> WireSet {
        WireSet(self.wires.load(Ordering::Relaxed))
    }

    /// Returns the class that a room with this name gets if it is created now.
    pub fn class_of<'a>(&self, key: impl Into<RoomKey<'a>>) -> &'static RoomClass {
        let named = self.named(key);
        self.shard(named.hash).lock().classes.of(named.key)
    }

    /// Sets the classes of rooms that are created from now on. A room that exists keeps its class
    /// until it ends. Costs a lock for each shard.
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
    /// of a room with a longer name stay, and can leave.
    pub fn set_name_len_max(&self, name_len_max: usize) {
        self.name_len_max.store(name_len_max, Ordering::Relaxed);
    }

    /// Sets the pending bytes from which on each core's mailbox is full.
    pub fn set_mailbox_bytes_max(&self, bytes_max: usize) {
        for mailbox in &self.mailboxes {
            mailbox.set_pending_bytes_max(bytes_max);
        }
    }

    /// Checks that a room can have this name, and hashes it.
    fn check_name<'a>(&self, key: RoomKey<'a>) -> Result<Named<'a>, NameError> {
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
        Ok(self.named(key))
    }

    /// Draws the properties of a new room.
    fn new_room(&self, id: RoomId, key: RoomKey<'_>, classes: &Classes) -> NewRoom {
        NewRoom {
            // The hasher's key is this process's own, so an epoch meets that of another only by
            // chance.
            epoch: Epoch(self.hasher.hash_one(id).max(1)),
            class: classes.of(key),
        }
    }

    /// Checks whether a caller that cannot pause may ask something of a core.
    ///
    /// Between this and the asking others may ask too, so a mailbox exceeds its bound by at most
    /// one command for each thread that asks.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the core's mailbox is over its bound of bytes. A late core is no reason:
    /// it catches up within milliseconds.
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

    /// Sends frames to one connection, after everything that it was sent before.
    pub fn direct(&self, connection: ConnectionId, frame: SharedFrame) -> Backpressure {
        self.send(connection, Command::Direct { connection, frame })
    }

    /// Sends frames to one connection, behind the publications of the same turn of its core.
    /// Cheaper than [`direct`](Self::direct), which splits the turn there.
    pub fn answer(&self, connection: ConnectionId, frame: SharedFrame) -> Backpressure {
        self.send(connection, Command::Answer { connection, frame })
    }

    /// Closes one connection, after everything that it was sent before.
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

    /// Returns whether a queue is full.
    pub fn is_full(&self, full: Full) -> bool {
        match full {
            Full::Core(core) => self.mailbox(core).is_full(),
            Full::Journal => self.journal.as_ref().is_some_and(|j| j.queue.is_full()),
        }
    }

    /// Returns whether a queue is full; if so, `stalled` is woken when it has been drained.
    pub fn poll_full(&self, full: Full, stalled: &Waker) -> bool {
        match full {
            Full::Core(core) => self.mailbox(core).poll_full(stalled),
            Full::Journal => {
                let journal = self.journal.as_ref();
                journal.is_some_and(|journal| journal.queue.poll_full(stalled))
            }
        }
    }

    /// Sends [`Command::RoomCreated`] and [`Command::RoomRemoved`] from now on.
    pub fn watch_rooms(&self) {
        self.watch_rooms.store(true, Ordering::Relaxed);
    }

    fn watches_rooms(&self) -> bool {
        self.watch_rooms.load(Ordering::Relaxed)
    }

    /// Returns how many members the room has, counting those whose `Attach` is on its way.
    pub fn member_count<'a>(&self, key: impl Into<RoomKey<'a>>) -> u32 {
        let named = self.named(key);
        let shard = self.shard(named.hash).lock();
        let room = shard.find(named);
        room.map_or(0, |room| room.members.total())
    }

    /// Returns the position of the room's stream; none if the room does not exist.
    pub fn position<'a>(&self, key: impl Into<RoomKey<'a>>) -> Option<StreamPosition> {
        let named = self.named(key);
        let shard = self.shard(named.hash).lock();
        Some(shard.find(named)?.stream.position())
    }

    /// Returns the number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Hashes a room's key. In the default space the hash is that of the name alone.
    #[inline]
    fn named<'a>(&self, key: impl Into<RoomKey<'a>>) -> Named<'a> {
        let key = key.into();
        let hash = self.hasher.hash_one(key.name);
        let hash = match key.space {
            Space::DEFAULT => hash,
            space => hash ^ self.hasher.hash_one(space),
        };
        Named { hash, key }
    }

    /// Hashes a publication's key.
    fn hashed<'a>(&self, text: &'a str) -> HashedKey<'a> {
        HashedKey {
            hash: self.hasher.hash_one(text),
            text,
        }
    }

    /// Returns the index of the shard for a hash: bits that hashbrown uses neither for its bucket
    /// (the lowest) nor for its tag (the highest 7).
    fn shard_index(&self, hash: u64) -> usize {
        usize::try_from(hash >> 32 & 0xFF_FFFF).unwrap_or(0) & (self.shards.len() - 1)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[self.shard_index(hash)]
    }

    /// Pushes a room's creation or removal to the one core that hears of this shard, so that the
    /// two cannot overtake each other. The shard is locked.
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
        let hash_of = |space| table.named(RoomKey::new(Space(space), "tea")).hash;
        assert_eq!(hash_of(0), table.hasher.hash_one("tea"));
        let hashes: HashSet<u64> = (0..1000).map(hash_of).collect();
        assert_eq!(hashes.len(), 1000);
        let shards: HashSet<usize> = hashes.iter().map(|it| table.shard_index(*it)).collect();
        assert_eq!(shards.len(), table.shard_count());
    }
}
