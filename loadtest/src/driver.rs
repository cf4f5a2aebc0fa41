//! The loop: one thread, one readiness set, all sockets of its part of the plan.
//!
//! A turn waits for readiness, reads every ready socket once into the one read buffer, publishes
//! what the ends of publications and the clock ask for, and writes each publishing socket once.
//! Sockets are edge-triggered and registered once; a read that does not fill the buffer has
//! emptied the socket, which saves the read that would say so.
//!
//! Sockets of an urgent group have a readiness set of their own, which is looked at after every
//! [`URGENT_EVERY`] other sockets: what is measured there is the server's delay and not the time
//! that this thread takes to read a flood.

mod connect;
mod deadlines;
mod enveloped;
mod messages;
mod outbound;
mod returns;
mod slow;
mod visits;

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use derive_more::AddAssign;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use proto::{DecodeError, OpCode};
use serde::Serialize;

pub(crate) use self::connect::Connected;
use self::enveloped::Enveloped;
use self::messages::{Goodbye, Heard, Plain, Tidings, VISITS_FIRST};
use self::outbound::Outbound;
use self::returns::Returns;
pub(crate) use self::returns::{Loss, ReturnPlan, Returned, Staying};
use self::slow::SlowReader;
pub(crate) use self::slow::SlowTally;
use self::visits::Visits;
pub(crate) use self::visits::{VisitPlan, VisitTally};
use crate::cli::Setup;
use crate::clock::{Clock, thread_cpu, to_ns};
use crate::connection::{Connection, ReadOutcome, State};
use crate::ledger::Ledger;
use crate::monitor::Outlet;
use crate::pace::Pace;
use crate::payload::Stamp;
use crate::plan::{Home, MemberId, Plan, RoomId, StreamId};
use crate::positions::{PositionBook, PositionTally, Seat};
use crate::probe::Counters;
use crate::sequence::Faults;
use crate::shared::{Settled, Shared};
use crate::tally::{First, Maybe, Most};
use crate::target::Target;
use crate::timer::Timer;
use crate::wire::{DeliveryShapes, RoomShape};

/// Larger than a socket buffer grows on loopback in a turn, small enough for the second cache.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Sockets to a turn. A publication waits for the end of the turn that let it go out.
const EVENTS_MAX: usize = 1024;

/// At about 10 us to read a socket of a flood, an urgent one waits less than 100 us.
const URGENT_EVERY: usize = 8;

/// A stream that has not moved for so long has lost what is under way: on loopback 2 s are a
/// thousand times what a busy server takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// At the end of a run, what was given up is waited for until nothing has come for so long.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(5);

/// A turn that comes so late means that this program stood still, not that it had much to do.
const STANDSTILL: Duration = Duration::from_millis(250);

/// How often [`PATIENCE`] is looked at.
const TICK: Duration = Duration::from_millis(50);

/// No delivery for so long ends the run.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes that one connection may have queued before the server counts as not reading.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

const TIMER: Token = Token(usize::MAX - 2);
const URGENT: Token = Token(usize::MAX - 3);
const MAILBOX: Token = Token(usize::MAX - 4);

/// What went wrong. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) faults: Faults,
    /// What was heard of offsets and answers, on a wire with positions.
    pub(crate) positions: Maybe<PositionTally>,
    /// `msg` events with what this run did not publish, or not to that member.
    pub(crate) unreadable: u64,
    /// Publications that were not waited for any longer. What came of them later counts; what did
    /// not is lost.
    pub(crate) given_up: u64,
    /// How long the generator stood still while publications were under way: its latencies and
    /// rates are the machine's then, not the server's.
    stood_still_seconds: Most,
    /// Connections that the server ended.
    pub(crate) disconnected: u64,
    /// What the first of them said, or how it broke.
    pub(crate) first_disconnect: First,
    /// Complaints of the server, as its wire writes them.
    pub(crate) server_errors: u64,
    pub(crate) first_server_error: First,
}

impl Outcome {
    /// Counts a complaint of the server.
    #[cold]
    fn complain(&mut self, message: &[u8]) {
        self.server_errors += 1;
        let text = String::from_utf8_lossy(message);
        self.first_server_error
            .note(|| text.chars().take(COMPLAINT_MAX).collect());
    }
}

/// A line has room for so many characters of a complaint.
const COMPLAINT_MAX: usize = 200;

/// All sockets of a thread, and its loop over them.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    pub(crate) plan: &'a Plan,
    target: &'a Target,
    payload_bytes: usize,
    clock: Clock,
    shared: &'a Shared<'a>,
    readiness: Readiness,
    connections: Vec<Connection>,
    /// The book of what was published and delivered.
    pub(crate) ledger: Ledger,
    /// What deliveries look like.
    shapes: DeliveryShapes,
    /// Where each member is in its room's stream; nobody, on a wire without positions.
    seats: Vec<Seat>,
    book: PositionBook,
    /// What is to be acknowledged, if anything is.
    outbound: Option<Outbound>,
    pub(crate) pace: Pace,
    buffer: Box<[u8]>,
    /// How many connections are members; the others are visitors.
    members: u32,
    /// What one publication's message is put together in.
    message: Vec<u8>,
    /// Members whose connection has something to write.
    listed: Vec<MemberId>,
    opened: u32,
    progress_ns: u64,
    next_tick_ns: u64,
    received: u32,
    /// Successful reads so far, of all sockets.
    reads: u64,
    /// What went wrong, beside what is in the books.
    pub(crate) outcome: Outcome,
    /// What this thread used of a processor, in the phases that have ended.
    cpu: Duration,
    /// What the thread had used when the phase began that it is in.
    phase_began_cpu: Option<Duration>,
    /// For each thread, what it is to be told at the end of this turn.
    outgoing: Vec<Vec<Settled>>,
    /// What this thread was told, while it is taken in.
    incoming: Vec<Settled>,
    /// Those who lose their connections and come back, ascending.
    pub(crate) away: Vec<MemberId>,
    /// Whether the others are read first.
    stayers_are_urgent: bool,
    /// While they come back, how far each is.
    returns: Returns,
    /// In a churn, those who come and go. Their connections follow the members'.
    visits: Visits,
    /// Those who will stop reading, ascending.
    chosen_slow: Vec<MemberId>,
    /// Those who stopped reading, or nearly.
    slow: Vec<SlowReader>,
    /// What each of them still reads in a second, in bytes.
    slow_rate: u64,
    /// A refused handshake whose body is still awaited, and until when.
    refusal: Option<(anyhow::Error, u64)>,
    /// What the server called itself in its first answer.
    pub(crate) server_name: Option<String>,
    /// Where the monitor is told how it goes.
    pub(crate) outlet: Outlet,
}

/// The readiness sets.
#[derive(Debug)]
struct Readiness {
    poll: Poll,
    events: Events,
    urgent: Option<(Poll, Events)>,
    timer: Timer,
}

impl Readiness {
    fn new(has_urgent: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut urgent = None;
        if has_urgent {
            let set = Poll::new()?;
            // A readiness set can itself be waited for.
            let fd = set.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), URGENT, Interest::READABLE)?;
            urgent = Some((set, Events::with_capacity(EVENTS_MAX)));
        }
        let timer = Timer::new(poll.registry(), TIMER)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            urgent,
            timer,
        })
    }
}

impl<'a> Driver<'a> {
    /// Makes a driver without sockets.
    pub(crate) fn new(
        plan: &'a Plan,
        setup: &'a Setup,
        clock: Clock,
        shared: &'a Shared<'a>,
        outlet: Outlet,
    ) -> Result<Self> {
        let (target, payload_bytes) = (&setup.target, setup.scenario.payload_bytes);
        let readiness = Readiness::new(plan.groups.iter().any(|group| group.urgent))?;
        shared.open_mailbox(plan.thread, readiness.poll.registry(), MAILBOX)?;
        let members = plan.connections();
        let seats = if target.wire.positions {
            members as usize
        } else {
            0
        };
        Ok(Self {
            plan,
            target,
            payload_bytes,
            clock,
            shared,
            readiness,
            connections: Vec::with_capacity(members as usize),
            ledger: Ledger::new(plan, shared.counts()),
            shapes: target.wire.delivery_shapes(&plan.rooms, payload_bytes),
            seats: vec![Seat::default(); seats],
            book: PositionBook::new(plan),
            outbound: None,
            pace: Pace::new(plan),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            members,
            message: Vec::new(),
            listed: Vec::new(),
            opened: 0,
            progress_ns: 0,
            next_tick_ns: 0,
            received: 0,
            reads: 0,
            outcome: Outcome::default(),
            cpu: Duration::ZERO,
            phase_began_cpu: None,
            outgoing: vec![Vec::new(); shared.threads()],
            incoming: Vec::new(),
            away: Vec::new(),
            stayers_are_urgent: false,
            returns: Returns::default(),
            visits: Visits::default(),
            chosen_slow: Vec::new(),
            slow: Vec::new(),
            slow_rate: 0,
            refusal: None,
            server_name: None,
            outlet,
        })
    }

    /// Returns what went wrong so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let unacknowledged = self.outbound.as_ref().map_or(0, Outbound::len) as u64;
        let positions = PositionTally {
            unacknowledged,
            ..self.book.tally.clone()
        };
        Outcome {
            faults: self.ledger.faults(),
            positions: Maybe((!self.seats.is_empty()).then_some(positions)),
            unreadable: self.ledger.unreadable,
            given_up: self.ledger.given_up,
            ..self.outcome.clone()
        }
    }

    /// Returns what this thread has used of a processor, user and system. Only itself may ask
    /// during a phase.
    fn cpu(&self) -> Duration {
        let phase = self
            .phase_began_cpu
            .map(|began| thread_cpu().saturating_sub(began));
        self.cpu + phase.unwrap_or_default()
    }

    /// Returns what it has counted so far.
    pub(crate) fn counters(&self) -> Counters {
        let members = u64::from(self.opened).saturating_sub(self.outcome.disconnected);
        Counters {
            at_ns: self.clock.now_ns(),
            connections: members + self.visits.present() as u64,
            publications: self.ledger.publications(),
            deliveries: self.ledger.deliveries(),
            lost: self.ledger.lost_so_far(),
            reads: self.reads,
            cpu: self.cpu(),
        }
    }

    /// Tells the monitor how it goes, if there is room.
    pub(crate) fn tell(&mut self) {
        let counters = self.counters();
        self.outlet.tell(counters, &mut self.ledger);
    }

    /// Tells the monitor everything up to now.
    pub(crate) fn tell_all(&mut self) {
        let counters = self.counters();
        self.outlet.tell_all(counters, &mut self.ledger);
    }

    /// Does something on the current thread, whose time this then is.
    pub(crate) fn account<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.phase_began_cpu = Some(thread_cpu());
        let done = work(self);
        self.cpu = self.cpu();
        self.phase_began_cpu = None;
        done
    }

    /// Lets a group begin to publish; every thread is to be given the same `now_ns`.
    pub(crate) fn start(&mut self, group: usize, now_ns: u64) {
        self.progress_ns = now_ns;
        self.pace.start(group, now_ns);
    }

    /// Runs until a moment, or until Ctrl-C.
    pub(crate) fn run_until(&mut self, end_ns: u64) -> Result<()> {
        let mut delivered = self.ledger.deliveries();
        while !self.shared.must_stop() {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns {
                break;
            }
            self.turn(Duration::from_nanos(end_ns - now_ns).min(TICK))?;
            self.check_alive()?;
            // Idle is not silent: an open loop may publish once a minute.
            if self.ledger.deliveries() != delivered || self.ledger.under_way() == 0 {
                if self.ledger.deliveries() != delivered {
                    self.shared.note_progress(now_ns);
                }
                delivered = self.ledger.deliveries();
                self.progress_ns = self.clock.now_ns();
            }
            self.check_silence()?;
        }
        Ok(())
    }

    /// Publishes nothing more, and runs until what is under way has arrived or is given up.
    ///
    /// Before it, [`Shared::begin_waiting`]: a thread that has nothing under way reads on until no
    /// thread has. `patience` bounds it all: a server that is behind may need longer than the run
    /// took.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<()> {
        self.pace.stop();
        let end_ns = self.clock.now_ns() + to_ns(patience);
        let mut drained = false;
        let mut late = Late::new(self.ledger.deliveries(), self.clock.now_ns());
        while !self.shared.has_failed() {
            if !drained && self.ledger.under_way() == 0 && !self.expects(&mut late) {
                self.shared.note_done();
                drained = true;
            }
            if self.shared.are_all_done() || self.clock.now_ns() >= end_ns {
                break;
            }
            self.turn(TICK)?;
            self.check_alive()?;
        }
        if self.ledger.under_way() == 0 {
            self.ledger.forget_returns();
        }
        Ok(())
    }

    /// Returns whether something may still come that nothing waits for: what was given up, for a
    /// server that stood still is late and has lost nothing; what went out while members were on
    /// their way back; and acknowledgements.
    fn expects(&self, late: &mut Late) -> bool {
        let awaits_acks = self.outbound.as_ref().is_some_and(|it| it.len() > 0);
        let is_uncertain = self.ledger.given_up > 0 || self.ledger.has_returned();
        (is_uncertain || awaits_acks)
            && late.may_come(self.ledger.deliveries(), self.clock.now_ns())
            && (awaits_acks || self.ledger.faults().lost > 0)
    }

    /// Does one turn of the loop, waiting no longer than `wait`.
    fn turn(&mut self, wait: Duration) -> Result<()> {
        if let Some(due_ns) = self.pace.next_due_ns() {
            let now_ns = self.clock.now_ns();
            self.readiness.timer.arm(due_ns, now_ns)?;
        }
        let mut events = std::mem::replace(&mut self.readiness.events, Events::with_capacity(0));
        let waited = self.readiness.poll.poll(&mut events, Some(wait));
        ignore_interruption(waited)?;
        let interleaved = self.readiness.urgent.is_some() || self.pace.is_open();
        for (handled, event) in events.iter().enumerate() {
            if interleaved && handled % URGENT_EVERY == 0 {
                self.urgent_turn()?;
            }
            self.handle(event)?;
        }
        self.readiness.events = events;
        self.urgent_turn()?;
        self.tick();
        if self.shared.threads() > 1 {
            self.exchange()?;
        }
        self.publish_credits();
        self.flush()
    }

    /// Tells other threads what of theirs was settled here, and takes in what they tell.
    fn exchange(&mut self) -> Result<()> {
        for (thread, settled) in self.ledger.take_settled() {
            self.outgoing[thread as usize].push(settled);
        }
        for (thread, settled) in self.outgoing.iter_mut().enumerate() {
            if !settled.is_empty() {
                self.shared.post(thread, settled)?;
            }
        }
        self.shared.receive(self.plan.thread, &mut self.incoming);
        if self.incoming.is_empty() {
            return Ok(());
        }
        let now_ns = self.clock.now_ns();
        for settled in self.incoming.drain(..) {
            if let Some(retired) = self.ledger.settle_elsewhere(settled, now_ns) {
                self.pace.retire(retired);
            }
        }
        Ok(())
    }

    /// Reads the urgent sockets, and publishes what is due.
    fn urgent_turn(&mut self) -> Result<()> {
        if let Some((mut poll, mut events)) = self.readiness.urgent.take() {
            let waited = poll.poll(&mut events, Some(Duration::ZERO));
            let handled = events.iter().try_for_each(|event| self.handle(event));
            self.readiness.urgent = Some((poll, events));
            ignore_interruption(waited)?;
            handled?;
        }
        self.publish_due()
    }

    fn handle(&mut self, event: &Event) -> Result<()> {
        // The timer and the urgent set only had to end the wait.
        let Some(connection) = self.connections.get(event.token().0) else {
            return Ok(());
        };
        let index = u32::try_from(event.token().0).expect("connections are numbered in 32 bits");
        let member = MemberId(index);
        match connection.state {
            State::Closed => return Ok(()),
            State::Connecting => return self.handle_connected(member),
            State::Handshaking { .. } | State::Open(_) => {}
        }
        if event.is_writable() && !connection.pending.is_empty() {
            self.list(member);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(member)?;
        }
        Ok(())
    }

    fn read(&mut self, member: MemberId) -> Result<()> {
        loop {
            let connection = &mut self.connections[member.index()];
            match connection.read(&mut self.buffer) {
                ReadOutcome::Bytes(bytes) => {
                    self.reads += 1;
                    self.receive(member, bytes)?;
                    if bytes < self.buffer.len() {
                        return Ok(());
                    }
                }
                ReadOutcome::Ended(error) => return self.handle_end(member, error),
                ReadOutcome::Nothing => return Ok(()),
            }
        }
    }

    /// Takes the first `bytes` of the read buffer, which this member's connection received.
    #[inline]
    fn receive(&mut self, member: MemberId, bytes: usize) -> Result<()> {
        if member.0 >= self.members {
            return self.receive_visitor(member, bytes);
        }
        let connection = &mut self.connections[member.index()];
        let State::Open(inbox) = &mut connection.state else {
            return self.receive_response(member, bytes);
        };
        let room = self.ledger.room_of(member);
        let heard = Heard {
            member,
            now_ns: self.clock.now_ns(),
            wire: &self.target.wire,
            ledger: &mut self.ledger,
            outcome: &mut self.outcome,
            tidings: Tidings::default(),
        };
        let bytes = &mut self.buffer[..bytes];
        let (received, tidings) = match self.shapes.of(room) {
            RoomShape::Plain(shape) => {
                let mut plain = Plain { heard, shape };
                let received = inbox.receive(bytes, &mut plain);
                (received, plain.heard.tidings)
            }
            RoomShape::Enveloped(shape) => {
                let mut enveloped = Enveloped {
                    heard,
                    shape,
                    seat: &mut self.seats[member.index()],
                    book: &mut self.book,
                    room: &self.plan.rooms[room.index()].name,
                };
                let received = inbox.receive(bytes, &mut enveloped);
                (received, enveloped.heard.tidings)
            }
        };
        self.act_upon(member, received, tidings);
        Ok(())
    }

    /// Does what the messages of one read want done.
    #[inline]
    fn act_upon(&mut self, member: MemberId, received: Result<(), DecodeError>, tidings: Tidings) {
        if tidings.from_visitors > 0 && !self.visits.are_expected() {
            self.ledger.deliver_unreadable();
        }
        if tidings.probed || tidings.caught_up {
            self.note_received(member, &tidings);
        }
        if !tidings.acks.is_empty() || !tidings.put_off.is_empty() {
            self.take_acks(member, &tidings.acks, &tidings.put_off);
        }
        if let Some(pause) = tidings.drain {
            self.returns.note_pause(member, pause);
        }
        for (opcode, payload) in &tidings.replies {
            self.connections[member.index()].push(*opcode, payload);
            self.list(member);
        }
        if tidings.welcomed {
            self.admit(member);
        }
        match (received, tidings.closed) {
            (Err(error), _) => {
                self.disconnect(member, Goodbye::without_pause(format!("it sent a {error}")));
            }
            (_, Some(goodbye)) => self.disconnect(member, goodbye),
            _ => {}
        }
    }

    /// Notes that a member received what proves that it is in its room; of those who come back on a
    /// wire with positions, everything that they missed.
    fn note_received(&mut self, member: MemberId, tidings: &Tidings) {
        let recovers = self.returns.are_expected() && !self.seats.is_empty();
        let is_there = if recovers {
            tidings.caught_up
        } else {
            tidings.probed
        };
        let connection = &mut self.connections[member.index()];
        if !is_there || std::mem::replace(&mut connection.has_received, true) {
            return;
        }
        self.received += 1;
        self.progress_ns = self.clock.now_ns();
        if self.returns.are_expected() {
            self.returns.serve(member, self.progress_ns);
        }
    }

    /// Takes the end of an open connection by the server.
    fn disconnect(&mut self, member: MemberId, goodbye: Goodbye) {
        if member.0 >= self.members {
            return self.end_visit(member, &goodbye.reason);
        }
        if self.comes_back(member) {
            return self.lose(member, &goodbye);
        }
        let connection = &mut self.connections[member.index()];
        connection.state = State::Closed;
        connection.shut_down();
        self.outcome.disconnected += 1;
        self.shared.note_disconnect();
        self.outcome.first_disconnect.note(|| goodbye.reason);
        for stream in self.ledger.disconnect(member, self.clock.now_ns()) {
            self.pace.retire(stream);
        }
    }

    /// Gives up, now and then, what will not arrive, and tells the monitor how it goes.
    fn tick(&mut self) {
        let now_ns = self.clock.now_ns();
        if now_ns < self.next_tick_ns {
            return;
        }
        // A pause of the machine, or of this program, is no fault of the server: what came
        // meanwhile has not been read yet.
        let late_ns = now_ns - self.next_tick_ns;
        if late_ns > to_ns(STANDSTILL) && self.ledger.under_way() > 0 {
            self.outcome.stood_still_seconds.0 += late_ns as f64 / 1e9;
            self.ledger.excuse(late_ns);
            self.progress_ns += late_ns;
        }
        self.next_tick_ns = now_ns + to_ns(TICK);
        self.ledger.give_up(now_ns, to_ns(PATIENCE));
        self.send_put_off(now_ns);
        self.read_slowly(now_ns);
        if now_ns >= self.outlet.next_ns {
            self.tell();
        }
    }

    /// Publishes what the clock asks for, at once.
    fn publish_due(&mut self) -> Result<()> {
        if !self.pace.is_open() {
            return Ok(());
        }
        let now_ns = self.clock.now_ns();
        let mut published = false;
        while let Some((stream, due_ns)) = self.pace.take_due(now_ns) {
            self.publish(stream, due_ns, now_ns);
            published = true;
        }
        if published { self.flush() } else { Ok(()) }
    }

    /// Publishes what the ends of publications allow.
    fn publish_credits(&mut self) {
        while let Some(stream) = self.ledger.take_ended() {
            self.pace.credit(stream);
        }
        while let Some(stream) = self.pace.take_credit() {
            let now_ns = self.clock.now_ns();
            self.publish(stream, now_ns, now_ns);
        }
    }

    fn publish(&mut self, stream: StreamId, due_ns: u64, now_ns: u64) {
        let Home::Here(member) = self.plan.streams[stream.index()].home else {
            return;
        };
        let number = self.ledger.publish(stream, now_ns);
        self.send(
            member,
            Stamp {
                stream,
                number,
                due_ns,
            },
        );
    }

    /// Queues a publication of `stamp` in the member's room.
    fn send(&mut self, member: MemberId, stamp: Stamp) {
        if self.outbound.is_some() && stamp.stream.0 < VISITS_FIRST {
            return self.send_acknowledged(member, stamp);
        }
        let room = &self.plan.rooms[self.room_of(member).index()];
        self.message.clear();
        let wire = &self.target.wire;
        wire.publish(&room.name, stamp, self.payload_bytes, &mut self.message);
        self.push_message(member);
    }

    /// Queues the message that was put together.
    fn push_message(&mut self, member: MemberId) {
        self.connections[member.index()].push(OpCode::Text, &self.message);
        self.list(member);
    }

    /// Returns the room that a member, or a visitor, is in.
    fn room_of(&self, member: MemberId) -> RoomId {
        if member.0 >= self.members {
            return self.visits.room_of(member);
        }
        self.ledger.room_of(member)
    }

    /// Puts a connection on the list of those to write to.
    fn list(&mut self, member: MemberId) {
        let connection = &mut self.connections[member.index()];
        if !std::mem::replace(&mut connection.is_listed, true) {
            self.listed.push(member);
        }
    }

    /// Writes to every connection on the list.
    fn flush(&mut self) -> Result<()> {
        let mut listed = std::mem::take(&mut self.listed);
        for (written, member) in listed.drain(..).enumerate() {
            // A thousand who come back at once are written to for ten milliseconds.
            if self.stayers_are_urgent && written % URGENT_EVERY == URGENT_EVERY - 1 {
                self.urgent_turn()?;
            }
            let connection = &mut self.connections[member.index()];
            connection.is_listed = false;
            if matches!(connection.state, State::Closed) {
                continue;
            }
            if let Err(error) = connection.flush() {
                self.handle_end(member, error)?;
                continue;
            }
            let pending_bytes = connection.pending.len();
            ensure!(
                pending_bytes <= PENDING_BYTES_MAX,
                "the server took no bytes for a while and {pending_bytes} wait for one connection; \
                 try a lower --rate or --window"
            );
        }
        // What was listed meanwhile is for the next time.
        listed.append(&mut self.listed);
        self.listed = listed;
        Ok(())
    }

    /// Takes the end of a connection that broke or ended without a close frame.
    fn handle_end(&mut self, member: MemberId, error: io::Error) -> Result<()> {
        let State::Open(_) = self.connections[member.index()].state else {
            return self.end_handshake(member, error);
        };
        let reason = match error.kind() {
            ErrorKind::UnexpectedEof => "it ended without a close frame".to_owned(),
            _ => error.to_string(),
        };
        self.disconnect(member, Goodbye::without_pause(reason));
        Ok(())
    }

    fn check_alive(&self) -> Result<()> {
        if self.outcome.disconnected < self.connections.len() as u64 {
            return Ok(());
        }
        // With several threads, those of the others may be there.
        if let Some(connections) = self.shared.all_disconnected() {
            let reason = self.outcome.first_disconnect.0.clone().unwrap_or_default();
            bail!(
                "the server closed all {connections} connections during the run ({reason}); look \
                 at its log"
            );
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        let progress_ns = self.progress_ns.max(self.shared.progress_ns());
        self.clock.now_ns() >= progress_ns + to_ns(SILENCE_MAX)
    }

    fn check_silence(&self) -> Result<()> {
        ensure!(
            !self.is_silent(),
            "no member received a publication for 10 s ({} of {} members had one before); does the \
             server speak the wire {}?",
            self.received,
            self.connections.len(),
            self.target.wire
        );
        Ok(())
    }
}

/// Deliveries that come after they were given up.
#[derive(Debug)]
struct Late {
    deliveries: u64,
    moved_ns: u64,
}

impl Late {
    const fn new(deliveries: u64, now_ns: u64) -> Self {
        Self {
            deliveries,
            moved_ns: now_ns,
        }
    }

    /// Returns whether the last delivery is so recent that another may follow.
    fn may_come(&mut self, deliveries: u64, now_ns: u64) -> bool {
        if deliveries != self.deliveries {
            *self = Self::new(deliveries, now_ns);
        }
        now_ns < self.moved_ns + to_ns(LATE_MAX)
    }
}

fn ignore_interruption(waited: io::Result<()>) -> io::Result<()> {
    waited.or_else(|error| match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    })
}
