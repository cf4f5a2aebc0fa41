//! Step 3: the mailbox, and the end of connections.

use std::collections::VecDeque;
use std::time::Instant;

use mio::unix::SourceFd;
use proto::CloseCode;
use rooms::{
    Command, ConnectionId, Disconnect, Effect, FlushQueue, Joined, RoomHandle, RoomId, Slot,
};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use super::disconnects::lost_disconnect;
use super::share::{self, Deadline, Line};
use super::socket::Phase;
use super::{Core, local_limits};
use crate::app::question::Question;
use crate::app::refusal::{ErrorEvent, Refusal};
use crate::code::Code;
use crate::engine;
use crate::kernel;
use crate::metrics::survey::Survey;
use crate::wire::{Answer, Spoken as _};

impl Core {
    /// Carries out what the core was asked for, in order, for a slice of time.
    pub(super) fn apply_commands(&mut self, now: Instant) {
        let mailbox = self.engine.table.mailbox(self.id);
        self.inbox.refill(mailbox);
        let mut slice = None;
        while let Some(command) = self.inbox.next() {
            self.apply(command, now);
            let slice = slice.get_or_insert_with(|| Deadline::after(share::APPLY));
            if slice.is_over(0) {
                return;
            }
        }
    }

    /// Carries out all that the core has been asked for by now.
    pub(super) fn apply_all(&mut self, now: Instant) {
        // What was taken before, then what has come since.
        for _ in 0..2 {
            let mailbox = self.engine.table.mailbox(self.id);
            self.inbox.refill(mailbox);
            while let Some(command) = self.inbox.next() {
                self.apply(command, now);
            }
        }
    }

    fn apply(&mut self, command: Command, now: Instant) {
        if let Some(effect) = self.local.apply(command, &self.engine.table) {
            self.carry_out(effect, now);
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Instant) {
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
                self.unsent_slice = kernel::unsent_slice(&config.limits);
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

    /// Returns a survey of what is queued for this core's connections.
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
        let answer = Answer::Joined {
            room: &room.name,
            joined,
            already,
        };
        let Ok(Some(frame)) = self.engine.wire(connection.wire()).answer(&answer) else {
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
        let refusal = Refusal::new(Code::TooManyRooms, text);
        self.metrics.errors.of(refusal.code()).add(1);
        let data = ErrorEvent {
            id,
            event: Some("join"),
            room: Some(&room.name),
            refusal: &refusal,
        };
        // In its place among the answers: what it was sent before is queued.
        if let Ok(frame) = self.engine.wire(connection.wire()).event("error", &data) {
            self.local
                .push(connection.slot(), &frame, FlushQueue::Prompt);
        }
    }

    /// Sends what is queued and a close frame, and ends the connection when the peer has had them.
    pub(super) fn begin_close(&mut self, slot: Slot, disconnect: Disconnect, now: Instant) {
        // An outbox may be full only because its flush has not come round: what is sent before a
        // close frame must not be lost by that.
        self.resolve_overflow_of(slot, now);
        let last = disconnect.to_frame();
        let Some(socket) = self.socket(slot) else {
            return;
        };
        if matches!(socket.phase, Phase::Closing | Phase::Shut) {
            return;
        }
        socket.phase = Phase::Closing;
        socket.stash = None;
        // Nobody read on while it was held back, and what there was to be told of may have been
        // told.
        self.release(slot);
        self.handlers.abort(slot);
        let connection = self.local.id_of(slot);
        self.local.shut(slot, &last, &self.engine.table);
        let close = self.config.timeouts.close;
        self.hurrying.push_back((now + close / 2, connection));
        self.closing.push_back((now + close, connection));
        self.tell_closed(connection, &disconnect);
    }

    /// Ends our side after the close frame has left, so that the peer ends its own.
    pub(super) fn shut(&mut self, slot: Slot) {
        let Some(socket) = self.socket(slot) else {
            return;
        };
        socket.phase = Phase::Shut;
        if socket.stream.shutdown(Shutdown::Write).is_err() {
            return self.end(slot);
        }
        // It was not read from while the close frame waited, and will not be told of again.
        self.enqueue(slot, Line::Backlog);
    }

    /// Removes a peer that is gone: by its close after ours, or without a word.
    pub(super) fn lost(&mut self, slot: Slot) {
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
            Phase::Ending => self.enqueue(slot, Line::Backlog),
            Phase::Closing | Phase::Shut => self.end(slot),
        }
    }

    /// Calls the hook for connections that end.
    fn tell_closed(&mut self, connection: ConnectionId, disconnect: &Disconnect) {
        self.application.closed(connection, disconnect);
        forget_full();
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn end(&mut self, slot: Slot) {
        let connection = self.local.id_of(slot);
        self.take_out(slot);
        self.application.forget(connection);
    }

    /// Takes a connection out of all that the engine has of it, and closes its socket.
    fn take_out(&mut self, slot: Slot) {
        let Some(socket) = self.sockets[slot].take() else {
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

    /// Ends connections whose time to close is over; those that are left are due at once. After
    /// half of it, what waits in front of a close frame makes way for it.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        for _ in 0..share::ENDS {
            let Some(connection) = next_due(&mut self.hurrying, now) else {
                break;
            };
            if let Some(slot) = self.still_there(connection) {
                self.local.hurry(slot);
            }
        }
        for _ in 0..share::ENDS {
            let Some(connection) = next_due(&mut self.closing, now) else {
                break;
            };
            if let Some(slot) = self.still_there(connection) {
                self.cut_off(slot);
            }
        }
    }

    /// Returns the slot of a connection that is closing and has not ended.
    fn still_there(&mut self, connection: ConnectionId) -> Option<Slot> {
        let slot = connection.slot();
        let is_there = self.socket(slot).is_some() && self.local.id_of(slot) == connection;
        is_there.then_some(slot)
    }

    /// Closes a member whose outbox is full although its socket was just offered it.
    pub(super) fn close_slow_consumer(&mut self, slot: Slot, now: Instant) {
        if self
            .socket(slot)
            .is_some_and(|socket| socket.phase == Phase::Open)
        {
            self.metrics.closed.slow_consumer.add(1);
        }
        self.say_slow(slot, "closed", now);
        // Nothing more is fanned out for it, or that would overtake what others wait for in the
        // overflow.
        self.local.drop_memberships(slot, &self.engine.table);
        self.begin_close(slot, Disconnect::slow_consumer(), now);
        self.local.hurry(slot);
    }

    /// Says who is too slow, by the name that `hello` and `from` call it, and what came of it.
    pub(super) fn say_slow(&mut self, slot: Slot, outcome: &'static str, now: Instant) {
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

    /// Ends a connection whose peer gives no sign of life. It is sent why if its socket takes that,
    /// and its place is free at once: nobody is there to wait for.
    pub(super) fn end_silent(&mut self, slot: Slot, now: Instant) {
        let reason = "keepalive ping timeout";
        self.begin_close(
            slot,
            Disconnect::new(CloseCode::INTERNAL_ERROR, reason),
            now,
        );
        self.local.hurry(slot);
        self.flush_now(slot);
        self.cut_off(slot);
    }

    /// Ends a connection without waiting for its peer. The kernel goes on with what it has, for as
    /// long as a close may take.
    fn cut_off(&mut self, slot: Slot) {
        let close = self.config.timeouts.close;
        if let Some(socket) = self.socket(slot) {
            kernel::forget_after(&(&socket.stream).into(), close);
            self.end(slot);
        }
    }
}

/// Takes the first of these if its time has come. They stand in the order of their times.
fn next_due(line: &mut VecDeque<(Instant, ConnectionId)>, now: Instant) -> Option<ConnectionId> {
    let (_, connection) = line.pop_front_if(|(due, _)| *due <= now)?;
    Some(connection)
}

/// Forgets the full queue that a hook ran into. It sent for no message, so there is nobody to hold
/// back: it is at most what the hook does for one connection or room that comes or goes.
fn forget_full() {
    _ = engine::take_full();
}
