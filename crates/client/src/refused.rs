//! What the server says against a request or a connection.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::backoff::{PAUSE_MAX, after_close};

/// The server refused a request; it was not carried out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Error)]
#[error("the server refused ({code}): {message}")]
pub struct Refused {
    /// For programs: `bad_room`, `too_large`, `overloaded`, ... (docs/protocol.md has all).
    pub code: String,
    /// For people; its words may change.
    #[serde(default)]
    pub message: String,
    /// The event that was refused, such as `join`; `None` if the server could not read one.
    pub event: Option<String>,
    /// The room, as far as the server said.
    pub room: Option<String>,
    /// The pause after which the same request may succeed. The client sends it again by itself, not
    /// before 100 ms and not after more than 5 minutes. `None` if it is wrong as it is.
    #[serde(default, rename = "retry_after_ms", deserialize_with = "pause")]
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// Refuses in place of the server, by a limit that it has told.
    pub(crate) fn here(code: &str, message: String, event: &str, room: &str) -> Self {
        Self {
            code: code.to_owned(),
            message,
            event: Some(event.to_owned()),
            room: Some(room.to_owned()),
            retry_after: None,
        }
    }
}

fn pause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let asked: Option<u64> = Option::deserialize(deserializer)?;
    Ok(asked.map(|asked| Duration::from_millis(asked).clamp(RETRY_MIN, PAUSE_MAX)))
}

/// A request that was put off is not sent again before this, so that 0 does not mean all the time.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The connection is closed and does not come back by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the connection is closed ({code}, {reason:?})")]
pub struct Closed {
    /// The close code: the server's; 1000 if the application closed the connection; 1006 if the
    /// connection was not opened, because the server does not take it.
    pub code: u16,
    /// The server's reason, or ours; empty if there is none.
    pub reason: String,
}

impl Closed {
    /// The application closed the connection.
    pub(crate) fn by_application() -> Self {
        Self {
            code: 1000,
            reason: String::new(),
        }
    }

    /// Returns the pause after which a client comes back from such a close, without the random
    /// part; `None` if it must not come back unchanged.
    pub fn comes_back_after(&self) -> Option<Duration> {
        after_close(self.code, &self.reason)
    }
}
