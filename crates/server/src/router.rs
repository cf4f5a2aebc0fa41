//! Events to handlers.

use std::collections::HashMap;
use std::fmt;

use proto::CloseFrame;
use proto::event::{JsonParser, ParseError};
use rooms::{Disconnect, JoinError, NameError, Overloaded};
use serde::de::{Deserialize, DeserializeOwned};
use serde::{Serialize, Serializer};

use crate::connection::Connection;
use crate::manager::{EmitError, PublishError};

/// Which function handles which event.
///
/// A handler runs on the thread of its connection's core and must not block. If it panics, its
/// connection is closed with 1011, and the log says which event it was. What it needs is read off
/// its signature:
///
/// | signature | called with |
/// |---|---|
/// | `Fn(&Connection)` | no data; whatever came is ignored |
/// | `Fn(&Connection, T)`, `T: DeserializeOwned` | the data as a `T` |
/// | `Fn(&Connection, Data<'_>)` | the data, to be [parsed](Data::parse) into types that borrow |
///
/// and each may return nothing, or a `Result` whose [`Refusal`] is sent back as an `error` event.
/// Data that is not what the handler takes is answered the same way, with code `bad_data`.
///
/// # Examples
///
/// ```
/// use serde::Deserialize;
/// use throng::{Connection, Data, Refusal, Router};
///
/// #[derive(Deserialize)]
/// struct Dice { sides: u32 }
///
/// #[derive(Deserialize)]
/// struct Say<'a> { text: &'a str }
///
/// let mut router = Router::new();
/// router.on("hello", |conn: &Connection| _ = conn.emit("hello", "yourself"));
/// router.on("roll", |conn: &Connection, dice: Dice| _ = conn.emit("rolled", &(dice.sides / 2)));
/// router.on("say", |conn: &Connection, data: Data<'_>| {
///     let say: Say<'_> = data.parse()?;
///     if say.text.is_empty() {
///         return Err(Refusal::new("refused", "say something"));
///     }
///     conn.emit("said", say.text).map_err(Refusal::from)
/// });
/// ```
#[derive(Default)]
pub struct Router {
    handlers: HashMap<Box<str>, Box<Dispatch>>,
    connect: Option<Box<ConnectHook>>,
    close: Option<Box<CloseHook>>,
    message: Option<Box<MessageHook>>,
    serves_throng: bool,
}

type ConnectHook = dyn Fn(&Connection, &http::request::Parts) + Send + Sync;
type CloseHook = dyn Fn(&Connection, &Disconnect) + Send + Sync;
type MessageHook = dyn Fn(&Connection, Incoming<'_>) + Send + Sync;
type Dispatch = dyn Fn(&Connection, Data<'_>) -> Result<(), Refusal> + Send + Sync;

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("events", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl Router {
    /// A router that answers every event with an `error`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `handler` for each event with this name, in place of an earlier handler for it.
    pub fn on<Args>(&mut self, event: &str, handler: impl Handler<Args>) -> &mut Self {
        self.handlers.insert(
            event.into(),
            Box::new(move |conn, data| handler.call(conn, data)),
        );
        self
    }

    /// Speaks the subprotocol `throng.v1` with clients that ask for it: joining and leaving, publishing
    /// with acknowledgements, positions, recovery and histories, as its page says. Its own events do not
    /// come to handlers then; all others do.
    ///
    /// Whoever asks may join any room and publish to any. Without this, nobody is answered the subprotocol.
    pub const fn serve_throng_v1(&mut self) -> &mut Self {
        self.serves_throng = true;
        self
    }

    pub(crate) const fn serves_throng(&self) -> bool {
        self.serves_throng
    }

    /// Calls `hook` for each connection, before its first message, with the request that opened it.
    pub fn on_connect(
        &mut self,
        hook: impl Fn(&Connection, &http::request::Parts) + Send + Sync + 'static,
    ) -> &mut Self {
        self.connect = Some(Box::new(hook));
        self
    }

    /// Calls `hook` once for each connection that ends, with the reason.
    ///
    /// The connection has left its rooms by then, and what is sent to it goes nowhere.
    pub fn on_close(
        &mut self,
        hook: impl Fn(&Connection, &Disconnect) + Send + Sync + 'static,
    ) -> &mut Self {
        self.close = Some(Box::new(hook));
        self
    }

    /// Calls `hook` for each message, text or binary, instead of reading events out of them.
    ///
    /// This is the level below events: what is built on it has its own protocol.
    pub fn on_message(
        &mut self,
        hook: impl Fn(&Connection, Incoming<'_>) + Send + Sync + 'static,
    ) -> &mut Self {
        self.message = Some(Box::new(hook));
        self
    }

    pub(crate) fn wants_connect(&self) -> bool {
        self.connect.is_some()
    }

    pub(crate) fn connected(&self, connection: &Connection, request: &http::request::Parts) {
        if let Some(hook) = &self.connect {
            hook(connection, request);
        }
    }

    pub(crate) fn closed(&self, connection: &Connection, disconnect: &Disconnect) {
        if let Some(hook) = &self.close {
            hook(connection, disconnect);
        }
    }

    pub(crate) fn takes_messages(&self) -> bool {
        self.message.is_some()
    }

    /// Gives a message to the hook for messages, if there is one.
    pub(crate) fn message(&self, connection: &Connection, message: Incoming<'_>) {
        if let Some(hook) = &self.message {
            hook(connection, message);
        }
    }

    /// Gives an event to its handler.
    pub(crate) fn dispatch(
        &self,
        connection: &Connection,
        event: &str,
        json: &mut [u8],
        parser: &mut JsonParser,
    ) -> Result<(), Refusal> {
        match self.handlers.get(event) {
            Some(handler) => handler(connection, Data { json, parser }),
            None => Err(Refusal::new("unknown_event", "no such event here")),
        }
    }
}

/// A message as it came, for [`Router::on_message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A binary message.
    Binary(&'a [u8]),
    /// A text message.
    Text(&'a str),
}

/// The data of an event, not yet read.
#[derive(Debug)]
pub struct Data<'a> {
    json: &'a mut [u8],
    parser: &'a mut JsonParser,
}

impl<'a> Data<'a> {
    /// The JSON as it came; empty if the event has no data.
    pub const fn as_bytes(&self) -> &[u8] {
        self.json
    }

    /// Reads the data; what is read may borrow from the message.
    ///
    /// # Errors
    ///
    /// [`ParseError`] if it is not JSON or not a `T`.
    pub fn parse<T: Deserialize<'a>>(self) -> Result<T, ParseError> {
        self.parser.parse(self.json)
    }
}

/// A function that handles an event. Implemented for the signatures in [`Router`]'s table.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event handler",
    note = "a handler is Fn(&Connection), Fn(&Connection, T) with T: DeserializeOwned, or \
            Fn(&Connection, Data<'_>); it returns nothing or Result<(), Refusal>"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// Calls the function.
    ///
    /// # Errors
    ///
    /// The function's [`Refusal`], or one with code `bad_data`.
    fn call(&self, connection: &Connection, data: Data<'_>) -> Result<(), Refusal>;
}

/// What a handler returns: nothing, or a refusal to be sent back.
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    ///
    /// The refusal, if it is one.
    fn into_result(self) -> Result<(), Refusal>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<E: Into<Refusal>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Refusal> {
        self.map_err(Into::into)
    }
}

impl<F, R> Handler<()> for F
where
    F: Fn(&Connection) -> R + Send + Sync + 'static,
    R: Outcome,
{
    fn call(&self, connection: &Connection, _: Data<'_>) -> Result<(), Refusal> {
        self(connection).into_result()
    }
}

impl<F, R, T> Handler<(T,)> for F
where
    F: Fn(&Connection, T) -> R + Send + Sync + 'static,
    R: Outcome,
    T: DeserializeOwned,
{
    fn call(&self, connection: &Connection, data: Data<'_>) -> Result<(), Refusal> {
        self(connection, data.parse()?).into_result()
    }
}

/// Marks handlers that take [`Data`].
#[derive(Debug)]
pub struct Unread;

impl<F, R> Handler<Unread> for F
where
    F: Fn(&Connection, Data<'_>) -> R + Send + Sync + 'static,
    R: Outcome,
{
    fn call(&self, connection: &Connection, data: Data<'_>) -> Result<(), Refusal> {
        self(connection, data).into_result()
    }
}

/// Why an event was not carried out; sent back as an `error` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: &'static str,
    message: String,
    retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with a code for programs and a sentence for people.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// The same, for what may succeed if it is tried again after so many milliseconds.
    #[must_use]
    pub const fn retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The code.
    pub const fn code(&self) -> &'static str {
        self.code
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::new("bad_data", error.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Overloaded(error) => error.into(),
            JoinError::Name(error) => error.into(),
        }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new("bad_room", error.to_string())
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        use rooms::PublishError as Refused;
        let error = match error {
            PublishError::Encode(error) => return error.into(),
            PublishError::Refused(error) => error,
        };
        match error {
            Refused::Key { .. } => Self::new("bad_key", error.to_string()),
            Refused::Lacks(error) => Self::new("not_encodable", error.to_string()),
            Refused::Name(error) => error.into(),
            Refused::Overloaded(error) => error.into(),
            Refused::NoMemory => {
                Self::new("overloaded", error.to_string()).retry_after_ms(OVERLOADED_RETRY_MS)
            }
            Refused::Storage => {
                Self::new("storage", error.to_string()).retry_after_ms(STORAGE_RETRY_MS)
            }
            Refused::TooLarge { .. } => Self::new("too_large", error.to_string()),
        }
    }
}

impl From<Overloaded> for Refusal {
    fn from(error: Overloaded) -> Self {
        Self::new("overloaded", error.to_string()).retry_after_ms(OVERLOADED_RETRY_MS)
    }
}

impl From<EmitError> for Refusal {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Encode(error) => Self::new("not_encodable", error.to_string()),
            EmitError::Lacks(error) => Self::new("not_encodable", error.to_string()),
            EmitError::Overloaded(error) => error.into(),
        }
    }
}

impl From<proto::event::EncodeError> for Refusal {
    fn from(error: proto::event::EncodeError) -> Self {
        EmitError::from(error).into()
    }
}

/// After how long a mailbox that was full is worth another attempt: it is drained every turn.
const OVERLOADED_RETRY_MS: u32 = 500;

/// After how long a disk that refused is worth another attempt: somewhat longer than the server's own.
const STORAGE_RETRY_MS: u32 = 2000;

/// The data of an `error` event.
#[derive(Debug)]
pub(crate) struct ErrorEvent<'a> {
    pub(crate) id: Option<u64>,
    pub(crate) event: Option<&'a str>,
    pub(crate) room: Option<&'a str>,
    pub(crate) refusal: &'a Refusal,
}

impl Serialize for ErrorEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.id {
            map.serialize_entry("id", &id)?;
        }
        if let Some(event) = self.event {
            map.serialize_entry("event", event)?;
        }
        if let Some(room) = self.room {
            map.serialize_entry("room", room)?;
        }
        map.serialize_entry("code", self.refusal.code)?;
        map.serialize_entry("message", &self.refusal.message)?;
        if let Some(retry_after_ms) = self.refusal.retry_after_ms {
            map.serialize_entry("retry_after_ms", &retry_after_ms)?;
        }
        map.end()
    }
}

/// The disconnect for a peer that closed by itself.
pub(crate) fn closed_by_peer(frame: &CloseFrame<'_>) -> Disconnect {
    Disconnect {
        code: frame.code,
        reason: frame.reason.to_owned().into(),
    }
}
