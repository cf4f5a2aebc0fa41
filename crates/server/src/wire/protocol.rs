//! Protocols that an application brings: how an event is written as a message, and read.

use std::borrow::Cow;
use std::cell::RefCell;
use std::error::Error;
use std::marker::PhantomData;

use proto::event::{EncodeError, ParseError, is_name};
use proto::{OpCode, SharedFrame, frame};
use rooms::ConnectionId;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _};
use serde::{Serialize, Serializer};

use super::{Payload, Received, Spoken, Unpacked, Unreadable};
use crate::app::refusal::Refusal;
use crate::code::Code;
use crate::panics::{self, Panicked};

/// Why a message could not be read or written: any error, or a text.
pub type ProtocolError = Box<dyn Error + Send + Sync>;

/// A protocol of the application's own: how an event, a name and its data, is one message, and
/// back.
///
/// Served by [`Router::set_protocol`](crate::Router::set_protocol) or
/// [`Router::serve_protocol`](crate::Router::serve_protocol). Data is anything that serde can read
/// and write, so handlers and whoever emits need not know which protocol a connection speaks. What
/// is sent to a room is written once for each protocol that members of it speak.
///
/// It is called on the threads of the cores and of whoever emits, at the same time. What it panics
/// over, the handler has panicked over.
///
/// # Examples
///
/// A protocol of lines, `name=data`, whose data are numbers:
///
/// ```
/// use std::borrow::Cow;
/// use serde::{Serialize, de::{DeserializeSeed, IntoDeserializer, value::Error}};
/// use throng::{Mode, Protocol, ProtocolError, Router};
///
/// struct Lines;
///
/// impl Protocol for Lines {
///     fn mode(&self) -> Mode { Mode::Text }
///
///     fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
///         let text = std::str::from_utf8(message)?;
///         let (name, data) = text.split_once('=').ok_or("a line is name=data")?;
///         Ok((name.into(), data.as_bytes()))
///     }
///
///     fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
///     where
///         D: DeserializeSeed<'m>,
///     {
///         let number: u64 = std::str::from_utf8(data)?.parse()?;
///         Ok(seed.deserialize(IntoDeserializer::<Error>::into_deserializer(number))?)
///     }
///
///     fn encode<T>(
///         &self,
///         event: &str,
///         data: &T,
///         message: &mut Vec<u8>,
///     ) -> Result<(), ProtocolError>
///     where
///         T: Serialize + ?Sized,
///     {
///         message.extend_from_slice(event.as_bytes());
///         message.push(b'=');
///         Ok(serde_json::to_writer(message, data)?)
///     }
/// }
///
/// Router::new().set_protocol(Lines);
/// ```
pub trait Protocol: Send + Sync + 'static {
    /// Returns whether messages are text or binary, in both directions. Those of the other kind are
    /// answered by an `error` event.
    fn mode(&self) -> Mode {
        Mode::Binary
    }

    /// Takes the name of the event, 1 to 64 bytes without a space, and its data out of a message.
    /// Called for every message.
    ///
    /// # Errors
    ///
    /// What is wrong with the message; its sender is told by an `error` event with code
    /// `bad_message`.
    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError>;

    /// Reads data, as `unpack` took it out, into what `seed` makes of a deserializer:
    /// `seed.deserialize(...)` is what all implementations end with. So the format's crate needs a
    /// deserializer that is public; one that only has `from_slice::<T>` does not do.
    ///
    /// How deep data may nest is for the deserializer to limit: the stack of a core is 2 MiB.
    ///
    /// # Errors
    ///
    /// What is wrong with the data; its sender is told by an `error` event with code `bad_data`.
    fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
    where
        D: DeserializeSeed<'m>;

    /// Writes an event at the end of `message`, which is empty.
    ///
    /// # Errors
    ///
    /// Why it cannot be written; whoever emits it is told.
    fn encode<T>(&self, event: &str, data: &T, message: &mut Vec<u8>) -> Result<(), ProtocolError>
    where
        T: Serialize + ?Sized;
}

/// Of which kind the messages of a protocol are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Binary messages.
    Binary,
    /// Text messages; they are UTF-8.
    Text,
}

/// A [`Protocol`], its type forgotten.
pub(crate) trait AnyProtocol: Send + Sync {
    fn mode(&self) -> Mode;

    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError>;

    fn decode<'m>(&self, data: &'m [u8], read: Reading<'_, 'm>) -> Result<(), ProtocolError>;

    fn encode(
        &self,
        event: &str,
        data: &dyn erased_serde::Serialize,
        message: &mut Vec<u8>,
    ) -> Result<(), ProtocolError>;
}

/// Reads what it wants from any deserializer.
type Reading<'a, 'm> =
    &'a mut dyn FnMut(&mut dyn erased_serde::Deserializer<'m>) -> Result<(), erased_serde::Error>;

struct Seed<'a, 'm>(Reading<'a, 'm>, PhantomData<&'m ()>);

impl<'m> DeserializeSeed<'m> for Seed<'_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(deserializer);
        (self.0)(&mut erased).map_err(D::Error::custom)
    }
}

impl<P: Protocol> AnyProtocol for P {
    fn mode(&self) -> Mode {
        Protocol::mode(self)
    }

    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
        Protocol::unpack(self, message)
    }

    fn decode<'m>(&self, data: &'m [u8], read: Reading<'_, 'm>) -> Result<(), ProtocolError> {
        Protocol::decode(self, data, Seed(read, PhantomData))
    }

    fn encode(
        &self,
        event: &str,
        data: &dyn erased_serde::Serialize,
        message: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        Protocol::encode(self, event, data, message)
    }
}

/// A protocol of the application's, as a wire.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a>(pub(crate) &'a dyn AnyProtocol);

impl Spoken for Foreign<'_> {
    fn unpack<'m>(self, id: ConnectionId, message: Received<'m>) -> Result<Unpacked<'m>, Unreadable>
    where
        Self: 'm,
    {
        let refused = |code, text| Err(Unreadable::Refused(Refusal::new(code, text)));
        let message: &'m [u8] = match (message, self.0.mode()) {
            (Received::Binary(message), Mode::Binary) => message,
            (Received::Text(message), Mode::Text) => message,
            (Received::Binary(_), Mode::Text) => {
                return refused(Code::Binary, "events are text messages");
            }
            (Received::Text(_), Mode::Binary) => {
                return refused(Code::Text, "events are binary messages");
            }
        };
        match panics::catch("a protocol", Some(id), || unpack(self.0, message)) {
            Ok(Ok((event, data))) => Ok(Unpacked {
                event,
                payload: Payload::Other(data, self.0),
            }),
            Ok(Err(words)) => Err(Unreadable::Refused(Refusal::new(Code::BadMessage, words))),
            Err(Panicked) => Err(Unreadable::Panicked),
        }
    }

    fn event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        encode(self.0, event, data)
    }
}

/// Takes the event out of a message.
///
/// # Errors
///
/// What is wrong with it, in words for its sender.
fn unpack<'m>(
    protocol: &dyn AnyProtocol,
    message: &'m [u8],
) -> Result<(Cow<'m, str>, &'m [u8]), String> {
    let (event, data) = protocol.unpack(message).map_err(|error| words(&*error))?;
    if !is_name(&event) {
        return Err(EncodeError::Name.to_string());
    }
    Ok((event, data))
}

/// Reads data as a `T`.
pub(crate) fn decode<'m, T: Deserialize<'m>>(
    protocol: &dyn AnyProtocol,
    data: &'m [u8],
) -> Result<T, ParseError> {
    let mut value = None;
    let mut read = |deserializer: &mut dyn erased_serde::Deserializer<'m>| {
        value = Some(T::deserialize(deserializer)?);
        Ok(())
    };
    let decoded = protocol.decode(data, &mut read);
    decoded.map_err(|error| ParseError::new(words(&*error)))?;
    value.ok_or_else(|| ParseError::new("the protocol read nothing"))
}

/// Writes an event as a frame.
fn encode<T: Serialize + ?Sized>(
    protocol: &dyn AnyProtocol,
    event: &str,
    data: &T,
) -> Result<SharedFrame, EncodeError> {
    if !is_name(event) {
        return Err(EncodeError::Name);
    }
    let opcode = match protocol.mode() {
        Mode::Binary => OpCode::Binary,
        Mode::Text => OpCode::Text,
    };
    // One that is used within a `Serialize` that emits has a message of its own.
    let mut message = MESSAGE.take();
    message.clear();
    let encoded = protocol.encode(event, &Erased(data), &mut message);
    let frame = match encoded {
        Ok(()) if opcode == OpCode::Text && std::str::from_utf8(&message).is_err() => {
            Err(EncodeError::Data("not UTF-8".to_owned()))
        }
        Ok(()) => Ok(frame::encode(opcode, &message)),
        Err(error) => Err(EncodeError::Data(words(&*error))),
    };
    if message.capacity() <= MESSAGE_KEPT_MAX {
        MESSAGE.set(message);
    }
    frame
}

thread_local! {
    /// The buffer that messages are written into.
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A message over this is given back after it was sent.
const MESSAGE_KEPT_MAX: usize = 256 * 1024;

/// Sized, so that it can be behind a `dyn`.
struct Erased<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Erased<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Returns an error's words, not longer than what a peer sent should be quoted.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    words.truncate(words.floor_char_boundary(WORDS_LEN_MAX));
    words
}

/// The longest text of a protocol's error that its sender is told, in bytes.
const WORDS_LEN_MAX: usize = 200;
