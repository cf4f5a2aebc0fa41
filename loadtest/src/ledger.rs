//! The book that is kept of all publications and deliveries: what was published, who has it, how
//! late it was, and what went wrong.
//!
//! It knows no sockets. A delivery costs four lookups and no allocation.
//!
//! With several threads each has a book of its own members. A stream that another thread publishes
//! is booked when its number is first seen here, up to the count that the publisher keeps; when the
//! last member here has settled a publication, the publisher is told, for whom all members here are
//! one.
//!
//! A member may be *away*: its connection is lost, and it will come back for what it missed.
//! Nothing waits for it meanwhile, and it must have everything in the end.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::payload::Stamp;
use crate::plan::{Home, MemberId, Plan, Room, RoomId, Stream, StreamId};
use crate::sequence::{Arrival, Faults, SequenceChecker};
use crate::shared::{Reached, Settled, StreamCount};
use crate::tally::Latencies;
use crate::window::{Settling, UnderWay};

/// The whole book.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    members: Vec<MemberState>,
    /// How many members of each room are not away.
    connected: Vec<u32>,
    streams: Vec<StreamState>,
    /// Those of the plan, and those who are tallied [apart](Self::tally_apart).
    groups: Vec<GroupTally>,
    checker: SequenceChecker,
    /// For each lane of a member that came back: the first number that waits for it.
    awaited_from: HashMap<usize, u32>,
    /// Publications that were due in this time have their latency recorded.
    pub(crate) timed_ns: Range<u64>,
    /// Deliveries that disconnected members did not get.
    lost_to_disconnects: u64,
    /// Publications that have ended since the driver last asked.
    ended: Vec<StreamId>,
    /// What the driver has to tell other threads.
    settled: Vec<(u32, Settled)>,
    /// How much was published on each stream; empty with one thread.
    counts: Arc<[StreamCount]>,
    /// Frames that said `msg` and carried none of this run's publications, or one that the member
    /// should not have had.
    pub(crate) unreadable: u64,
    truncated: u64,
    /// Publications that were given up.
    pub(crate) given_up: u64,
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
    /// Whether nothing waits for it until it is back.
    away: bool,
}

#[derive(Debug)]
struct StreamState {
    under_way: UnderWay,
    group: usize,
    room: RoomId,
    home: Home,
    /// If it is published here, how many other threads have members of its room.
    other_parts: u32,
}

impl StreamState {
    fn is_here(&self) -> bool {
        matches!(self.home, Home::Here(_))
    }
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
    /// Begins an empty book, of members who are all connected. With several threads, `counts` has
    /// one for each stream.
    pub(crate) fn new(plan: &Plan, counts: Arc<[StreamCount]>) -> Self {
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
                    away: false,
                });
                lanes += stream_count as usize;
            }
        }
        let connected = |room: &Room| room.members.end - room.members.start;
        let stream = |stream: &Stream| StreamState {
            under_way: UnderWay::default(),
            group: plan.rooms[stream.room.index()].group,
            room: stream.room,
            home: stream.home,
            other_parts: plan.rooms[stream.room.index()].other_parts,
        };
        Self {
            members,
            connected: plan.rooms.iter().map(connected).collect(),
            streams: plan.streams.iter().map(stream).collect(),
            groups: plan.groups.iter().map(|_| GroupTally::default()).collect(),
            checker: SequenceChecker::new(lanes),
            counts,
            ..Self::default()
        }
    }

    /// Returns the room that a member is in.
    #[inline]
    pub(crate) fn room_of(&self, member: MemberId) -> RoomId {
        self.members[member.index()].room
    }

    /// Books a publication; returns its number.
    pub(crate) fn publish(&mut self, stream: StreamId, now_ns: u64) -> u32 {
        let state = &mut self.streams[stream.index()];
        self.groups[state.group].publications += 1;
        let members = self.connected[state.room.index()] + state.other_parts;
        let number = state.under_way.publish(members, now_ns);
        if let Some(count) = self.counts.get(stream.index()) {
            count.publish(number + 1);
        }
        number
    }

    /// Books the arrival of a publication at a member.
    #[inline]
    pub(crate) fn deliver(&mut self, member: MemberId, stamp: Stamp, now_ns: u64) {
        self.deliver_to::<false>(member, stamp, true, now_ns);
    }

    /// Books the same at a member that was away: what was published meanwhile does not wait for it,
    /// and what is sent to it again is not timed.
    pub(crate) fn deliver_after_return(
        &mut self,
        member: MemberId,
        stamp: Stamp,
        is_live: bool,
        now_ns: u64,
    ) {
        self.deliver_to::<true>(member, stamp, is_live, now_ns);
    }

    // A call is a twentieth of a delivery, and the compiler saves it only where there is one
    // caller.
    #[inline(always)]
    fn deliver_to<const RETURNED: bool>(
        &mut self,
        member: MemberId,
        stamp: Stamp,
        is_timed: bool,
        now_ns: u64,
    ) {
        let to = self.members[member.index()];
        let lane = stamp.stream.0.wrapping_sub(to.first_stream);
        if lane >= to.stream_count {
            return self.deliver_unreadable();
        }
        let published = self.streams[stamp.stream.index()].under_way.published();
        // A number from the future would make the checker wait for everything before it.
        if stamp.number >= published && !self.is_published(stamp, now_ns) {
            return self.deliver_unreadable();
        }
        let stream = &mut self.streams[stamp.stream.index()];
        let group = &mut self.groups[to.group as usize];
        group.deliveries += 1;
        if is_timed && self.timed_ns.contains(&stamp.due_ns) {
            let latency_ns = now_ns.saturating_sub(stamp.due_ns);
            group.latencies.each.record(latency_ns);
        }
        let lane = to.first_lane + lane as usize;
        let arrival = self.checker.check(lane, stamp.number);
        if RETURNED {
            let awaited_from = self.awaited_from.get(&lane).copied().unwrap_or_default();
            return self.settle_after_return(arrival, stamp, awaited_from, now_ns);
        }
        match arrival {
            Arrival::InOrder => {}
            Arrival::Ahead { missing } => return self.deliver_after(missing, stamp, now_ns),
            Arrival::Late | Arrival::Repeated => return,
        }
        match stream.under_way.settle(stamp.number, now_ns) {
            Settling::NotYet => {}
            settled => self.end_delivered(stamp, settled),
        }
    }

    /// Books the arrival of a publication at a member that did not receive those before.
    #[cold]
    fn deliver_after(&mut self, missing: Range<u32>, stamp: Stamp, now_ns: u64) {
        self.miss_all(stamp.stream, missing, now_ns);
        let under_way = &mut self.streams[stamp.stream.index()].under_way;
        let settled = under_way.settle(stamp.number, now_ns);
        self.end_delivered(stamp, settled);
    }

    /// Settles what waits for it, and nothing else.
    fn settle_after_return(
        &mut self,
        arrival: Arrival,
        stamp: Stamp,
        awaited_from: u32,
        now_ns: u64,
    ) {
        if stamp.number < awaited_from {
            return;
        }
        match arrival {
            Arrival::InOrder => {
                let under_way = &mut self.streams[stamp.stream.index()].under_way;
                let settled = under_way.settle(stamp.number, now_ns);
                self.end_delivered(stamp, settled);
            }
            Arrival::Ahead { missing } => {
                let awaited = missing.start.max(awaited_from)..missing.end;
                self.deliver_after(awaited, stamp, now_ns);
            }
            Arrival::Late | Arrival::Repeated => {}
        }
    }

    /// Ends a publication if its last member here has received it.
    #[inline]
    fn end_delivered(&mut self, stamp: Stamp, settled: Settling) {
        let reached = match settled {
            Settling::NotYet => return,
            Settling::Incomplete => None,
            Settling::Complete { last_ns } => Some(Reached {
                due_ns: stamp.due_ns,
                last_ns,
            }),
        };
        self.end(stamp.stream, stamp.number, reached);
    }

    /// Returns whether another thread has published a number that was not heard of here.
    #[cold]
    fn is_published(&mut self, stamp: Stamp, now_ns: u64) -> bool {
        self.catch_up(stamp.stream, now_ns);
        stamp.number < self.streams[stamp.stream.index()].under_way.published()
    }

    /// Begins here what another thread has published in the meantime.
    fn catch_up(&mut self, id: StreamId, now_ns: u64) {
        let stream = &mut self.streams[id.index()];
        let connected = self.connected[stream.room.index()];
        if stream.is_here() || connected == 0 {
            return;
        }
        let published = self.counts[id.index()].published();
        while stream.under_way.published() < published {
            stream.under_way.publish(connected, now_ns);
        }
    }

    /// Settles several publications, for one member, that it will not receive, or not in order.
    #[cold]
    fn miss_all(&mut self, id: StreamId, numbers: Range<u32>, now_ns: u64) {
        let mut ended = Vec::new();
        self.streams[id.index()]
            .under_way
            .miss_all(numbers, now_ns, |number| ended.push(number));
        for number in ended {
            self.end(id, number, None);
        }
    }

    /// Ends a publication that all members here have settled, and perhaps have received.
    #[inline]
    fn end(&mut self, stream: StreamId, number: u32, reached: Option<Reached>) {
        let state = &self.streams[stream.index()];
        if let Home::Thread(thread) = state.home {
            return self.settled.push((
                thread,
                Settled::One {
                    stream,
                    number,
                    reached,
                },
            ));
        }
        self.ended.push(stream);
        if let Some(Reached { due_ns, last_ns }) = reached
            && self.timed_ns.contains(&due_ns)
        {
            let latencies = &mut self.groups[state.group].latencies;
            latencies.last.record(last_ns.saturating_sub(due_ns));
        }
    }

    /// Takes over what members on another thread have settled of a stream of this one. Returns the
    /// stream if nobody is left to receive it.
    pub(crate) fn settle_elsewhere(&mut self, settled: Settled, now_ns: u64) -> Option<StreamId> {
        match settled {
            Settled::One {
                stream,
                number,
                reached: None,
            } => {
                self.miss_all(stream, number..number + 1, now_ns);
                None
            }
            Settled::One {
                stream,
                number,
                reached: Some(Reached { due_ns, last_ns }),
            } => {
                let under_way = &mut self.streams[stream.index()].under_way;
                match under_way.settle_part(number, last_ns, now_ns) {
                    Settling::NotYet => {}
                    Settling::Incomplete => self.end(stream, number, None),
                    Settling::Complete { last_ns } => {
                        self.end(stream, number, Some(Reached { due_ns, last_ns }));
                    }
                }
                None
            }
            Settled::All { stream, from } => {
                let published = self.streams[stream.index()].under_way.published();
                self.miss_all(stream, from..published, now_ns);
                let state = &mut self.streams[stream.index()];
                state.other_parts -= 1;
                let connected = self.connected[state.room.index()];
                (connected + state.other_parts == 0).then_some(stream)
            }
        }
    }

    /// Takes what is to be told to other threads, each thread's in order.
    pub(crate) fn take_settled(&mut self) -> std::vec::Drain<'_, (u32, Settled)> {
        self.settled.drain(..)
    }

    /// Books a `msg` that none of ours is, or that its member should not have.
    #[cold]
    pub(crate) fn deliver_unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Books that a delivery had another length than was published; it is a delivery nonetheless.
    #[cold]
    pub(crate) fn deliver_truncated(&mut self) {
        self.truncated += 1;
    }

    /// Settles all that a member did not get whose connection is gone. Returns the streams of this
    /// thread that end with it.
    pub(crate) fn disconnect(&mut self, member: MemberId, now_ns: u64) -> Vec<StreamId> {
        let state = &mut self.members[member.index()];
        if !std::mem::replace(&mut state.connected, false) {
            return Vec::new();
        }
        let state = *state;
        let mut retired = Vec::new();
        for lane in 0..state.stream_count {
            let id = StreamId(state.first_stream + lane);
            self.catch_up(id, now_ns);
            let published = self.published(id);
            let lane = state.first_lane + lane as usize;
            let lost = self.checker.outstanding(lane, published);
            self.lost_to_disconnects += lost.len() as u64;
            if !state.away {
                self.miss_all(id, lost, now_ns);
            }
        }
        let connected = &mut self.connected[state.room.index()];
        *connected -= u32::from(!state.away);
        for lane in 0..state.stream_count {
            let id = StreamId(state.first_stream + lane);
            let stream = &self.streams[id.index()];
            match stream.home {
                Home::Here(publisher) => {
                    if publisher == member || *connected + stream.other_parts == 0 {
                        retired.push(id);
                    }
                }
                Home::Thread(thread) if *connected == 0 => {
                    let from = stream.under_way.published();
                    self.settled
                        .push((thread, Settled::All { stream: id, from }));
                }
                Home::Thread(_) => {}
            }
        }
        retired
    }

    /// Lets nothing wait for a member whose connection is lost and who will come back; what it
    /// misses is lost only if it never has it.
    pub(crate) fn go_away(&mut self, member: MemberId, now_ns: u64) {
        let state = &mut self.members[member.index()];
        if !state.connected || std::mem::replace(&mut state.away, true) {
            return;
        }
        let state = *state;
        for lane in 0..state.stream_count {
            let id = StreamId(state.first_stream + lane);
            self.catch_up(id, now_ns);
            let published = self.streams[id.index()].under_way.published();
            let lane = state.first_lane + lane as usize;
            let awaited_from = self.awaited_from.get(&lane).copied().unwrap_or_default();
            let expected = self.checker.outstanding(lane, published);
            self.miss_all(id, expected.start.max(awaited_from)..published, now_ns);
        }
        self.connected[state.room.index()] -= 1;
    }

    /// Lets what is published from now on wait for a member that was away, too.
    pub(crate) fn come_back(&mut self, member: MemberId) {
        let state = &mut self.members[member.index()];
        if !std::mem::replace(&mut state.away, false) {
            return;
        }
        let state = *state;
        for lane in 0..state.stream_count {
            let id = StreamId(state.first_stream + lane);
            let published = self.streams[id.index()].under_way.published();
            self.awaited_from
                .insert(state.first_lane + lane as usize, published);
        }
        self.connected[state.room.index()] += 1;
    }

    /// Asks no longer what a member had that is away.
    pub(crate) fn dismiss(&mut self, member: MemberId) {
        self.members[member.index()].connected = false;
    }

    /// Returns whether members came back whom not everything waited for that is on its way.
    pub(crate) fn has_returned(&self) -> bool {
        !self.awaited_from.is_empty()
    }

    /// Lets everything wait for everybody who is there: nothing is under way.
    pub(crate) fn forget_returns(&mut self) {
        self.awaited_from.clear();
    }

    /// Tallies these members by themselves, as if they were a group of their own; returns its
    /// place.
    pub(crate) fn tally_apart(&mut self, members: &[MemberId]) -> usize {
        let place = self.groups.len();
        self.groups.push(GroupTally::default());
        for member in members {
            self.members[member.index()].group =
                u32::try_from(place).expect("there are a few groups");
        }
        place
    }

    /// Does not count a time in which this program stood still as one in which streams did.
    pub(crate) fn excuse(&mut self, stood_still_ns: u64) {
        for stream in &mut self.streams {
            stream.under_way.excuse(stood_still_ns);
        }
    }

    /// Gives up the publications of streams that have not moved for `patience_ns`, and those of
    /// other threads' streams that were given up there.
    pub(crate) fn give_up(&mut self, now_ns: u64, patience_ns: u64) {
        for (index, stream) in (0..).zip(&mut self.streams) {
            let count = self.counts.get(index as usize);
            if !stream.is_here() {
                let before = count.map_or(0, StreamCount::given_up_before);
                stream.under_way.forget_before(before);
                continue;
            }
            let given_up = stream.under_way.give_up(now_ns, patience_ns);
            self.given_up += u64::from(given_up);
            self.ended.extend((0..given_up).map(|_| StreamId(index)));
            if let Some(count) = count.filter(|_| given_up > 0) {
                count.give_up_before(stream.under_way.published());
            }
        }
    }

    /// Takes the stream of a publication that ended; each is told once.
    pub(crate) fn take_ended(&mut self) -> Option<StreamId> {
        self.ended.pop()
    }

    /// Returns how many publications of this thread are under way.
    pub(crate) fn under_way(&self) -> usize {
        let here = self.streams.iter().filter(|stream| stream.is_here());
        here.map(|stream| stream.under_way.len()).sum()
    }

    /// Returns the latencies of a group since they were last forgotten or taken.
    pub(crate) fn latencies(&self, group: usize) -> &Latencies {
        &self.groups[group].latencies
    }

    /// Returns the same, to be taken.
    pub(crate) fn latencies_mut(&mut self, group: usize) -> &mut Latencies {
        &mut self.groups[group].latencies
    }

    /// Begins latencies anew.
    pub(crate) fn forget_latencies(&mut self) {
        for group in &mut self.groups {
            group.latencies.each.reset();
            group.latencies.last.reset();
        }
    }

    /// Returns the deliveries of all groups so far.
    pub(crate) fn deliveries(&self) -> u64 {
        self.groups.iter().map(|group| group.deliveries).sum()
    }

    /// Returns the publications of all groups so far.
    pub(crate) fn publications(&self) -> u64 {
        self.groups.iter().map(|group| group.publications).sum()
    }

    /// Returns the deliveries that are known to be lost, without those that may still arrive. Costs
    /// nothing.
    pub(crate) fn lost_so_far(&self) -> u64 {
        self.checker.faults.lost + self.lost_to_disconnects
    }

    /// Returns what went wrong, if nothing more arrives.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = self.checker.faults;
        faults.lost += self.lost_to_disconnects;
        faults.truncated += self.truncated;
        for member in self.members.iter().filter(|member| member.connected) {
            for lane in 0..member.stream_count {
                let published = self.published(StreamId(member.first_stream + lane));
                let lane = member.first_lane + lane as usize;
                faults.lost += self.checker.outstanding(lane, published).len() as u64;
            }
        }
        faults
    }

    /// Returns how much was published on a stream, here or by another thread.
    pub(crate) fn published(&self, id: StreamId) -> u32 {
        let stream = &self.streams[id.index()];
        match stream.home {
            Home::Here(_) => stream.under_way.published(),
            Home::Thread(_) => self.counts[id.index()].published(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::scenario::{Group, Pacing};
    use crate::shared::Shared;

    const NONE: [u32; 0] = [];

    /// One room of three members, of whom the first two publish.
    fn ledger() -> Ledger {
        let pacing = Pacing::Closed { window: 2 };
        let group = Group::alike(1, 3, 2, pacing);
        let mut ledger = Ledger::new(&Plan::new(&[group], 0), Arc::new([]));
        ledger.timed_ns = 0..u64::MAX;
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
        let Latencies { each, last } = ledger.latencies(0);
        let timed = (each.count(), last.count());
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
        let timed = |ledger: &Ledger| ledger.latencies(0).last.count();
        assert_eq!(timed(&ledger), 2, "the second was skipped");
        let taken = std::mem::take(ledger.latencies_mut(0));
        assert_eq!((taken.last.count(), timed(&ledger)), (2, 0));
        ledger.timed_ns = 1..2;
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
        assert_eq!((ledger.unreadable, ledger.deliveries()), (2, 0));
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
        assert_eq!((ledger.given_up, ledger.faults().lost), (1, 3));
    }

    /// What reaches a member that was away.
    fn deliver_again(ledger: &mut Ledger, member: u32, number: u32, is_live: bool) {
        let stamp = Stamp {
            stream: StreamId(0),
            number,
            due_ns: 0,
        };
        ledger.deliver_after_return(MemberId(member), stamp, is_live, 5_000);
    }

    #[test]
    fn what_goes_out_while_a_member_is_away_does_not_wait_for_it_and_is_lost_if_it_never_has_it() {
        let mut ledger = ledger();
        ledger.publish(StreamId(0), 0);
        deliver(&mut ledger, 0, 0, 0);
        deliver(&mut ledger, 1, 0, 0);
        ledger.go_away(MemberId(2), 1);
        assert_eq!(ledger.take_ended(), Some(StreamId(0)), "it was the last");
        ledger.publish(StreamId(0), 2);
        deliver(&mut ledger, 0, 0, 1);
        assert_eq!(deliver(&mut ledger, 1, 0, 1), [0], "two are all");
        assert_eq!((ledger.under_way(), ledger.faults().lost), (0, 2));

        // One goes out before it is back, one behind that: the second waits for it.
        ledger.publish(StreamId(0), 3);
        ledger.come_back(MemberId(2));
        ledger.publish(StreamId(0), 3);
        (0..3).for_each(|number| deliver_again(&mut ledger, 2, number, number == 2));
        assert_eq!(
            ledger.under_way(),
            2,
            "it settled nothing that does not wait"
        );
        for number in [2, 3] {
            deliver(&mut ledger, 0, 0, number);
            deliver(&mut ledger, 1, 0, number);
        }
        assert_eq!((ledger.under_way(), ledger.faults().lost), (1, 1));
        deliver_again(&mut ledger, 2, 3, true);
        assert_eq!(ledger.under_way(), 0);
        assert_eq!(ledger.faults(), Faults::default());
        // Two that were sent again are not timed.
        assert_eq!(ledger.latencies(0).each.count(), 4 * 3 - 2);
    }

    #[test]
    fn those_who_are_tallied_apart_are_in_nobody_elses_latency() {
        let mut ledger = ledger();
        let apart = ledger.tally_apart(&[MemberId(2)]);
        ledger.publish(StreamId(0), 0);
        (0..3).for_each(|member| drop(deliver(&mut ledger, member, 0, 0)));
        let timed = |place: usize| ledger.latencies(place).each.count();
        assert_eq!((timed(0), timed(apart), ledger.deliveries()), (2, 1, 3));
    }

    #[test]
    fn a_publication_while_all_are_away_waits_for_nobody() {
        let mut ledger = ledger();
        (0..3).for_each(|member| ledger.go_away(MemberId(member), 0));
        assert_eq!(ledger.publish(StreamId(0), 1), 0);
        assert_eq!((ledger.under_way(), ledger.faults().lost), (0, 3));
        ledger.come_back(MemberId(0));
        ledger.go_away(MemberId(0), 2);
        ledger.go_away(MemberId(0), 2);
        ledger.come_back(MemberId(0));
        assert_eq!(ledger.publish(StreamId(0), 3), 1);
        assert_eq!(ledger.under_way(), 1);
    }

    /// A room of three members of whom the first publishes, on two threads: two members are on the
    /// first, one on the second.
    struct Split {
        parts: Vec<Plan>,
        ledgers: [Ledger; 2],
    }

    impl Split {
        fn new() -> Self {
            let pacing = Pacing::Closed { window: 2 };
            let group = Group::alike(1, 3, 1, pacing);
            let parts = Plan::new(&[group], 0).split(2);
            let interrupted = AtomicBool::new(false);
            let counts = Shared::new(&parts, &interrupted).counts();
            let ledgers = [0, 1].map(|part| Ledger::new(&parts[part], Arc::clone(&counts)));
            Self { parts, ledgers }
        }

        /// Tells each thread what the other has for it.
        fn exchange(&mut self) {
            for (to, from) in [(0, 1), (1, 0)] {
                let settled: Vec<_> = self.ledgers[from].take_settled().collect();
                for (thread, settled) in settled {
                    assert_eq!(thread as usize, to);
                    let retired = self.ledgers[to].settle_elsewhere(settled, 9_000);
                    assert_eq!(retired, None);
                }
            }
        }

        fn lost(&self) -> [u64; 2] {
            [0, 1].map(|part| self.ledgers[part].faults().lost)
        }
    }

    #[test]
    fn a_publication_ends_when_the_other_thread_has_it_too() {
        let mut split = Split::new();
        assert_eq!(split.parts[1].connections(), 1);
        split.ledgers[0].publish(StreamId(0), 0);
        assert_eq!(deliver(&mut split.ledgers[0], 0, 0, 0), NONE);
        assert_eq!(deliver(&mut split.ledgers[0], 1, 0, 0), NONE);
        assert_eq!(deliver(&mut split.ledgers[1], 0, 0, 0), NONE);
        assert_eq!(split.ledgers[0].under_way(), 1, "it was not told yet");
        split.exchange();
        assert_eq!(split.ledgers[0].take_ended(), Some(StreamId(0)));
        assert_eq!(split.ledgers[0].under_way(), 0);
        assert_eq!(split.lost(), [0, 0]);
    }

    #[test]
    fn a_thread_that_heard_of_nothing_has_lost_it_all_the_same() {
        let mut split = Split::new();
        split.ledgers[0].publish(StreamId(0), 0);
        split.ledgers[0].publish(StreamId(0), 0);
        assert_eq!(split.lost(), [4, 2]);
        deliver(&mut split.ledgers[1], 0, 0, 1);
        assert_eq!(split.lost(), [4, 1]);
        deliver(&mut split.ledgers[1], 0, 0, 2);
        assert_eq!(split.ledgers[1].unreadable, 1, "nobody published it");
    }

    #[test]
    fn a_thread_whose_members_are_all_away_settles_when_they_are_back() {
        let mut split = Split::new();
        split.ledgers[0].publish(StreamId(0), 0);
        split.ledgers[1].go_away(MemberId(0), 1);
        split.exchange();
        deliver(&mut split.ledgers[0], 0, 0, 0);
        deliver(&mut split.ledgers[0], 1, 0, 0);
        assert_eq!(
            split.ledgers[0].under_way(),
            0,
            "it does not wait for who is away"
        );
        split.ledgers[0].publish(StreamId(0), 2);
        deliver(&mut split.ledgers[0], 0, 0, 1);
        deliver(&mut split.ledgers[0], 1, 0, 1);
        assert_eq!((split.ledgers[0].under_way(), split.lost()), (1, [0, 2]));
        split.ledgers[1].come_back(MemberId(0));
        for number in [0, 1] {
            deliver_again(&mut split.ledgers[1], 0, number, false);
        }
        split.exchange();
        assert_eq!((split.ledgers[0].under_way(), split.lost()), (0, [0, 0]));
        assert_eq!(split.ledgers[1].unreadable, 0);
    }

    #[test]
    fn what_the_publisher_gives_up_is_not_kept_elsewhere() {
        let mut split = Split::new();
        split.ledgers[0].publish(StreamId(0), 0);
        split.ledgers[0].publish(StreamId(0), 0);
        deliver(&mut split.ledgers[1], 0, 0, 0);
        split.ledgers[0].give_up(1_000_000, 100);
        split.ledgers[1].give_up(1_000_000, 100);
        let given_up = [0, 1].map(|part| split.ledgers[part].given_up);
        assert_eq!(given_up, [2, 0], "once, by the publisher");
        split.exchange();
        assert_eq!(split.ledgers[0].under_way(), 0);
    }

    #[test]
    fn a_thread_without_members_left_holds_nothing_back() {
        let mut split = Split::new();
        split.ledgers[0].publish(StreamId(0), 0);
        assert_eq!(split.ledgers[1].disconnect(MemberId(0), 1), []);
        // This one goes out before the first thread is told.
        split.ledgers[0].publish(StreamId(0), 2);
        split.exchange();
        split.ledgers[0].publish(StreamId(0), 3);
        for number in 0..3 {
            deliver(&mut split.ledgers[0], 0, 0, number);
            assert_eq!(deliver(&mut split.ledgers[0], 1, 0, number), [0]);
        }
        assert_eq!(split.lost(), [0, 1], "the one that was out when it left");
    }
}
