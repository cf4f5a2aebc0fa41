//! What a connection is doing, and how the one before ended.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error as SocketError;

use crate::backoff::PAUSE_MAX;
use crate::refused::Closed;

/// The state of a connection, and the end of the one before.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its present state.
    pub state: State,
    /// The end of the connection or attempt before; `None` if there was none, and while it is
    /// open.
    pub end: Option<End>,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not come back by itself.
    Closed,
    /// An attempt is under way.
    Connecting,
    /// The server has greeted: what is asked goes out at once.
    Open,
    /// The next attempt begins then.
    Waiting {
        /// When.
        until: Instant,
    },
}

/// The end of a connection, or of an attempt to open one.
#[derive(Clone, Debug, Error)]
pub enum End {
    /// It could not be opened, or it broke.
    #[error("the connection broke")]
    Broken(#[source] Option<Arc<SocketError>>),
    /// One side closed it.
    #[error(transparent)]
    Closed(Closed),
    /// The server does not speak throng.v1: its answer does not name it.
    #[error("the server does not speak throng.v1")]
    NotThrong,
    /// The server answered the attempt with another HTTP status than 101.
    #[error("the server answered with HTTP status {status}")]
    Rejected {
        /// The status: 503 if it has no place.
        status: u16,
        /// The time that it asks to stay away, in its `Retry-After`.
        retry_after: Duration,
    },
    /// Nothing was heard for too long.
    #[error("the server is silent")]
    Silent,
}

impl End {
    /// Returns the pause that this asks for before the next attempt; `None` is to stay away.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Broken(_) | Self::Silent => Some(Duration::ZERO),
            Self::Closed(closed) => closed.comes_back_after(),
            Self::NotThrong => None,
            Self::Rejected {
                status,
                retry_after,
            } => {
                // What the client asks for is wrong, unless it only comes at the wrong time.
                let is_final = (400..500).contains(status) && ![408, 425, 429].contains(status);
                (!is_final).then_some(*retry_after)
            }
        }
    }

    /// The close that this is to whoever waits, if the connection does not come back.
    pub(crate) fn as_closed(&self) -> Closed {
        match self {
            Self::Closed(closed) => closed.clone(),
            other => Closed {
                code: 1006,
                reason: other.to_string(),
            },
        }
    }
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> Self {
        use tokio_tungstenite::tungstenite::error::ProtocolError;
        match error {
            SocketError::Http(response) => {
                let retry_after = response.headers().get("retry-after");
                let seconds =
                    retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
                Self::Rejected {
                    status: response.status().as_u16(),
                    retry_after: Duration::from_secs(seconds.unwrap_or(0)).min(PAUSE_MAX),
                }
            }
            SocketError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
                Self::NotThrong
            }
            error => Self::Broken(Some(Arc::new(error))),
        }
    }
}
