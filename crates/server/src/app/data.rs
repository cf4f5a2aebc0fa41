//! The data of an event, on its way to a handler.

use std::fmt;

use proto::event::{JsonParser, ParseError};
use serde::de::Deserialize;

use crate::app::refusal::Refusal;
use crate::wire::protocol::{self, AnyProtocol};

/// The data of an event, not yet read.
///
/// # Examples
///
/// A handler that borrows from the message what it passes on:
///
/// ```
/// use serde::Deserialize;
/// use throng::{Connection, Data, Refusal, Router};
///
/// #[derive(Deserialize)]
/// struct Say<'a> { text: &'a str }
///
/// let mut router = Router::new();
/// router.on("say", |conn: &Connection, data: Data<'_>| -> Result<(), Refusal> {
///     let say: Say<'_> = data.parse()?;
///     Ok(conn.emit("said", say.text)?)
/// });
/// ```
pub struct Data<'a> {
    source: Source<'a>,
    /// True if the sender waits for an answer.
    is_asked: bool,
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Data").field(&self.as_bytes()).finish()
    }
}

enum Source<'a> {
    Json {
        json: &'a mut [u8],
        parser: &'a mut JsonParser,
    },
    Other {
        bytes: &'a [u8],
        protocol: &'a dyn AnyProtocol,
    },
}

impl<'a> Data<'a> {
    pub(crate) fn json(json: &'a mut [u8], parser: &'a mut JsonParser, is_asked: bool) -> Self {
        // What golem's client sends for no data: JavaScript's word for it.
        let json = if *json == *b"undefined" {
            &mut []
        } else {
            json
        };
        Self {
            source: Source::Json { json, parser },
            is_asked,
        }
    }

    pub(crate) const fn other(bytes: &'a [u8], protocol: &'a dyn AnyProtocol) -> Self {
        Self {
            source: Source::Other { bytes, protocol },
            is_asked: false,
        }
    }

    /// Returns whether the sender waits for an answer.
    pub(crate) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Returns the data as it came: JSON, unless the connection speaks another protocol. Empty if
    /// the event has none.
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.source {
            Source::Json { json, .. } => json,
            Source::Other { bytes, .. } => bytes,
        }
    }

    /// Reads the data; what is read may borrow from the message.
    ///
    /// # Errors
    ///
    /// [`ParseError`] if it is not a `T` in the protocol that the connection speaks.
    pub fn parse<T: Deserialize<'a>>(self) -> Result<T, ParseError> {
        match self.source {
            Source::Json { json, parser } => parser.parse(json),
            Source::Other { bytes, protocol } => protocol::decode(protocol, bytes),
        }
    }
}

/// A type that reads the data of an event by itself, for what serde does not say: other formats,
/// limits of one's own, what is checked before anything else happens.
///
/// # Examples
///
/// golem's example, a text without quotes:
///
/// ```
/// use throng::{Connection, Data, FromData, Refusal, Router};
///
/// struct Plain(String);
///
/// impl FromData for Plain {
///     fn from_data(data: Data<'_>) -> Result<Self, Refusal> {
///         let text = String::from_utf8(data.as_bytes().to_vec());
///         text.map(Self).map_err(|error| Refusal::new("bad_data", error.to_string()))
///     }
/// }
///
/// let mut router = Router::new();
/// router.on("custom", |conn: &Connection, Plain(text): Plain| conn.emit("custom", &text));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from an event's data",
    label = "no data of an event",
    note = "derive serde's `Deserialize` for it, without borrowing, or implement `FromData`"
)]
pub trait FromData: Sized {
    /// Reads the data.
    ///
    /// # Errors
    ///
    /// What the sender is told instead.
    fn from_data(data: Data<'_>) -> Result<Self, Refusal>;
}

/// A message as it came, for [`Router::on_message`](crate::Router::on_message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawMessage<'a> {
    /// A binary message.
    Binary(&'a [u8]),
    /// A text message.
    Text(&'a str),
}
