//! Step 3: the mailbox, and the end of connections.

use std::time::Instant;

use mio::unix::SourceFd;
use proto::CloseCode;
use rooms::{ConnectionId, Disconnect, Effect, FlushQueue, Joined, RoomHandle, RoomId};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use super::read::lost_disconnect;
use super::socket::Phase;
use super::{Core, local_limits};
use crate::engine;
use crate::question::Question;
use crate::refusal::{ErrorEvent, Refusal};
use crate::survey::Survey;
use crate::throng_v1;

impl Core {
    /// Carries out what the core was asked for, in order.
    pub(super) fn apply_commands(&mut self, now: Instant) {
        let mut commands = std::mem::take(&mut self.commands);
        self.mailbox().drain(&mut commands);
        for command in commands.drain(..) {
            if let Some(effect) = self.local.apply(command, &self.engine.table) {
                self.carry_out(effect, now);
            }
        }
        commands.shrink_to(COMMANDS_KEPT_MAX);
        self.commands = commands;
    }

    fn carry_out(&mut self, effect: Effect, now: Instant) {
        let closes = matches!(
            effect,
            Effect::Close { .. } | Effect::Drain | Effect::LastRoomLeft { .. }
        );
        if closes && self.local.has_overflow() {
            // An outbox may be full only because its flush has not come round: what is sent
            // before a close frame must not be lost by that.
            self.local.fan_out();
            self.resolve_overflow(now);
        }
        match effect {
            Effect::Ask { room, question } => {
                // Nobody asks anything else; to drop it would be an answer too.
                if let Ok(question) = question.downcast::<Question>() {
                    self.answer(room, *question);
                }
            }
            Effect::Close {
                connection,
                disconnect,
            } => self.close_for_application(connection, disconnect, now),
            Effect::Drain => self.begin_drain(now),
            Effect::Joined {
                connection,
                room,
                joined,
                already,
            } => self.welcome(connection, &room, &joined, already),
            Effect::JoinRefused {
                connection,
                room,
                id,
            } => self.refuse_join(connection, &room, id),
            Effect::LastRoomLeft { connections } => {
                for connection in connections {
                    self.close_for_application(connection, Disconnect::left_last_room(), now);
                }
            }
            Effect::RoomCreated { space, name } => self.engine.room_created(space, &name),
            Effect::RoomRemoved { space, name } => self.engine.room_removed(space, &name),
            Effect::Survey => self.metrics.asked.answer(|| self.survey()),
        }
        forget_full();
    }

    fn close_for_application(
        &mut self,
        connection: ConnectionId,
        disconnect: Disconnect,
        now: Instant,
    ) {
        let slot = connection.slot();
        if self.socket(slot).is_some_and(|s| s.phase == Phase::Open) {
            self.metrics.closed.by_application.add(1);
        }
        self.begin_close(slot, disconnect, now);
    }

    /// Answers a question of the application's. Who asked may have gone.
    fn answer(&mut self, room: Option<RoomId>, question: Question) {
        match question {
            Question::Connections(answer) => {
                let ids: Vec<ConnectionId> = match room {
                    Some(room) => self.local.members_of(room).collect(),
                    None => self
                        .local
                        .slots()
                        .map(|slot| self.local.id_of(slot))
                        .collect(),
                };
                let open = ids
                    .into_iter()
                    .filter(|id| self.local.slot_of(*id).is_some());
                let found = open.filter_map(|id| Some((id, self.application.state(id)?)));
                _ = answer.send(found.collect());
            }
            Question::Reload(config) => {
                self.local.set_limits(local_limits(&config));
                self.config = config;
            }
            Question::Rooms {
                connection,
                space,
                answer,
            } => {
                let slot = self.local.slot_of(connection).into_iter();
                let rooms = slot.flat_map(|slot| self.local.rooms_of(slot));
                let of_space = rooms.filter(|room| room.space == space);
                _ = answer.send(of_space.map(|room| room.name.clone()).collect());
            }
        }
    }

    /// What waits for this core's connections.
    fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let blocked = self.local.blocked_slots();
        survey.add_idle((self.local.connection_count() - blocked.len()) as u64);
        for slot in blocked {
            survey.add(self.local.outbox(slot).pending_bytes());
        }
        survey
    }

    /// Answers a join, and queues what is replayed behind the answer.
    fn welcome(
        &mut self,
        connection: ConnectionId,
        room: &RoomHandle,
        joined: &Joined,
        already: bool,
    ) {
        let Some(frame) = throng_v1::joined_frame(&room.name, joined, already) else {
            return;
        };
        let slot = connection.slot();
        self.local.push(slot, &frame, FlushQueue::Prompt);
        if !already {
            self.local.replay(slot, room, joined);
        }
    }

    fn refuse_join(&mut self, connection: ConnectionId, room: &RoomHandle, id: Option<u64>) {
        let max = self.config.limits.rooms_per_connection_max;
        let text = format!("a connection may be in {max} rooms");
        let refusal = Refusal::new("too_many_rooms", text);
        self.metrics.errors.of(refusal.code()).add(1);
        let data = ErrorEvent {
            id,
            event: Some("join"),
            room: Some(&room.name),
            refusal: &refusal,
        };
        // In its place among the answers: what it was sent before is queued.
        if let Ok(frame) = self.engine.encode_for(connection.wire(), "error", &data) {
            self.local
                .push(connection.slot(), &frame, FlushQueue::Prompt);
        }
    }

    /// Sends what is queued and a close frame, and ends the connection when the peer has had them.
    pub(super) fn begin_close(&mut self, slot: u32, disconnect: Disconnect, now: Instant) {
        let last = disconnect.to_frame();
        let pending_bytes = self.local.outbox(slot).pending_bytes() as usize;
        if pending_bytes + last.len() > self.config.limits.outbox_bytes_max as usize {
            // What makes way for the close frame has been offered to the socket at least once.
            self.flush_now(slot);
        }
        let Some(socket) = self.socket(slot) else {
            return;
        };
        if matches!(socket.phase, Phase::Closing | Phase::Shut) {
            return;
        }
        socket.phase = Phase::Closing;
        if socket.stash.take().is_some() {
            // Nobody read on while it was held back, and what there was to be told of may have been told.
            self.readable.push_back(slot);
        }
        self.handlers.abort(slot);
        let connection = self.local.id_of(slot);
        self.local.shut(slot, &last, &self.engine.table);
        self.closing
            .push_back((now + self.config.timeouts.close, connection));
        self.tell_closed(connection, &disconnect);
    }

    /// The close frame has left: ends our side, so that the peer ends its own.
    pub(super) fn shut(&mut self, slot: u32) {
        let Some(socket) = self.socket(slot) else {
            return;
        };
        socket.phase = Phase::Shut;
        if socket.stream.shutdown(Shutdown::Write).is_err() {
            self.end(slot);
        }
    }

    /// The peer is gone: by its close after ours, or without a word.
    pub(super) fn lost(&mut self, slot: u32) {
        let Some(socket) = self.socket(slot) else {
            return;
        };
        match socket.phase {
            Phase::Open => {
                self.metrics.closed.lost.add(1);
                let connection = self.local.id_of(slot);
                self.take_out(slot);
                self.tell_closed(connection, &lost_disconnect());
                self.application.forget(connection);
            }
            // Why it ends is on its way through the mailbox; its end is found again behind that.
            Phase::Ending => self.readable.push_back(slot),
            Phase::Closing | Phase::Shut => self.end(slot),
        }
    }

    /// Calls the hook for connections that end.
    fn tell_closed(&mut self, connection: ConnectionId, disconnect: &Disconnect) {
        self.application.closed(connection, disconnect);
        forget_full();
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn end(&mut self, slot: u32) {
        let connection = self.local.id_of(slot);
        self.take_out(slot);
        self.application.forget(connection);
    }

    /// Takes a connection out of all that the engine has of it, and closes its socket.
    fn take_out(&mut self, slot: u32) {
        let Some(socket) = self.sockets[slot as usize].take() else {
            return;
        };
        let source = socket.stream.as_raw_fd();
        // The kernel forgets a closed socket by itself; this keeps the order beyond doubt.
        _ = self
            .readiness
            .get_ref()
            .registry()
            .deregister(&mut SourceFd(&source));
        self.handlers.abort(slot);
        self.local.close(slot, &self.engine.table);
    }

    /// Ends the connections whose time to close is over.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        while let Some((deadline, connection)) = self.closing.front().copied() {
            if deadline > now {
                return;
            }
            self.closing.pop_front();
            let slot = connection.slot();
            if self.socket(slot).is_some() && self.local.id_of(slot) == connection {
                self.end(slot);
            }
        }
    }

    /// A member whose outbox is full though its socket was just offered it.
    pub(super) fn close_slow_consumer(&mut self, slot: u32, now: Instant) {
        if self
            .socket(slot)
            .is_some_and(|socket| socket.phase == Phase::Open)
        {
            self.metrics.closed.slow_consumer.add(1);
        }
        self.say_slow(slot, "closed", now);
        self.begin_close(slot, Disconnect::slow_consumer(), now);
    }

    /// Says who is too slow, by the name that `hello` and `from` call it, and what came of it.
    pub(super) fn say_slow(&mut self, slot: u32, outcome: &'static str, now: Instant) {
        let Some(times) = self.slow_consumers.happened(now) else {
            return;
        };
        let name = self.engine.name_of(self.local.id_of(slot));
        tracing::warn!(
            connection = name.as_str(),
            pending_bytes = self.local.outbox(slot).pending_bytes(),
            times,
            "slow consumer {outcome}"
        );
    }

    /// Closes a connection that was silent for too long.
    pub(super) fn close_silent(&mut self, slot: u32, reason: &'static str, now: Instant) {
        self.begin_close(
            slot,
            Disconnect::new(CloseCode::INTERNAL_ERROR, reason),
            now,
        );
    }
}

/// What a hook has sent came of no message, so there is nobody to hold back for it: it is at most
/// what the hook does for one connection or room that comes or goes.
fn forget_full() {
    _ = engine::take_full();
}

/// How many places for commands are kept between turns.
const COMMANDS_KEPT_MAX: usize = 4096;
