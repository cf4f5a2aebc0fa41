//! The rooms of the process: N tables, each behind a lock, picked by the hash of the room's name.
//!
//! Invariant: whatever orders a room is pushed to the mailboxes before its shard's lock is released.
//! What holds of the rooms under it is in `shard.rs`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use ahash::RandomState;
use crossbeam_utils::CachePadded;
use proto::SharedFrame;
use smallvec::SmallVec;
use thiserror::Error;

use crate::class::{Classes, RoomClass};
use crate::disconnect::Disconnect;
use crate::id::{ConnectionId, CoreId, RoomId, SHARD_COUNT_MAX, Wire};
use crate::journal::{Change, Journal, Waiting};
use crate::kept::{self, Staged};
use crate::mailbox::{Command, Delivery, Joined, Mailbox, Recovery, RoomHandle};
use crate::memory::Pool;
use crate::position::{Epoch, StreamPosition};
use crate::publication::{EventKind, KEY_LEN_MAX, Outgoing, Publication, Published};
use crate::queue::Pushed;
use crate::shard::{House, NewRoom, Retention, Room, Shard};
use crate::sync::Mutex;

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
    /// The wires that connections may speak.
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

/// A join that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// A name that no room can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// A name that no room can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The empty name.
    #[error("a room's name must not be empty")]
    Empty,
    /// A name over the limit.
    #[error("a room's name has at most {name_len_max} bytes, not {name_len}")]
    TooLong {
        /// The length of the name, in bytes.
        name_len: usize,
        /// The limit, in bytes.
        name_len_max: usize,
    },
}

/// A publication that was not accepted: nobody got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The key is empty or over [`KEY_LEN_MAX`] bytes.
    #[error("a key has 1 to {KEY_LEN_MAX} bytes, not {key_len}")]
    Key {
        /// The length of the key, in bytes.
        key_len: usize,
    },
    /// A name that no room can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A core has more to do than it may keep; only for callers that cannot be held back.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// It cannot be written down at present, and is not accepted before it can.
    #[error("the disk does not take it at present")]
    Storage,
    /// The memory for histories is full of what waits to be written down.
    #[error("the memory for histories is full at present")]
    NoMemory,
    /// The payload is larger than the room's class allows.
    #[error("a publication to this room has at most {payload_len_max} bytes, not {payload_len}")]
    TooLarge {
        /// The length of the payload, in bytes.
        payload_len: usize,
        /// The limit, in bytes.
        payload_len_max: u32,
    },
}

/// A core has more to do than it may keep, and the caller cannot be held back otherwise: nothing
/// was done, nobody got anything; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the mailbox of core {} is full", core.0)]
pub struct Overloaded {
    /// The core whose mailbox is full.
    pub core: CoreId,
}

/// A queue that is over its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The mailbox of a core.
    Core(CoreId),
    /// What is to be written to disk.
    Journal,
}

/// A queue that is over its bound, if what was just done found one: whoever caused it should not be
/// read from until that queue has been drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure(pub Option<Full>);

/// From where on somebody wants a room's publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// The last so many.
    Last(u32),
    /// None from before.
    #[default]
    Now,
    /// Those after this position.
    Position(StreamPosition),
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
/// use rooms::{CoreId, LocalLimits, LocalRooms, RoomTable, TableConfig};
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
/// # Ok::<(), rooms::JoinError>(())
/// ```
#[derive(Debug)]
pub struct RoomTable {
    /// Each on cache lines of its own: neighbours must not share a line across threads.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    mailboxes: Box<[CachePadded<Mailbox>]>,
    hasher: RandomState,
    name_len_max: usize,
    classes: Classes,
    keeps_histories: bool,
    history_wire: Wire,
    pool: CachePadded<Pool>,
    wires: Vec<Wire>,
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
        Self {
            shards: (0..shard_count)
                .map(|index| CachePadded::new(Mutex::new(Shard::new(index, is_journaled))))
                .collect(),
            mailboxes: (0..config.core_count.clamp(1, 256))
                .map(|_| mailbox())
                .collect(),
            hasher: RandomState::new(),
            name_len_max: config.name_len_max,
            keeps_histories: config.classes.keep_histories(),
            classes: config.classes,
            history_wire: config.history_wire,
            pool: CachePadded::new(Pool::new(config.history_bytes_max, shard_count)),
            wires: config.wires,
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

    /// What is so of a room with this name.
    pub fn class_of(&self, name: &str) -> &RoomClass {
        self.classes.of(name)
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
        Ok(self.join_hashed(connection, name, self.hasher.hash_one(name), None))
    }

    /// The same for a connection that is told the room's position, and given what was published since
    /// it left, as far as that is held: its core gets an [`Effect::Joined`](crate::Effect::Joined).
    ///
    /// What is replayed is what was published before this call, what it gets later is what was
    /// published after: no gap, no repeat. Costs a reference count a publication that is replayed.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing has changed.
    pub fn join_since(
        &self,
        connection: ConnectionId,
        name: &str,
        request: JoinRequest,
    ) -> Result<Backpressure, JoinError> {
        self.check_name(name)?;
        Ok(self.join_hashed(connection, name, self.hasher.hash_one(name), Some(request)))
    }

    /// [`join`](Self::join) for a caller that cannot be held back.
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
        Ok(self.join_hashed(connection, name, hash, None))
    }

    fn check_name(&self, name: &str) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let (name_len, name_len_max) = (name.len(), self.name_len_max);
        if name_len > name_len_max {
            return Err(NameError::TooLong {
                name_len,
                name_len_max,
            });
        }
        Ok(())
    }

    fn join_hashed(
        &self,
        connection: ConnectionId,
        name: &str,
        hash: u64,
        request: Option<JoinRequest>,
    ) -> Backpressure {
        let (core, wire) = (connection.core(), connection.wire());
        let (watcher, pushed) = {
            let mut shard = self.shard(hash).lock();
            let is_journaled = shard.is_journaled;
            let mut is_new = false;
            let Ok((room, _)) = shard.find_or_create(hash, name, |id| {
                is_new = true;
                Ok::<_, Infallible>(self.draw(id, name))
            });
            if is_new && is_journaled && self.classes.at(room.class).history.is_on() {
                self.write_epoch(room);
            }
            let is_first = room.count_in(core, wire);
            let joined = request.map(|request| Box::new(joined(room, request)));
            let room = room.handle.clone();
            shard.peopled_count += usize::from(is_first);
            let watcher = (is_first && self.watches_rooms()).then(|| {
                let name = room.name.clone();
                self.tell_watcher(Command::RoomCreated { name }, hash)
            });
            let attach = Command::Attach {
                connection,
                room,
                joined,
            };
            (watcher, self.mailbox(core).push(attach))
        };
        // The watcher counts too: who joins ever new rooms fills its mailbox.
        let watching = watcher.and_then(|watcher| watcher.wake(self.watcher(hash)).0);
        Backpressure(pushed.wake(core).0.or(watching))
    }

    fn house(&self) -> House<'_> {
        House {
            classes: &self.classes,
            pool: &self.pool,
            journal: self.journal.as_deref(),
        }
    }

    /// What a new room is to be.
    fn draw(&self, id: RoomId, name: &str) -> NewRoom {
        let class = self.classes.index_of(name);
        NewRoom {
            // The key is this process's own, so no other's epoch is hit but by chance.
            epoch: Epoch(self.hasher.hash_one(id).max(1)),
            class,
            slow_consumer: self.classes.at(class).slow_consumer,
        }
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

    /// Publishes to a room: gives the publication the room's next offset, keeps it if the room's class
    /// keeps a history, and sends one command to each core for each wire that has members there.
    ///
    /// A publication with a key that was published there before is not published again.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nobody got it.
    pub fn publish(&self, name: &str, outgoing: Outgoing<'_>) -> Result<Published, PublishError> {
        self.publish_unless(name, outgoing, |_| Ok(()))
    }

    /// The same for publishers that cannot be held back otherwise: not if a core with members of the
    /// room has a full mailbox.
    ///
    /// # Errors
    ///
    /// [`PublishError`], also [`PublishError::Overloaded`]; nobody got it.
    pub fn try_publish(
        &self,
        name: &str,
        outgoing: Outgoing<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_unless(name, outgoing, |room| self.check_members(room))
    }

    fn publish_unless(
        &self,
        name: &str,
        mut outgoing: Outgoing<'_>,
        check: impl FnOnce(&Room) -> Result<(), Overloaded>,
    ) -> Result<Published, PublishError> {
        self.check_name(name)?;
        let key = self.check_key(outgoing.key)?;
        let hash = self.hasher.hash_one(name);
        let placed = {
            let mut shard = self.shard(hash).lock();
            let placed = self.place(&mut shard, (hash, name), &mut outgoing, key, check);
            let is_counted = match &placed {
                Ok((published, _)) => !published.duplicate,
                Err(NoRoom::Nobody) => true,
                Err(NoRoom::Refused(_)) => false,
            };
            shard.publication_count += u64::from(is_counted);
            placed
        };
        let answer = outgoing.answer;
        let mut published = match placed {
            Ok((published, wakes)) => {
                wakes.into_iter().for_each(Pushed::wake_quietly);
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
        (hash, name): (u64, &str),
        outgoing: &mut Outgoing<'_>,
        key: Option<(u64, &str)>,
        check: impl FnOnce(&Room) -> Result<(), Overloaded>,
    ) -> Result<(Published, Wakes), NoRoom> {
        let memory = self.memory_for(shard, outgoing, name.len());
        let fits = memory.is_some_and(|bytes| shard.retention.has_memory(bytes));
        let is_journaled = shard.is_journaled;
        let mut is_new = false;
        let (room, retention) = shard.find_or_create(hash, name, |id| {
            let new = self.draw(id, name);
            let class = self.classes.at(new.class);
            check_size(outgoing, class).map_err(NoRoom::Refused)?;
            is_new = true;
            // Without memory it could not even be remembered that the room is not needed any more.
            (fits && is_kept(class, key.is_some()))
                .then_some(new)
                .ok_or(NoRoom::Nobody)
        })?;
        let class = self.classes.at(room.class);
        check_size(outgoing, class).map_err(NoRoom::Refused)?;
        if let Some(offset) = find_key(room, key) {
            wait_for(room, offset, outgoing, true);
            return Ok((duplicate(room, offset), Wakes::new()));
        }
        check(room).map_err(|error| NoRoom::Refused(error.into()))?;
        let journal = self.journal.as_deref().filter(|_| class.history.is_on());
        if let Some(refused) = journal.and_then(|journal| refusal(journal, fits)) {
            if is_new {
                // The next look at the line forgets it.
                retention.keep(room, class, outgoing.at_ms, |_| {});
            }
            return Err(NoRoom::Refused(refused));
        }
        let journal = journal.filter(|_| is_journaled);
        if let Some(journal) = journal {
            if is_new {
                self.write_epoch(room);
            }
            if journal.is_ahead() {
                let published = self.stage(room, retention, class, outgoing, key);
                return Ok((published, Wakes::new()));
            }
        }
        room.offset += 1;
        let mut encoder = Encoder::new(outgoing.publication, Some(room.offset));
        let delivery = Delivery::Publication(room.offset);
        let (mut published, wakes) = self.deliver(room, delivery, &mut encoder);
        published.position = Some(room.position());
        if is_kept(class, key.is_some()) {
            let frame = class
                .history
                .is_on()
                .then(|| encoder.frame(self.history_wire));
            if let (Some(_), Some(frame)) = (journal, &frame) {
                let key = key.map(|(_, text)| Arc::from(text));
                if self.write_publication(room, outgoing.at_ms, frame.clone(), key) {
                    published.backpressure = Backpressure(Some(Full::Journal));
                }
            }
            let trims = journal.is_some();
            self.keep(
                room,
                retention,
                class,
                (outgoing.at_ms, frame, key),
                (fits, trims),
            );
        }
        Ok((published, wakes))
    }

    /// Keeps a publication, and its key, as the room's class says.
    fn keep(
        &self,
        room: &mut Room,
        retention: &mut Retention,
        class: &RoomClass,
        (at_ms, frame, key): (u64, Option<SharedFrame>, Option<(u64, &str)>),
        (fits, is_journaled): (bool, bool),
    ) {
        if !fits && room.kept.is_none() {
            return;
        }
        let offset = room.offset;
        let first_before = room.first_offset();
        retention.keep(room, class, at_ms, |kept| {
            if !fits {
                // No memory even at the expense of all others: no history rather than one with a hole.
                return kept.clear_publications();
            }
            if let Some(frame) = frame {
                kept.push(frame, at_ms, class);
            }
            if let Some(key) = key.filter(|_| class.key_window_ms > 0) {
                kept.push_key(key, offset, at_ms, class);
            }
        });
        // Each publication makes one older one go: what is written down may hold some more than that.
        let first = room.first_offset();
        if is_journaled && (first / TRIM_EVERY > first_before / TRIM_EVERY || !fits) {
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
    ) -> Published {
        let (offset, at_ms) = (room.staged_offset() + 1, outgoing.at_ms);
        let mut encoder = Encoder::new(outgoing.publication, Some(offset));
        let frame = encoder.frame(self.history_wire);
        let frames = self.wires.iter().map(|wire| (*wire, encoder.frame(*wire)));
        let staged = Staged {
            delivery: Delivery::Publication(offset),
            frames: frames.collect(),
            at_ms,
            waiting: SmallVec::new(),
        };
        retention.keep(room, class, at_ms, |kept| {
            kept.stage(staged);
            if let Some(key) = key.filter(|_| class.key_window_ms > 0) {
                kept.push_key(key, offset, at_ms, class);
            }
        });
        wait_for(room, offset, outgoing, false);
        let key = key.map(|(_, text)| Arc::from(text));
        let change = Change::Publication {
            epoch: room.epoch,
            offset,
            at_ms,
            frame,
            key,
        };
        let full = self.house().write(&room.handle, change);
        Published {
            member_count: room.member_count(),
            position: Some(StreamPosition {
                offset,
                ..room.position()
            }),
            duplicate: false,
            backpressure: Backpressure(full.then_some(Full::Journal)),
        }
    }

    fn write_epoch(&self, room: &Room) {
        let change = Change::Epoch {
            epoch: room.epoch,
            lineage: Vec::new(),
        };
        self.house().write(&room.handle, change);
    }

    fn write_publication(
        &self,
        room: &Room,
        at_ms: u64,
        frame: SharedFrame,
        key: Option<Arc<str>>,
    ) -> bool {
        let change = Change::Publication {
            epoch: room.epoch,
            offset: room.offset,
            at_ms,
            frame,
            key,
        };
        self.house().write(&room.handle, change)
    }

    /// Sees to it that there is memory to keep a publication, as far as possible; returns how much it
    /// may take.
    fn memory_for(
        &self,
        shard: &mut Shard,
        outgoing: &Outgoing<'_>,
        name_len: usize,
    ) -> Option<usize> {
        if !self.keeps_histories && outgoing.key.is_none() {
            return None;
        }
        let key_len = outgoing.key.map_or(0, str::len);
        let bytes = kept::cost_at_most(outgoing.payload_len, name_len, key_len);
        if !shard.retention.has_memory(bytes) {
            shard.make_memory(bytes, outgoing.at_ms, &self.house());
        }
        Some(bytes)
    }

    fn check_key<'a>(&self, key: Option<&'a str>) -> Result<Option<(u64, &'a str)>, PublishError> {
        match key.map(str::len) {
            Some(key_len) if key_len == 0 || key_len > KEY_LEN_MAX => {
                Err(PublishError::Key { key_len })
            }
            _ => Ok(key.map(|key| (self.hasher.hash_one(key), key))),
        }
    }

    /// Sends an event to the members of a room; it has no offset and is not kept.
    ///
    /// A room that does not exist has no members, so nobody misses anything.
    pub fn emit(&self, name: &str, publication: impl Publication) -> Published {
        self.emit_as(EventKind::Lasting, name, publication)
    }

    /// The same, of some kind.
    pub fn emit_as(
        &self,
        kind: EventKind,
        name: &str,
        mut publication: impl Publication,
    ) -> Published {
        let hash = self.hasher.hash_one(name);
        let (published, wakes) = {
            let mut shard = self.shard(hash).lock();
            shard.publication_count += 1;
            self.place_event(&mut shard, (hash, name), kind, &mut publication)
        };
        wakes.into_iter().for_each(Pushed::wake_quietly);
        published
    }

    /// The same, unless a core with members of the room has a full mailbox: for publishers that cannot
    /// be held back otherwise.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has more to do than it may keep; nobody
    /// got the event.
    pub fn try_emit_as(
        &self,
        kind: EventKind,
        name: &str,
        mut publication: impl Publication,
    ) -> Result<Published, Overloaded> {
        let hash = self.hasher.hash_one(name);
        let (published, wakes) = {
            let mut shard = self.shard(hash).lock();
            if let Some(room) = shard.find(hash, name) {
                self.check_members(room)?;
            }
            shard.publication_count += 1;
            self.place_event(&mut shard, (hash, name), kind, &mut publication)
        };
        wakes.into_iter().for_each(Pushed::wake_quietly);
        Ok(published)
    }

    /// Everything about an event that the shard's lock is held for: behind what waits to be written down
    /// it waits too, so that nothing overtakes what was published before it.
    fn place_event(
        &self,
        shard: &mut Shard,
        (hash, name): (u64, &str),
        kind: EventKind,
        publication: &mut dyn Publication,
    ) -> (Published, Wakes) {
        let (rooms, retention) = (&mut shard.rooms, &mut shard.retention);
        let Some(room) = rooms.find_mut(hash, |room| room.has_name(hash, name)) else {
            return (Published::default(), Wakes::new());
        };
        let mut encoder = Encoder::new(publication, None);
        let delivery = Delivery::Event(kind);
        let waits = room.kept.as_ref().is_some_and(|kept| kept.has_staged());
        if !waits || !retention.has_memory(EVENT_COST_MAX) {
            return self.deliver(room, delivery, &mut encoder);
        }
        let frames = self.wires.iter().map(|wire| (*wire, encoder.frame(*wire)));
        let staged = Staged {
            delivery,
            frames: frames.collect(),
            at_ms: 0,
            waiting: SmallVec::new(),
        };
        let class = self.classes.at(room.class);
        if staged.cost_bytes() > EVENT_COST_MAX {
            return self.deliver(room, delivery, &mut encoder);
        }
        retention.keep(room, class, 0, |kept| kept.stage(staged));
        let published = Published {
            member_count: room.member_count(),
            ..Published::default()
        };
        (published, Wakes::new())
    }

    fn check_members(&self, room: &Room) -> Result<(), Overloaded> {
        let mut members = room.members.iter();
        members.try_for_each(|members| self.check_pressure(members.core))
    }

    /// A part of a room's history, in the frames of the history's wire; none if the room does not
    /// exist. Costs a reference count a publication.
    pub fn past(&self, name: &str, since: Since, limits: PastLimits) -> Option<Past> {
        let hash = self.hasher.hash_one(name);
        let shard = self.shard(hash).lock();
        let room = shard.find(hash, name)?;
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

    /// Counts one member less, and forgets the room with its last one unless it keeps something.
    ///
    /// Called once for each membership that ends and each `Attach` that is not accepted.
    pub(crate) fn release(&self, connection: ConnectionId, handle: &RoomHandle, now_ms: u64) {
        let of = (connection.core(), connection.wire());
        let pushed = {
            let mut shard = self.shard(handle.hash).lock();
            let was_last = shard.count_out(handle, of, now_ms, &self.house());
            if !was_last || !self.watches_rooms() {
                return;
            }
            let name = handle.name.clone();
            self.tell_watcher(Command::RoomRemoved { name }, handle.hash)
        };
        pushed.wake_quietly();
    }

    /// Drops what has expired of what rooms keep, in a core's share of the shards. Each core calls this
    /// about once a second while the table [keeps](Self::keeps_something) something.
    ///
    /// If a shard found the memory full lately, shards that use more than an equal share of it are
    /// brought down to that: a shard that came late gets its own.
    pub fn sweep(&self, core: CoreId, now_ms: u64) {
        let bytes_max = if self.pool.is_wanting(now_ms) {
            self.pool.bytes_max() / self.shards.len()
        } else {
            usize::MAX
        };
        let own = self.shards.iter().skip(core.index());
        for shard in own.step_by(self.mailboxes.len()) {
            // A look at an empty shard is all that most of them cost.
            while !shard.lock().sweep(now_ms, bytes_max, &self.house()) {}
        }
    }

    /// How many entries say when something expires, for tests.
    #[doc(hidden)]
    pub fn expiry_entry_count(&self) -> usize {
        let count = |shard: &CachePadded<Mutex<Shard>>| shard.lock().retention.line_len();
        self.shards.iter().map(count).sum()
    }

    /// Whether a queue is over its bound.
    pub fn is_full(&self, full: Full) -> bool {
        match full {
            Full::Core(core) => self.mailbox(core).is_full(),
            Full::Journal => self.journal.as_ref().is_some_and(|j| j.queue.is_full()),
        }
    }

    /// Whether a queue is over its bound; if so, `stalled` is woken when it has been drained.
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
    pub fn member_count(&self, name: &str) -> u32 {
        let hash = self.hasher.hash_one(name);
        self.shard(hash)
            .lock()
            .find(hash, name)
            .map_or(0, Room::member_count)
    }

    /// Where the room's stream is; none if the room does not exist.
    pub fn position(&self, name: &str) -> Option<StreamPosition> {
        let hash = self.hasher.hash_one(name);
        self.shard(hash).lock().find(hash, name).map(Room::position)
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

    /// The index of the shard for a hash: bits that hashbrown uses neither for its bucket (the
    /// lowest) nor for its tag (the highest 7).
    fn shard_index(&self, hash: u64) -> usize {
        usize::try_from(hash >> 32 & 0xFF_FFFF).unwrap_or(0) & (self.shards.len() - 1)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[self.shard_index(hash)]
    }

    /// Pushes one copy to each core for each wire that has members. The shard is locked.
    fn deliver(
        &self,
        room: &Room,
        delivery: Delivery,
        encoder: &mut Encoder<'_>,
    ) -> (Published, Wakes) {
        let mut published = Published {
            member_count: room.member_count(),
            ..Published::default()
        };
        let mut wakes = Wakes::new();
        for members in &room.members {
            let pushed = self.mailbox(members.core).push(Command::Deliver {
                room: room.handle.id,
                wire: members.wire,
                frame: encoder.frame(members.wire),
                delivery,
            });
            if pushed.full {
                published.backpressure = Backpressure(Some(Full::Core(members.core)));
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

/// Whom to wake when no lock is held.
type Wakes = SmallVec<[Pushed; 2]>;

/// A publication's frames, each encoded when it is first needed.
struct Encoder<'a> {
    publication: &'a mut dyn Publication,
    offset: Option<u64>,
    frames: SmallVec<[(Wire, SharedFrame); 2]>,
}

impl<'a> Encoder<'a> {
    fn new(publication: &'a mut dyn Publication, offset: Option<u64>) -> Self {
        Self {
            publication,
            offset,
            frames: SmallVec::new(),
        }
    }

    fn frame(&mut self, wire: Wire) -> SharedFrame {
        if let Some((_, frame)) = self.frames.iter().find(|(encoded, _)| *encoded == wire) {
            return frame.clone();
        }
        let frame = self.publication.encode(wire, self.offset);
        self.frames.push((wire, frame.clone()));
        frame
    }
}

/// Lets the publisher of a staged publication, or of a repeat of it, wait until it is written down.
fn wait_for(room: &mut Room, offset: u64, outgoing: &mut Outgoing<'_>, duplicate: bool) {
    let position = StreamPosition {
        offset,
        ..room.position()
    };
    let staged = room.kept.as_mut().and_then(|kept| kept.staged_mut(offset));
    if let Some(staged) = staged
        && let Some((connection, answer)) = outgoing.answer.take()
    {
        staged.waiting.push(Waiting {
            connection,
            acknowledgement: answer.acknowledge(Some(position), duplicate),
            refusal: answer.refuse(),
        });
    }
}

/// How many publications may be written down still though they are not held any more.
const TRIM_EVERY: u64 = 64;

/// The most memory that an event takes while it waits behind publications; a larger one does not wait,
/// and nor does one for which there is no memory.
const EVENT_COST_MAX: usize = 16 * 1024;

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

/// What who joins is told, and given.
fn joined(room: &Room, request: JoinRequest) -> Joined {
    let recovery = room.recover(request.since);
    let replay = recovery.map_or_else(Vec::new, |recovery| {
        room.publications_from(recovery.first).cloned().collect()
    });
    Joined {
        id: request.id,
        position: room.position(),
        recovery,
        replay,
    }
}
