//! Visitors: connections that come by the clock, join, publish a few times, and leave.
//!
//! A visitor publishes on a stream of its own, and publishes again when it has received what it
//! published last. It must receive its own publications once each and in order, and from the first
//! one that it receives of a resident's, all of that resident's, up to when it leaves. Half-way
//! arrivals and departures that never end are given up after [`STEP_PATIENCE`]. On a wire with
//! positions its offsets and answers are checked as a member's are.

use std::time::Duration;

use anyhow::Result;
use derive_more::AddAssign;
use proto::{CloseCode, OpCode};
use serde::Serialize;

use super::deadlines::Deadlines;
use super::messages::{Goodbye, Tidings, VISITS_FIRST};
use super::{Driver, TICK};
use crate::clock::to_ns;
use crate::connection::{Connection, State};
use crate::inbox::Recipient;
use crate::opening::{OpeningTally, Refusal};
use crate::payload::Stamp;
use crate::plan::{MemberId, RoomId, StreamId};
use crate::positions::{PositionBook, Seat};
use crate::sequence::Faults;
use crate::tally::{Counts, Latency};
use crate::wire::throng::{self, Said};
use crate::wire::{Meaning, Name, RoomShape, Wire};

/// No step of a visit, such as the answer to a publication, may take longer: servers take
/// milliseconds, and Throng itself cuts a closing connection off after this.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// What one thread's visitors do.
#[derive(Clone, Copy, Debug, Default)]
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

/// What came of visits. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
pub(crate) struct VisitTally {
    /// Handshakes are timed from when a visitor was due.
    #[serde(flatten)]
    pub(crate) opening: OpeningTally,
    /// Visitors who received a publication of their own.
    joins: u64,
    /// Visitors who came later than they were due because the others had not left.
    held_back: u64,
    /// From when a visitor was due to the first publication of its own that it received.
    join_us: Latency,
    visitor_publications: u64,
    /// Deliveries to visitors, whoever published them.
    visitor_deliveries: u64,
    left_by_reset: u64,
    left_cleanly: u64,
    /// Clean leavers whose close frame the server did not answer.
    closes_unanswered: u64,
    /// Visitors whom the server ended, by what it said.
    ended_by_server: Counts,
    /// Messages of the server that were neither deliveries nor expected.
    visitor_complaints: u64,
    /// What was wrong with what visitors received; residents are counted with everybody.
    visitor_faults: Faults,
}

impl VisitTally {
    /// Returns whether visitors did not get what they should have. A refusal or an unanswered close
    /// is no fault of a delivery.
    pub(crate) fn is_faulty(&self) -> bool {
        self.visitor_faults != Faults::default()
            || self.visitor_complaints > 0
            || !self.ended_by_server.is_empty()
    }
}

/// All visitors of a thread; none in other modes than a churn.
#[derive(Debug, Default)]
pub(super) struct Visits {
    plan: VisitPlan,
    /// The place of the first visitor's connection.
    first: u32,
    next_due_ns: u64,
    begun: u32,
    visits: Vec<Visit>,
    free: Vec<u32>,
    deadlines: Deadlines,
    tally: VisitTally,
}

/// One visitor, or the place of one.
#[derive(Debug, Default)]
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

impl Visits {
    /// Returns whether there are any at all.
    pub(super) fn are_expected(&self) -> bool {
        !self.visits.is_empty()
    }

    /// Returns how many visitors there are, on their way in and out too.
    pub(super) fn present(&self) -> usize {
        self.visits.len() - self.free.len()
    }

    /// Lets somebody come, if somebody is due and there is a place. `number` counts the visitors of
    /// all threads.
    fn arrive(
        &mut self,
        now_ns: u64,
        number: impl FnOnce(u32) -> u32,
        rooms: u32,
    ) -> Option<MemberId> {
        if self.next_due_ns > now_ns || self.next_due_ns >= self.plan.end_ns {
            return None;
        }
        let place = self.free.pop()?;
        let due_ns = self.next_due_ns;
        self.next_due_ns += self.plan.interval_ns;
        // Whoever could have come a turn ago but for the others was held back.
        self.tally.held_back += u64::from(now_ns - due_ns > to_ns(TICK));
        self.tally.opening.attempts += 1;
        let number = number(self.begun);
        let visit = &mut self.visits[place as usize];
        *visit = Visit {
            due_ns,
            room: RoomId(number % rooms),
            // The last number is that of probes.
            stream: StreamId(VISITS_FIRST + number % (u32::MAX - VISITS_FIRST)),
            by_reset: is_of_share(self.begun, self.plan.rst_percent),
            step: visit.step,
            ..Visit::default()
        };
        self.begun = self.begun.wrapping_add(1);
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

    /// Lets a visitor wait for the next thing that must happen.
    fn step(&mut self, member: MemberId, now_ns: u64) {
        let visit = self.visit(member);
        visit.step = visit.step.wrapping_add(1);
        let step = visit.step;
        let deadline_ns = now_ns + to_ns(STEP_PATIENCE);
        self.deadlines.push(deadline_ns, member, step);
    }

    /// Ends a visit, so that another may come in its place.
    fn depart(&mut self, member: MemberId) {
        let visit = self.visit(member);
        visit.step = visit.step.wrapping_add(1);
        // What a server did not deliver to somebody who waited for it is lost.
        let lost = u64::from(visit.published - visit.expected);
        self.tally.visitor_faults.lost += lost;
        self.free.push(member.0 - self.first);
    }
}

/// Returns whether the `number`th of many belongs to a share that is spread evenly.
fn is_of_share(number: u32, percent: u8) -> bool {
    let before = |number: u64| number * u64::from(percent) / 100;
    before(u64::from(number) + 1) > before(u64::from(number))
}

impl Driver<'_> {
    /// Lets visitors come and go beside the members, who publish as they were started to; returns
    /// when the last visitor has left.
    pub(crate) fn receive_visitors(&mut self, plan: VisitPlan) -> Result<VisitTally> {
        self.visits = Visits {
            plan,
            first: self.members,
            next_due_ns: plan.first_due_ns,
            visits: (0..plan.visitors_max).map(|_| Visit::default()).collect(),
            free: (0..plan.visitors_max).rev().collect(),
            ..Visits::default()
        };
        let places = (self.members + plan.visitors_max) as usize;
        self.connections.resize_with(places, Connection::default);
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= plan.end_ns && self.visits.present() == 0 || self.shared.must_stop() {
                break;
            }
            let Visits {
                deadlines,
                visits,
                first,
                ..
            } = &mut self.visits;
            let step_of = |member: MemberId| visits[(member.0 - *first) as usize].step;
            for member in deadlines.take_overdue(now_ns, step_of) {
                self.give_up_visit(member);
            }
            self.welcome(now_ns)?;
            // What is due and has no place waits for somebody to leave, which ends the wait.
            let wait = match self.visits.next_due_ns.saturating_sub(now_ns) {
                0 => TICK,
                wait_ns => TICK.min(Duration::from_nanos(wait_ns)),
            };
            self.turn(wait)?;
            self.check_alive()?;
        }
        Ok(self.visits.tally.clone())
    }

    /// Begins to connect whoever is due.
    fn welcome(&mut self, now_ns: u64) -> Result<()> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (thread, threads) = (count(self.plan.thread), count(self.shared.threads()));
        let rooms = count(self.plan.rooms.len());
        let number = |begun: u32| begun.wrapping_mul(threads).wrapping_add(thread);
        while let Some(member) = self.visits.arrive(now_ns, number, rooms) {
            self.open(member)?;
        }
        Ok(())
    }

    /// Counts a visitor whose connection did not open.
    pub(super) fn refuse_visit(&mut self, member: MemberId, refusal: Refusal) {
        self.visits.tally.opening.refusals.count(refusal);
        self.leave_place(member);
    }

    /// Begins a visit: the connection is open and its join is queued.
    pub(super) fn begin_visit(&mut self, member: MemberId) {
        let due_ns = self.visits.visit(member).due_ns;
        let after_ns = self.clock.now_ns().saturating_sub(due_ns);
        self.visits.tally.opening.open(after_ns);
        self.publish_of_visitor(member);
    }

    fn publish_of_visitor(&mut self, member: MemberId) {
        let now_ns = self.clock.now_ns();
        self.visits.tally.visitor_publications += 1;
        let visit = self.visits.visit(member);
        let (stream, number) = (visit.stream, visit.published);
        visit.published += 1;
        self.visits.step(member, now_ns);
        self.send(
            member,
            Stamp {
                stream,
                number,
                due_ns: now_ns,
            },
        );
    }

    /// Takes the first `bytes` of the read buffer, which a visitor received.
    #[cold]
    pub(super) fn receive_visitor(&mut self, member: MemberId, bytes: usize) -> Result<()> {
        let connection = &mut self.connections[member.index()];
        let State::Open(inbox) = &mut connection.state else {
            return self.receive_response(member, bytes);
        };
        let Visits {
            visits,
            tally,
            first,
            ..
        } = &mut self.visits;
        let visit = &mut visits[(member.0 - *first) as usize];
        let room = visit.room;
        let mut visitor = Visitor {
            visit,
            tally,
            book: &mut self.book,
            streams: self.plan.streams.len(),
            wire: &self.target.wire,
            shape: self.shapes.of(room),
            room: &self.plan.rooms[room.index()].name,
            now_ns: self.clock.now_ns(),
            has_own: false,
            tidings: Tidings::default(),
        };
        let decoded = inbox.receive(&mut self.buffer[..bytes], &mut visitor);
        let (has_own, tidings) = (visitor.has_own, visitor.tidings);
        for (opcode, reply) in &tidings.replies {
            self.connections[member.index()].push(*opcode, reply);
            self.list(member);
        }
        if tidings.welcomed {
            self.admit(member);
        }
        let is_leaving = self.visits.visit(member).is_leaving;
        match (decoded, tidings.closed) {
            (Err(error), _) => self.end_visit(member, &format!("it sent a {error}")),
            (_, Some(_)) if is_leaving => self.close_visit(member, true),
            (_, Some(goodbye)) => {
                let code = goodbye.code.map(|code| format!("it said {code}"));
                self.end_visit(member, &code.unwrap_or(goodbye.reason));
            }
            _ if has_own && !is_leaving => self.go_on(member),
            _ => {}
        }
        Ok(())
    }

    /// Lets a visitor who has received all that it published publish again, or leave.
    fn go_on(&mut self, member: MemberId) {
        let publications = self.visits.plan.publications;
        let visit = self.visits.visit(member);
        if visit.expected < visit.published {
            return;
        }
        if visit.published < publications {
            return self.publish_of_visitor(member);
        }
        if visit.by_reset {
            self.visits.tally.left_by_reset += 1;
            return self.leave_place(member);
        }
        visit.is_leaving = true;
        self.visits.step(member, self.clock.now_ns());
        let room = &self.plan.rooms[self.room_of(member).index()];
        self.say(member, self.target.wire.leave.message(&room.name));
        let goodbye = CloseCode::NORMAL.0.to_be_bytes();
        self.connections[member.index()].push(OpCode::Close, &goodbye);
        self.list(member);
    }

    /// Counts a visitor that was leaving and is gone.
    fn close_visit(&mut self, member: MemberId, answered: bool) {
        self.visits.tally.left_cleanly += 1;
        self.visits.tally.closes_unanswered += u64::from(!answered);
        self.leave_place(member);
    }

    /// Counts a visitor whose open connection the server ended.
    pub(super) fn end_visit(&mut self, member: MemberId, reason: &str) {
        if self.visits.visit(member).is_leaving {
            return self.close_visit(member, false);
        }
        self.visits.tally.ended_by_server.count(reason);
        self.leave_place(member);
    }

    /// Ends a visit to which nothing happened for too long.
    fn give_up_visit(&mut self, member: MemberId) {
        if !self.connections[member.index()].has_joined {
            return self.refuse_visit(member, Refusal::TimedOut);
        }
        if self.visits.visit(member).is_leaving {
            return self.close_visit(member, false);
        }
        self.visits.tally.left_by_reset += 1;
        self.leave_place(member);
    }

    fn leave_place(&mut self, member: MemberId) {
        self.connections[member.index()].abort();
        self.visits.depart(member);
    }
}

/// Takes the messages of one read of one visitor.
#[derive(Debug)]
struct Visitor<'a> {
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
    tidings: Tidings,
}

impl Visitor<'_> {
    fn message_unusual(&mut self, start: &[u8]) {
        if !self.wire.positions {
            let was_welcome = self.wire.is_welcome(start);
            let is_expected = match self.tidings.take_unusual(self.wire, start) {
                Meaning::Answer(_) => true,
                Meaning::Other => was_welcome,
                Meaning::Complaint | Meaning::Misdelivery => false,
            };
            self.tally.visitor_complaints += u64::from(!is_expected);
            return;
        }
        let said = throng::understand(start, self.room);
        self.visit.seat.hear(&said, start, self.book);
        match said {
            Said::Hello(name) => self.visit.name = Some(name),
            Said::Ack(_) | Said::Complaint { .. } | Said::Publication => {
                self.tally.visitor_complaints += 1;
            }
            _ => {}
        }
    }

    fn deliver(&mut self, stamp: Stamp) {
        let faults = &mut self.tally.visitor_faults;
        let visit = &mut *self.visit;
        if stamp.stream == visit.stream {
            self.has_own = true;
            if stamp.number == 0 && visit.expected == 0 {
                self.tally.joins += 1;
                let after_ns = self.now_ns.saturating_sub(visit.due_ns);
                self.tally.join_us.record(after_ns);
            }
            check(&mut visit.expected, stamp.number, faults);
        } else if stamp.stream.index() < self.streams {
            let mut known = visit.residents.iter_mut();
            match known.find(|(id, _)| *id == stamp.stream) {
                Some((_, expected)) => check(expected, stamp.number, faults),
                None => visit.residents.push((stamp.stream, stamp.number + 1)),
            }
        }
    }
}

/// Compares a number with the one that is expected, and expects the next.
///
/// A number that comes after a later one cannot be told from a repetition here: visits are short,
/// and keep no list of what they miss.
fn check(expected: &mut u32, number: u32, faults: &mut Faults) {
    if number < *expected {
        faults.repeated += 1;
        return;
    }
    faults.lost += u64::from(number - *expected);
    *expected = number + 1;
}

impl Recipient for Visitor<'_> {
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let Some((delivery, stamp)) = self.shape.stamped(start, message_bytes) else {
            return self.message_unusual(start);
        };
        self.tally.visitor_deliveries += 1;
        self.tally.visitor_faults.truncated += u64::from(!delivery.is_whole);
        if let Some(envelope) = &delivery.envelope {
            self.visit.seat.take(envelope.offset, self.book);
            if stamp.stream == self.visit.stream && envelope.from != self.visit.name {
                self.book.add_wrong_sender();
            }
        }
        self.deliver(stamp);
    }

    // A visit is over before a keepalive of any server could matter.
    fn ping(&mut self, _payload: &[u8]) {}

    fn close(&mut self, payload: &[u8]) {
        self.tidings.closed = Some(Goodbye::of(payload));
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
