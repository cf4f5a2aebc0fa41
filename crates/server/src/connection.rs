//! A handle to one connection.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use proto::event::EncodeError;
use proto::{CloseCode, OpCode, frame};
use rooms::{ConnectionId, Disconnect};
use serde::Serialize;

use crate::engine::{self, Engine};

/// A handle to one connection: cheap to clone, usable from any thread.
///
/// A handle that outlives its connection reaches nobody; it never reaches the next connection.
///
/// What is sent to one connection by one thread arrives in the order it was sent, and in its place
/// among the rooms' events that the same thread published.
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

    /// Sends an event to this connection. Does not wait.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the data cannot be written as JSON or the name is not a name; nothing was
    /// sent. That the connection is gone is no error.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), EncodeError> {
        let frame = engine::encode(event, data)?;
        engine::note(self.engine.table.direct(self.id, frame));
        Ok(())
    }

    /// Sends a text message that need not be an event. Does not wait.
    pub fn send_text(&self, text: &str) {
        self.send(OpCode::Text, text.as_bytes());
    }

    /// Sends a binary message. Does not wait.
    pub fn send_binary(&self, payload: &[u8]) {
        self.send(OpCode::Binary, payload);
    }

    /// Closes the connection after what it was sent before. Does not wait.
    ///
    /// `reason` is for people and logs; what is over 123 bytes of it is cut.
    pub fn close(&self, code: CloseCode, reason: impl Into<Cow<'static, str>>) {
        let disconnect = Disconnect {
            code,
            reason: reason.into(),
        };
        engine::note(self.engine.table.close(self.id, disconnect));
    }

    pub(crate) fn send(&self, opcode: OpCode, payload: &[u8]) {
        engine::note(
            self.engine
                .table
                .direct(self.id, frame::encode(opcode, payload)),
        );
    }
}
