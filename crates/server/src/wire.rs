//! What is spoken with connections: the wires, each in a file of its own.
//!
//! Nothing outside of this folder knows one wire from another: it asks [`AnyWire`].

pub(crate) mod draft;
pub(crate) mod encode;
mod golem;
pub(crate) mod languages;
#[cfg(feature = "messagepack")]
pub(crate) mod messagepack;
pub(crate) mod name;
mod parts;
pub(crate) mod position;
pub(crate) mod protocol;
pub(crate) mod request;
pub(crate) mod throng_v1;

use std::borrow::Cow;

use proto::SharedFrame;
use proto::event::{EncodeError, JsonParser, split};
use rooms::{ConnectionId, Disconnect, Joined, Past, StreamPosition, Wire};
use serde::Serialize;

use crate::app::error::EmitError;
use crate::app::refusal::Refusal;
use crate::code::Code;
use crate::config::Config;
use golem::Golem;
use name::ConnectionName;
use protocol::{AnyProtocol, Foreign};
use request::Request;
use throng_v1::ThrongV1;

/// golem's wire: spoken with whoever asks for no subprotocol.
pub(crate) const GOLEM: Wire = Wire(0);

/// `throng.v1`: positions, answers and recovery. Histories are kept in its frames.
pub(crate) const THRONG: Wire = Wire(1);

/// The engine's own; those of the application's protocols come behind them.
pub(crate) const OWN: [Wire; 2] = [GOLEM, THRONG];

/// The subprotocol that a client asks for to speak [`THRONG`].
pub(crate) const THRONG_PROTOCOL: &str = "throng.v1";

/// The name under which publications go to members.
pub(crate) const PUBLICATION: &str = "msg";

/// The protocol that a connection speaks.
pub(crate) trait Spoken: Copy {
    /// Returns what a connection is sent before anything else.
    fn greeting(self, _: &ConnectionName, _: &Config) -> Option<SharedFrame> {
        None
    }

    /// Takes an event out of a message, which the connection with this id sent.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], if there is none in it.
    fn unpack<'m>(self, _: ConnectionId, message: Received<'m>) -> Result<Unpacked<'m>, Unreadable>
    where
        Self: 'm,
    {
        let text = match message {
            Received::Text(text) => text,
            Received::Binary(_) => {
                let refusal = Refusal::new(Code::Binary, "events are text messages");
                return Err(Unreadable::Refused(refusal));
            }
        };
        let (event, json) = split(text).map_err(|error| {
            Unreadable::Refused(Refusal::new(Code::BadMessage, error.to_string()))
        })?;
        Ok(Unpacked {
            event: event.into(),
            payload: Payload::Json(json),
        })
    }

    /// Returns what reads the data of an event as a request to the engine; none if it is an event
    /// of the application's.
    fn request(self, _: &str) -> Option<ReadRequest> {
        None
    }

    /// Returns the id that an event of the application's has, by which its sender knows the answer.
    fn id_of(self, _: &[u8]) -> Option<u64> {
        None
    }

    /// Checks that an application may call an event so.
    ///
    /// # Errors
    ///
    /// [`EmitError::Reserved`], if the wire has an event of its own of this name.
    fn check_event(self, _: &str) -> Result<(), EmitError> {
        Ok(())
    }

    /// Writes an event whose data is as it stands.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], if the data cannot be written on this wire or the name is none.
    fn event<T: Serialize + ?Sized>(
        self,
        event: &str,
        data: &T,
    ) -> Result<SharedFrame, EncodeError>;

    /// Writes an event of the application's that is of no room.
    ///
    /// # Errors
    ///
    /// As those of [`event`](Self::event).
    fn application_event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        self.event(event, data)
    }

    /// Writes the answer to a request; none where requests have no answers.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], if what a handler returned cannot be written.
    fn answer(self, _: &Answer<'_>) -> Result<Option<SharedFrame>, EncodeError> {
        Ok(None)
    }

    /// Writes that the server stops and the client is to come back after so many milliseconds.
    fn drain(self, _: u64) -> Option<SharedFrame> {
        None
    }

    /// Returns the end of a connection that is to come back after so many milliseconds.
    fn drained(self, _: u64) -> Disconnect {
        Disconnect::going_away()
    }
}

/// Reads JSON as a request.
pub(crate) type ReadRequest = for<'m> fn(&'m mut [u8], &mut JsonParser) -> Asked<'m>;

/// A message as it came.
#[derive(Debug)]
pub(crate) enum Received<'m> {
    Text(&'m mut [u8]),
    Binary(&'m [u8]),
}

/// An event as it came.
pub(crate) struct Unpacked<'m> {
    pub(crate) event: Cow<'m, str>,
    pub(crate) payload: Payload<'m>,
}

/// The data of an event, not read yet.
pub(crate) enum Payload<'m> {
    Json(&'m mut [u8]),
    Other(&'m [u8], &'m dyn AnyProtocol),
}

/// Why there is no event in a message.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The application's protocol panicked.
    Panicked,
    /// The sender is told why.
    Refused(Refusal),
}

/// A request to the engine, or why it is none, with the id that its answer has.
#[derive(Debug)]
pub(crate) struct Asked<'m> {
    pub(crate) id: Option<u64>,
    pub(crate) request: Result<Request<'m>, Refusal>,
}

/// The outcome of a request.
pub(crate) enum Answer<'a> {
    /// It was done.
    Ack(Ack<'a>),
    /// The publications that a room retains.
    History {
        id: Option<u64>,
        room: &'a str,
        past: Option<&'a Past>,
    },
    /// The connection is a member.
    Joined {
        room: &'a str,
        joined: &'a Joined,
        already: bool,
    },
    /// The connection is none any more.
    Left { id: Option<u64>, room: &'a str },
    /// The server is there.
    Pong { id: Option<u64> },
}

/// The answer to a request that succeeded.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ack<'a> {
    pub(crate) id: u64,
    pub(crate) room: Option<&'a str>,
    pub(crate) position: Option<StreamPosition>,
    pub(crate) duplicate: bool,
    /// The value that a handler returned.
    pub(crate) data: Option<&'a dyn erased_serde::Serialize>,
}

/// Whichever wire a connection speaks.
#[derive(Clone, Copy)]
pub(crate) enum AnyWire<'a> {
    Golem(Golem),
    Protocol(Foreign<'a>),
    Throng(ThrongV1),
}

/// Does the same with whichever wire it is.
macro_rules! each {
    ($any:expr, $wire:ident => $call:expr) => {
        match $any {
            AnyWire::Golem($wire) => $call,
            AnyWire::Protocol($wire) => $call,
            AnyWire::Throng($wire) => $call,
        }
    };
}

impl Spoken for AnyWire<'_> {
    fn greeting(self, name: &ConnectionName, config: &Config) -> Option<SharedFrame> {
        each!(self, wire => wire.greeting(name, config))
    }

    fn unpack<'m>(self, id: ConnectionId, message: Received<'m>) -> Result<Unpacked<'m>, Unreadable>
    where
        Self: 'm,
    {
        each!(self, wire => wire.unpack(id, message))
    }

    fn request(self, event: &str) -> Option<ReadRequest> {
        each!(self, wire => wire.request(event))
    }

    fn id_of(self, json: &[u8]) -> Option<u64> {
        each!(self, wire => wire.id_of(json))
    }

    fn check_event(self, event: &str) -> Result<(), EmitError> {
        each!(self, wire => wire.check_event(event))
    }

    fn event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        each!(self, wire => wire.event(event, data))
    }

    fn application_event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        each!(self, wire => wire.application_event(event, data))
    }

    fn answer(self, answer: &Answer<'_>) -> Result<Option<SharedFrame>, EncodeError> {
        each!(self, wire => wire.answer(answer))
    }

    fn drain(self, after_ms: u64) -> Option<SharedFrame> {
        each!(self, wire => wire.drain(after_ms))
    }

    fn drained(self, after_ms: u64) -> Disconnect {
        each!(self, wire => wire.drained(after_ms))
    }
}
