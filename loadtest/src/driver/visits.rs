//! Visitors: connections that come by the clock, join, publish a few times, and leave.
//!
//! A visitor publishes on a stream of its own, and publishes again when it has received what it
//! published last. It must receive its own publications once each and in order, and from the first
//! one that it receives of a resident's, all of that resident's, up to when it leaves. Half-way
//! arrivals and departures that never end are given up after [`STEP_PATIENCE`]. On a wire with positions
//! its offsets and answers are checked as a member's are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;
use proto::{CloseCode, CloseFrame, OpCode};

use super::messages::VISITS_FIRST;
use super::{Driver, TICK};
use crate::clock::to_ns;
use crate::connection::{Connection, State};
use crate::failure::Failure;
use crate::inbox::Recipient;
use crate::latencies::latency_histogram;
use crate::opening::{OpeningTally, Refusal};
use crate::payload::Stamp;
use crate::plan::{MemberId, RoomId, StreamId};
use crate::positions::{PositionBook, Seat};
use crate::sequence::Faults;
use crate::wire::throng::{self, Said};
use crate::wire::{Delivery, Meaning, Name, RoomShape, Wire};

/// No step of a visit, such as the answer to a publication, may take longer: servers take
/// milliseconds, and Throng itself cuts a closing connection off after this.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// What one thread's visitors do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VisitPlan {
    /// When the first comes.
    pub(crate) first_due_ns: u64,
    /// From one to the next.
    pub(crate) interval_ns: u64,
    /// Nobody comes from here on.
    pub(crate) end_ns: u64,
    /// How many may be there, or on their way, at a time.
    pub(crate) visitors_max: u32,
    /// What each publishes.
    pub(crate) publications: u32,
    /// The share that leaves by a reset.
    pub(crate) rst_percent: u8,
}

/// What came of visits.
#[derive(Clone, Debug)]
pub(crate) struct VisitTally {
    pub(crate) opening: OpeningTally,
    /// Visitors who came later than they were due because the others had not left.
    pub(crate) held_back: u64,
    /// Visitors who received a publication of their own.
    pub(crate) joins: u64,
    /// Nanoseconds from when a visitor was due until it received its first own publication.
    pub(crate) join_ns: Histogram<u64>,
    pub(crate) publications: u64,
    /// Deliveries to visitors, whoever published them.
    pub(crate) deliveries: u64,
    pub(crate) left_by_reset: u64,
    pub(crate) left_cleanly: u64,
    /// Clean leavers whose close frame the server did not answer.
    pub(crate) closes_unanswered: u64,
    /// Visitors whom the server ended, by what it said.
    pub(crate) ended: BTreeMap<String, u64>,
    /// What was wrong with what visitors received.
    pub(crate) faults: Faults,
    /// Messages of the server that were neither deliveries nor expected.
    pub(crate) complaints: u64,
}

impl VisitTally {
    /// Of nobody.
    pub(crate) fn new() -> Self {
        Self {
            opening: OpeningTally::new(),
            held_back: 0,
            joins: 0,
            join_ns: latency_histogram(),
            publications: 0,
            deliveries: 0,
            left_by_reset: 0,
            left_cleanly: 0,
            closes_unanswered: 0,
            ended: BTreeMap::new(),
            faults: Faults::default(),
            complaints: 0,
        }
    }

    /// Takes over what came of others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.opening.add(&other.opening);
        self.held_back += other.held_back;
        self.joins += other.joins;
        self.join_ns
            .add(&other.join_ns)
            .expect("all histograms have the same bounds");
        self.publications += other.publications;
        self.deliveries += other.deliveries;
        self.left_by_reset += other.left_by_reset;
        self.left_cleanly += other.left_cleanly;
        self.closes_unanswered += other.closes_unanswered;
        for (reason, count) in &other.ended {
            *self.ended.entry(reason.clone()).or_default() += count;
        }
        self.faults += other.faults;
        self.complaints += other.complaints;
    }
}

/// All visitors of a thread.
#[derive(Debug)]
pub(super) struct Visits {
    plan: VisitPlan,
    /// The place of the first visitor's connection.
    first: u32,
    rooms: u32,
    thread: u32,
    threads: u32,
    next_due_ns: u64,
    begun: u32,
    visits: Vec<Visit>,
    free: Vec<u32>,
    /// Steps in the order in which they run out of time.
    deadlines: VecDeque<(u64, MemberId, u32)>,
    tally: VisitTally,
}

impl Visits {
    /// How many visitors there are, on their way in and out too.
    pub(super) fn present(&self) -> usize {
        self.visits.len() - self.free.len()
    }
}

/// One visitor, or the place of one.
#[derive(Debug)]
struct Visit {
    due_ns: u64,
    room: RoomId,
    stream: StreamId,
    /// Changes with each step, of this visit and of the next in its place.
    step: u32,
    by_reset: bool,
    is_leaving: bool,
    published: u32,
    /// The next of its own that it must receive.
    expected: u32,
    /// The next of each resident's stream that it must receive, once it had one.
    residents: Vec<(StreamId, u32)>,
    /// Where it is in its room's stream.
    seat: Seat,
    /// What the server calls its connection.
    name: Option<Name>,
}

impl Visit {
    fn nobody() -> Self {
        Self {
            due_ns: 0,
            room: RoomId(0),
            stream: StreamId(VISITS_FIRST),
            step: 0,
            by_reset: false,
            is_leaving: false,
            published: 0,
            expected: 0,
            residents: Vec::new(),
            seat: Seat::new(),
            name: None,
        }
    }
}

impl Visits {
    /// Somebody comes, if somebody is due and there is a place.
    fn arrive(&mut self, now_ns: u64) -> Option<MemberId> {
        if self.next_due_ns > now_ns || self.next_due_ns >= self.plan.end_ns {
            return None;
        }
        let place = self.free.pop()?;
        let due_ns = self.next_due_ns;
        self.next_due_ns += self.plan.interval_ns;
        // Whoever could have come a turn ago but for the others was held back.
        self.tally.held_back += u64::from(now_ns - due_ns > to_ns(TICK));
        self.tally.opening.attempts += 1;
        let number = self
            .begun
            .wrapping_mul(self.threads)
            .wrapping_add(self.thread);
        self.begun = self.begun.wrapping_add(1);
        let visit = &mut self.visits[place as usize];
        *visit = Visit {
            due_ns,
            room: RoomId(number % self.rooms),
            // The last number is that of probes.
            stream: StreamId(VISITS_FIRST + number % (u32::MAX - VISITS_FIRST)),
            by_reset: is_of_share(self.begun - 1, self.plan.rst_percent),
            step: visit.step,
            ..Visit::nobody()
        };
        let member = MemberId(self.first + place);
        self.step(member, now_ns);
        Some(member)
    }

    fn visit(&mut self, member: MemberId) -> &mut Visit {
        &mut self.visits[(member.0 - self.first) as usize]
    }

    pub(super) fn room_of(&self, member: MemberId) -> RoomId {
        self.visits[(member.0 - self.first) as usize].room
    }

    /// A visitor waits for the next thing that must happen.
    fn step(&mut self, member: MemberId, now_ns: u64) {
        let visit = self.visit(member);
        visit.step = visit.step.wrapping_add(1);
        let step = visit.step;
        let deadline_ns = now_ns + to_ns(STEP_PATIENCE);
        self.deadlines.push_back((deadline_ns, member, step));
    }

    /// A visitor to whom nothing happened for too long.
    fn take_overdue(&mut self, now_ns: u64) -> Option<MemberId> {
        while let Some(&(deadline_ns, member, step)) = self.deadlines.front() {
            if deadline_ns > now_ns {
                return None;
            }
            self.deadlines.pop_front();
            if self.visit(member).step == step {
                return Some(member);
            }
        }
        None
    }

    /// A visitor is gone, and another may come in its place.
    fn depart(&mut self, member: MemberId) {
        let visit = self.visit(member);
        visit.step = visit.step.wrapping_add(1);
        // What a server did not deliver to somebody who waited for it is lost.
        let lost = u64::from(visit.published - visit.expected);
        self.tally.faults.lost += lost;
        self.free.push(member.0 - self.first);
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.visits.len()
    }
}

/// Whether the `number`th of many belongs to a share that is spread evenly.
fn is_of_share(number: u32, percent: u8) -> bool {
    let before = |number: u64| number * u64::from(percent) / 100;
    before(u64::from(number) + 1) > before(u64::from(number))
}

impl Driver<'_> {
    /// Lets visitors come and go beside the members, who publish as they were started to; returns
    /// when the last visitor has left.
    pub(crate) fn receive_visitors(&mut self, plan: VisitPlan) -> Result<VisitTally, Failure> {
        self.open_doors(plan);
        loop {
            let now_ns = self.clock.now_ns();
            let visits = self.visits.as_mut().expect("set above and not taken");
            if now_ns >= plan.end_ns && visits.is_empty() || self.shared.must_stop() {
                break;
            }
            while let Some(member) = self.overdue_visitor(now_ns) {
                self.give_up_visit(member);
            }
            self.welcome(now_ns)?;
            let wait = self.until_next_visitor(now_ns);
            self.turn(wait)?;
            self.check_alive()?;
        }
        let visits = self.visits.as_ref().expect("set above and not taken");
        Ok(visits.tally.clone())
    }

    fn open_doors(&mut self, plan: VisitPlan) {
        let rooms = u32::try_from(self.plan.rooms.len()).unwrap_or(u32::MAX);
        let thread = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.visits = Some(Visits {
            plan,
            first: self.members,
            rooms,
            thread: thread(self.plan.thread),
            threads: thread(self.shared.threads()),
            next_due_ns: plan.first_due_ns,
            begun: 0,
            visits: (0..plan.visitors_max).map(|_| Visit::nobody()).collect(),
            free: (0..plan.visitors_max).rev().collect(),
            deadlines: VecDeque::new(),
            tally: VisitTally::new(),
        });
        let places = self.members + plan.visitors_max;
        self.connections
            .resize_with(places as usize, Connection::closed);
    }

    fn overdue_visitor(&mut self, now_ns: u64) -> Option<MemberId> {
        self.visits.as_mut()?.take_overdue(now_ns)
    }

    /// Begins to connect whoever is due.
    fn welcome(&mut self, now_ns: u64) -> Result<(), Failure> {
        while let Some(member) = self.visits.as_mut().and_then(|it| it.arrive(now_ns)) {
            let source = self.plan.connections_before + member.0;
            match Connection::open(self.target, source, None) {
                Ok(connection) => {
                    self.connections[member.index()] = connection;
                    self.register(member)?;
                }
                Err(error) => self.refuse_visit(member, Refusal::of(&error)),
            }
        }
        Ok(())
    }

    fn until_next_visitor(&self, now_ns: u64) -> Duration {
        let due = self.visits.as_ref().map(|visits| visits.next_due_ns);
        let wait_ns = due.unwrap_or_default().saturating_sub(now_ns);
        // What is due and has no place waits for somebody to leave, which ends the wait.
        match wait_ns {
            0 => TICK,
            _ => Duration::from_nanos(wait_ns).min(TICK),
        }
    }

    /// A visitor's connection did not open.
    pub(super) fn refuse_visit(&mut self, member: MemberId, refusal: Refusal) {
        self.connections[member.index()].abort();
        if let Some(visits) = &mut self.visits {
            visits.tally.opening.refuse(refusal);
            visits.depart(member);
        }
    }

    /// A visitor's connection is open and its join is queued.
    pub(super) fn begin_visit(&mut self, member: MemberId) {
        let now_ns = self.clock.now_ns();
        if let Some(visits) = &mut self.visits {
            let after_ns = now_ns.saturating_sub(visits.visit(member).due_ns);
            visits.tally.opening.open(after_ns);
        }
        self.publish_of_visitor(member);
    }

    fn publish_of_visitor(&mut self, member: MemberId) {
        let now_ns = self.clock.now_ns();
        let Some(visits) = &mut self.visits else {
            return;
        };
        visits.tally.publications += 1;
        let visit = visits.visit(member);
        let stamp = Stamp {
            stream: visit.stream,
            number: visit.published,
            due_ns: now_ns,
        };
        visit.published += 1;
        visits.step(member, now_ns);
        self.send(member, stamp);
    }

    /// Takes the first `bytes` of the read buffer, which a visitor received.
    #[cold]
    pub(super) fn receive_visitor(
        &mut self,
        member: MemberId,
        bytes: usize,
    ) -> Result<(), Failure> {
        let connection = &mut self.connections[member.index()];
        let State::Open(inbox) = &mut connection.state else {
            return self.receive_response(member, bytes);
        };
        let Some(visits) = &mut self.visits else {
            return Ok(());
        };
        let now_ns = self.clock.now_ns();
        let visit = &mut visits.visits[(member.0 - visits.first) as usize];
        let room = visit.room;
        let mut received = VisitorReceived {
            visit,
            tally: &mut visits.tally,
            book: &mut self.book,
            streams: self.plan.streams.len(),
            wire: &self.target.wire,
            shape: self.shapes.of(room),
            room: &self.plan.rooms[room.index()].name,
            now_ns,
            has_own: false,
            replies: Vec::new(),
            welcomed: false,
            closed: None,
        };
        let decoded = inbox.receive(&mut self.buffer[..bytes], &mut received);
        let VisitorReceived {
            has_own,
            replies,
            welcomed,
            closed,
            ..
        } = received;
        for reply in &replies {
            self.connections[member.index()].push(OpCode::Text, reply.as_bytes());
            self.list(member);
        }
        if welcomed {
            self.admit(member);
        }
        match (decoded, closed) {
            (Err(error), _) => self.end_visit(member, format!("it sent a {error}")),
            (_, Some(_)) if self.is_leaving(member) => self.close_visit(member, true),
            (_, Some(reason)) => self.end_visit(member, reason),
            _ if has_own && !self.is_leaving(member) => self.go_on(member),
            _ => {}
        }
        Ok(())
    }

    fn is_leaving(&mut self, member: MemberId) -> bool {
        let visits = self.visits.as_mut();
        visits.is_some_and(|visits| visits.visit(member).is_leaving)
    }

    /// A visitor has received all that it published: it publishes again, or leaves.
    fn go_on(&mut self, member: MemberId) {
        let Some(visits) = &mut self.visits else {
            return;
        };
        let publications = visits.plan.publications;
        let visit = visits.visit(member);
        if visit.expected < visit.published {
            return;
        }
        if visit.published < publications {
            return self.publish_of_visitor(member);
        }
        if visit.by_reset {
            visits.tally.left_by_reset += 1;
            visits.depart(member);
            self.connections[member.index()].abort();
            return;
        }
        visit.is_leaving = true;
        visits.step(member, self.clock.now_ns());
        self.leave(member);
        let goodbye = CloseCode::NORMAL.0.to_be_bytes();
        self.connections[member.index()].push(OpCode::Close, &goodbye);
        self.list(member);
    }

    /// A visitor that was leaving is gone.
    fn close_visit(&mut self, member: MemberId, answered: bool) {
        self.connections[member.index()].abort();
        if let Some(visits) = &mut self.visits {
            visits.tally.left_cleanly += 1;
            visits.tally.closes_unanswered += u64::from(!answered);
            visits.depart(member);
        }
    }

    /// The server ended a visitor's connection that was open.
    pub(super) fn end_visit(&mut self, member: MemberId, reason: String) {
        if self.is_leaving(member) {
            return self.close_visit(member, false);
        }
        self.connections[member.index()].abort();
        if let Some(visits) = &mut self.visits {
            *visits.tally.ended.entry(reason).or_default() += 1;
            visits.depart(member);
        }
    }

    /// Nothing happened to a visitor for too long.
    fn give_up_visit(&mut self, member: MemberId) {
        if !self.connections[member.index()].has_joined {
            return self.refuse_visit(member, Refusal::TimedOut);
        }
        if self.is_leaving(member) {
            return self.close_visit(member, false);
        }
        self.connections[member.index()].abort();
        if let Some(visits) = &mut self.visits {
            visits.tally.left_by_reset += 1;
            visits.depart(member);
        }
    }
}

/// The messages of one read of one visitor.
#[derive(Debug)]
struct VisitorReceived<'a> {
    visit: &'a mut Visit,
    tally: &'a mut VisitTally,
    book: &'a mut PositionBook,
    /// How many streams residents have.
    streams: usize,
    wire: &'a Wire,
    shape: &'a RoomShape,
    /// The name of the room.
    room: &'a str,
    now_ns: u64,
    has_own: bool,
    /// What messages that the wire answers want back.
    replies: Vec<String>,
    /// Whether the message was there after which members join.
    welcomed: bool,
    closed: Option<String>,
}

impl VisitorReceived<'_> {
    fn message_unusual(&mut self, start: &[u8]) {
        if self.wire.has_positions() {
            return self.message_said(start);
        }
        let greets = |greeting: &str| start.starts_with(greeting.as_bytes());
        let welcomed = self.wire.join_after().is_some_and(greets);
        self.welcomed |= welcomed;
        match self.wire.meaning(start) {
            Meaning::Answer(text) => self.replies.push(text.to_owned()),
            Meaning::Other if welcomed => {}
            Meaning::Complaint | Meaning::Misdelivery | Meaning::Other => {
                self.tally.complaints += 1;
            }
        }
    }

    /// What a server with positions says beside publications.
    fn message_said(&mut self, start: &[u8]) {
        let Visit { seat, name, .. } = &mut *self.visit;
        let understood = match throng::understand(start, self.room) {
            Said::Hello(given) => {
                *name = Some(given);
                seat.greet()
            }
            _ if !seat.was_greeted() => Err("a message before hello"),
            Said::Gap { first, last } => seat.pass_over((first, last), self.book),
            Said::Joined(joined) => seat.join(&joined, self.book),
            Said::Drain(_) | Said::Other => Ok(()),
            Said::Ack(_) | Said::Complaint { .. } | Said::Publication => {
                self.tally.complaints += 1;
                Ok(())
            }
            Said::Wrong(what) => Err(what),
        };
        if let Err(what) = understood {
            self.book.add_wrong(what, start);
        }
    }

    /// Looks at what is around a publication, where there is anything.
    fn check_envelope(&mut self, delivery: &Delivery<'_>, stamp: Stamp) {
        let Some(envelope) = &delivery.envelope else {
            return;
        };
        self.visit.seat.take(envelope.offset, self.book);
        let is_own = stamp.stream == self.visit.stream;
        if is_own && envelope.from != self.visit.name {
            self.book.add_wrong_sender();
        }
    }

    fn deliver(&mut self, stamp: Stamp) {
        let Visit {
            stream,
            expected,
            residents,
            due_ns,
            ..
        } = &mut *self.visit;
        if stamp.stream == *stream {
            self.has_own = true;
            if stamp.number == 0 && *expected == 0 {
                self.tally.joins += 1;
                let after_ns = self.now_ns.saturating_sub(*due_ns);
                self.tally.join_ns.saturating_record(after_ns);
            }
            check(expected, stamp.number, &mut self.tally.faults);
        } else if stamp.stream.index() < self.streams {
            let known = residents.iter_mut().find(|(id, _)| *id == stamp.stream);
            match known {
                Some((_, expected)) => check(expected, stamp.number, &mut self.tally.faults),
                None => residents.push((stamp.stream, stamp.number + 1)),
            }
        }
    }
}

/// Compares a number with the one that is expected, and expects the next.
///
/// A number that comes after a later one cannot be told from a repetition here: visits are short, and
/// keep no list of what they miss.
fn check(expected: &mut u32, number: u32, faults: &mut Faults) {
    if number < *expected {
        faults.repeated += 1;
        return;
    }
    faults.lost += u64::from(number - *expected);
    *expected = number + 1;
}

impl Recipient for VisitorReceived<'_> {
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let delivery = self.shape.delivery(start, message_bytes);
        let stamped = delivery.and_then(|it| Some((it, Stamp::read(it.letters)?)));
        let Some((delivery, stamp)) = stamped else {
            return self.message_unusual(start);
        };
        self.tally.deliveries += 1;
        self.tally.faults.truncated += u64::from(!delivery.is_whole);
        self.check_envelope(&delivery, stamp);
        self.deliver(stamp);
    }

    // A visit is over before a keepalive of any server could matter.
    fn ping(&mut self, _payload: &[u8]) {}

    fn close(&mut self, payload: &[u8]) {
        self.closed = Some(match CloseFrame::parse(payload) {
            Ok(close) => format!("it said {}", close.code.0),
            Err(error) => format!("it sent a {error}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        for (percent, of_ten) in [(0, 0), (10, 1), (50, 5), (100, 10)] {
            let of_share = |from| {
                (from..from + 10)
                    .filter(|&it| is_of_share(it, percent))
                    .count()
            };
            assert_eq!(
                (of_share(0), of_share(990)),
                (of_ten, of_ten),
                "{percent} %"
            );
        }
    }

    #[test]
    fn a_gap_is_lost_and_what_was_there_is_repeated() {
        let (mut expected, mut faults) = (0, Faults::default());
        for number in [0, 1, 4, 4, 5] {
            check(&mut expected, number, &mut faults);
        }
        assert_eq!((faults.lost, faults.repeated, expected), (2, 1, 6));
    }
}
