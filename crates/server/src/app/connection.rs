//! A handle to one connection.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use proto::{CloseCode, OpCode, SharedFrame, frame};
use rooms::{ConnectionId, Disconnect, Overloaded};
use serde::Serialize;

use crate::app::error::EmitError;
use crate::engine::Engine;
use crate::wire::{Answer, AnyWire, Spoken as _};

/// A handle to one connection: cheap to clone, usable from any thread.
///
/// `S` is what the application keeps for each connection, made when it connects: see
/// [`Router::with_state`](crate::Router::with_state). It lives as long as the connection or a
/// handle to it.
///
/// A handle that outlives its connection reaches nobody; it never reaches the next connection.
///
/// What is sent to one connection by one thread arrives in the order it was sent, and in its place
/// among the rooms' events that the same thread published.
///
/// Nothing here waits. A handler is never refused: its connection is not read from while a core has
/// more to do than it may keep ([`Limits::mailbox_bytes_max`](crate::Limits)). Whoever else asks
/// gets [`Overloaded`] then, and nothing was done.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use throng::{Connection, Router};
///
/// #[derive(Default)]
/// struct Visitor { pokes: AtomicU32 }
///
/// let mut router = Router::with_state(|_| Visitor::default());
/// router.on("poke", |conn: &Connection<Visitor>| {
///     let pokes = 1 + conn.state().pokes.fetch_add(1, Ordering::Relaxed);
///     conn.emit("poked", &pokes)
/// });
/// ```
pub struct Connection<S = ()> {
    pub(crate) peer: Peer,
    pub(crate) state: Arc<S>,
}

/// A connection without what the application keeps for it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    pub(crate) engine: Arc<Engine>,
}

impl<S> Clone for Connection<S> {
    fn clone(&self) -> Self {
        Self {
            peer: self.peer.clone(),
            state: self.state.clone(),
        }
    }
}

impl<S> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.peer.id).finish()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.id).finish()
    }
}

impl<S> Connection<S> {
    /// Returns the connection's name in this process, never used again while the process lives.
    pub const fn id(&self) -> ConnectionId {
        self.peer.id
    }

    /// Returns the state that the application keeps for this connection. Handlers and other threads
    /// have it at the same time, so what changes in it is atomic or behind a lock.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Sends an event to this connection, in the protocol that it speaks.
    ///
    /// On throng.v1 the data is the field `data` of the event's, as that of events in rooms is.
    ///
    /// # Errors
    ///
    /// [`EmitError::Encode`] if the data cannot be written in that protocol or the name is not a
    /// name, [`EmitError::Reserved`] on throng.v1 for a name of its own, [`EmitError::Overloaded`]
    /// outside of handlers; nothing was sent. That the connection is gone is no error.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), EmitError> {
        let wire = self.peer.wire();
        wire.check_event(event)?;
        Ok(self.peer.send(wire.application_event(event, data)?)?)
    }

    /// Sends a text message that need not be an event.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing was sent.
    pub fn send_text(&self, text: &str) -> Result<(), Overloaded> {
        self.peer.send(frame::encode(OpCode::Text, text.as_bytes()))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing was sent.
    pub fn send_binary(&self, payload: &[u8]) -> Result<(), Overloaded> {
        self.peer.send(frame::encode(OpCode::Binary, payload))
    }

    /// Closes the connection after what it was sent before.
    ///
    /// `reason` is for people and logs; what is over 123 bytes of it is cut.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; it is still open.
    pub fn close(
        &self,
        code: CloseCode,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<(), Overloaded> {
        let reason = reason.into();
        let disconnect = Disconnect { code, reason };
        self.peer.engine.close(self.peer.id, disconnect)
    }
}

impl Peer {
    /// Sends an event to this connection, in its place among all that it is sent.
    pub(crate) fn emit<T>(&self, event: &str, data: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        let frame = self.wire().event(event, data)?;
        Ok(self.send(frame)?)
    }

    /// Returns what this connection speaks.
    pub(crate) fn wire(&self) -> AnyWire<'_> {
        self.engine.wire(self.id.wire())
    }

    /// Sends an answer in its place among all that the connection is sent.
    pub(crate) fn answer(&self, answer: &Answer<'_>) -> Result<(), EmitError> {
        match self.wire().answer(answer)? {
            Some(frame) => Ok(self.send(frame)?),
            None => Ok(()),
        }
    }

    /// Sends an answer behind the publications of this turn.
    pub(crate) fn acknowledge(&self, answer: &Answer<'_>) -> Result<(), EmitError> {
        match self.wire().answer(answer)? {
            Some(frame) => Ok(self.engine.answer(self.id, frame)?),
            None => Ok(()),
        }
    }

    fn send(&self, frame: SharedFrame) -> Result<(), Overloaded> {
        self.engine.direct(self.id, frame)
    }
}
