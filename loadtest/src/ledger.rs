//! The book that is kept of all publications and deliveries: what was published, who has it, how
//! late it was, and what went wrong.
//!
//! It knows no sockets. A delivery costs four lookups and no allocation.

use std::ops::Range;

use crate::latencies::Latencies;
use crate::payload::Stamp;
use crate::plan::{MemberId, Plan, RoomId, StreamId};
use crate::sequence::{Arrival, Faults, SequenceChecker};
use crate::window::{Settled, UnderWay};

/// The whole book.
#[derive(Debug)]
pub(crate) struct Ledger {
    members: Vec<MemberState>,
    rooms: Vec<RoomState>,
    streams: Vec<StreamState>,
    groups: Vec<GroupTally>,
    checker: SequenceChecker,
    /// Publications that were due in this time have their latency recorded.
    timed_ns: Range<u64>,
    /// Deliveries that disconnected members did not get.
    lost_to_disconnects: u64,
    /// Publications that have ended since the driver last asked.
    ended: Vec<StreamId>,
    unreadable: u64,
    given_up: u64,
}

/// What a delivery to this member needs to know, in one place.
#[derive(Clone, Copy, Debug)]
struct MemberState {
    group: u32,
    room: RoomId,
    first_stream: u32,
    stream_count: u32,
    /// Its lanes in the checker are this and the next `stream_count - 1`.
    first_lane: usize,
    connected: bool,
}

#[derive(Debug)]
struct RoomState {
    connected: u32,
    members: Range<u32>,
}

#[derive(Debug)]
struct StreamState {
    under_way: UnderWay,
    room: RoomId,
    /// Whose connection it is published on.
    member: MemberId,
}

/// What one group of rooms did.
#[derive(Debug, Default)]
struct GroupTally {
    /// From when publications were due to their deliveries.
    latencies: Latencies,
    /// Frames that carried a publication, faulty or not.
    deliveries: u64,
    /// Publications that went out.
    publications: u64,
}

impl Ledger {
    /// An empty book, of members who are all connected.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut members = Vec::with_capacity(plan.connections() as usize);
        let mut lanes = 0;
        for (index, room) in (0..).zip(&plan.rooms) {
            let stream_count = room.streams.end - room.streams.start;
            for _ in room.members.clone() {
                members.push(MemberState {
                    group: u32::try_from(room.group).expect("there are one or two groups"),
                    room: RoomId(index),
                    first_stream: room.streams.start,
                    stream_count,
                    first_lane: lanes,
                    connected: true,
                });
                lanes += stream_count as usize;
            }
        }
        let rooms = plan.rooms.iter().map(|room| {
            let members = room.members.clone();
            RoomState {
                connected: members.end - members.start,
                members,
            }
        });
        let streams = plan.streams.iter().map(|stream| {
            let under_way = UnderWay::default();
            StreamState {
                under_way,
                room: stream.room,
                member: stream.member,
            }
        });
        Self {
            members,
            rooms: rooms.collect(),
            streams: streams.collect(),
            groups: plan.groups.iter().map(|_| GroupTally::default()).collect(),
            checker: SequenceChecker::new(lanes),
            timed_ns: 0..0,
            lost_to_disconnects: 0,
            ended: Vec::new(),
            unreadable: 0,
            given_up: 0,
        }
    }

    /// The room that a member is in.
    #[inline]
    pub(crate) fn room_of(&self, member: MemberId) -> RoomId {
        self.members[member.index()].room
    }

    /// Books a publication; returns its number.
    pub(crate) fn publish(&mut self, stream: StreamId, now_ns: u64) -> u32 {
        let state = &mut self.streams[stream.index()];
        let room = &self.rooms[state.room.index()];
        let group = self.members[room.members.start as usize].group;
        self.groups[group as usize].publications += 1;
        state.under_way.publish(room.connected, now_ns)
    }

    /// Books the arrival of a publication at a member.
    #[inline]
    pub(crate) fn deliver(&mut self, member: MemberId, stamp: Stamp, now_ns: u64) {
        let to = self.members[member.index()];
        let lane = stamp.stream.0.wrapping_sub(to.first_stream);
        if lane >= to.stream_count {
            return self.deliver_unreadable();
        }
        let stream = &mut self.streams[stamp.stream.index()];
        // A number from the future would make the checker wait for everything before it.
        if stamp.number >= stream.under_way.published() {
            return self.deliver_unreadable();
        }
        let group = &mut self.groups[to.group as usize];
        group.deliveries += 1;
        let latency_ns = now_ns.saturating_sub(stamp.due_ns);
        let is_timed = self.timed_ns.contains(&stamp.due_ns);
        if is_timed {
            group.latencies.each_ns.saturating_record(latency_ns);
        }
        match self
            .checker
            .check(to.first_lane + lane as usize, stamp.number)
        {
            Arrival::InOrder => {}
            Arrival::Ahead { missing } => {
                let ended = stream.under_way.miss_all(missing, now_ns);
                self.ended.extend((0..ended).map(|_| stamp.stream));
            }
            Arrival::Late | Arrival::Repeated => return,
        }
        let settled = stream.under_way.settle(stamp.number, now_ns);
        if settled != Settled::NotYet {
            self.ended.push(stamp.stream);
            if is_timed && settled == Settled::Complete {
                group.latencies.last_ns.saturating_record(latency_ns);
            }
        }
    }

    /// Books a `msg` that none of ours is, or that its member should not have.
    #[cold]
    pub(crate) fn deliver_unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// A member's connection is gone: it settles all that it did not get. Returns the streams that
    /// end with it.
    pub(crate) fn disconnect(&mut self, member: MemberId, now_ns: u64) -> Vec<StreamId> {
        let state = &mut self.members[member.index()];
        if !std::mem::replace(&mut state.connected, false) {
            return Vec::new();
        }
        let state = *state;
        let room = &mut self.rooms[state.room.index()];
        room.connected -= 1;
        let mut retired = Vec::new();
        for lane in 0..state.stream_count {
            let id = StreamId(state.first_stream + lane);
            let stream = &mut self.streams[id.index()];
            let published = stream.under_way.published();
            let lost = self
                .checker
                .outstanding(state.first_lane + lane as usize, published);
            self.lost_to_disconnects += lost.len() as u64;
            let ended = stream.under_way.miss_all(lost, now_ns);
            self.ended.extend((0..ended).map(|_| id));
            if stream.member == member || room.connected == 0 {
                retired.push(id);
            }
        }
        retired
    }

    /// Does not count a time in which this program stood still as one in which streams did.
    pub(crate) fn excuse(&mut self, stood_still_ns: u64) {
        for stream in &mut self.streams {
            stream.under_way.excuse(stood_still_ns);
        }
    }

    /// Gives up the publications of streams that have not moved for `patience_ns`.
    pub(crate) fn give_up(&mut self, now_ns: u64, patience_ns: u64) {
        for (index, stream) in (0..).zip(&mut self.streams) {
            let given_up = stream.under_way.give_up(now_ns, patience_ns);
            self.given_up += u64::from(given_up);
            self.ended.extend((0..given_up).map(|_| StreamId(index)));
        }
    }

    /// The stream of a publication that ended; each is told once.
    pub(crate) fn take_ended(&mut self) -> Option<StreamId> {
        self.ended.pop()
    }

    /// How many publications are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.streams
            .iter()
            .map(|stream| stream.under_way.len())
            .sum()
    }

    /// Records the latency of publications that are due in this time, and of no others.
    pub(crate) fn time_only(&mut self, due_ns: Range<u64>) {
        self.timed_ns = due_ns;
    }

    /// Latencies of a group since they were last forgotten or taken.
    pub(crate) fn latencies(&self, group: usize) -> &Latencies {
        &self.groups[group].latencies
    }

    /// Takes a group's latencies and leaves `empty` in their place, which costs nothing.
    pub(crate) fn take_latencies(&mut self, group: usize, empty: Latencies) -> Latencies {
        std::mem::replace(&mut self.groups[group].latencies, empty)
    }

    /// Begins latencies anew.
    pub(crate) fn forget_latencies(&mut self) {
        for group in &mut self.groups {
            group.latencies.reset();
        }
    }

    /// Deliveries of all groups so far.
    pub(crate) fn deliveries(&self) -> u64 {
        self.groups.iter().map(|group| group.deliveries).sum()
    }

    /// Publications of all groups so far.
    pub(crate) fn publications(&self) -> u64 {
        self.groups.iter().map(|group| group.publications).sum()
    }

    /// Deliveries that are known to be lost, without those that may still arrive. Costs nothing.
    pub(crate) fn lost_so_far(&self) -> u64 {
        self.checker.faults().lost + self.lost_to_disconnects
    }

    /// What went wrong, if nothing more arrives.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = self.checker.faults();
        faults.lost += self.lost_to_disconnects;
        for member in self.members.iter().filter(|member| member.connected) {
            for lane in 0..member.stream_count {
                let stream = &self.streams[(member.first_stream + lane) as usize];
                let published = stream.under_way.published();
                let lane = member.first_lane + lane as usize;
                faults.lost += self.checker.outstanding(lane, published).len() as u64;
            }
        }
        faults
    }

    /// Frames that said `msg` and carried none of this run's publications, or one that the member
    /// should not have had.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Publications that were given up.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Group, Pacing};

    const NONE: [u32; 0] = [];

    /// One room of three members, of whom the first two publish.
    fn ledger() -> Ledger {
        let pacing = Pacing::Closed { window: 2 };
        let group = Group {
            rooms: 1,
            members_per_room: 3,
            publishers: 2,
            pacing,
            urgent: false,
        };
        let mut ledger = Ledger::new(&Plan::new(&[group], 0));
        ledger.time_only(0..u64::MAX);
        ledger
    }

    fn deliver(ledger: &mut Ledger, member: u32, stream: u32, number: u32) -> Vec<u32> {
        let stamp = Stamp {
            stream: StreamId(stream),
            number,
            due_ns: 0,
        };
        ledger.deliver(MemberId(member), stamp, 5_000);
        std::iter::from_fn(|| ledger.take_ended())
            .map(|stream| stream.0)
            .collect()
    }

    #[test]
    fn a_publication_ends_with_its_last_member() {
        let mut ledger = ledger();
        assert_eq!(ledger.publish(StreamId(1), 0), 0);
        assert_eq!(deliver(&mut ledger, 0, 1, 0), NONE);
        assert_eq!(deliver(&mut ledger, 1, 1, 0), NONE);
        assert_eq!(deliver(&mut ledger, 2, 1, 0), [1]);
        assert_eq!(
            (ledger.under_way(), ledger.faults()),
            (0, Faults::default())
        );
        let Latencies { each_ns, last_ns } = ledger.latencies(0);
        let timed = (each_ns.len(), last_ns.len());
        assert_eq!((ledger.deliveries(), timed), (3, (3, 1)));
    }

    #[test]
    fn the_last_member_is_timed_only_if_all_received_it_and_only_when_it_was_asked_for() {
        let mut ledger = ledger();
        for number in 0..3 {
            ledger.publish(StreamId(0), 0);
            deliver(&mut ledger, 0, 0, number);
            deliver(&mut ledger, 1, 0, number);
        }
        deliver(&mut ledger, 2, 0, 0);
        deliver(&mut ledger, 2, 0, 2);
        let timed = |ledger: &Ledger| ledger.latencies(0).last_ns.len();
        assert_eq!(timed(&ledger), 2, "the second was skipped");
        let taken = ledger.take_latencies(0, Latencies::default());
        assert_eq!((taken.last_ns.len(), timed(&ledger)), (2, 0));
        ledger.time_only(1..2);
        ledger.publish(StreamId(0), 0);
        (0..3).for_each(|member| drop(deliver(&mut ledger, member, 0, 3)));
        assert_eq!(timed(&ledger), 0);
    }

    #[test]
    fn a_skipped_publication_ends_and_is_lost() {
        let mut ledger = ledger();
        for number in 0..2 {
            ledger.publish(StreamId(0), 0);
            deliver(&mut ledger, 0, 0, number);
            deliver(&mut ledger, 1, 0, number);
        }
        assert_eq!(deliver(&mut ledger, 2, 0, 1), [0, 0]);
        assert_eq!(
            ledger.faults(),
            Faults {
                lost: 1,
                ..Faults::default()
            }
        );
        assert_eq!(deliver(&mut ledger, 2, 0, 0), NONE);
        assert_eq!(
            ledger.faults(),
            Faults {
                reordered: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn what_nobody_published_is_unreadable_and_changes_nothing() {
        let mut ledger = ledger();
        ledger.publish(StreamId(0), 0);
        deliver(&mut ledger, 0, 0, 7);
        deliver(&mut ledger, 0, 2, 0);
        assert_eq!((ledger.unreadable(), ledger.deliveries()), (2, 0));
        assert_eq!(ledger.faults().lost, 3);
    }

    #[test]
    fn a_disconnected_member_loses_what_is_under_way_and_holds_nothing_back() {
        let mut ledger = ledger();
        ledger.publish(StreamId(0), 0);
        ledger.publish(StreamId(1), 0);
        deliver(&mut ledger, 0, 0, 0);
        deliver(&mut ledger, 2, 0, 0);
        assert_eq!(ledger.disconnect(MemberId(1), 1), [StreamId(1)]);
        assert_eq!(ledger.take_ended(), Some(StreamId(0)));
        assert_eq!(ledger.disconnect(MemberId(1), 1), []);
        ledger.publish(StreamId(0), 2);
        deliver(&mut ledger, 0, 0, 1);
        assert_eq!(deliver(&mut ledger, 2, 0, 1), [0]);
        assert_eq!(
            ledger.faults().lost,
            2 + 2,
            "two of the gone, and stream 1 for two others"
        );
    }

    #[test]
    fn what_never_arrives_is_given_up_and_lost() {
        let mut ledger = ledger();
        ledger.publish(StreamId(0), 0);
        ledger.give_up(99, 100);
        assert_eq!(ledger.take_ended(), None);
        ledger.give_up(100, 100);
        assert_eq!(ledger.take_ended(), Some(StreamId(0)));
        assert_eq!((ledger.given_up(), ledger.faults().lost), (1, 3));
    }
}
