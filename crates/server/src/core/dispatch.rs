//! Gives what was read to whom it is for: messages to handlers, requests to what carries them out.

use std::task::{Context, Poll, Waker};

use proto::event::JsonParser;
use proto::{Message, OpCode, frame};
use rooms::Disconnect;

use super::disconnects::{closed_by_peer, panicked_disconnect};
use super::handlers;
use crate::app::application::CoreApplication;
use crate::app::connection::Peer;
use crate::app::data::{Data, RawMessage};
use crate::app::handler::{Handling, Progress, Reply};
use crate::app::refusal::{ErrorEvent, Refusal};
use crate::app::requests::{Refused, Request};
use crate::code::Code;
use crate::metrics::CoreMetrics;
use crate::panics::{self, Panicked};
use crate::wire::THRONG;
use crate::wire::protocol::{self, AnyProtocol, Mode};

/// What is to be done after a message.
pub(super) enum Next {
    Read,
    /// The connection ends, after the answers to its earlier messages.
    End(Disconnect),
    /// The event's handler goes on, and the connection waits for it.
    Wait(Box<str>, Handling),
}

/// What came of an event.
type Handled = Result<Result<Next, Refused>, Panicked>;

/// What a message is handled with: the parts of the core that are not the connection's.
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
            return self.message(RawMessage::Binary(payload));
        }
        match self.peer.engine.protocol(self.peer.id.wire()) {
            Some(protocol) if protocol.mode() == Mode::Binary => self.unpack(protocol, payload),
            _ => self.refuse(&Refusal::new(Code::Binary, "events are text messages")),
        }
    }

    fn text(self, text: &mut [u8]) -> Next {
        if self.takes_messages {
            // Checked by the reader; checking again is cheaper than being wrong.
            return std::str::from_utf8(text)
                .map_or(Next::Read, |text| self.message(RawMessage::Text(text)));
        }
        if let Some(protocol) = self.peer.engine.protocol(self.peer.id.wire()) {
            return match protocol.mode() {
                Mode::Text => self.unpack(protocol, text),
                Mode::Binary => {
                    self.refuse(&Refusal::new(Code::Text, "events are binary messages"))
                }
            };
        }
        match proto::event::split(text) {
            Ok((event, json)) => self.event(event, json),
            Err(error) => self.refuse(&Refusal::new(Code::BadMessage, error.to_string())),
        }
    }

    /// Takes an event out of a message in the application's protocol.
    fn unpack(mut self, protocol: &dyn AnyProtocol, message: &[u8]) -> Next {
        let unpack = || protocol::unpack(protocol, message);
        let (event, data) = match panics::catch("a protocol", Some(self.peer.id), unpack) {
            Ok(Ok(unpacked)) => unpacked,
            Ok(Err(words)) => return self.refuse(&Refusal::new(Code::BadMessage, words)),
            Err(Panicked) => return self.end_panicked(),
        };
        let handled = self.handler(&event, |_| Data::other(data, protocol));
        self.after(&event, handled)
    }

    /// Gives a message to the hook for messages.
    fn message(self, message: RawMessage<'_>) -> Next {
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
