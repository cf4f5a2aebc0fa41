//! Step 2: bytes from sockets to messages to handlers.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use proto::event::JsonParser;
use proto::{CloseCode, CloseFrame, Input, Limits, Message, OpCode, ReadError, frame};
use rooms::{Disconnect, FlushQueue, Full, Slot};

use super::handlers;
use super::lines::Waits;
use super::share::{self, Deadline, Line};
use super::socket::Phase;
use super::{Core, Ready};
use crate::application::CoreApplication;
use crate::clock;
use crate::connection::Peer;
use crate::data::Data;
use crate::engine;
use crate::handler::{Handling, Progress, Reply};
use crate::metrics::CoreMetrics;
use crate::panics::{self, Panicked};
use crate::protocol::{self, AnyProtocol, Mode};
use crate::refusal::{ErrorEvent, Refusal};
use crate::router::Incoming;
use crate::throng_v1::{Refused, Request};
use crate::wire::THRONG;

/// One connection's turn to be read from.
pub(super) struct Visit {
    pub(super) slot: Slot,
    /// Where it stood.
    pub(super) line: Line,
    /// When its slice is over.
    deadline: Deadline,
    /// When the core's turn began.
    now: Instant,
}

/// What is to be done after a message.
enum Next {
    Read,
    /// The connection ends, after the answers to its earlier messages.
    End(Disconnect),
    /// The event's handler goes on, and the connection waits for it.
    Wait(Box<str>, Handling),
}

impl Core {
    /// Reads from connections that have sent little. Returns how many stand in the backlog: who joins them
    /// has been read from in this turn.
    pub(super) fn read_fresh(&mut self, now: Instant) -> usize {
        self.resume_stalled();
        self.note_ready(now);
        let backlog_count = self.lines.len(Line::Backlog);
        self.read_line(Line::Fresh, self.lines.len(Line::Fresh), now);
        backlog_count
    }

    /// Reads from so many connections of the backlog. Comes at the end of a turn, so that what the others
    /// have sent is on its way before it.
    pub(super) fn read_backlog(&mut self, count: usize, now: Instant) {
        self.read_line(Line::Backlog, count, now);
    }

    /// Takes note of what the readiness set has told.
    fn note_ready(&mut self, now: Instant) {
        let ready = std::mem::take(&mut self.ready);
        for Ready {
            slot,
            readable,
            writable,
            ended,
            dead,
        } in &ready
        {
            if *writable {
                self.unblock(*slot, now);
            }
            if *ended && let Some(socket) = self.socket(*slot) {
                socket.ended = true;
            }
            if *dead {
                self.note_dead(*slot);
            }
            if *readable || *ended {
                self.enqueue(*slot, Line::Fresh);
            }
        }
        self.ready = ready;
    }

    /// Gives the first so many connections of a line their slices, until that of the line is over.
    /// Reads at most once from each.
    fn read_line(&mut self, line: Line, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        let slice = self.share.get();
        let mut clock = clock::now();
        let end = clock + share::READ;
        for _ in 0..count {
            let Some(slot) = self.dequeue(line) else {
                return;
            };
            let slice_end = clock + slice;
            self.read(Visit {
                slot,
                line,
                deadline: Deadline::at(slice_end),
                now,
            });
            clock = clock::now();
            if clock >= slice_end {
                self.metrics.slices_used_up.add(1);
                // Whether there is more to read or not: what follows soon waits its turn.
                self.enqueue(slot, Line::Backlog);
            }
            if clock >= end {
                return;
            }
        }
    }

    /// The socket takes bytes again: its peer lives, for it has taken some.
    fn unblock(&mut self, slot: Slot, now: Instant) {
        let stamp = self.stamp(now);
        if self.local.is_blocked(slot)
            && let Some(socket) = self.socket(slot)
        {
            socket.is_alive(stamp);
            self.local.set_blocked(slot, false);
        }
    }

    /// Takes in what a connection has stashed, then reads once from its socket and takes in what came.
    fn read(&mut self, mut visit: Visit) {
        let slot = visit.slot;
        if let Some(mut stash) = self.socket(slot).and_then(|socket| socket.stash.take()) {
            self.take_in(&mut visit, &mut stash);
            if self.socket(slot).is_none_or(|s| s.waits != Waits::Not) {
                return;
            }
            if visit.deadline.is_past() {
                return self.enqueue(slot, Line::Backlog);
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_into(&mut visit, &mut buffer);
        self.buffer = buffer;
    }

    fn read_into(&mut self, visit: &mut Visit, buffer: &mut [u8]) {
        let slot = visit.slot;
        let stamp = self.stamp(visit.now);
        let Some(socket) = self.socket(slot) else {
            return;
        };
        let ended = socket.ended;
        let len_max = buffer.len().min(socket.readable_max());
        if len_max == 0 {
            return;
        }
        let buffer = &mut buffer[..len_max];
        let read = socket.recv(buffer);
        self.metrics.system_calls.recv.add(1);
        match read {
            Ok(0) => self.lost(slot),
            Ok(len) => {
                if let Some(socket) = self.socket(slot) {
                    socket.is_alive(stamp);
                    socket.count_read(len);
                }
                self.metrics.bytes_in.add(len as u64);
                self.take_in(visit, &mut buffer[..len]);
                // A read that fills the buffer, or is followed by the end, is not the last.
                if len == buffer.len() || ended {
                    self.enqueue(slot, Line::Backlog);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lost(slot),
        }
    }

    /// Reads the messages in `bytes` and hands each to its handler, until the visit is over.
    ///
    /// The pongs of one read leave as one buffer: two bytes each, they would cost twenty times that
    /// in an outbox whose peer does not read, and the outbox is bounded by what is in them.
    fn take_in(&mut self, visit: &mut Visit, bytes: &mut [u8]) {
        let mut pongs = Vec::new();
        self.read_messages(visit, bytes, &mut pongs);
        if !pongs.is_empty() {
            self.local
                .push(visit.slot, &pongs.into(), FlushQueue::Prompt);
        }
    }

    fn read_messages(&mut self, visit: &mut Visit, bytes: &mut [u8], pongs: &mut Vec<u8>) {
        let slot = visit.slot;
        let limits = Limits {
            message_len_max: self.config.limits.message_bytes_max,
            fragment_count_max: self.config.limits.fragments_max,
        };
        let answers_max = self.config.limits.outbox_bytes_max as usize / ANSWERS_DIVISOR;
        let mut input = Input::new(bytes);
        self.peer.id = self.local.id_of(slot);
        let stamp = self.stamp(visit.now);
        loop {
            let unread = input.rest().len();
            let Some(socket) = self.sockets[slot].as_mut() else {
                return;
            };
            if socket.phase != Phase::Open {
                return;
            }
            let next = match socket.reader.read(&mut input, &limits) {
                Ok(None) => return,
                Ok(Some(message)) => {
                    if matches!(message, Message::Text(_) | Message::Binary(_)) {
                        socket.message_at = stamp;
                        self.metrics.messages_in.add(1);
                    }
                    let dispatcher = Dispatcher {
                        application: &mut *self.application,
                        takes_messages: self.takes_messages,
                        peer: &self.peer,
                        parser: &mut self.parser,
                        metrics: &self.metrics,
                    };
                    engine::begin_answers(self.peer.id);
                    dispatcher.dispatch(message, |pong| pongs.extend_from_slice(&pong))
                }
                Err(error) => {
                    self.metrics.closed.protocol_error.add(1);
                    Next::End(broken(error))
                }
            };
            let is_unread = socket.count_answer(engine::take_answered(), answers_max);
            let is_dead = socket.is_dead;
            // Also behind the last message of a read, or one message a packet would never be.
            let full = engine::take_full();
            match next {
                Next::Read => {}
                Next::End(disconnect) => {
                    socket.phase = Phase::Ending;
                    // Never refused: this is a core.
                    _ = self.engine.close(self.peer.id, disconnect);
                }
                Next::Wait(event, handling) => {
                    return self.wait_for_handler(visit, (event, handling), full, input.rest());
                }
            }
            if let Some(full) = full {
                return self.hold_back((slot, visit.line), full, input.rest());
            }
            if is_unread && !is_dead {
                return self.wait_until_read(slot, input.rest());
            }
            if visit.deadline.is_over(unread - input.rest().len()) && !input.is_empty() {
                self.stash(slot, input.rest());
                return self.enqueue(slot, Line::Backlog);
            }
        }
    }

    /// Keeps what was read and not taken in yet: less than the read buffer.
    pub(super) fn stash(&mut self, slot: Slot, rest: &[u8]) {
        if let Some(socket) = self.socket(slot) {
            socket.stash = (!rest.is_empty()).then(|| rest.into());
        }
    }

    /// Reads nothing more from a connection until the full queue has been drained.
    pub(super) fn hold_back(&mut self, (slot, line): (Slot, Line), full: Full, rest: &[u8]) {
        self.stash(slot, rest);
        if let Some(socket) = self.socket(slot) {
            socket.waits = Waits::held(line);
            self.stalled.push((slot, full));
            self.metrics.stalls.add(1);
        }
    }

    /// Lets connections go on that were held back, where the queue has been drained.
    fn resume_stalled(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        for (slot, full) in std::mem::take(&mut self.stalled) {
            if self.engine.table.is_full(full) {
                self.stalled.push((slot, full));
            } else {
                self.release(slot);
            }
        }
    }

    /// Tells whoever is dealt with what was wrong, and counts it.
    pub(super) fn refuse(&self, id: Option<u64>, event: Option<&str>, refusal: &Refusal) {
        refuse(&self.peer, &self.metrics, (id, event), refusal);
    }
}

/// Whoever asks for more than this part of what may wait for it is read from again when it has taken that:
/// the rest is for what rooms are sent.
const ANSWERS_DIVISOR: usize = 4;

/// The disconnect for a peer that broke the rules.
fn broken(error: ReadError) -> Disconnect {
    Disconnect {
        code: error.close_code(),
        reason: error.to_string().into(),
    }
}

/// What came of an event.
type Handled = Result<Result<Next, Refused>, Panicked>;

/// What a message is handled with: the parts of the core that are not the connection's.
struct Dispatcher<'a> {
    application: &'a mut dyn CoreApplication,
    takes_messages: bool,
    peer: &'a Peer,
    parser: &'a mut JsonParser,
    metrics: &'a CoreMetrics,
}

impl Dispatcher<'_> {
    fn dispatch(self, message: Message<'_>, pong: impl FnOnce(proto::SharedFrame)) -> Next {
        match message {
            Message::Text(text) => return self.text(text),
            Message::Binary(payload) => return self.binary(payload),
            Message::Ping(payload) => pong(frame::encode(OpCode::Pong, payload)),
            Message::Pong(_) => {}
            Message::Close(frame) => {
                self.metrics.closed.by_peer.add(1);
                return Next::End(closed_by_peer(&frame));
            }
        }
        Next::Read
    }

    fn binary(self, payload: &[u8]) -> Next {
        if self.takes_messages {
            return self.message(Incoming::Binary(payload));
        }
        match self.peer.engine.protocol(self.peer.id.wire()) {
            Some(protocol) if protocol.mode() == Mode::Binary => self.unpack(protocol, payload),
            _ => self.refuse(&Refusal::new("binary", "events are text messages")),
        }
    }

    fn text(self, text: &mut [u8]) -> Next {
        if self.takes_messages {
            // Checked by the reader; checking again is cheaper than being wrong.
            return std::str::from_utf8(text)
                .map_or(Next::Read, |text| self.message(Incoming::Text(text)));
        }
        if let Some(protocol) = self.peer.engine.protocol(self.peer.id.wire()) {
            return match protocol.mode() {
                Mode::Text => self.unpack(protocol, text),
                Mode::Binary => self.refuse(&Refusal::new("text", "events are binary messages")),
            };
        }
        match proto::event::split(text) {
            Ok((event, json)) => self.event(event, json),
            Err(error) => self.refuse(&Refusal::new("bad_message", error.to_string())),
        }
    }

    /// Takes an event out of a message in the application's protocol.
    fn unpack(mut self, protocol: &dyn AnyProtocol, message: &[u8]) -> Next {
        let unpack = || protocol::unpack(protocol, message);
        let (event, data) = match panics::catch("a protocol", Some(self.peer.id), unpack) {
            Ok(Ok(unpacked)) => unpacked,
            Ok(Err(words)) => return self.refuse(&Refusal::new("bad_message", words)),
            Err(Panicked) => return self.end_panicked(),
        };
        let handled = self.handler(&event, |_| Data::other(data, protocol));
        self.after(&event, handled)
    }

    /// Gives a message to the hook for messages.
    fn message(self, message: Incoming<'_>) -> Next {
        match self.application.message(self.peer.id, message) {
            Ok(()) => Next::Read,
            Err(Panicked) => self.end_panicked(),
        }
    }

    /// Gives an event to its handler, or a request of throng.v1 to what handles it.
    fn event(mut self, event: &str, json: &mut [u8]) -> Next {
        let request = match self.peer.id.wire() {
            THRONG => Request::named(event),
            _ => None,
        };
        let handled = match request {
            Some(request) => self.request(request, event, json),
            None => self.handler(event, |parser| Data::json(json, parser)),
        };
        self.after(event, handled)
    }

    fn after(&self, event: &str, handled: Handled) -> Next {
        match handled {
            Ok(Ok(next)) => next,
            Ok(Err(Refused { id, refusal })) => {
                refuse(self.peer, self.metrics, (id, Some(event)), &refusal);
                Next::Read
            }
            Err(Panicked) => self.end_panicked(),
        }
    }

    fn request(&mut self, request: Request, event: &str, json: &mut [u8]) -> Handled {
        let Self {
            application, peer, ..
        } = self;
        let mut panicked = false;
        let before = || match application.before(peer.id, event) {
            Ok(result) => result,
            Err(Panicked) => {
                panicked = true;
                Err(Refusal::new("panicked", "internal error"))
            }
        };
        let handled = request.handle(peer, json, self.parser, before);
        if panicked {
            return Err(Panicked);
        }
        Ok(handled.map(|()| Next::Read))
    }

    fn handler<'d>(
        &'d mut self,
        event: &str,
        data: impl FnOnce(&'d mut JsonParser) -> Data<'d>,
    ) -> Handled {
        let id = self.peer.id;
        if let Err(refusal) = self.application.before(id, event)? {
            return Ok(Err(refusal.into()));
        }
        let Reply(progress) = self.application.event(id, event, data(self.parser))?;
        let result = match progress {
            Progress::Done(result) => result,
            Progress::Pending(mut handling) => {
                // Many are done at once, and need no task.
                let cx = &mut Context::from_waker(Waker::noop());
                match handlers::poll(&self.peer.engine, id, event, &mut handling, cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return Ok(Ok(Next::Wait(event.into(), handling))),
                }
            }
        };
        Ok(result.map(|()| Next::Read).map_err(Refused::from))
    }

    fn end_panicked(&self) -> Next {
        self.metrics.closed.panicked.add(1);
        Next::End(panicked_disconnect())
    }

    /// Refuses a message that is no event.
    fn refuse(&self, refusal: &Refusal) -> Next {
        refuse(self.peer, self.metrics, (None, None), refusal);
        Next::Read
    }
}

/// Tells a peer what was wrong, and counts it.
fn refuse(
    peer: &Peer,
    metrics: &CoreMetrics,
    (id, event): (Option<u64>, Option<&str>),
    refusal: &Refusal,
) {
    metrics.errors.of(refusal.code()).add(1);
    let data = ErrorEvent {
        id,
        event,
        room: None,
        refusal,
    };
    // Strings can be written in any protocol.
    _ = peer.emit("error", &data);
}

/// The disconnect for a peer that closed by itself.
fn closed_by_peer(frame: &CloseFrame<'_>) -> Disconnect {
    Disconnect {
        code: frame.code,
        reason: frame.reason.to_owned().into(),
    }
}

/// The end of a connection whose handler panicked.
pub(super) fn panicked_disconnect() -> Disconnect {
    Disconnect::new(CloseCode::INTERNAL_ERROR, "internal error")
}

/// A peer that goes without a close frame.
pub(super) fn lost_disconnect() -> Disconnect {
    Disconnect::new(CloseCode::ABNORMAL, "connection lost")
}
