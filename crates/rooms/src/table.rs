//! The rooms of the process: N tables, each behind a lock, picked by the hash of the room's name.
//!
//! Invariants, under each shard's lock:
//! - a room is in its shard while some core counts a member of it, and only then;
//! - the count of a core is the number of its members plus the `Attach` commands on their way to
//!   it; each `Attach` that a core does not accept, and each member that ends, is released once;
//! - whatever orders a room is pushed to the mailboxes before the lock is released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;
use crossbeam_utils::CachePadded;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use proto::SharedFrame;
use smallvec::SmallVec;
use thiserror::Error;

use crate::disconnect::Disconnect;
use crate::id::{ConnectionId, CoreId, RoomId, SHARD_COUNT_MAX};
use crate::mailbox::{Command, Mailbox, Pushed, RoomHandle};
use crate::sync::Mutex;

/// How a [`RoomTable`] is built.
#[derive(Clone, Copy, Debug)]
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
}

/// A join that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The empty name.
    #[error("a room's name must not be empty")]
    NameEmpty,
    /// A name over the limit.
    #[error("a room's name has at most {name_len_max} bytes, not {name_len}")]
    NameTooLong {
        /// The length of the name, in bytes.
        name_len: usize,
        /// The limit, in bytes.
        name_len_max: usize,
    },
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A core has more to do than it may keep, and the caller cannot be held back otherwise: nothing
/// was done, nobody got anything; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the mailbox of core {} is full", core.0)]
pub struct Overloaded {
    /// The core whose mailbox is full.
    pub core: CoreId,
}

/// A core whose mailbox is over its bound, if what was just done found one: whoever caused it
/// should not be read from until that mailbox has been drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure(pub Option<CoreId>);

/// What came of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// How many members the room has, on all cores.
    pub member_count: u32,
    /// Whether to hold the publisher back.
    pub backpressure: Backpressure,
}

/// All rooms, shared by all cores.
///
/// # Examples
///
/// ```
/// use rooms::{Command, CoreId, LocalLimits, LocalRooms, RoomTable, TableConfig};
///
/// let table = RoomTable::new(TableConfig {
///     core_count: 1,
///     shard_count: 4,
///     name_len_max: 255,
///     mailbox_bytes_max: 1 << 20,
///     watch_rooms: false,
/// });
/// let mut core = LocalRooms::new(CoreId(0), LocalLimits::default());
/// let alice = core.open().expect("there is room for 16 million");
///
/// table.join(alice, "tea")?;
/// table.publish("tea", b"hot".as_slice().into());
///
/// let mut commands = Vec::new();
/// table.mailbox(CoreId(0)).drain(&mut commands);
/// for command in commands {
///     core.apply(command, &table);
/// }
/// core.fan_out();
/// assert_eq!(core.outbox(alice.slot()).single(), Some(&b"hot"[..]));
/// # Ok::<(), rooms::JoinError>(())
/// ```
#[derive(Debug)]
pub struct RoomTable {
    /// Each on cache lines of its own: neighbours must not share a line across threads.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    mailboxes: Box<[CachePadded<Mailbox>]>,
    hasher: RandomState,
    name_len_max: usize,
    /// Only ever set, and read under a shard's lock: a room whose birth was not told may have its
    /// death told, never the other way round.
    watch_rooms: AtomicBool,
}

#[derive(Debug)]
struct Shard {
    index: usize,
    rooms: HashTable<Room>,
    /// How many rooms this shard has ever had.
    created_count: u64,
    /// How many publications went to rooms of this shard.
    publication_count: u64,
}

#[derive(Debug)]
struct Room {
    handle: RoomHandle,
    /// How many members each core has; only cores that have some.
    member_counts: SmallVec<[(CoreId, u32); 2]>,
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
        Self {
            shards: (0..shard_count)
                .map(|index| CachePadded::new(Mutex::new(Shard::new(index))))
                .collect(),
            mailboxes: (0..config.core_count.clamp(1, 256))
                .map(|_| mailbox())
                .collect(),
            hasher: RandomState::new(),
            name_len_max: config.name_len_max,
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

    /// Makes the connection a member of the room, and the room if it does not exist.
    ///
    /// Publications after this call reach the connection. Whether it is a member already, is at
    /// its limit, or is gone is decided by its core when the [`Command::Attach`] arrives there:
    /// joining twice is joining once.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing has changed.
    pub fn join(&self, connection: ConnectionId, name: &str) -> Result<Backpressure, JoinError> {
        self.check_name(name)?;
        Ok(self.join_hashed(connection, name, self.hasher.hash_one(name)))
    }

    /// The same for a caller that cannot be held back.
    ///
    /// # Errors
    ///
    /// [`JoinError`], also [`JoinError::Overloaded`]; nothing has changed.
    pub fn try_join(
        &self,
        connection: ConnectionId,
        name: &str,
    ) -> Result<Backpressure, JoinError> {
        self.check_name(name)?;
        self.check_pressure(connection.core())?;
        let hash = self.hasher.hash_one(name);
        if self.watches_rooms() {
            self.check_pressure(self.watcher(hash))?;
        }
        Ok(self.join_hashed(connection, name, hash))
    }

    fn check_name(&self, name: &str) -> Result<(), JoinError> {
        if name.is_empty() {
            return Err(JoinError::NameEmpty);
        }
        let (name_len, name_len_max) = (name.len(), self.name_len_max);
        if name_len > name_len_max {
            return Err(JoinError::NameTooLong {
                name_len,
                name_len_max,
            });
        }
        Ok(())
    }

    fn join_hashed(&self, connection: ConnectionId, name: &str, hash: u64) -> Backpressure {
        let core = connection.core();
        let (watcher, pushed) = {
            let mut shard = self.shard(hash).lock();
            let (room, created) = shard.find_or_create(hash, name);
            room.count_in(core);
            let room = room.handle.clone();
            let watcher = (created && self.watches_rooms()).then(|| {
                self.tell_watcher(
                    Command::RoomCreated {
                        name: room.name.clone(),
                    },
                    hash,
                )
            });
            (
                watcher,
                self.mailbox(core)
                    .push(Command::Attach { connection, room }),
            )
        };
        // The watcher counts too: who joins ever new rooms fills its mailbox.
        let watching = watcher.and_then(|watcher| watcher.wake(self.watcher(hash)).0);
        Backpressure(pushed.wake(core).0.or(watching))
    }

    /// Whether a caller that cannot be held back may ask something of a core.
    ///
    /// Between this and the asking others may ask too, so what lies above a mailbox's bound is at
    /// most one command for each thread that asks.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the core's mailbox is full.
    pub fn check_pressure(&self, core: CoreId) -> Result<(), Overloaded> {
        if self.mailbox(core).is_full() {
            return Err(Overloaded { core });
        }
        Ok(())
    }

    /// Ends the connection's membership of the room, if there is one.
    ///
    /// What was published before still reaches it; what is published after does not.
    pub fn leave(&self, connection: ConnectionId, name: &str) -> Backpressure {
        let hash = self.hasher.hash_one(name);
        let core = connection.core();
        let pushed = {
            let shard = self.shard(hash).lock();
            let Some(room) = shard.find(hash, name) else {
                return Backpressure::default();
            };
            let room = room.handle.id;
            self.mailbox(core)
                .push(Command::Detach { connection, room })
        };
        pushed.wake(core)
    }

    /// Ends all memberships of the connection.
    pub fn leave_all(&self, connection: ConnectionId) -> Backpressure {
        self.send(connection, Command::DetachAll { connection })
    }

    /// Publishes to a room: one command to each core that has members of it.
    ///
    /// A room that does not exist has no members, so nobody misses anything.
    pub fn publish(&self, name: &str, frame: SharedFrame) -> Published {
        let hash = self.hasher.hash_one(name);
        let mut shard = self.shard(hash).lock();
        shard.publication_count += 1;
        let Some(room) = shard.find(hash, name) else {
            return Published::default();
        };
        let (published, wakes) = self.deliver(room, frame);
        drop(shard);
        wakes.into_iter().for_each(Pushed::wake_quietly);
        published
    }

    /// Publishes to a room unless a core with members of it has a full mailbox: for publishers
    /// that cannot be held back otherwise.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has more to do than it may keep; nobody
    /// got the publication.
    pub fn try_publish(&self, name: &str, frame: SharedFrame) -> Result<Published, Overloaded> {
        let hash = self.hasher.hash_one(name);
        let mut shard = self.shard(hash).lock();
        let Some(room) = shard.find(hash, name) else {
            shard.publication_count += 1;
            return Ok(Published::default());
        };
        for (core, _) in &room.member_counts {
            self.check_pressure(*core)?;
        }
        let (published, wakes) = self.deliver(room, frame);
        shard.publication_count += 1;
        drop(shard);
        wakes.into_iter().for_each(Pushed::wake_quietly);
        Ok(published)
    }

    /// Sends frames to one connection, after what it was sent before.
    pub fn direct(&self, connection: ConnectionId, frame: SharedFrame) -> Backpressure {
        self.send(connection, Command::Direct { connection, frame })
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

    /// Counts one member less on `core`, and forgets the room with its last one.
    ///
    /// Called once for each membership that ends and each `Attach` that is not accepted.
    pub(crate) fn release(&self, core: CoreId, handle: &RoomHandle) {
        let pushed = {
            let mut shard = self.shard(handle.hash).lock();
            let shard = &mut *shard;
            let entry = shard
                .rooms
                .find_entry(handle.hash, |room| room.handle.id == handle.id);
            let Ok(mut entry) = entry else {
                debug_assert!(false, "a room that is counted exists");
                return;
            };
            entry.get_mut().count_out(core);
            if !entry.get().member_counts.is_empty() {
                return;
            }
            let (room, _) = entry.remove();
            shard.shrink();
            if !self.watches_rooms() {
                return;
            }
            self.tell_watcher(
                Command::RoomRemoved {
                    name: room.handle.name,
                },
                handle.hash,
            )
        };
        pushed.wake_quietly();
    }

    /// Sends [`Command::RoomCreated`] and [`Command::RoomRemoved`] from now on.
    pub fn watch_rooms(&self) {
        self.watch_rooms.store(true, Ordering::Relaxed);
    }

    fn watches_rooms(&self) -> bool {
        self.watch_rooms.load(Ordering::Relaxed)
    }

    /// How many rooms exist. Locks the shards one after the other: for metrics and tests.
    pub fn room_count(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().rooms.len())
            .sum()
    }

    /// How many rooms were ever created, and how many publications accepted.
    pub fn totals(&self) -> (u64, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(created, published), shard| {
                let shard = shard.lock();
                (
                    created + shard.created_count,
                    published + shard.publication_count,
                )
            })
    }

    /// How many members the room has, counting those whose `Attach` is on its way.
    pub fn member_count(&self, name: &str) -> u32 {
        let hash = self.hasher.hash_one(name);
        self.shard(hash)
            .lock()
            .find(hash, name)
            .map_or(0, Room::member_count)
    }

    /// What the fullest mailbox holds, in bytes.
    pub fn mailbox_pending_bytes(&self) -> u64 {
        self.mailboxes
            .iter()
            .map(|mailbox| mailbox.pending_bytes() as u64)
            .max()
            .unwrap_or(0)
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

    /// The index of the shard for a hash: bits that hashbrown uses neither for its bucket (the
    /// lowest) nor for its tag (the highest 7).
    fn shard_index(&self, hash: u64) -> usize {
        usize::try_from(hash >> 32 & 0xFF_FFFF).unwrap_or(0) & (self.shards.len() - 1)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[self.shard_index(hash)]
    }

    /// Pushes one copy to each core with members. The shard is locked.
    fn deliver(&self, room: &Room, frame: SharedFrame) -> (Published, SmallVec<[Pushed; 2]>) {
        let id = room.handle.id;
        let mut published = Published {
            member_count: room.member_count(),
            ..Published::default()
        };
        let mut wakes = SmallVec::new();
        for (core, _) in &room.member_counts {
            let frame = frame.clone();
            let pushed = self
                .mailbox(*core)
                .push(Command::Deliver { room: id, frame });
            if pushed.full {
                published.backpressure = Backpressure(Some(*core));
            }
            wakes.push(pushed);
        }
        (published, wakes)
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

impl Shard {
    const fn new(index: usize) -> Self {
        Self {
            index,
            rooms: HashTable::new(),
            created_count: 0,
            publication_count: 0,
        }
    }

    /// Gives back most of a table that was much larger once. What it moves is at most a seventh of
    /// what was removed since, so that each removal pays for a part of one move.
    fn shrink(&mut self) {
        let (len, capacity) = (self.rooms.len(), self.rooms.capacity());
        if capacity > SHARD_CAPACITY_KEPT && len < capacity / 8 {
            self.rooms.shrink_to(len * 2, |room| room.handle.hash);
        }
    }

    fn find(&self, hash: u64, name: &str) -> Option<&Room> {
        self.rooms.find(hash, |room| room.has_name(hash, name))
    }

    /// The room, and whether it is new.
    fn find_or_create(&mut self, hash: u64, name: &str) -> (&mut Room, bool) {
        let entry = self.rooms.entry(
            hash,
            |room| room.has_name(hash, name),
            |room| room.handle.hash,
        );
        match entry {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(entry) => {
                self.created_count += 1;
                let id = RoomId::new(self.created_count, self.index);
                let handle = RoomHandle {
                    id,
                    hash,
                    name: Arc::from(name),
                };
                let room = Room {
                    handle,
                    member_counts: SmallVec::new(),
                };
                (entry.insert(room).into_mut(), true)
            }
        }
    }
}

impl Room {
    fn has_name(&self, hash: u64, name: &str) -> bool {
        self.handle.hash == hash && *self.handle.name == *name
    }

    fn member_count(&self) -> u32 {
        self.member_counts.iter().map(|(_, count)| count).sum()
    }

    fn count_in(&mut self, core: CoreId) {
        match self
            .member_counts
            .iter_mut()
            .find(|(counted, _)| *counted == core)
        {
            Some((_, count)) => *count += 1,
            None => self.member_counts.push((core, 1)),
        }
    }

    fn count_out(&mut self, core: CoreId) {
        let found = self
            .member_counts
            .iter()
            .position(|(counted, _)| *counted == core);
        let Some(index) = found else {
            debug_assert!(false, "a member that is released was counted");
            return;
        };
        self.member_counts[index].1 -= 1;
        if self.member_counts[index].1 == 0 {
            self.member_counts.swap_remove(index);
        }
    }
}

/// How many places for rooms a shard keeps though they are empty.
const SHARD_CAPACITY_KEPT: usize = 1024;
