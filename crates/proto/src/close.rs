//! Close frames: their codes and their payload (RFC 6455 sections 5.5.1 and 7.4).

use std::fmt;

use thiserror::Error;

use crate::frame::CONTROL_PAYLOAD_MAX;

/// The reason why a connection ends, as the number in a close frame.
///
/// Throng's own codes tell a client what to do: 4000-4099 do not come back unchanged, 4100-4199
/// come back after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl CloseCode {
    /// The connection has served its purpose.
    pub const NORMAL: Self = Self(1000);
    /// The server stops, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the framing rules.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a kind of message that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// No code was in the close frame; never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// The connection ended without a close frame; never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// A text message was not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A message was larger than the receiver takes.
    pub const TOO_BIG: Self = Self(1009);
    /// The server met a condition that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server stops; the client may come back after the pause that the reason names.
    pub const DRAIN: Self = Self(4100);
    /// The client did not take its frames as fast as they came; it may come back.
    pub const SLOW_CONSUMER: Self = Self(4102);

    /// Returns whether a close frame may have the code: the registered codes, and 3000-4999.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// The contents of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code; [`CloseCode::NO_STATUS`] if the frame was empty.
    pub code: CloseCode,
    /// Text for people and logs, at most 123 bytes.
    pub reason: &'a str,
}

/// A close frame's payload that the RFC does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClosePayloadError {
    /// A code that must not be sent.
    #[error("close code {0} must not be sent")]
    Code(u16),
    /// The reason is not UTF-8.
    #[error("close reason is not UTF-8")]
    ReasonNotUtf8,
    /// One byte, which is half a code.
    #[error("close payload of one byte")]
    Truncated,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a close frame.
    ///
    /// # Errors
    ///
    /// One variant for each rule of RFC 6455 sections 7.1.5-7.4. Answer with 1002, or 1007 for the
    /// text.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ClosePayloadError> {
        let (code, reason) = match payload {
            [] => {
                return Ok(Self {
                    code: CloseCode::NO_STATUS,
                    reason: "",
                });
            }
            [_] => return Err(ClosePayloadError::Truncated),
            [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
        };
        if !code.is_sendable() {
            return Err(ClosePayloadError::Code(code.0));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| ClosePayloadError::ReasonNotUtf8)?;
        Ok(Self { code, reason })
    }

    /// Writes the payload; a reason over 123 bytes is cut at a character's end.
    ///
    /// A code that must not be sent, as [`CloseCode::NO_STATUS`], gives the empty payload.
    pub fn encode(&self) -> Vec<u8> {
        if !self.code.is_sendable() {
            return Vec::new();
        }
        let reason_len = self.reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2);
        let mut payload = self.code.0.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.reason.as_bytes()[..reason_len]);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let reason = "ß".repeat(100);
        let payload = CloseFrame {
            code: CloseCode::NORMAL,
            reason: &reason,
        }
        .encode();
        assert_eq!(payload.len(), 2 + 122);
        let parsed = CloseFrame::parse(&payload).unwrap();
        assert_eq!(parsed.reason, "ß".repeat(61));
    }

    #[test]
    fn codes_that_are_never_sent_are_refused() {
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535] {
            assert_eq!(
                CloseFrame::parse(&code.to_be_bytes()),
                Err(ClosePayloadError::Code(code))
            );
        }
    }
}
