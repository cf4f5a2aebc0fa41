//! The beginning of a run: sockets, handshakes, joins, and the proof that all are members.

use std::io;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use derive_more::AddAssign;
use mio::{Interest, Token};
use proto::OpCode;

use super::messages::PROBES;
use super::slow::SLOW_BUFFER_BYTES;
use super::{Driver, SILENCE_MAX, TICK};
use crate::clock::to_ns;
use crate::connection::{Connection, State};
use crate::handshake::{self, Refused, Response};
use crate::inbox::Inbox;
use crate::opening::Refusal;
use crate::payload::Stamp;
use crate::plan::{MemberId, Room};
use crate::tally::Most;
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
#[derive(AddAssign, Clone, Copy, Debug, Default)]
pub(crate) struct Connected {
    pub(crate) connections: u32,
    pub(crate) seconds: Most,
}

impl Driver<'_> {
    /// Opens all connections and lets each join its room, unless Ctrl-C comes first.
    ///
    /// # Errors
    ///
    /// The first connection that does not open ends the run: nothing is tried again in silence.
    pub(crate) fn connect_all(&mut self) -> Result<Connected> {
        let started_ns = self.clock.now_ns();
        self.progress_ns = started_ns;
        let threads = u32::try_from(self.shared.threads()).unwrap_or(u32::MAX);
        let connecting_max = (CONNECTING_MAX / threads).max(1);
        let mut begun = 0;
        while self.opened < self.members && !self.shared.must_stop() {
            while begun - self.opened < connecting_max && begun < self.members {
                self.connections.push(Connection::default());
                self.open(MemberId(begun))?;
                begun += 1;
            }
            self.turn(TICK)?;
            self.check_opening()?;
        }
        let seconds = Most((self.clock.now_ns() - started_ns) as f64 / 1e9);
        let connections = self.opened;
        Ok(Connected {
            connections,
            seconds,
        })
    }

    /// Publishes once in every room and waits until all members have it; returns how many have.
    ///
    /// With `again`, rooms are probed until that is so; without, what does not arrive is not there.
    pub(crate) fn probe_members(&mut self, again: bool) -> Result<u32> {
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
            if !again && self.received > 0 && self.is_silent() {
                break;
            }
            self.check_silence()?;
        }
        Ok(self.received)
    }

    /// Begins to open the connection of a member or a visitor.
    pub(super) fn open(&mut self, member: MemberId) -> Result<()> {
        let is_slow = self.chosen_slow.binary_search(&member).is_ok();
        let source = self.plan.connections_before + member.0;
        let buffer_bytes = is_slow.then_some(SLOW_BUFFER_BYTES);
        match Connection::open(self.target, source, buffer_bytes) {
            Ok(connection) => {
                self.connections[member.index()] = connection;
                self.register(member)
            }
            Err(error) => self.end_handshake(member, error),
        }
    }

    /// Waits for what a new socket does.
    fn register(&mut self, member: MemberId) -> Result<()> {
        let room = self.room_of(member);
        let group = &self.plan.groups[self.plan.rooms[room.index()].group];
        let is_urgent = group.urgent || self.stayers_are_urgent && !self.goes_away(member);
        let poll = match &self.readiness.urgent {
            Some((urgent, _)) if is_urgent => urgent,
            _ => &self.readiness.poll,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Some(source) = self.connections[member.index()].source() {
            poll.registry()
                .register(source, Token(member.index()), interest)?;
        }
        Ok(())
    }

    /// Asks for a WebSocket if a socket that was connecting is ready, or failed.
    pub(super) fn handle_connected(&mut self, member: MemberId) -> Result<()> {
        let connection = &mut self.connections[member.index()];
        match connection.is_connected() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return self.end_handshake(member, error),
        }
        let key = proto::handshake::request_key(fastrand::u128(..).to_ne_bytes());
        connection
            .pending
            .extend(handshake::request(self.target, &key));
        connection.state = State::Handshaking {
            key,
            response: Vec::new(),
        };
        self.list(member);
        Ok(())
    }

    /// Takes the first `bytes` of the read buffer, which are of an answer to a handshake.
    #[cold]
    pub(super) fn receive_response(&mut self, member: MemberId, bytes: usize) -> Result<()> {
        let connection = &mut self.connections[member.index()];
        let State::Handshaking { key, response } = &mut connection.state else {
            return Ok(());
        };
        response.extend_from_slice(&self.buffer[..bytes]);
        match handshake::read(response, key, self.target) {
            Response::Accepted {
                head_bytes,
                server_name,
            } => {
                if self.opened == 0 {
                    self.server_name = server_name;
                }
                let rest = response.split_off(head_bytes);
                connection.state = State::Open(Inbox::new(self.target.wire.lines));
                self.progress_ns = self.clock.now_ns();
                self.say(member, self.target.wire.greeting.message(""));
                if self.target.wire.join_after.is_none() {
                    self.admit(member);
                }
                // A head has at most 16 KiB, so what follows it was in the buffer too.
                self.buffer[..rest.len()].copy_from_slice(&rest);
                match rest.len() {
                    0 => Ok(()),
                    bytes => self.receive(member, bytes),
                }
            }
            Response::Incomplete => Ok(()),
            Response::Refused(refused) => {
                let Refused {
                    failure,
                    refusal,
                    retry_after,
                    complete,
                } = *refused;
                if complete || self.expects_refusals(member) {
                    return self.fail_opening(member, refusal, retry_after, || failure);
                }
                self.refusal = Some((failure, self.clock.now_ns() + to_ns(BODY_PATIENCE)));
                Ok(())
            }
        }
    }

    /// Returns whether a refusal is one of the run's figures.
    fn expects_refusals(&self, member: MemberId) -> bool {
        member.0 >= self.members || self.comes_back(member)
    }

    /// Counts a connection that did not open, in a storm and of a visitor; otherwise it is the
    /// run's failure.
    #[cold]
    fn fail_opening(
        &mut self,
        member: MemberId,
        refusal: Refusal,
        retry_after: Option<Duration>,
        failure: impl FnOnce() -> anyhow::Error,
    ) -> Result<()> {
        if member.0 >= self.members {
            self.refuse_visit(member, refusal);
        } else if self.comes_back(member) {
            self.retry(member, refusal, retry_after);
        } else {
            return Err(failure());
        }
        Ok(())
    }

    /// Takes the end of a connection that was not open yet.
    #[cold]
    pub(super) fn end_handshake(&mut self, member: MemberId, error: io::Error) -> Result<()> {
        let refused = self.refusal.take().map(|(failure, _)| failure);
        let (address, opened) = (self.target.address, self.opened);
        let was_asked = matches!(
            self.connections[member.index()].state,
            State::Handshaking { .. }
        );
        let reason = error.to_string();
        self.fail_opening(member, error.into(), None, || {
            refused.unwrap_or_else(|| match was_asked {
                true => {
                    handshake::malformed(address, &format!("it ended the connection: {reason}"))
                }
                false => anyhow!(
                    "{address} could not be reached after {opened} connections ({reason}); start \
                     the server there, or say where it is with --url"
                ),
            })
        })
    }

    /// Lets a connection join its room: the server is ready to hear of it.
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
            None => self.target.wire.join.message(&room.name),
        };
        self.say(member, join);
        self.send_again(member);
        if member.0 >= self.members {
            return self.begin_visit(member);
        }
        self.opened += 1;
        if self.returns.are_expected() {
            self.returns.open(member, self.progress_ns);
        }
    }

    /// Queues a message, if the wire has one for the occasion.
    pub(super) fn say(&mut self, member: MemberId, message: Option<Vec<u8>>) {
        if let Some(message) = message {
            self.connections[member.index()].push(OpCode::Text, &message);
            self.list(member);
        }
    }

    /// Publishes a probe in each of these rooms where somebody has not received one.
    pub(super) fn probe_rooms(&mut self, is_probed: impl Fn(&Room) -> bool) -> Result<()> {
        for (number, room) in (0..).zip(&self.plan.rooms) {
            if !is_probed(room) {
                continue;
            }
            // Whoever publishes it has joined before, on the same connection, so that one at least
            // gets it. In a storm, not everybody is there.
            let open = room.members.clone().rev().map(MemberId).find(|member| {
                let connection = &self.connections[member.index()];
                let is_open = matches!(connection.state, State::Open(_));
                is_open && connection.has_joined && !connection.has_received
            });
            if let Some(publisher) = open {
                self.send(
                    publisher,
                    Stamp {
                        stream: PROBES,
                        number,
                        due_ns: 0,
                    },
                );
            }
        }
        self.flush()
    }

    fn check_opening(&mut self) -> Result<()> {
        self.check_joined()?;
        let now_ns = self.clock.now_ns();
        if let Some((failure, _)) = self.refusal.take_if(|(_, until_ns)| now_ns >= *until_ns) {
            return Err(failure);
        }
        if now_ns < self.progress_ns + to_ns(SILENCE_MAX) {
            return Ok(());
        }
        let wire = &self.target.wire;
        let waits = |it: &Connection| matches!(it.state, State::Open(_)) && !it.has_joined;
        if let Some(greeting) = &wire.join_after
            && self.connections.iter().any(waits)
        {
            bail!(
                "for 10 s the server did not say `{greeting}`, after which members join; does it \
                 speak the wire {wire}?"
            );
        }
        let (opened, members, address) = (self.opened, self.members, self.target.address);
        bail!(
            "no connection was opened for 10 s, after {opened} of {members}; is the server at \
             {address} busy, or does something else listen there?"
        )
    }

    /// Checks that nobody was closed or complained about before the run begins.
    fn check_joined(&self) -> Result<()> {
        if let Some(reason) = &self.outcome.first_disconnect.0 {
            bail!(
                "the server closed a connection before the run began ({reason}); look at its log, \
                 or try fewer --members"
            );
        }
        let complaint = self.outcome.first_server_error.0.as_deref();
        ensure!(
            complaint.is_none(),
            "the server answered {}; does it speak the wire {}?",
            complaint.unwrap_or_default(),
            self.target.wire
        );
        Ok(())
    }
}
