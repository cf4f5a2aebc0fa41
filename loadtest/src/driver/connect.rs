//! The beginning of a run: sockets, handshakes, joins, and the proof that all are members.

use std::io;
use std::time::Duration;

use mio::{Interest, Token};
use proto::OpCode;

use super::messages::PROBES;
use super::slow::SLOW_BUFFER_BYTES;
use super::{Driver, SILENCE_MAX, TICK};
use crate::clock::to_ns;
use crate::connection::{Connection, State};
use crate::failure::Failure;
use crate::handshake::{self, Response};
use crate::inbox::Inbox;
use crate::opening::Refusal;
use crate::payload::Stamp;
use crate::plan::{MemberId, Room};
use crate::wire::throng;

/// Connections that may be under way at a time: below the 511 or so that servers let wait to be
/// accepted, so that a full queue does not cost a retransmission of a second.
const CONNECTING_MAX: u32 = 128;

/// A room of which not everybody received its probe is probed again after this: the probe may have
/// been there before a join.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long the rest of a refusal's body is awaited.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// What connecting took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connected {
    pub(crate) connections: u32,
    pub(crate) elapsed: Duration,
}

impl Driver<'_> {
    /// Opens all connections and lets each join its room, unless Ctrl-C comes first.
    ///
    /// # Errors
    ///
    /// The first connection that does not open ends the run: nothing is tried again in silence.
    pub(crate) fn connect_all(&mut self) -> Result<Connected, Failure> {
        let started_ns = self.clock.now_ns();
        self.progress_ns = started_ns;
        let connections = self.plan.connections();
        let threads = u32::try_from(self.shared.threads()).unwrap_or(u32::MAX);
        let connecting_max = (CONNECTING_MAX / threads).max(1);
        while self.opened < connections && !self.shared.must_stop() {
            while self.connecting() < connecting_max
                && self.connecting() + self.opened < connections
            {
                self.connect()?;
            }
            self.turn(TICK)?;
            self.check_opening()?;
        }
        let elapsed = Duration::from_nanos(self.clock.now_ns() - started_ns);
        Ok(Connected {
            connections: self.opened,
            elapsed,
        })
    }

    /// Publishes once in every room and waits until all members have it; returns how many have.
    ///
    /// With `again`, rooms are probed until that is so; without, what does not arrive is not there.
    pub(crate) fn probe_members(&mut self, again: bool) -> Result<u32, Failure> {
        self.progress_ns = self.clock.now_ns();
        let mut probe_ns = self.progress_ns;
        let mut first = true;
        while self.received < self.opened && !self.shared.must_stop() {
            let now_ns = self.clock.now_ns();
            if now_ns >= probe_ns && (first || again) {
                // The first probe of a room reaches its members on all threads.
                self.probe_rooms(|room| room.begins_here || !first)?;
                probe_ns = now_ns + to_ns(PROBE_INTERVAL);
                first = false;
            }
            self.turn(TICK)?;
            self.check_joined()?;
            if !again && self.received > 0 && self.check_silence().is_err() {
                break;
            }
            self.check_silence()?;
        }
        Ok(self.received)
    }

    /// A socket that was connecting is ready, or failed.
    pub(super) fn handle_connected(&mut self, member: MemberId) -> Result<(), Failure> {
        let connection = &mut self.connections[member.index()];
        match connection.is_connected() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                return self.fail_opening(member, Refusal::of(&error), None, |driver| {
                    driver.unreachable(error)
                });
            }
        }
        let key = proto::handshake::request_key(fastrand::u128(..).to_ne_bytes());
        connection.push_bytes(&handshake::request(self.target, &key));
        connection.state = State::Handshaking {
            key,
            response: Vec::new(),
        };
        self.list(member);
        Ok(())
    }

    /// Takes the first `bytes` of the read buffer, which are of an answer to a handshake.
    #[cold]
    pub(super) fn receive_response(
        &mut self,
        member: MemberId,
        bytes: usize,
    ) -> Result<(), Failure> {
        let connection = &mut self.connections[member.index()];
        let State::Handshaking { key, response } = &mut connection.state else {
            return Ok(());
        };
        response.extend_from_slice(&self.buffer[..bytes]);
        match handshake::read(response, key, self.target) {
            Response::Accepted { head_bytes } => {
                if self.opened == 0 {
                    self.server_name = handshake::server_name(response);
                }
                let rest = response.split_off(head_bytes);
                connection.state = State::Open(Inbox::new(self.target.wire.has_lines()));
                self.progress_ns = self.clock.now_ns();
                self.say(member, self.target.wire.greeting());
                if self.target.wire.join_after().is_none() {
                    self.admit(member);
                }
                // A head has at most 16 KiB, so what follows it was in the buffer too.
                self.buffer[..rest.len()].copy_from_slice(&rest);
                if rest.is_empty() {
                    Ok(())
                } else {
                    self.receive(member, rest.len())
                }
            }
            Response::Incomplete => Ok(()),
            Response::Refused {
                failure,
                status,
                retry_after,
                complete,
            } => {
                if complete || self.expects_refusals(member) {
                    let refusal = status.map_or(Refusal::Malformed, Refusal::Status);
                    return self.fail_opening(member, refusal, retry_after, |_| failure);
                }
                let until_ns = self.clock.now_ns() + to_ns(BODY_PATIENCE);
                self.refusal = Some((failure, until_ns));
                Ok(())
            }
        }
    }

    fn note_opened(&mut self, member: MemberId) {
        if member.0 >= self.members {
            return self.begin_visit(member);
        }
        self.opened += 1;
        if let Some(returns) = &mut self.returns {
            returns.open(member, self.progress_ns);
        }
    }

    /// Whether a refusal is one of the run's figures.
    fn expects_refusals(&self, member: MemberId) -> bool {
        self.comes_back(member) || member.0 >= self.members
    }

    /// A connection did not open: a figure in a storm and of a visitor, otherwise the run's failure.
    #[cold]
    pub(super) fn fail_opening(
        &mut self,
        member: MemberId,
        refusal: Refusal,
        retry_after: Option<Duration>,
        failure: impl FnOnce(&mut Self) -> Failure,
    ) -> Result<(), Failure> {
        if !self.expects_refusals(member) {
            return Err(failure(self));
        }
        if member.0 >= self.members {
            self.refuse_visit(member, refusal);
        } else {
            self.retry(member, refusal, retry_after);
        }
        Ok(())
    }

    /// Why the server ended a connection that was not open yet.
    pub(super) fn end_of_handshake(&mut self, member: MemberId, error: &io::Error) -> Failure {
        if let Some((failure, _)) = self.refusal.take() {
            return failure;
        }
        let error = io::Error::new(error.kind(), error.to_string());
        match self.connections[member.index()].state {
            State::Handshaking { .. } => Failure::HandshakeMalformed {
                address: self.target.address,
                reason: format!("it ended the connection: {error}"),
            },
            _ => self.unreachable(error),
        }
    }

    fn connecting(&self) -> u32 {
        let begun = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        begun - self.opened
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let member = MemberId(self.opened + self.connecting());
        let is_slow = self.chosen_slow.binary_search(&member).is_ok();
        let opened = Connection::open(
            self.target,
            self.plan.connections_before + member.0,
            is_slow.then_some(SLOW_BUFFER_BYTES),
        );
        let connection = opened.map_err(|error| self.unreachable(error))?;
        self.connections.push(connection);
        self.register(member)
    }

    /// Waits for what a new socket does.
    pub(super) fn register(&mut self, member: MemberId) -> Result<(), Failure> {
        let room = self.room_of(member);
        let group = &self.plan.groups[self.plan.rooms[room.index()].group];
        let is_urgent = group.urgent || self.stayers_are_urgent && !self.goes_away(member);
        let poll = match &self.readiness.urgent {
            Some((urgent, _)) if is_urgent => urgent,
            _ => &self.readiness.poll,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let Some(source) = self.connections[member.index()].source() else {
            return Ok(());
        };
        let registered = poll
            .registry()
            .register(source, Token(member.index()), interest);
        registered.map_err(Failure::System)
    }

    /// The server is ready to hear of a connection's room.
    #[cold]
    pub(super) fn admit(&mut self, member: MemberId) {
        let connection = &mut self.connections[member.index()];
        if std::mem::replace(&mut connection.has_joined, true) {
            return;
        }
        self.progress_ns = self.clock.now_ns();
        let room = &self.plan.rooms[self.room_of(member).index()];
        let seat = self.seats.get(member.index());
        let join = match seat.and_then(|seat| seat.since(&self.book)) {
            Some((epoch, offset)) => Some(throng::join(&room.name, epoch, offset)),
            None => self.target.wire.join(&room.name),
        };
        self.say(member, join);
        self.send_again(member);
        self.note_opened(member);
    }

    pub(super) fn leave(&mut self, member: MemberId) {
        let room = &self.plan.rooms[self.room_of(member).index()];
        self.say(member, self.target.wire.leave(&room.name));
    }

    /// Queues a message, if the wire has one for the occasion.
    fn say(&mut self, member: MemberId, message: Option<Vec<u8>>) {
        if let Some(message) = message {
            self.connections[member.index()].push(OpCode::Text, &message);
            self.list(member);
        }
    }

    /// Publishes a probe in each of these rooms where somebody has not received one.
    pub(super) fn probe_rooms(&mut self, is_probed: impl Fn(&Room) -> bool) -> Result<(), Failure> {
        for (number, room) in (0..).zip(&self.plan.rooms) {
            if !is_probed(room) {
                continue;
            }
            // Whoever publishes it has joined before, on the same connection, so that one at least gets
            // it. In a storm, not everybody is there.
            let open = room.members.clone().rev().map(MemberId).find(|member| {
                let connection = &self.connections[member.index()];
                let is_open = matches!(connection.state, State::Open(_));
                is_open && connection.has_joined && !connection.has_received
            });
            let Some(publisher) = open else { continue };
            self.send(
                publisher,
                Stamp {
                    stream: PROBES,
                    number,
                    due_ns: 0,
                },
            );
        }
        self.flush()
    }

    fn unreachable(&self, error: io::Error) -> Failure {
        let (address, opened) = (self.target.address, u64::from(self.opened));
        Failure::Unreachable {
            address,
            opened,
            error,
        }
    }

    fn check_opening(&mut self) -> Result<(), Failure> {
        self.check_joined()?;
        let now_ns = self.clock.now_ns();
        if self
            .refusal
            .as_ref()
            .is_some_and(|(_, until_ns)| now_ns >= *until_ns)
        {
            let (failure, _) = self.refusal.take().expect("looked at in the line above");
            return Err(failure);
        }
        if now_ns < self.progress_ns + to_ns(SILENCE_MAX) {
            return Ok(());
        }
        if let Some(greeting) = self.target.wire.join_after()
            && self.connections.iter().any(Connection::is_unwelcome)
        {
            return Err(Failure::Unwelcome {
                greeting: greeting.to_owned(),
                wire: self.target.wire.to_string(),
            });
        }
        let (opened, connections) = (u64::from(self.opened), u64::from(self.plan.connections()));
        Err(Failure::ConnectStalled {
            opened,
            connections,
            address: self.target.address,
        })
    }

    /// Nobody may be closed or complained about before the run begins.
    fn check_joined(&self) -> Result<(), Failure> {
        if let Some(reason) = self.disconnects.first_reason.clone() {
            return Err(Failure::Closed { reason });
        }
        match self.errors.first_text.clone() {
            Some(text) => Err(Failure::ServerError {
                text,
                wire: self.target.wire.to_string(),
            }),
            None => Ok(()),
        }
    }
}
