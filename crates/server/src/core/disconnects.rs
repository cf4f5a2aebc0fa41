//! The ends of connections that the core itself decides on.

use proto::{CloseCode, CloseFrame, ReadError};
use rooms::Disconnect;

/// Returns the disconnect for a peer that broke the rules.
pub(super) fn broken(error: ReadError) -> Disconnect {
    Disconnect {
        code: error.close_code(),
        reason: error.to_string().into(),
    }
}

/// Returns the disconnect for a peer that closed by itself.
pub(super) fn closed_by_peer(frame: &CloseFrame<'_>) -> Disconnect {
    Disconnect {
        code: frame.code,
        reason: frame.reason.to_owned().into(),
    }
}

/// Returns the disconnect for a connection whose handler panicked.
pub(super) fn panicked_disconnect() -> Disconnect {
    Disconnect::new(CloseCode::INTERNAL_ERROR, "internal error")
}

/// Returns the disconnect for a peer that goes without a close frame.
pub(super) fn lost_disconnect() -> Disconnect {
    Disconnect::new(CloseCode::ABNORMAL, "connection lost")
}
