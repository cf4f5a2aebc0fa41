//! Bytes to frame parts, at any cut of the bytes (RFC 6455 sections 5.2, 5.3 and 5.5).
//!
//! Invariants: every byte given is consumed or an error is returned; a header's bytes are kept
//! only while the header is incomplete; payload bytes are never kept.

use thiserror::Error;

use crate::close::CloseCode;
use crate::frame::{CONTROL_PAYLOAD_MAX, FrameHeader, HEADER_LEN_MAX, OpCode};
use crate::mask;

/// The end of the connection that is reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads frames from a server: they must not be masked.
    Client,
    /// Reads frames from clients: they must be masked.
    Server,
}

/// The part of one frame that the input had, unmasked.
///
/// A frame whose bytes arrived together is one part, which is first and last.
#[derive(Debug, PartialEq, Eq)]
pub struct FramePart<'a> {
    /// The header of the frame that this is a part of, as it was on the wire.
    pub header: FrameHeader,
    /// True if this part begins the frame.
    pub first: bool,
    /// True if this part ends the frame.
    pub last: bool,
    /// The unmasked payload of this part, in the caller's buffer.
    pub payload: &'a mut [u8],
}

/// A frame that RFC 6455 does not allow. The connection cannot continue after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A control frame without the FIN bit.
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A control frame with over 125 bytes of payload.
    #[error("control frame of over 125 bytes")]
    ControlTooLong,
    /// A length with its highest bit set.
    #[error("payload length of over 63 bits")]
    LengthOverflow,
    /// A server masked its frame.
    #[error("masked frame from a server")]
    Masked,
    /// A length in more bytes than it needs.
    #[error("payload length is not in its shortest form")]
    NonMinimalLength,
    /// A reserved bit without an extension that gives it a meaning.
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode that the RFC reserves.
    #[error("reserved opcode {0:#x}")]
    ReservedOpCode(u8),
    /// A client did not mask its frame.
    #[error("unmasked frame from a client")]
    Unmasked,
}

impl DecodeError {
    /// Returns the code to close the connection with.
    pub const fn close_code(self) -> CloseCode {
        CloseCode::PROTOCOL_ERROR
    }
}

/// Cuts a byte stream into frame parts, unmasking in place.
///
/// # Examples
///
/// ```
/// use throng_proto::{FrameDecoder, OpCode, Role};
///
/// let mut decoder = FrameDecoder::new(Role::Client);
/// let mut bytes = *b"\x81\x05hello";
/// let (part, consumed) = decoder.decode(&mut bytes)?;
/// let part = part.unwrap();
/// assert_eq!((part.header.opcode, &*part.payload, consumed), (OpCode::Text, &b"hello"[..], 7));
///
/// let mut masked = *b"\x81\x80mask";
/// assert!(decoder.decode(&mut masked).is_err(), "a server does not mask");
/// # Ok::<(), throng_proto::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    role: Role,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between frames, or in a header of which `len` bytes have arrived.
    Header {
        bytes: [u8; HEADER_LEN_MAX],
        len: u8,
    },
    /// In a payload of which `remaining` bytes have not arrived.
    Payload { header: FrameHeader, remaining: u64 },
}

const BETWEEN_FRAMES: State = State::Header {
    bytes: [0; HEADER_LEN_MAX],
    len: 0,
};

impl FrameDecoder {
    /// Creates a decoder at the beginning of a stream.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            state: BETWEEN_FRAMES,
        }
    }

    /// Reads from the front of `input`; returns the next part, if one is there, and how many
    /// bytes were consumed.
    ///
    /// No part means that the header is not complete and all of `input` was consumed. Call again
    /// with the rest until the input is empty.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the decoder must not be used again.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
    ) -> Result<(Option<FramePart<'a>>, usize), DecodeError> {
        match self.state {
            State::Header { len: 0, .. } => match parse_header(self.role, input)? {
                Some((header, header_len)) => {
                    let (part, payload_len) =
                        self.take(header, header.payload_len, true, &mut input[header_len..]);
                    Ok((Some(part), header_len + payload_len))
                }
                None => Ok((None, self.keep_header(input))),
            },
            State::Header { bytes, len } => self.decode_cut_header(bytes, len, input),
            State::Payload { header, remaining } => {
                let (part, consumed) = self.take(header, remaining, false, input);
                Ok((Some(part), consumed))
            }
        }
    }

    /// Continues a header whose first `len` bytes came with earlier input.
    fn decode_cut_header<'a>(
        &mut self,
        mut bytes: [u8; HEADER_LEN_MAX],
        len: u8,
        input: &'a mut [u8],
    ) -> Result<(Option<FramePart<'a>>, usize), DecodeError> {
        let kept = usize::from(len);
        let added = input.len().min(HEADER_LEN_MAX - kept);
        bytes[kept..kept + added].copy_from_slice(&input[..added]);
        let Some((header, header_len)) = parse_header(self.role, &bytes[..kept + added])? else {
            return Ok((None, self.keep_header(&bytes[..kept + added]) - kept));
        };
        // The kept bytes alone were not a header, so the header ends inside the input.
        let from_input = header_len - kept;
        let (part, payload_len) =
            self.take(header, header.payload_len, true, &mut input[from_input..]);
        Ok((Some(part), from_input + payload_len))
    }

    /// Keeps the bytes of an incomplete header. There are fewer than 14, because 14 are a whole
    /// header.
    fn keep_header(&mut self, start: &[u8]) -> usize {
        let mut bytes = [0; HEADER_LEN_MAX];
        bytes[..start.len()].copy_from_slice(start);
        self.state = State::Header {
            bytes,
            len: u8::try_from(start.len()).unwrap_or(u8::MAX),
        };
        start.len()
    }

    /// Takes the bytes of a payload that the input has, and unmasks them. The payload lacks
    /// `remaining` bytes.
    #[inline]
    fn take<'a>(
        &mut self,
        header: FrameHeader,
        remaining: u64,
        first: bool,
        input: &'a mut [u8],
    ) -> (FramePart<'a>, usize) {
        let len = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let payload = &mut input[..len];
        if let Some(key) = header.masking_key {
            let taken_before = header.payload_len - remaining;
            mask::apply(mask::rotate(key, (taken_before & 3) as usize), payload);
        }
        let remaining = remaining - len as u64;
        let last = remaining == 0;
        self.state = if last {
            BETWEEN_FRAMES
        } else {
            State::Payload { header, remaining }
        };
        (
            FramePart {
                header,
                first,
                last,
                payload,
            },
            len,
        )
    }
}

/// Reads a header from the front of `bytes`; none if it is incomplete.
///
/// A violation in the first two bytes is reported before the rest has arrived.
#[inline]
fn parse_header(role: Role, bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, DecodeError> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(DecodeError::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    let number = first & 0x0F;
    let opcode = OpCode::from_wire(number).ok_or(DecodeError::ReservedOpCode(number))?;
    let masked = second & 0x80 != 0;
    match role {
        Role::Server if !masked => return Err(DecodeError::Unmasked),
        Role::Client if masked => return Err(DecodeError::Masked),
        _ => {}
    }
    let short_len = second & 0x7F;
    if opcode.is_control() {
        if !fin {
            return Err(DecodeError::ControlFragmented);
        }
        if usize::from(short_len) > CONTROL_PAYLOAD_MAX {
            return Err(DecodeError::ControlTooLong);
        }
    }
    let Some((payload_len, length_len)) = parse_length(short_len, rest)? else {
        return Ok(None);
    };
    let rest = &rest[length_len..];
    let masking_key = match (masked, rest.first_chunk()) {
        (false, _) => None,
        (true, Some(key)) => Some(*key),
        (true, None) => return Ok(None),
    };
    let header_len = 2 + length_len + if masked { 4 } else { 0 };
    Ok(Some((
        FrameHeader {
            fin,
            opcode,
            payload_len,
            masking_key,
        },
        header_len,
    )))
}

/// Reads the extended length, if there is one: the length, and the number of bytes it took.
#[inline]
fn parse_length(short_len: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    match short_len {
        126 => {
            let Some(bytes) = rest.first_chunk() else {
                return Ok(None);
            };
            let len = u64::from(u16::from_be_bytes(*bytes));
            if len < 126 {
                Err(DecodeError::NonMinimalLength)
            } else {
                Ok(Some((len, 2)))
            }
        }
        127 => {
            let Some(bytes) = rest.first_chunk() else {
                return Ok(None);
            };
            match u64::from_be_bytes(*bytes) {
                0..=0xFFFF => Err(DecodeError::NonMinimalLength),
                len if len >> 63 != 0 => Err(DecodeError::LengthOverflow),
                len => Ok(Some((len, 8))),
            }
        }
        len => Ok(Some((u64::from(len), 0))),
    }
}
