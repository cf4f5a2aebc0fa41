//! The reason for closing a connection, as a value.

use std::borrow::Cow;
use std::fmt;

use proto::{CloseCode, CloseFrame, OpCode, SharedFrame, frame};

/// The reason for closing a connection: the peer is told it, and it is counted and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The code in the close frame.
    pub code: CloseCode,
    /// The reason in the close frame, at most 123 bytes of it.
    pub reason: Cow<'static, str>,
}

impl fmt::Display for Disconnect {
    /// Writes the code, and the reason if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, reason } = self;
        match &**reason {
            "" => write!(f, "{code}"),
            reason => write!(f, "{code} {reason}"),
        }
    }
}

impl Disconnect {
    /// Creates a disconnect with this code and reason.
    pub const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
        }
    }

    /// Returns the disconnect of a server that stops: come back to another one, or later.
    pub const fn going_away() -> Self {
        Self::new(CloseCode::GOING_AWAY, "server is stopping")
    }

    /// Returns the disconnect of a server that drains: come back after so many milliseconds, to it
    /// or to another one.
    pub fn drain(after_ms: u64) -> Self {
        Self {
            code: CloseCode::DRAIN,
            reason: format!(r#"{{"reason":"drain","after_ms":{after_ms}}}"#).into(),
        }
    }

    /// Returns the disconnect of a connection that left the last room that it was open for.
    pub const fn left_last_room() -> Self {
        Self::new(CloseCode::NORMAL, "left the last room")
    }

    /// Returns the disconnect of a member that did not take its frames as fast as they came.
    ///
    /// The reason has the pause after which it may come back, in milliseconds.
    pub const fn slow_consumer() -> Self {
        Self::new(
            CloseCode::SLOW_CONSUMER,
            r#"{"reason":"slow_consumer","after_ms":1500}"#,
        )
    }

    /// Encodes the close frame.
    pub fn to_frame(&self) -> SharedFrame {
        let payload = CloseFrame {
            code: self.code,
            reason: &self.reason,
        }
        .encode();
        frame::encode(OpCode::Close, &payload)
    }
}
