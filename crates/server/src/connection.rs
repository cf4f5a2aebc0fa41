//! A handle to one connection.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use proto::{CloseCode, OpCode, frame};
use rooms::{ConnectionId, Disconnect, Overloaded};
use serde::Serialize;

use crate::engine::{self, Engine};
use crate::manager::EmitError;

/// A handle to one connection: cheap to clone, usable from any thread.
///
/// A handle that outlives its connection reaches nobody; it never reaches the next connection.
///
/// What is sent to one connection by one thread arrives in the order it was sent, and in its place
/// among the rooms' events that the same thread published.
///
/// Nothing here waits. A handler's thread is never refused: its connection is not read from while
/// a core has more to do than it may keep ([`Limits::mailbox_bytes_max`](crate::Limits)). Any other
/// thread gets [`Overloaded`] then, and nothing was done.
#[derive(Clone)]
pub struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) engine: Arc<Engine>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.id).finish()
    }
}

impl Connection {
    /// The connection's name in this process, never used again while the process lives.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sends an event to this connection.
    ///
    /// # Errors
    ///
    /// [`EmitError::Encode`] if the data cannot be written as JSON or the name is not a name,
    /// [`EmitError::Overloaded`] on a thread that is not the engine's; nothing was sent. That the
    /// connection is gone is no error.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), EmitError> {
        let frame = engine::encode(event, data)?;
        Ok(self.engine.direct(self.id, frame)?)
    }

    /// Sends a text message that need not be an event.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] on a thread that is not the engine's; nothing was sent.
    pub fn send_text(&self, text: &str) -> Result<(), Overloaded> {
        self.send(OpCode::Text, text.as_bytes())
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] on a thread that is not the engine's; nothing was sent.
    pub fn send_binary(&self, payload: &[u8]) -> Result<(), Overloaded> {
        self.send(OpCode::Binary, payload)
    }

    /// Closes the connection after what it was sent before.
    ///
    /// `reason` is for people and logs; what is over 123 bytes of it is cut.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] on a thread that is not the engine's; it is still open.
    pub fn close(
        &self,
        code: CloseCode,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<(), Overloaded> {
        let reason = reason.into();
        self.engine.close(self.id, Disconnect { code, reason })
    }

    fn send(&self, opcode: OpCode, payload: &[u8]) -> Result<(), Overloaded> {
        self.engine.direct(self.id, frame::encode(opcode, payload))
    }
}
