//! One core's connections: their memberships and outboxes, and the rooms they are members of.
//!
//! Owned by the core, touched by nobody else, without a lock.
//!
//! Invariants:
//! - `rooms[m.room].members[m.index]` names the slot and the place of each membership `m`, and the
//!   other way round, so that joining and leaving cost the same in a room of ten or ten thousand;
//! - a local room exists while it has a member here;
//! - each membership was counted by one [`RoomTable::join`] and ends with one release;
//! - publications wait in `pending` only inside a turn, and whatever depends on who is a member
//!   (attach, detach, a frame to one connection) fans them out first.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use proto::SharedFrame;

use crate::disconnect::Disconnect;
use crate::id::{ConnectionId, CoreId, RoomId, SLOT_COUNT_MAX};
use crate::mailbox::{Command, RoomHandle};
use crate::outbox::Outbox;
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
    /// The connection is a member of as many rooms as it may be.
    JoinRefused {
        /// Who wanted to join.
        connection: ConnectionId,
        /// What it wanted to join.
        room: RoomHandle,
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
}

/// Frames that found their member's outbox full. See [`LocalRooms::take_overflow`].
#[derive(Debug)]
pub struct Overflow {
    /// Whose outbox is full.
    pub slot: u32,
    /// What did not fit.
    pub frame: SharedFrame,
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
    members: Slots<Member>,
    free_slots: Vec<u32>,
    connection_count: usize,
    membership_count: usize,
    rooms: Vec<LocalRoom>,
    free_rooms: Vec<u32>,
    /// What a place without a room is called.
    no_name: Arc<str>,
    rooms_by_id: HashTable<u32>,
    /// Local rooms that have publications of this turn.
    published: Vec<u32>,
    /// Where a turn's publications are put together.
    merged: Vec<u8>,
    prompt: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// By connection and not by slot: who ends before these are taken must not leave them to
    /// whoever has the slot next.
    overflow: Vec<(ConnectionId, SharedFrame)>,
    delivery_count: u64,
}

/// A connection. 64 bytes: fanning out touches one cache line a member.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Member {
    outbox: Outbox,
    memberships: Vec<Membership>,
    generation: u32,
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

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
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
    members: Vec<MemberRef>,
    /// Publications of this turn that are not fanned out yet.
    pending: Vec<SharedFrame>,
}

impl LocalRooms {
    /// A core without connections.
    pub fn new(core: CoreId, limits: LocalLimits) -> Self {
        Self {
            core,
            limits,
            members: Slots::new(),
            free_slots: Vec::new(),
            connection_count: 0,
            membership_count: 0,
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            no_name: Arc::from(""),
            rooms_by_id: HashTable::new(),
            published: Vec::new(),
            merged: Vec::new(),
            prompt: VecDeque::new(),
            bulk: VecDeque::new(),
            overflow: Vec::new(),
            delivery_count: 0,
        }
    }

    /// Takes in a connection; none if all slots are taken.
    pub fn open(&mut self) -> Option<ConnectionId> {
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
        self.connection_count += 1;
        Some(ConnectionId::new(self.core, slot, member.generation))
    }

    /// Ends a connection: all its memberships, and what was queued for it.
    ///
    /// Costs in proportion to the rooms of this connection.
    pub fn close(&mut self, slot: u32, table: &RoomTable) {
        self.end_memberships(slot, table);
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
        let member = &mut self.members[slot as usize];
        member.state.replace(MemberState::SHUT, true);
        if member.state.has(MemberState::OVERFLOWED) {
            member.outbox.drop_unsent();
        }
        if member
            .outbox
            .push(last, self.limits.outbox_bytes_max)
            .is_err()
        {
            member.outbox.drop_unsent();
            // What is left is one buffer, and the outbox is this connection's last: no limit.
            _ = member.outbox.push(last, u32::MAX);
        }
        self.enqueue(slot, FlushQueue::Prompt);
    }

    /// The connection in the slot, if it is still this one and not [shut](Self::shut).
    pub fn slot_of(&self, connection: ConnectionId) -> Option<u32> {
        let slot = connection.slot();
        let member = self.members.get(slot as usize)?;
        (member.state.is_addressable() && member.generation == connection.generation())
            .then_some(slot)
    }

    /// An id that no connection of this core has.
    pub const fn nobody(&self) -> ConnectionId {
        ConnectionId::new(self.core, u32::MAX, u32::MAX)
    }

    /// The id of the connection in the slot.
    pub fn id_of(&self, slot: u32) -> ConnectionId {
        ConnectionId::new(self.core, slot, self.members[slot as usize].generation)
    }

    /// Carries out one command; what it asks beyond these tables is returned.
    pub fn apply(&mut self, command: Command, table: &RoomTable) -> Option<Effect> {
        match command {
            Command::Attach { connection, room } => return self.attach(connection, room, table),
            Command::Close {
                connection,
                disconnect,
            } => {
                let slot = self.slot_of(connection)?;
                self.fan_out_rooms_of(slot);
                return Some(Effect::Close {
                    connection,
                    disconnect,
                });
            }
            Command::Deliver { room, frame } => self.deliver(room, frame),
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
                self.push(slot, &frame, FlushQueue::Prompt);
            }
            Command::Drain => {
                self.fan_out();
                return Some(Effect::Drain);
            }
            Command::RoomCreated { name } => return Some(Effect::RoomCreated { name }),
            Command::RoomRemoved { name } => return Some(Effect::RoomRemoved { name }),
        }
        None
    }

    /// Sends the publications of this turn to the outboxes of their members: for each room one
    /// buffer of up to 64 KiB, however many publications it carries.
    ///
    /// Merging is worth 4x over queueing each publication with each member (measured: 22 M/s
    /// deliveries against 5.5 M/s).
    pub fn fan_out(&mut self) {
        let mut published = std::mem::take(&mut self.published);
        for room in published.drain(..) {
            self.fan_out_room(room);
        }
        self.published = published;
    }

    /// Queues frames for one connection, after what was queued before. A connection that is
    /// [shut](Self::shut) takes nothing, nor does a slot that has none: it is the next one's.
    ///
    /// Returns false if the outbox is full; then the frames wait in the
    /// [overflow](Self::take_overflow).
    pub fn push(&mut self, slot: u32, frame: &SharedFrame, queue: FlushQueue) -> bool {
        let member = &mut self.members[slot as usize];
        if !member.state.is_addressable() {
            return true;
        }
        if !member.state.has(MemberState::OVERFLOWED) {
            if member
                .outbox
                .push(frame, self.limits.outbox_bytes_max)
                .is_ok()
            {
                self.enqueue(slot, queue);
                return true;
            }
            member.state.replace(MemberState::OVERFLOWED, true);
        }
        self.overflow.push((self.id_of(slot), frame.clone()));
        false
    }

    /// Takes the frames that found their outbox full, in the order they came.
    ///
    /// An outbox may be full only because its flush has not come round. So the caller flushes the
    /// connection and queues the frame again with [`push`](Self::push); if it comes back, the
    /// socket does not take what it is sent: that is a slow consumer. All this comes after
    /// [`fan_out`](Self::fan_out), or what is fanned out meanwhile overtakes what was taken.
    pub fn take_overflow(&mut self) -> Vec<Overflow> {
        let overflow = std::mem::take(&mut self.overflow).into_iter();
        let of_the_open = overflow.filter_map(|(connection, frame)| {
            let slot = self.slot_of(connection)?;
            self.members[slot as usize]
                .state
                .replace(MemberState::OVERFLOWED, false);
            Some(Overflow { slot, frame })
        });
        of_the_open.collect()
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

    /// The same, to take from it.
    pub fn outbox_mut(&mut self, slot: u32) -> &mut Outbox {
        &mut self.members[slot as usize].outbox
    }

    /// Says whether the socket takes no more for now. When it does again, what is queued stands
    /// in the prompt line.
    pub fn set_blocked(&mut self, slot: u32, blocked: bool) {
        let member = &mut self.members[slot as usize];
        member.state.replace(MemberState::BLOCKED, blocked);
        if !blocked && !member.outbox.is_empty() {
            self.enqueue(slot, FlushQueue::Prompt);
        }
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

    /// How many frames were queued for members: publications times members.
    pub const fn delivery_count(&self) -> u64 {
        self.delivery_count
    }

    /// How many rooms have members on this core.
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

    fn find_room(&self, id: RoomId) -> Option<u32> {
        let found = self.rooms_by_id.find(id.spread(), |room| {
            self.rooms[*room as usize].handle.id == id
        });
        found.copied()
    }

    /// Accepts an `Attach`, or gives back what the table counted for it.
    fn attach(
        &mut self,
        connection: ConnectionId,
        handle: RoomHandle,
        table: &RoomTable,
    ) -> Option<Effect> {
        let Some(slot) = self.slot_of(connection) else {
            table.release(self.core, &handle);
            return None;
        };
        let room = self.find_room(handle.id);
        if room.is_some_and(|room| self.membership_index(slot, room).is_some()) {
            table.release(self.core, &handle);
            return None;
        }
        if self.members[slot as usize].memberships.len() >= self.limits.rooms_per_connection_max {
            self.fan_out_rooms_of(slot);
            table.release(self.core, &handle);
            return Some(Effect::JoinRefused {
                connection,
                room: handle,
            });
        }
        let room = room.unwrap_or_else(|| self.create_room(handle));
        self.fan_out_room(room);
        self.begin_membership(slot, room);
        None
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

    fn detach(&mut self, slot: u32, room: RoomId, table: &RoomTable) {
        let Some(room) = self.find_room(room) else {
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
        table.release(self.core, &self.rooms[room as usize].handle);
        if self.rooms[room as usize].members.is_empty() {
            self.remove_room(room);
        }
    }

    fn create_room(&mut self, handle: RoomHandle) -> u32 {
        let id = handle.id;
        let local = LocalRoom {
            handle,
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

    fn deliver(&mut self, id: RoomId, frame: SharedFrame) {
        let Some(room) = self.find_room(id) else {
            return;
        };
        let local = &mut self.rooms[room as usize];
        if local.pending.is_empty() {
            self.published.push(room);
        }
        local.pending.push(frame);
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
        self.delivery_count += pending.len() as u64 * members.len() as u64;
        let mut rest = &pending[..];
        while let Some((frame, merged_count)) = merge(&mut self.merged, rest) {
            self.push_to_all(&members, &frame);
            rest = &rest[merged_count..];
        }
        pending.clear();
        pending.shrink_to(PENDING_KEPT_MIN.max(members.len() / MEMBERS_PER_PENDING_KEPT));
        let local = &mut self.rooms[room as usize];
        local.members = members;
        local.pending = pending;
    }

    fn push_to_all(&mut self, members: &[MemberRef], frame: &SharedFrame) {
        let queue = match members.len() {
            0..=PROMPT_MEMBERS_MAX => FlushQueue::Prompt,
            _ => FlushQueue::Bulk,
        };
        for member in members {
            self.push(member.slot, frame, queue);
        }
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

/// Puts as many of the first frames together as fit in [`MERGED_LEN_MAX`], at least one; returns
/// the buffer and how many frames are in it.
fn merge(scratch: &mut Vec<u8>, frames: &[SharedFrame]) -> Option<(SharedFrame, usize)> {
    let (first, rest) = frames.split_first()?;
    let mut len = first.len();
    let more = rest.iter().take_while(|frame| {
        len += frame.len();
        len <= MERGED_LEN_MAX
    });
    let count = 1 + more.count();
    if count == 1 {
        return Some((first.clone(), 1));
    }
    scratch.clear();
    frames[..count]
        .iter()
        .for_each(|frame| scratch.extend_from_slice(frame));
    Some((SharedFrame::from(&scratch[..]), count))
}

/// The largest buffer that publications are merged into, in bytes. Beyond it a copy costs more
/// than the entry of a vectored write that it saves.
const MERGED_LEN_MAX: usize = 64 * 1024;

/// How many places for the publications of a turn a room keeps between turns, of 16 bytes each.
const PENDING_KEPT_MIN: usize = 4;

/// A large room keeps more of them, 4 bytes a member: it is where publications are many.
const MEMBERS_PER_PENDING_KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_one_cache_line() {
        assert_eq!((size_of::<Member>(), align_of::<Member>()), (64, 64));
    }

    #[test]
    fn rooms_that_are_gone_leave_no_names_and_no_large_table_behind() {
        let table = RoomTable::new(crate::table::TableConfig {
            core_count: 1,
            shard_count: 1,
            name_len_max: 255,
            mailbox_bytes_max: usize::MAX,
            watch_rooms: false,
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
