//! The frame header of RFC 6455 section 5.2: its fields, and their encoding.
//!
//! [`crate::decoder`] reads headers; it needs state for headers that are cut in two.

use std::sync::Arc;

use crate::mask::{self, MaskingKey};

/// An encoded frame, header in front, shared by everybody who receives it.
///
/// Cloning costs one reference count. This is what "serialized once" means.
pub type SharedFrame = Arc<[u8]>;

/// The most bytes a header takes: 2, an 8-byte length, a masking key.
pub const HEADER_LEN_MAX: usize = 14;

/// The most payload a control frame may carry, in bytes (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// The kind of a frame (RFC 6455 section 5.2), in the order of the wire's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// The rest of a data message.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 0x1,
    /// A message of bytes, or its first fragment.
    Binary = 0x2,
    /// The end of the connection, with an optional code and reason.
    Close = 0x8,
    /// A question whether the peer is there.
    Ping = 0x9,
    /// The answer to a ping, or an unsolicited sign of life.
    Pong = 0xA,
}

impl OpCode {
    /// Returns the opcode with this number on the wire; none for the reserved numbers.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Returns whether this is close, ping or pong, which may come between the fragments of a
    /// message.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of one frame.
///
/// # Examples
///
/// ```
/// use throng_proto::{FrameHeader, OpCode};
///
/// let header = FrameHeader { fin: true, opcode: OpCode::Text, payload_len: 2, masking_key: None };
/// let (bytes, len) = header.encode();
/// assert_eq!(&bytes[..len], [0x81, 0x02]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// True if this frame ends its message.
    pub fin: bool,
    /// The kind of the frame.
    pub opcode: OpCode,
    /// The number of payload bytes that follow the header.
    pub payload_len: u64,
    /// The key that the payload is masked with. None from a server.
    pub masking_key: Option<MaskingKey>,
}

impl FrameHeader {
    /// Writes the header in its shortest form; returns the bytes, and how many of them it is.
    pub fn encode(&self) -> ([u8; HEADER_LEN_MAX], usize) {
        let mut bytes = [0; HEADER_LEN_MAX];
        bytes[0] = u8::from(self.fin) << 7 | self.opcode as u8;
        let mut len = match self.payload_len {
            0..=125 => {
                bytes[1] = self.payload_len.to_le_bytes()[0];
                2
            }
            126..=0xFFFF => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&self.payload_len.to_be_bytes()[6..]);
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&self.payload_len.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.masking_key {
            bytes[1] |= 0x80;
            bytes[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        (bytes, len)
    }
}

/// Encodes one unmasked frame, as a server sends it. One allocation.
pub fn encode(opcode: OpCode, payload: &[u8]) -> SharedFrame {
    let header = FrameHeader {
        fin: true,
        opcode,
        payload_len: payload.len() as u64,
        masking_key: None,
    };
    let (bytes, len) = header.encode();
    // A Vec would be copied into the Arc: another allocation.
    let mut frame: SharedFrame = std::iter::repeat_n(0, len + payload.len()).collect();
    if let Some(frame) = Arc::get_mut(&mut frame) {
        frame[..len].copy_from_slice(&bytes[..len]);
        frame[len..].copy_from_slice(payload);
    }
    frame
}

/// Returns the end of the frame that the byte at `index` belongs to, in a buffer of whole frames;
/// the buffer's length if it is no such buffer. Costs a few instructions for each frame before it.
pub fn end_of_frame_at(frames: &[u8], index: usize) -> usize {
    let mut end = 0;
    while end <= index {
        let Some(frame_len) = frame_len(&frames[end..]) else {
            return frames.len();
        };
        end = end.saturating_add(frame_len);
        if end > frames.len() {
            return frames.len();
        }
    }
    end
}

/// Returns the length of the frame that begins here, from its header.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let short = *bytes.get(1)?;
    let (header_len, payload_len) = match short & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        len => (2, u64::from(len)),
    };
    let key_len = usize::from(short >> 7) * 4;
    usize::try_from(payload_len)
        .ok()?
        .checked_add(header_len + key_len)
}

/// Appends one masked frame, as a client sends it.
pub fn encode_masked(opcode: OpCode, payload: &[u8], key: MaskingKey, out: &mut Vec<u8>) {
    let payload_len = payload.len() as u64;
    let header = FrameHeader {
        fin: true,
        opcode,
        payload_len,
        masking_key: Some(key),
    };
    let (bytes, len) = header.encode();
    out.reserve(len + payload.len());
    out.extend_from_slice(&bytes[..len]);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(key, &mut out[start..]);
}
