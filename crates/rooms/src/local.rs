//! One core's connections: their memberships and outboxes, and the rooms they are members of.
//!
//! Owned by the core, touched by nobody else, without a lock.
//!
//! Invariants:
//! - `rooms[m.room].members[m.index]` names the slot and the place of each membership `m`, and the
//!   other way round, so that joining and leaving cost the same in a room of ten or ten thousand;
//! - a local room has the members of a room that speak one wire, and exists while it has one here;
//! - each membership was counted by one [`RoomTable::join`] and is counted out as it ends;
//! - publications wait in `pending` until they are fanned out, and whatever depends on who is a member
//!   (attach, detach, a frame to one connection) does that for its rooms first;
//! - answers wait for what rooms are sent before them, and keep their order with other frames to the
//!   same connection.

mod answer;
mod apart;
mod broadcast;
mod fan_out;
mod flush;
mod last_room;
mod member;
mod membership;
mod push;
mod replay;

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashTable;
use proto::SharedFrame;
use smallvec::SmallVec;

use crate::disconnect::Disconnect;
use crate::handle::RoomHandle;
use crate::id::{ConnectionId, CoreId, RoomId, SLOT_COUNT_MAX, Wire};
use crate::key::Space;
use crate::mailbox::{Command, Joined};
use crate::outbox::{Outbox, Tag};
use crate::slots::Slots;
use crate::table::RoomTable;
use crate::time::Moment;

use self::fan_out::Pass;
pub use self::flush::FlushQueue;
use self::member::{LocalRoom, Member, MemberState};
pub use self::push::Overflow;
use self::replay::Replayed;

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
    /// Answer what the application wants to know, or drop it: that refuses to.
    Ask {
        /// Of which room's [members](LocalRooms::members_of), if it is about those.
        room: Option<RoomId>,
        /// The question.
        question: Box<dyn Any + Send>,
    },
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
    /// These connections have left their last room of a space with which they are to be
    /// [closed](crate::RoomTable::close_with_last_room): one, or several if the room was dissolved.
    LastRoomLeft {
        /// Whom to close, each once, at least one. They are open, and are not shut.
        connections: Vec<ConnectionId>,
    },
    /// A room began to exist.
    RoomCreated {
        /// Whose room it is.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// A room ended.
    RoomRemoved {
        /// Whose room it was.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// Say what waits for the connections.
    Survey,
}

/// One core's members and rooms. See [`RoomTable`] for an example.
#[derive(Debug)]
pub struct LocalRooms {
    core: CoreId,
    limits: LocalLimits,
    now: Moment,
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
    /// Those that came before the fan-out under way began.
    due_answers: Vec<(ConnectionId, SharedFrame)>,
    /// How much more than the limit may wait for a connection that was replayed to, in bytes, until
    /// its outbox has been empty once.
    allowances: HashMap<u32, u32, ahash::RandomState>,
    /// With the last room of which spaces connections are to be closed, by slot; nothing of one for
    /// which that is not so.
    last_room_spaces: HashMap<u32, SmallVec<[Space; 1]>, ahash::RandomState>,
    /// The last replay that was put together: many who lost the server together ask for the same.
    replayed: Option<Replayed>,
    /// Local rooms that have publications to fan out, by the line that their members are flushed from.
    /// An entry whose room has none any more means nothing.
    published: [VecDeque<u32>; 2],
    pass: Pass,
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
    /// Frames queued for members: publications and events times members, without those that are excepted
    /// from them; and broadcasts times connections.
    pub deliveries: u64,
    /// Publications that slow members were not sent, and told so.
    pub skipped: u64,
    /// Passing events that members were not sent because much waited for them.
    pub passed_over: u64,
    /// Publications that were replayed to members that came back.
    pub replayed: u64,
}

impl LocalRooms {
    /// A core without connections.
    pub fn new(core: CoreId, limits: LocalLimits) -> Self {
        Self {
            core,
            limits,
            now: Moment(0),
            members: Slots::new(),
            free_slots: Vec::new(),
            connection_count: 0,
            membership_count: 0,
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            no_name: Arc::from(""),
            rooms_by_id: HashTable::new(),
            answers: Vec::new(),
            due_answers: Vec::new(),
            allowances: HashMap::default(),
            last_room_spaces: HashMap::default(),
            replayed: None,
            published: Default::default(),
            pass: Pass::default(),
            merged: Vec::new(),
            prompt: VecDeque::new(),
            bulk: VecDeque::new(),
            overflow: Vec::new(),
            blocked: HashSet::default(),
            counts: LocalCounts::default(),
        }
    }

    /// Sets other limits. What is over a lower one stays: rooms that a connection is in, and what
    /// waits for it.
    pub const fn set_limits(&mut self, limits: LocalLimits) {
        self.limits = limits;
    }

    /// Says what time it is: from when on a room without members is not needed any more.
    pub const fn set_now(&mut self, now: Moment) {
        self.now = now;
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
        self.forget_last_room_spaces(slot);
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
    /// It is queued over the bound if need be: the outbox takes nothing more.
    pub fn shut(&mut self, slot: u32, last: &SharedFrame, table: &RoomTable) {
        self.fan_out_rooms_of(slot);
        self.end_memberships(slot, table);
        self.push_answers_of(slot);
        let member = &mut self.members[slot as usize];
        member.state.replace(MemberState::SHUT, true);
        if member.state.has(MemberState::OVERFLOWED) {
            // What found no place is forgotten, and nothing may come behind that as if it had not been.
            member.outbox.drop_unsent();
        }
        if member.outbox.push(last, Tag::Firm, u32::MAX).is_err() {
            // As much waits as can be counted.
            member.outbox.drop_unsent();
            _ = member.outbox.push(last, Tag::Firm, u32::MAX);
        }
        self.enqueue(slot, FlushQueue::Prompt);
    }

    /// Lets what the socket has not begun to take make way for the last frame of a connection that is
    /// [shut](Self::shut).
    pub fn hurry(&mut self, slot: u32) {
        let member = &mut self.members[slot as usize];
        if member.state.has(MemberState::SHUT) {
            member.outbox.drop_all_but_last();
        }
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
            Command::Ask { room, question } => return Some(Effect::Ask { room, question }),
            Command::Attach {
                connection,
                room,
                joined,
            } => return self.attach(connection, room, joined, table),
            Command::Broadcast { frames } => self.broadcast(&frames),
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
            Command::CloseWithLastRoom {
                connection,
                space,
                on,
            } => {
                let slot = self.slot_of(connection)?;
                self.close_with_last_room(slot, space, on);
            }
            Command::Deliver {
                room,
                to,
                frame,
                delivery,
            } => self.deliver((room, to), frame, delivery),
            Command::Detach { connection, room } => {
                let slot = self.slot_of(connection)?;
                return self.detach(slot, room, table);
            }
            Command::DetachAll { connection, space } => {
                let slot = self.slot_of(connection)?;
                return self.detach_all(slot, space, table);
            }
            Command::Direct { connection, frame } => {
                let slot = self.slot_of(connection)?;
                self.fan_out_rooms_of(slot);
                self.push_answers_of(slot);
                self.push(slot, &frame, FlushQueue::Prompt);
            }
            Command::Dissolve { room } => return self.dissolve(room, table),
            Command::Drain => {
                self.fan_out();
                return Some(Effect::Drain);
            }
            Command::RoomCreated { space, name } => {
                return Some(Effect::RoomCreated { space, name });
            }
            Command::RoomRemoved { space, name } => {
                return Some(Effect::RoomRemoved { space, name });
            }
            Command::Survey => return Some(Effect::Survey),
        }
        None
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

    /// Every slot that has an open connection.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let open = |(_, member): &(u32, &Member)| member.state.has(MemberState::OPEN);
        (0..)
            .zip(self.members.iter())
            .filter(open)
            .map(|(slot, _)| slot)
    }
}

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
