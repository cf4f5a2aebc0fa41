//! One core's connections: their memberships and outboxes, and the rooms they are members of.
//!
//! Owned by the core, touched by nobody else, without a lock. The state has parts, each with its
//! own methods and invariants: the [`Outboxes`] of connections, the local [`Rooms`], the
//! [`Schedule`] of rooms to fan out, and the [`Answers`] that wait for the end of the turn.
//!
//! Invariant: publications wait until they are fanned out. Whatever depends on who is a member
//! (attach, detach, a frame to one connection) fans its rooms out first.

mod answers;
mod apart;
mod broadcast;
mod connections;
pub(crate) mod effect;
mod fan_out;
pub(crate) mod flush;
mod last_room;
mod member;
mod membership;
pub(crate) mod outboxes;
pub(crate) mod overflow;
mod replay;
mod replayed;
mod rooms;
mod schedule;
mod shared;
mod skip;
mod sockets;
mod waiting;

use std::collections::HashMap;

use proto::SharedFrame;
use smallvec::SmallVec;

use self::effect::Effect;
use self::flush::FlushQueue;
use self::member::MemberState;
use self::outboxes::{LocalCounts, LocalLimits, Outboxes};
use self::replayed::Replayed;
use self::rooms::Rooms;
use self::schedule::Schedule;
use self::waiting::Answers;
use crate::id::{ConnectionId, CoreId, Slot, Wire};
use crate::key::Space;
use crate::mailbox::Command;
use crate::table::RoomTable;
use crate::time::Moment;

/// One core's members and rooms. See [`RoomTable`] for an example.
#[derive(Debug)]
pub struct LocalRooms {
    now: Moment,
    outboxes: Outboxes,
    rooms: Rooms,
    membership_count: usize,
    schedule: Schedule,
    answers: Answers,
    /// The spaces with whose last room connections are to be closed; only of connections that have
    /// some.
    last_rooms: HashMap<Slot, SmallVec<[Space; 1]>, ahash::RandomState>,
    /// The last replay that was merged.
    replayed: Option<Replayed>,
    /// Memory to merge frames in.
    scratch: Vec<u8>,
}

impl LocalRooms {
    /// Creates a core without connections.
    pub fn new(core: CoreId, limits: LocalLimits) -> Self {
        Self {
            now: Moment(0),
            outboxes: Outboxes::new(core, limits),
            rooms: Rooms::new(),
            membership_count: 0,
            schedule: Schedule::default(),
            answers: Answers::default(),
            last_rooms: HashMap::default(),
            replayed: None,
            scratch: Vec::new(),
        }
    }

    /// Sets other limits. What exceeds a lower limit stays: rooms that a connection is in, and
    /// frames that wait for it.
    pub const fn set_limits(&mut self, limits: LocalLimits) {
        self.outboxes.limits = limits;
    }

    /// Sets the time, from which on a room without members is not needed any more.
    pub const fn set_now(&mut self, now: Moment) {
        self.now = now;
    }

    /// Takes in a connection on wire 0; none if all slots are taken.
    pub fn open(&mut self) -> Option<ConnectionId> {
        self.open_on(Wire(0))
    }

    /// Takes in a connection on some wire; none if all slots are taken.
    pub fn open_on(&mut self, wire: Wire) -> Option<ConnectionId> {
        self.outboxes.connections.open(wire)
    }

    /// Ends a connection: all its memberships, and what was queued for it.
    ///
    /// Costs in proportion to the rooms of this connection.
    pub fn close(&mut self, slot: Slot, table: &RoomTable) {
        self.end_memberships(slot, table);
        self.forget_last_rooms(slot);
        self.outboxes.close(slot);
    }

    /// Begins the end of a connection: it leaves its rooms, gets `last` after what was queued for
    /// it, and nothing that is sent to it later.
    ///
    /// `last` is queued over the bound if need be: the outbox takes nothing more.
    pub fn shut(&mut self, slot: Slot, last: &SharedFrame, table: &RoomTable) {
        self.fan_out_rooms_of(slot);
        self.end_memberships(slot, table);
        self.push_answers_of(slot);
        self.outboxes.push_last(slot, last);
    }

    /// Drops everything that the socket has not begun to take in favour of the last frame of a
    /// connection that is [shut](Self::shut).
    pub fn hurry(&mut self, slot: Slot) {
        let member = &mut self.outboxes.connections[slot];
        if member.state.has(MemberState::SHUT) {
            member.outbox.drop_all_but_last();
        }
    }

    /// Carries out one command; returns what it asks beyond these tables.
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
                self.finish_earlier(slot);
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
            } => self.deliver(room, to, frame, delivery),
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
                self.finish_earlier(slot);
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

    /// Queues everything that came for a connection before, so that what follows comes behind it.
    fn finish_earlier(&mut self, slot: Slot) {
        self.fan_out_rooms_of(slot);
        self.push_answers_of(slot);
    }

    /// Returns how many connections there are.
    pub const fn connection_count(&self) -> usize {
        self.outboxes.connections.open_count()
    }

    /// Returns how many memberships there are, over all rooms.
    pub const fn membership_count(&self) -> usize {
        self.membership_count
    }

    /// Returns the counters since the beginning.
    pub const fn counts(&self) -> LocalCounts {
        self.outboxes.counts
    }

    /// Returns how many rooms have members on this core; one with members on two wires counts
    /// twice.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }
}

#[cfg(test)]
mod tests {
    use super::member::Member;
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
        assert!(
            core.rooms
                .places()
                .iter()
                .all(|room| room.handle.name.is_empty())
        );
        assert!(table.capacity() < 2_000, "{}", table.capacity());
    }
}
