//! Step 2: bytes from sockets to messages to handlers.

use std::io;
use std::time::Instant;

use proto::{Input, Limits, Message};
use rooms::{FlushQueue, Full, Slot};

use super::disconnects::broken;
use super::dispatch::{self, Dispatcher, Next};
use super::lines::Waits;
use super::share::{self, Deadline, Line};
use super::socket::Phase;
use super::{Core, Ready};
use crate::app::refusal::Refusal;
use crate::clock;
use crate::engine;

/// One connection's turn to be read from.
struct Visit {
    slot: Slot,
    /// The line that it stood in.
    line: Line,
    /// When its slice is over.
    deadline: Deadline,
    /// When the core's turn began.
    now: Instant,
}

impl Core {
    /// Reads from connections that have sent little. Returns how many stand in the backlog: who
    /// joins them has been read from in this turn.
    pub(super) fn read_fresh(&mut self, now: Instant) -> usize {
        self.resume_stalled();
        self.note_ready(now);
        let backlog_count = self.lines.len(Line::Backlog);
        self.read_line(Line::Fresh, self.lines.len(Line::Fresh), now);
        backlog_count
    }

    /// Reads from so many connections of the backlog. Comes at the end of a turn, so that what the
    /// others have sent is on its way before it.
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
        let mut clock = clock::now();
        let end = clock + share::READ;
        for _ in 0..count {
            let Some(slot) = self.dequeue(line) else {
                return;
            };
            let waiting = 1 + self.lines.len(Line::Fresh) + self.lines.len(Line::Backlog);
            let slice_end = clock + self.share.of(waiting);
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

    /// Unblocks a connection whose socket takes bytes again: its peer lives, for it has taken some.
    fn unblock(&mut self, slot: Slot, now: Instant) {
        let stamp = self.stamp(now);
        if self.local.is_blocked(slot)
            && let Some(socket) = self.socket(slot)
        {
            socket.is_alive(stamp);
            self.local.set_blocked(slot, false);
        }
    }

    /// Takes in what a connection has stashed, then reads once from its socket and takes in what
    /// came.
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
                    let waiting = (slot, visit.line);
                    return self.wait_for_handler(waiting, (event, handling), full, input.rest());
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
        dispatch::refuse(&self.peer, &self.metrics, (id, event), refusal);
    }
}

/// Whoever asks for more than this part of what may wait for it is read from again when it has
/// taken that: the rest is for what rooms are sent.
const ANSWERS_DIVISOR: usize = 4;
