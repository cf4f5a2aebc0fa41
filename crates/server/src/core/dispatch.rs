//! Gives what was read to whom it is for: events to handlers, requests to the engine.

use std::task::{Context, Poll, Waker};

use proto::event::JsonParser;
use proto::{Message, OpCode, frame};
use rooms::Disconnect;

use super::disconnects::{closed_by_peer, panicked_disconnect};
use super::handlers::{self, Event, answer};
use crate::app::application::CoreApplication;
use crate::app::connection::Peer;
use crate::app::data::{Data, RawMessage};
use crate::app::handler::{Handling, Progress, Reply};
use crate::app::refusal::{ErrorEvent, Refusal};
use crate::app::requests::carry_out;
use crate::metrics::CoreMetrics;
use crate::panics::Panicked;
use crate::wire::request::Action;
use crate::wire::{Asked, Payload, Received, Spoken as _, Unpacked, Unreadable};

/// The next step after a message.
pub(super) enum Next {
    Read,
    /// The connection ends, after the answers to its earlier messages.
    End(Disconnect),
    /// The event's handler goes on, and the connection waits for it.
    Wait(Event, Handling),
}

/// The outcome of an event: it is done or goes on.
type Handled = Result<Result<Option<Handling>, Refusal>, Panicked>;

/// The parts of the core that handle a message: those that are not the connection's.
pub(super) struct Dispatcher<'a> {
    pub(super) application: &'a mut dyn CoreApplication,
    pub(super) takes_messages: bool,
    pub(super) peer: &'a Peer,
    pub(super) parser: &'a mut JsonParser,
    pub(super) metrics: &'a CoreMetrics,
}

impl Dispatcher<'_> {
    pub(super) fn dispatch(
        self,
        message: Message<'_>,
        pong: impl FnOnce(proto::SharedFrame),
    ) -> Next {
        match message {
            Message::Text(text) => return self.take(Received::Text(text)),
            Message::Binary(payload) => return self.take(Received::Binary(payload)),
            Message::Ping(payload) => pong(frame::encode(OpCode::Pong, payload)),
            Message::Pong(_) => {}
            Message::Close(frame) => {
                self.metrics.closed.by_peer.add(1);
                return Next::End(closed_by_peer(&frame));
            }
        }
        Next::Read
    }

    fn take(self, message: Received<'_>) -> Next {
        if self.takes_messages {
            return self.raw(message);
        }
        let peer = self.peer;
        match peer.wire().unpack(peer.id, message) {
            Ok(Unpacked { event, payload }) => self.event(&event, payload),
            Err(Unreadable::Panicked) => self.end_panicked(),
            Err(Unreadable::Refused(refusal)) => {
                refuse(peer, self.metrics, (None, None), &refusal);
                Next::Read
            }
        }
    }

    /// Gives a message to the hook for messages.
    fn raw(self, message: Received<'_>) -> Next {
        let message = match &message {
            Received::Binary(payload) => RawMessage::Binary(payload),
            // Checked by the reader; checking again is cheaper than being wrong.
            Received::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => RawMessage::Text(text),
                Err(_) => return Next::Read,
            },
        };
        match self.application.message(self.peer.id, message) {
            Ok(()) => Next::Read,
            Err(Panicked) => self.end_panicked(),
        }
    }

    /// Carries out a request, or gives an event to its handler, if no hook refuses.
    fn event(mut self, event: &str, payload: Payload<'_>) -> Next {
        // The first thing that is read, so that whatever refuses has it.
        let mut id = None;
        match self.handle(event, payload, &mut id) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(handling))) => {
                let name = event.into();
                return Next::Wait(Event { name, id }, handling);
            }
            Ok(Err(refusal)) => refuse(self.peer, self.metrics, (id, Some(event)), &refusal),
            Err(Panicked) => return self.end_panicked(),
        }
        Next::Read
    }

    fn handle(&mut self, event: &str, payload: Payload<'_>, id: &mut Option<u64>) -> Handled {
        let peer = self.peer;
        let data = match payload {
            Payload::Json(json) => {
                let wire = peer.wire();
                if let Some(read) = wire.request(event) {
                    let asked = read(json, self.parser);
                    *id = asked.id;
                    return self.request(asked);
                }
                *id = wire.id_of(json);
                Data::json(json, self.parser, id.is_some())
            }
            Payload::Other(bytes, protocol) => Data::other(bytes, protocol),
        };
        let action = Action::Request { event };
        if let Err(refusal) = self.application.before(peer.id, action)? {
            return Ok(Err(refusal));
        }
        let reply = self.application.event(peer.id, event, data)?;
        self.progress(event, *id, reply)
    }

    fn request(&mut self, Asked { id, request }: Asked<'_>) -> Handled {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for action in request.actions() {
            if let Err(refusal) = self.application.before(self.peer.id, action)? {
                return Ok(Err(refusal));
            }
        }
        Ok(carry_out(self.peer, id, &request).map(|()| None))
    }

    /// Polls a handler that is async once: many are done then, and need no task.
    fn progress(&self, event: &str, id: Option<u64>, Reply(progress): Reply) -> Handled {
        let result = match progress {
            Progress::Done(result) => result,
            Progress::Pending(mut handling) => {
                let cx = &mut Context::from_waker(Waker::noop());
                let (engine, connection) = (&self.peer.engine, self.peer.id);
                match handlers::poll(engine, connection, event, &mut handling, cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return Ok(Ok(Some(handling))),
                }
            }
        };
        let answered = result.and_then(|output| answer(self.peer, id, &output));
        Ok(answered.map(|()| None))
    }

    fn end_panicked(&self) -> Next {
        self.metrics.closed.panicked.add(1);
        Next::End(panicked_disconnect())
    }
}

/// Tells a peer what was wrong, and counts it.
pub(super) fn refuse(
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
