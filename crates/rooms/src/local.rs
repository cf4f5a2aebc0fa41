//! One core's connections: their memberships and outboxes, and the rooms they are members of.
//!
//! Owned by the core, touched by nobody else, without a lock.
//!
//! Invariants:
//! - `rooms[m.room].members[m.index]` names the slot and the place of each membership `m`, and the
//!   other way round, so that joining and leaving cost the same in a room of ten or ten thousand;
//! - a local room has the members of a room that speak one wire, and exists while it has one here;
//! - each membership was counted by one [`RoomTable::join`] and ends with one release;
//! - publications wait in `pending` only inside a turn, and whatever depends on who is a member
//!   (attach, detach, a frame to one connection) fans them out first;
//! - answers wait for the end of the turn, behind what rooms are sent, and keep their order with
//!   other frames to the same connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashTable;
use proto::SharedFrame;

use crate::batch::{self, Batch, MERGED_LEN_MAX, Pending};
use crate::class::SlowConsumer;
use crate::disconnect::Disconnect;
use crate::gap;
use crate::id::{ConnectionId, CoreId, RoomId, SLOT_COUNT_MAX, Wire};
use crate::mailbox::{Command, Joined, RoomHandle};
use crate::outbox::{Outbox, Span, Tag};
use crate::slots::Slots;
use crate::table::RoomTable;

/// What one connection may use.
#[derive(Clone, Copy, Debug)]
pub struct LocalLimits {
    /// How many rooms a connection may be a member of.
    pub rooms_per_connection_max: usize,
    /// How many bytes may wait for a connection's socket.
    pub outbox_bytes_max: u32,
}

impl Default for LocalLimits {
    /// 128 rooms, 1 MiB.
    fn default() -> Self {
        Self {
            rooms_per_connection_max: 128,
            outbox_bytes_max: 1 << 20,
        }
    }
}

/// What a command asks of the core beyond its tables.
#[derive(Debug)]
pub enum Effect {
    /// Send what is queued, then close.
    Close {
        /// Whom to close.
        connection: ConnectionId,
        /// What to tell it.
        disconnect: Disconnect,
    },
    /// Close everybody and take no new connections.
    Drain,
    /// A connection that asked to be told is a member. The answer comes next, then
    /// [`LocalRooms::replay`].
    Joined {
        /// Who joined.
        connection: ConnectionId,
        /// What it joined.
        room: RoomHandle,
        /// What it is told, and given.
        joined: Box<Joined>,
        /// It was a member before: nothing has changed, and nothing is replayed.
        already: bool,
    },
    /// The connection is a member of as many rooms as it may be.
    JoinRefused {
        /// Who wanted to join.
        connection: ConnectionId,
        /// What it wanted to join.
        room: RoomHandle,
        /// The request's mark, if it had one.
        id: Option<u64>,
    },
    /// A room began to exist.
    RoomCreated {
        /// The room's name.
        name: Arc<str>,
    },
    /// A room ended.
    RoomRemoved {
        /// The room's name.
        name: Arc<str>,
    },
    /// Say what waits for the connections.
    Survey,
}

/// Frames that found their member's outbox full. See [`LocalRooms::take_overflow`].
#[derive(Debug)]
pub struct Overflow {
    /// Whose outbox is full.
    pub slot: u32,
    /// What did not fit.
    pub frame: SharedFrame,
    tag: Tag,
    /// The room that may be skipped.
    room: Option<RoomHandle>,
}

/// In which line a connection waits for its outbox to be flushed.
///
/// A fan-out to a large room must not make a small room wait: at 6 us a send, 10,000 members are
/// 60 ms. So there are two lines, and a core takes a slice of each in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushQueue {
    /// Members of large rooms.
    Bulk,
    /// Members of small rooms, and frames to one connection.
    Prompt,
}

/// The members up to which a room is small: as many sends as fit in half a millisecond.
const PROMPT_MEMBERS_MAX: usize = 64;

/// One core's members and rooms. See [`RoomTable`] for an example.
#[derive(Debug)]
pub struct LocalRooms {
    core: CoreId,
    limits: LocalLimits,
    /// The time of day, in Unix milliseconds.
    now_ms: u64,
    members: Slots<Member>,
    free_slots: Vec<u32>,
    connection_count: usize,
    membership_count: usize,
    rooms: Vec<LocalRoom>,
    free_rooms: Vec<u32>,
    /// What a place without a room is called.
    no_name: Arc<str>,
    rooms_by_id: HashTable<u32>,
    /// Frames for one connection that wait for the end of the turn, in the order they came.
    answers: Vec<(ConnectionId, SharedFrame)>,
    /// How much more than the limit may wait for a connection that was replayed to, in bytes, until
    /// its outbox has been empty once.
    allowances: HashMap<u32, u32, ahash::RandomState>,
    /// The last replay that was put together: many who lost the server together ask for the same.
    replayed: Option<Replayed>,
    /// Local rooms that have publications of this turn.
    published: Vec<u32>,
    /// Where a turn's publications are put together.
    merged: Vec<u8>,
    prompt: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// By connection and not by slot: who ends before these are taken must not leave them to
    /// whoever has the slot next.
    overflow: Vec<(ConnectionId, Overflow)>,
    /// Slots whose sockets take no more for now.
    blocked: HashSet<u32, ahash::RandomState>,
    counts: LocalCounts,
}

/// What a core's rooms have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCounts {
    /// Frames queued for members: publications and events times members.
    pub deliveries: u64,
    /// Publications that slow members were not sent, and told so.
    pub skipped: u64,
    /// Passing events that members were not sent because much waited for them.
    pub passed_over: u64,
    /// Publications that were replayed to members that came back.
    pub replayed: u64,
}

/// A replay as one buffer.
#[derive(Debug)]
struct Replayed {
    room: RoomId,
    first: u64,
    len: usize,
    frame: SharedFrame,
}

/// A connection. 64 bytes: fanning out touches one cache line a member.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Member {
    outbox: Outbox,
    memberships: Vec<Membership>,
    generation: u32,
    wire: Wire,
    state: MemberState,
}

/// What is so of a connection: flags in one byte, since a `bool` each would make a [`Member`] larger
/// than a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MemberState(u8);

impl MemberState {
    const OPEN: u8 = 1;
    /// The socket takes no more for now: the connection is flushed when it is writable again.
    const BLOCKED: u8 = 1 << 1;
    /// It stands in the prompt line.
    const PROMPT: u8 = 1 << 2;
    /// It stands in the bulk line.
    const BULK: u8 = 1 << 3;
    /// Frames of this turn did not fit, so later ones must not overtake them.
    const OVERFLOWED: u8 = 1 << 4;
    /// It has been sent its last frame.
    const SHUT: u8 = 1 << 5;
    /// Answers wait for it.
    const ANSWERED: u8 = 1 << 6;
    /// More than the limit may wait for it.
    const ALLOWED: u8 = 1 << 7;

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Whether frames may be queued for it as for most: it is open, and nothing special is so.
    const fn is_plain(self) -> bool {
        self.0 & (Self::OPEN | Self::OVERFLOWED | Self::SHUT | Self::ALLOWED) == Self::OPEN
    }

    /// Whether frames may be queued for it.
    const fn is_addressable(self) -> bool {
        self.0 & (Self::OPEN | Self::SHUT) == Self::OPEN
    }

    /// Sets a flag and returns what it was.
    const fn replace(&mut self, flag: u8, on: bool) -> bool {
        let was = self.has(flag);
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
        was
    }
}

/// A connection's side of a membership.
#[derive(Clone, Copy, Debug)]
struct Membership {
    room: u32,
    /// Where in the room's `members`.
    index: u32,
}

/// A room's side of a membership.
#[derive(Clone, Copy, Debug)]
struct MemberRef {
    slot: u32,
    /// Where in the connection's `memberships`.
    membership: u32,
}

#[derive(Debug)]
struct LocalRoom {
    handle: RoomHandle,
    wire: Wire,
    members: Vec<MemberRef>,
    /// Publications of this turn that are not fanned out yet.
    pending: Vec<Pending>,
}

impl LocalRooms {
    /// A core without connections.
    pub fn new(core: CoreId, limits: LocalLimits) -> Self {
        Self {
            core,
            limits,
            now_ms: 0,
            members: Slots::new(),
            free_slots: Vec::new(),
            connection_count: 0,
            membership_count: 0,
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            no_name: Arc::from(""),
            rooms_by_id: HashTable::new(),
            answers: Vec::new(),
            allowances: HashMap::default(),
            replayed: None,
            published: Vec::new(),
            merged: Vec::new(),
            prompt: VecDeque::new(),
            bulk: VecDeque::new(),
            overflow: Vec::new(),
            blocked: HashSet::default(),
            counts: LocalCounts::default(),
        }
    }

    /// Says what time it is, in Unix milliseconds: from when on a room without members is not needed any
    /// more.
    pub const fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes in a connection on wire 0; none if all slots are taken.
    pub fn open(&mut self) -> Option<ConnectionId> {
        self.open_on(Wire(0))
    }

    /// Takes in a connection on some wire; none if all slots are taken.
    pub fn open_on(&mut self, wire: Wire) -> Option<ConnectionId> {
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.members.len() < SLOT_COUNT_MAX => {
                self.members.push(Member::default());
                u32::try_from(self.members.len() - 1).ok()?
            }
            None => return None,
        };
        let member = &mut self.members[slot as usize];
        member.state = MemberState(MemberState::OPEN);
        member.wire = wire;
        self.connection_count += 1;
        Some(self.id_of(slot))
    }

    /// Ends a connection: all its memberships, and what was queued for it.
    ///
    /// Costs in proportion to the rooms of this connection.
    pub fn close(&mut self, slot: u32, table: &RoomTable) {
        self.end_memberships(slot, table);
        self.forget_allowance(slot);
        self.blocked.remove(&slot);
        let member = &mut self.members[slot as usize];
        debug_assert!(
            member.state.has(MemberState::OPEN),
            "a connection is closed once"
        );
        member.outbox = Outbox::default();
        member.memberships = Vec::new();
        member.generation = member.generation.wrapping_add(1);
        member.state = MemberState::default();
        self.connection_count -= 1;
        self.free_slots.push(slot);
    }

    /// Begins the end of a connection: it leaves its rooms, gets `last` after what was queued for
    /// it, and nothing that is sent to it later.
    ///
    /// If there is no room for `last`, what the socket has not begun to take makes way.
    pub fn shut(&mut self, slot: u32, last: &SharedFrame, table: &RoomTable) {
        self.detach_all(slot, table);
        self.push_answers_of(slot);
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.members[slot as usize];
        member.state.replace(MemberState::SHUT, true);
        if member.state.has(MemberState::OVERFLOWED) {
            member.outbox.drop_unsent();
        }
        if member.outbox.push(last, Tag::Firm, bytes_max).is_err() {
            member.outbox.drop_unsent();
            // What is left is one buffer, and the outbox is this connection's last: no limit.
            _ = member.outbox.push(last, Tag::Firm, u32::MAX);
        }
        self.enqueue(slot, FlushQueue::Prompt);
    }

    /// The connection in the slot, if it is still this one and not [shut](Self::shut).
    pub fn slot_of(&self, connection: ConnectionId) -> Option<u32> {
        let slot = connection.slot();
        let member = self.members.get(slot as usize)?;
        (member.state.is_addressable() && self.id_of(slot) == connection).then_some(slot)
    }

    /// An id that no connection of this core has.
    pub const fn nobody(&self) -> ConnectionId {
        ConnectionId::new(self.core, u32::MAX, Wire(0), u32::MAX)
    }

    /// The id of the connection in the slot.
    pub fn id_of(&self, slot: u32) -> ConnectionId {
        let member = &self.members[slot as usize];
        ConnectionId::new(self.core, slot, member.wire, member.generation)
    }

    /// Carries out one command; what it asks beyond these tables is returned.
    pub fn apply(&mut self, command: Command, table: &RoomTable) -> Option<Effect> {
        match command {
            Command::Answer { connection, frame } => self.answer(connection, frame),
            Command::Attach {
                connection,
                room,
                joined,
            } => return self.attach(connection, room, joined, table),
            Command::Close {
                connection,
                disconnect,
            } => {
                let slot = self.slot_of(connection)?;
                self.fan_out_rooms_of(slot);
                self.push_answers_of(slot);
                return Some(Effect::Close {
                    connection,
                    disconnect,
                });
            }
            Command::Deliver {
                room,
                wire,
                frame,
                delivery,
            } => self.deliver((room, wire), Pending { frame, delivery }),
            Command::Detach { connection, room } => {
                let slot = self.slot_of(connection)?;
                self.detach(slot, room, table);
            }
            Command::DetachAll { connection } => {
                let slot = self.slot_of(connection)?;
                self.detach_all(slot, table);
            }
            Command::Direct { connection, frame } => {
                let slot = self.slot_of(connection)?;
                self.fan_out_rooms_of(slot);
                self.push_answers_of(slot);
                self.push(slot, &frame, FlushQueue::Prompt);
            }
            Command::Drain => {
                self.fan_out();
                return Some(Effect::Drain);
            }
            Command::RoomCreated { name } => return Some(Effect::RoomCreated { name }),
            Command::RoomRemoved { name } => return Some(Effect::RoomRemoved { name }),
            Command::Survey => return Some(Effect::Survey),
        }
        None
    }

    /// Sends the publications of this turn to the outboxes of their members: for each room and wire one
    /// buffer of up to 64 KiB, however many publications it carries. Then the answers of this turn.
    ///
    /// Merging is worth 4x over queueing each publication with each member (measured: 22 M/s
    /// deliveries against 5.5 M/s).
    pub fn fan_out(&mut self) {
        let mut published = std::mem::take(&mut self.published);
        for room in published.drain(..) {
            self.fan_out_room(room);
        }
        self.published = published;
        self.push_answers();
    }

    /// Queues frames for one connection, after what was queued before. A connection that is
    /// [shut](Self::shut) takes nothing, nor does a slot that has none: it is the next one's.
    ///
    /// Returns false if the outbox is full; then the frames wait in the
    /// [overflow](Self::take_overflow).
    #[inline]
    pub fn push(&mut self, slot: u32, frame: &SharedFrame, queue: FlushQueue) -> bool {
        let member = &mut self.members[slot as usize];
        if member.state.is_plain()
            && member
                .outbox
                .push(frame, Tag::Firm, self.limits.outbox_bytes_max)
                .is_ok()
        {
            self.enqueue(slot, queue);
            return true;
        }
        self.push_tagged(slot, (frame, Tag::Firm), None, queue)
    }

    #[inline(never)]
    fn push_tagged(
        &mut self,
        slot: u32,
        (frame, tag): (&SharedFrame, Tag),
        room: Option<&RoomHandle>,
        queue: FlushQueue,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.members[slot as usize];
        if !member.state.is_addressable() {
            return true;
        }
        if !member.state.has(MemberState::OVERFLOWED) {
            if member.outbox.push(frame, tag, bytes_max).is_ok() {
                self.enqueue(slot, queue);
                return true;
            }
            member.state.replace(MemberState::OVERFLOWED, true);
        }
        let overflow = Overflow {
            slot,
            frame: frame.clone(),
            tag,
            room: room.cloned(),
        };
        self.overflow.push((self.id_of(slot), overflow));
        false
    }

    /// How much may wait for the connection, in bytes.
    #[inline]
    fn bytes_max(&self, slot: u32) -> u32 {
        let bytes_max = self.limits.outbox_bytes_max;
        if self.members[slot as usize].state.has(MemberState::ALLOWED) {
            return bytes_max.saturating_add(self.allowances.get(&slot).copied().unwrap_or(0));
        }
        bytes_max
    }

    /// Takes the frames that found their outbox full, in the order they came.
    ///
    /// An outbox may be full only because its flush has not come round. So the caller flushes the
    /// connection and queues the frame again with [`push_again`](Self::push_again); if that fails too,
    /// the socket does not take what it is sent: that is a slow consumer. All this comes after
    /// [`fan_out`](Self::fan_out), or what is fanned out meanwhile overtakes what was taken.
    pub fn take_overflow(&mut self) -> Vec<Overflow> {
        let overflow = std::mem::take(&mut self.overflow).into_iter();
        let of_the_open = overflow.filter_map(|(connection, overflow)| {
            let slot = self.slot_of(connection)?;
            self.members[slot as usize]
                .state
                .replace(MemberState::OVERFLOWED, false);
            Some(overflow)
        });
        of_the_open.collect()
    }

    /// Queues a frame that found the outbox full. If it still is, what the member's room says of slow
    /// ones happens: older publications make way, and it is told which.
    ///
    /// Returns false if the frame has no place: then the connection is a slow consumer, to be closed.
    pub fn push_again(&mut self, overflow: &Overflow) -> bool {
        let Overflow {
            slot,
            ref frame,
            tag,
            ref room,
        } = *overflow;
        let bytes_max = self.bytes_max(slot);
        let member = &mut self.members[slot as usize];
        if !member.state.is_addressable() {
            return true;
        }
        if member.outbox.push(frame, tag, bytes_max).is_err() {
            let (Tag::Publications(span), Some(room)) = (tag, room) else {
                return false;
            };
            if !self.push_skipping(slot, (frame, span), room) {
                return false;
            }
        }
        self.enqueue(slot, FlushQueue::Prompt);
        true
    }

    /// Queues publications for which there is no place in that of older ones of the room. If there is
    /// none even then, the newest is queued over the bound where only that matters, and others are only
    /// told of. False if there is no place for that either.
    fn push_skipping(
        &mut self,
        slot: u32,
        (frame, span): (&SharedFrame, Span),
        room: &RoomHandle,
    ) -> bool {
        let bytes_max = self.bytes_max(slot);
        let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let left_max = bytes_max.saturating_sub(frame_len);
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let tag = Tag::Publications(span);
        let outbox = &mut self.members[slot as usize].outbox;
        loop {
            let dropped = outbox.drop_oldest(span.room, |bytes| bytes > left_max, gap);
            self.counts.skipped += dropped;
            if outbox.push(frame, tag, bytes_max).is_ok() {
                return true;
            }
            // A gap is written where the first was and grows a little with the last: more may have to go.
            if dropped == 0 {
                break;
            }
        }
        if room.slow_consumer == SlowConsumer::Latest {
            let beyond = self.bytes_max_beyond(slot);
            let outbox = &mut self.members[slot as usize].outbox;
            if outbox.push(frame, tag, beyond).is_ok() {
                return true;
            }
        }
        self.counts.skipped += span.len();
        self.pass_over(slot, span, room)
    }

    /// Tells a member of publications that it is not sent; false if there is no place even for that: who
    /// leaves and joins a room again and again without reading has more gaps than one for each room.
    fn pass_over(&mut self, slot: u32, span: Span, room: &RoomHandle) -> bool {
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        let rooms_max = self.limits.rooms_per_connection_max;
        let gaps_len = rooms_max.saturating_mul(gap::len_max(&room.name));
        let gaps_len = u32::try_from(gaps_len).unwrap_or(u32::MAX);
        let gaps_bytes_max = self.bytes_max_beyond(slot).saturating_add(gaps_len);
        let outbox = &mut self.members[slot as usize].outbox;
        outbox.pass_over(span, gap, gaps_bytes_max).is_ok()
    }

    /// Up to where the newest publications of rooms are queued over the bound of an outbox: twice.
    fn bytes_max_beyond(&self, slot: u32) -> u32 {
        let outbox = &self.members[slot as usize].outbox;
        outbox.bound(self.bytes_max(slot)).saturating_mul(2)
    }

    /// Keeps a frame for one connection until the end of the turn.
    fn answer(&mut self, connection: ConnectionId, frame: SharedFrame) {
        if let Some(slot) = self.slot_of(connection) {
            self.members[slot as usize]
                .state
                .replace(MemberState::ANSWERED, true);
            self.answers.push((connection, frame));
        }
    }

    /// Queues the answers of this turn, those to one connection as one buffer.
    fn push_answers(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let mut answers = std::mem::take(&mut self.answers);
        // Stable: a connection's answers keep their order. Mostly sorted already, by a publisher each.
        answers.sort_by_key(|(connection, _)| connection.as_u64());
        for of_one in answers.chunk_by(|(a, _), (b, _)| a == b) {
            self.push_merged(of_one);
        }
        answers.clear();
        answers.shrink_to(ANSWERS_KEPT_MAX);
        self.answers = answers;
    }

    /// Queues the answers to one connection, so that what follows for it comes behind them.
    fn push_answers_of(&mut self, slot: u32) {
        if !self.members[slot as usize].state.has(MemberState::ANSWERED) {
            return;
        }
        let connection = self.id_of(slot);
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.answers)
            .into_iter()
            .partition(|(to, _)| *to == connection);
        self.answers = others;
        self.push_merged(&own);
    }

    fn push_merged(&mut self, answers: &[(ConnectionId, SharedFrame)]) {
        let Some(slot) = answers.first().and_then(|(to, _)| self.slot_of(*to)) else {
            return;
        };
        self.members[slot as usize]
            .state
            .replace(MemberState::ANSWERED, false);
        let mut scratch = std::mem::take(&mut self.merged);
        let mut rest = answers;
        while let Some((frame, count)) = batch::merge(&mut scratch, rest.iter().map(|(_, f)| f)) {
            self.push(slot, &frame, FlushQueue::Prompt);
            rest = &rest[count..];
        }
        self.merged = scratch;
    }

    /// Queues what a member that came back has missed, behind the answer that it has joined.
    ///
    /// A replay may be as large as the outbox's limit, so it does not count against that until the
    /// outbox has been empty once: a member behind a slow link would be closed for it, come back, and
    /// be closed again. One is let through however large it is, several up to a bound. The frames are the history's own; only a small replay is put together, and
    /// shared with whoever asks for the same next.
    pub fn replay(&mut self, slot: u32, room: &RoomHandle, joined: &Joined) {
        let Some(recovery) = joined.recovery.filter(|_| !joined.replay.is_empty()) else {
            return;
        };
        if self.slot_of(self.id_of(slot)).is_none() {
            return;
        }
        self.counts.replayed += joined.replay.len() as u64;
        let len: usize = joined.replay.iter().map(|frame| frame.len()).sum();
        self.allow(slot, len);
        if len > MERGED_LEN_MAX {
            for frame in &joined.replay {
                self.push(slot, frame, FlushQueue::Bulk);
            }
            return;
        }
        let is_same = self.replayed.as_ref().is_some_and(|last| {
            (last.room, last.first, last.len) == (room.id, recovery.first, joined.replay.len())
        });
        if !is_same {
            let merged = batch::merge(&mut self.merged, joined.replay.iter());
            self.replayed = merged.map(|(frame, len)| Replayed {
                room: room.id,
                first: recovery.first,
                len,
                frame,
            });
        }
        if let Some(Replayed { frame, .. }) = &self.replayed {
            let frame = frame.clone();
            self.push(slot, &frame, FlushQueue::Bulk);
        }
    }

    /// Lets so many bytes more wait for the connection, until nothing does. Not if as much was allowed
    /// already as a few outboxes hold: who joins again and again without reading is a slow consumer.
    fn allow(&mut self, slot: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes_max = self.limits.outbox_bytes_max;
        let member = &mut self.members[slot as usize];
        if member.outbox.pending_bytes().saturating_add(bytes) <= bytes_max {
            return;
        }
        member.state.replace(MemberState::ALLOWED, true);
        let allowance = self.allowances.entry(slot).or_insert(0);
        if *allowance <= bytes_max.saturating_mul(ALLOWED_OUTBOXES_MAX) {
            *allowance = allowance.saturating_add(bytes);
        }
    }

    fn forget_allowance(&mut self, slot: u32) {
        let state = &mut self.members[slot as usize].state;
        if state.replace(MemberState::ALLOWED, false) {
            self.allowances.remove(&slot);
        }
    }

    /// Whether frames found their outbox full.
    pub const fn has_overflow(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Takes the next connection that has something to flush from a line.
    pub fn next_to_flush(&mut self, queue: FlushQueue) -> Option<u32> {
        loop {
            let slot = match queue {
                FlushQueue::Bulk => self.bulk.pop_front(),
                FlushQueue::Prompt => self.prompt.pop_front(),
            }?;
            let member = &mut self.members[slot as usize];
            let queued = match queue {
                FlushQueue::Bulk => member.state.replace(MemberState::BULK, false),
                FlushQueue::Prompt => member.state.replace(MemberState::PROMPT, false),
            };
            // It may have been flushed from the other line, have ended, or wait for its socket.
            if queued && !member.state.has(MemberState::BLOCKED) && !member.outbox.is_empty() {
                return Some(slot);
            }
        }
    }

    /// Whether connections wait to be flushed.
    pub fn has_flushes(&self) -> bool {
        !self.prompt.is_empty() || !self.bulk.is_empty()
    }

    /// What waits for the connection's socket.
    pub fn outbox(&self, slot: u32) -> &Outbox {
        &self.members[slot as usize].outbox
    }

    /// Takes note that the connection's socket took so many bytes.
    #[inline]
    pub fn advance(&mut self, slot: u32, taken: usize) {
        let member = &mut self.members[slot as usize];
        member.outbox.advance(taken);
        if member.state.has(MemberState::ALLOWED) && member.outbox.is_empty() {
            self.forget_allowance(slot);
        }
    }

    /// Says whether the socket takes no more for now. When it does again, what is queued stands
    /// in the prompt line.
    pub fn set_blocked(&mut self, slot: u32, blocked: bool) {
        let member = &mut self.members[slot as usize];
        let was_blocked = member.state.replace(MemberState::BLOCKED, blocked);
        if !blocked && !member.outbox.is_empty() {
            self.enqueue(slot, FlushQueue::Prompt);
        }
        match (was_blocked, blocked) {
            (false, true) => _ = self.blocked.insert(slot),
            (true, false) => _ = self.blocked.remove(&slot),
            _ => {}
        }
    }

    /// The connections whose sockets take no more for now: of all others nothing waits longer than a
    /// flush takes to come round.
    pub fn blocked_slots(&self) -> impl ExactSizeIterator<Item = u32> {
        self.blocked.iter().copied()
    }

    /// Whether the socket takes no more for now.
    pub fn is_blocked(&self, slot: u32) -> bool {
        self.members[slot as usize].state.has(MemberState::BLOCKED)
    }

    /// Ends all memberships of a connection that stays open. What was published before still
    /// reaches it.
    pub fn detach_all(&mut self, slot: u32, table: &RoomTable) {
        self.fan_out_rooms_of(slot);
        self.end_memberships(slot, table);
    }

    fn end_memberships(&mut self, slot: u32, table: &RoomTable) {
        while let Some(last) = self.members[slot as usize].memberships.len().checked_sub(1) {
            self.end_membership(slot, last, table);
        }
    }

    /// How many connections there are.
    pub const fn connection_count(&self) -> usize {
        self.connection_count
    }

    /// How many memberships there are, over all rooms.
    pub const fn membership_count(&self) -> usize {
        self.membership_count
    }

    /// What was counted since the beginning.
    pub const fn counts(&self) -> LocalCounts {
        self.counts
    }

    /// How many rooms have members on this core; one with members on two wires counts twice.
    pub fn room_count(&self) -> usize {
        self.rooms_by_id.len()
    }

    /// The names of the rooms that the connection is a member of.
    pub fn rooms_of(&self, slot: u32) -> impl Iterator<Item = &str> {
        self.members[slot as usize]
            .memberships
            .iter()
            .map(|membership| &*self.rooms[membership.room as usize].handle.name)
    }

    /// Every slot that has an open connection.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let open = |(_, member): &(u32, &Member)| member.state.has(MemberState::OPEN);
        (0..)
            .zip(self.members.iter())
            .filter(open)
            .map(|(slot, _)| slot)
    }

    fn find_room(&self, (id, wire): (RoomId, Wire)) -> Option<u32> {
        let found = self.rooms_by_id.find(id.spread(), |room| {
            let room = &self.rooms[*room as usize];
            room.handle.id == id && room.wire == wire
        });
        found.copied()
    }

    /// Accepts an `Attach`, or gives back what the table counted for it.
    fn attach(
        &mut self,
        connection: ConnectionId,
        handle: RoomHandle,
        joined: Option<Box<Joined>>,
        table: &RoomTable,
    ) -> Option<Effect> {
        let Some(slot) = self.slot_of(connection) else {
            table.release(connection, &handle, self.now_ms);
            return None;
        };
        let room = self.find_room((handle.id, connection.wire()));
        let already = room.is_some_and(|room| self.membership_index(slot, room).is_some());
        let memberships = &self.members[slot as usize].memberships;
        if already {
            table.release(connection, &handle, self.now_ms);
        } else if memberships.len() >= self.limits.rooms_per_connection_max {
            self.fan_out_rooms_of(slot);
            self.push_answers_of(slot);
            table.release(connection, &handle, self.now_ms);
            return Some(Effect::JoinRefused {
                connection,
                room: handle,
                id: joined.and_then(|joined| joined.id),
            });
        } else {
            let room = room.unwrap_or_else(|| self.create_room(handle.clone(), connection.wire()));
            self.fan_out_room(room);
            self.begin_membership(slot, room);
            if handle.slow_consumer != SlowConsumer::Disconnect {
                self.seal(slot, handle.id);
            }
        }
        let joined = joined?;
        // What it was sent before keeps its place before the answer.
        self.fan_out_rooms_of(slot);
        self.push_answers_of(slot);
        Some(Effect::Joined {
            connection,
            room: handle,
            joined,
            already,
        })
    }

    fn begin_membership(&mut self, slot: u32, room: u32) {
        let memberships = &mut self.members[slot as usize].memberships;
        let members = &mut self.rooms[room as usize].members;
        let (Ok(index), Ok(membership)) = (
            u32::try_from(members.len()),
            u32::try_from(memberships.len()),
        ) else {
            return;
        };
        if memberships.is_empty() {
            // Most connections are in one room; Vec would start with four.
            memberships.reserve_exact(1);
        }
        memberships.push(Membership { room, index });
        members.push(MemberRef { slot, membership });
        self.membership_count += 1;
    }

    /// Keeps apart what waits of an earlier membership of the room: who joined again is not told before
    /// that what it was not sent after it.
    fn seal(&mut self, slot: u32, room: RoomId) {
        self.members[slot as usize].outbox.seal(room);
        let waiting = self.overflow.iter_mut().map(|(_, overflow)| overflow);
        for overflow in waiting.filter(|overflow| overflow.slot == slot) {
            if matches!(overflow.tag, Tag::Publications(span) if span.room == room) {
                overflow.tag = Tag::Firm;
            }
        }
    }

    fn detach(&mut self, slot: u32, room: RoomId, table: &RoomTable) {
        let wire = self.members[slot as usize].wire;
        let Some(room) = self.find_room((room, wire)) else {
            return;
        };
        let Some(membership) = self.membership_index(slot, room) else {
            return;
        };
        self.fan_out_room(room);
        self.end_membership(slot, membership, table);
    }

    /// Where in the connection's memberships this room is. Costs at most the rooms of the
    /// connection.
    fn membership_index(&self, slot: u32, room: u32) -> Option<usize> {
        self.members[slot as usize]
            .memberships
            .iter()
            .position(|found| found.room == room)
    }

    /// Takes a membership out of both lists, mending the two entries that move into its place.
    fn end_membership(&mut self, slot: u32, membership: usize, table: &RoomTable) {
        let memberships = &mut self.members[slot as usize].memberships;
        let Membership { room, index } = memberships.swap_remove(membership);
        if let Some(moved) = memberships.get(membership) {
            let at = moved.index as usize;
            let moved_room = &mut self.rooms[moved.room as usize];
            moved_room.members[at].membership = u32::try_from(membership).unwrap_or(u32::MAX);
        }
        let local = &mut self.rooms[room as usize];
        local.members.swap_remove(index as usize);
        if let Some(moved) = local.members.get(index as usize) {
            let (slot, membership) = (moved.slot as usize, moved.membership as usize);
            self.members[slot].memberships[membership].index = index;
        }
        self.membership_count -= 1;
        let handle = &self.rooms[room as usize].handle;
        table.release(self.id_of(slot), handle, self.now_ms);
        if self.rooms[room as usize].members.is_empty() {
            self.remove_room(room);
        }
    }

    fn create_room(&mut self, handle: RoomHandle, wire: Wire) -> u32 {
        let id = handle.id;
        let local = LocalRoom {
            handle,
            wire,
            members: Vec::new(),
            pending: Vec::new(),
        };
        let room = match self.free_rooms.pop() {
            Some(room) => {
                self.rooms[room as usize] = local;
                room
            }
            None => {
                self.rooms.push(local);
                u32::try_from(self.rooms.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let rooms = &self.rooms;
        self.rooms_by_id.insert_unique(id.spread(), room, |room| {
            rooms[*room as usize].handle.id.spread()
        });
        room
    }

    fn remove_room(&mut self, room: u32) {
        let local = &mut self.rooms[room as usize];
        local.members = Vec::new();
        // Publications of this turn that nobody is left to hear.
        local.pending = Vec::new();
        // The place stays for the next room; a long name must not.
        local.handle.name = self.no_name.clone();
        let id = local.handle.id;
        if let Ok(entry) = self
            .rooms_by_id
            .find_entry(id.spread(), |found| *found == room)
        {
            entry.remove();
        }
        self.free_rooms.push(room);
    }

    fn deliver(&mut self, room: (RoomId, Wire), publication: Pending) {
        let Some(room) = self.find_room(room) else {
            return;
        };
        let local = &mut self.rooms[room as usize];
        if local.pending.is_empty() {
            self.published.push(room);
        }
        local.pending.push(publication);
    }

    /// Fans out the rooms that the connection is a member of, so that what follows for it comes
    /// after what was published before.
    fn fan_out_rooms_of(&mut self, slot: u32) {
        if self.published.is_empty() {
            return;
        }
        for index in 0..self.members[slot as usize].memberships.len() {
            self.fan_out_room(self.members[slot as usize].memberships[index].room);
        }
    }

    /// Pushes the pending publications of a room to each of its members, merged into as few
    /// shared buffers as they fit.
    fn fan_out_room(&mut self, room: u32) {
        let local = &mut self.rooms[room as usize];
        if local.pending.is_empty() {
            return;
        }
        // Moved out and back, so that the outboxes can be borrowed too.
        let mut pending = std::mem::take(&mut local.pending);
        let members = std::mem::take(&mut local.members);
        let (id, slow_consumer) = (local.handle.id, local.handle.slow_consumer);
        let mut scratch = std::mem::take(&mut self.merged);
        self.counts.deliveries += pending.len() as u64 * members.len() as u64;
        let mut rest = &pending[..];
        while let Some(batch) = Batch::first_of(rest, id, slow_consumer, &mut scratch) {
            self.push_to_all(room, &members, &batch, &mut scratch);
            rest = &rest[batch.len()..];
        }
        pending.clear();
        pending.shrink_to(PENDING_KEPT_MIN.max(members.len() / MEMBERS_PER_PENDING_KEPT));
        self.merged = scratch;
        let local = &mut self.rooms[room as usize];
        local.members = members;
        local.pending = pending;
    }

    fn push_to_all(
        &mut self,
        room: u32,
        members: &[MemberRef],
        batch: &Batch<'_>,
        scratch: &mut Vec<u8>,
    ) {
        let queue = match members.len() {
            0..=PROMPT_MEMBERS_MAX => FlushQueue::Prompt,
            _ => FlushQueue::Bulk,
        };
        if batch.tag() != Tag::Firm || batch.has_passing() {
            let room = self.rooms[room as usize].handle.clone();
            return self.push_to_each(members, batch, &room, queue, scratch);
        }
        for member in members {
            self.push(member.slot, batch.frame(), queue);
        }
    }

    /// The same where not every member gets the same: in rooms that may be skipped, and of events that
    /// are passed over under pressure.
    fn push_to_each(
        &mut self,
        members: &[MemberRef],
        batch: &Batch<'_>,
        room: &RoomHandle,
        queue: FlushQueue,
        scratch: &mut Vec<u8>,
    ) {
        let latest = batch
            .newest()
            .filter(|_| room.slow_consumer == SlowConsumer::Latest);
        let mut firm = None;
        for MemberRef { slot, .. } in members {
            let member = &self.members[*slot as usize];
            let waits = member.state.has(MemberState::BLOCKED) || member.outbox.has_rest();
            // Older ones may be among what found no place: all of it comes behind them, or goes with them.
            let is_next = !member.state.has(MemberState::OVERFLOWED);
            if let Some((frame, tag)) = latest.filter(|_| waits && is_next) {
                self.push_latest(*slot, (frame, tag), batch, room, queue);
            } else if batch.has_passing() && self.is_pressed(*slot, batch.frame().len()) {
                self.counts.passed_over += batch.passing_count();
                let firm = firm.get_or_insert_with(|| batch.without_passing(scratch));
                if let Some(frame) = firm {
                    self.push_tagged(*slot, (frame, batch.tag()), Some(room), queue);
                }
            } else {
                let frame = (batch.frame(), batch.tag());
                self.push_tagged(*slot, frame, Some(room), queue);
            }
        }
    }

    /// Whether passing events are not for a member, in a buffer of so many bytes: much waits for it, or
    /// something found no place, or they would not either.
    fn is_pressed(&self, slot: u32, len: usize) -> bool {
        let member = &self.members[slot as usize];
        let pending_bytes = member.outbox.pending_bytes();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        member.state.has(MemberState::OVERFLOWED)
            || pending_bytes > self.limits.outbox_bytes_max / PRESSURE_DIVISOR
            || pending_bytes > 0 && pending_bytes.saturating_add(len) > self.limits.outbox_bytes_max
    }

    /// Queues the newest publication of a batch for a member for whom something waits already, in place
    /// of all older ones of the room that wait.
    fn push_latest(
        &mut self,
        slot: u32,
        (frame, tag): (&SharedFrame, Tag),
        batch: &Batch<'_>,
        room: &RoomHandle,
        queue: FlushQueue,
    ) {
        self.counts.passed_over += batch.passing_count();
        let outbox = &mut self.members[slot as usize].outbox;
        let gap = |span: Span| gap::encode(&room.name, span.first, span.last);
        self.counts.skipped += outbox.drop_oldest(room.id, |_| true, gap);
        if let Some(older) = batch.older_than_newest() {
            if !self.pass_over(slot, older, room) {
                let whole = (batch.frame(), batch.tag());
                self.push_tagged(slot, whole, Some(room), queue);
                return;
            }
            self.counts.skipped += older.len();
        }
        self.push_tagged(slot, (frame, tag), Some(room), queue);
    }

    /// Puts a connection in a line, once.
    #[inline]
    fn enqueue(&mut self, slot: u32, queue: FlushQueue) {
        let state = &mut self.members[slot as usize].state;
        if state.has(MemberState::BLOCKED) {
            return;
        }
        let (flag, line) = match queue {
            FlushQueue::Bulk => (MemberState::BULK, &mut self.bulk),
            FlushQueue::Prompt => (MemberState::PROMPT, &mut self.prompt),
        };
        if !state.replace(flag, true) {
            line.push_back(slot);
        }
    }
}

/// Passing events go to members for whom less waits than this part of what may.
const PRESSURE_DIVISOR: u32 = 4;

/// From how many times the limit on no more is allowed for replays. A member of many rooms that comes back
/// asks for all of them at once; with more than this it has to read in between.
const ALLOWED_OUTBOXES_MAX: u32 = 16;

/// How many places for answers are kept between turns.
const ANSWERS_KEPT_MAX: usize = 1024;

/// How many places for the publications of a turn a room keeps between turns, of 16 bytes each.
const PENDING_KEPT_MIN: usize = 4;

/// A large room keeps more of them, 4 bytes a member: it is where publications are many.
const MEMBERS_PER_PENDING_KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableConfig;

    #[test]
    fn a_member_is_one_cache_line() {
        assert_eq!((size_of::<Member>(), align_of::<Member>()), (64, 64));
    }

    #[test]
    fn rooms_that_are_gone_leave_no_names_and_no_large_table_behind() {
        let table = RoomTable::new(TableConfig {
            core_count: 1,
            shard_count: 1,
            name_len_max: 255,
            mailbox_bytes_max: usize::MAX,
            watch_rooms: false,
            ..TableConfig::default()
        });
        let limits = LocalLimits {
            rooms_per_connection_max: usize::MAX,
            ..LocalLimits::default()
        };
        let mut core = LocalRooms::new(CoreId(0), limits);
        let alice = core.open().unwrap();
        for room in 0..10_000 {
            table.join(alice, &format!("{room:0>255}")).unwrap();
        }
        let mut commands = Vec::new();
        table.mailbox(CoreId(0)).drain(&mut commands);
        for command in commands {
            core.apply(command, &table);
        }
        assert_eq!((core.room_count(), table.room_count()), (10_000, 10_000));
        assert!(table.capacity() >= 10_000);

        core.close(alice.slot(), &table);
        assert_eq!((core.room_count(), table.room_count()), (0, 0));
        assert!(core.rooms.iter().all(|room| room.handle.name.is_empty()));
        assert!(table.capacity() < 2_000, "{}", table.capacity());
    }
}
