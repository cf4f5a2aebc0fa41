//! A reader of messages that is slow and obviously correct: the oracle for `MessageReader`.
//!
//! It looks at the whole stream from its first byte and shares no code with `proto` but the
//! types of its answers.

use throng_proto::close::ClosePayloadError;
use throng_proto::{DecodeError, Limits, ReadError, Role};

use crate::outcome::{Outcome, Owned};

/// Reads as many messages as `stream` has, up to a close frame or an error.
///
/// The last frame may be incomplete; what is wrong with the part that is there is an error.
pub(crate) fn read(role: Role, limits: Limits, stream: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.error = read_frames(role, limits, stream, &mut outcome).err();
    outcome
}

fn read_frames(
    role: Role,
    limits: Limits,
    mut rest: &[u8],
    outcome: &mut Outcome,
) -> Result<(), ReadError> {
    let mut under_way: Option<DataMessage> = None;
    while !outcome.is_over() {
        let Some(header) = read_header(role, rest)? else {
            break;
        };
        rest = &rest[header.len..];
        let announced = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let arrived = announced.min(rest.len());
        let whole = arrived == announced;
        let masked = rest[..arrived].iter().enumerate();
        let payload: Vec<u8> = masked.map(|(i, byte)| byte ^ header.key[i % 4]).collect();
        rest = &rest[arrived..];
        if header.opcode >= 0x8 {
            if whole {
                outcome
                    .messages
                    .push(control_message(header.opcode, payload)?);
            }
            continue;
        }
        let mut message = match (under_way.take(), header.opcode) {
            (None, 0x0) => return Err(ReadError::ContinuationUnexpected),
            (Some(_), 0x1 | 0x2) => return Err(ReadError::ContinuationExpected),
            (Some(message), _) => message,
            (None, opcode) => DataMessage {
                opcode,
                payload: Vec::new(),
                fragment_count: 0,
            },
        };
        let Limits {
            message_len_max,
            fragment_count_max,
        } = limits;
        if message.payload.len() as u64 + header.payload_len > message_len_max as u64 {
            return Err(ReadError::MessageTooLarge { message_len_max });
        }
        message.fragment_count += 1;
        if message.fragment_count > fragment_count_max {
            return Err(ReadError::TooManyFragments { fragment_count_max });
        }
        message.payload.extend(payload);
        let ended = whole && header.fin;
        if message.opcode == 0x1 {
            match std::str::from_utf8(&message.payload) {
                Err(error) if ended || error.error_len().is_some() => {
                    return Err(ReadError::InvalidUtf8);
                }
                _ => {}
            }
        }
        if ended {
            outcome.messages.push(message.finish());
        } else {
            under_way = Some(message);
        }
    }
    Ok(())
}

struct DataMessage {
    opcode: u8,
    payload: Vec<u8>,
    fragment_count: u32,
}

impl DataMessage {
    fn finish(self) -> Owned {
        match self.opcode {
            0x1 => Owned::Text(String::from_utf8(self.payload).expect("checked by the caller")),
            _ => Owned::Binary(self.payload),
        }
    }
}

struct Header {
    fin: bool,
    opcode: u8,
    payload_len: u64,
    /// Zeros if the frame is not masked, which change nothing.
    key: [u8; 4],
    len: usize,
}

fn read_header(role: Role, bytes: &[u8]) -> Result<Option<Header>, DecodeError> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0b0111_0000 != 0 {
        return Err(DecodeError::ReservedBits);
    }
    let (fin, opcode) = (first >= 0x80, first % 0x10);
    if !matches!(opcode, 0x0 | 0x1 | 0x2 | 0x8 | 0x9 | 0xA) {
        return Err(DecodeError::ReservedOpCode(opcode));
    }
    let (masked, short_len) = (second >= 0x80, second % 0x80);
    match (role, masked) {
        (Role::Server, false) => return Err(DecodeError::Unmasked),
        (Role::Client, true) => return Err(DecodeError::Masked),
        _ => {}
    }
    if opcode >= 0x8 && !fin {
        return Err(DecodeError::ControlFragmented);
    }
    if opcode >= 0x8 && short_len > 125 {
        return Err(DecodeError::ControlTooLong);
    }
    let length_len = match short_len {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = rest.get(..length_len) else {
        return Ok(None);
    };
    let long_len = length
        .iter()
        .fold(0, |len: u64, &byte| len << 8 | u64::from(byte));
    let payload_len = if length_len == 0 {
        u64::from(short_len)
    } else {
        long_len
    };
    match (length_len, payload_len) {
        (2, 0..126) | (8, 0..65536) => return Err(DecodeError::NonMinimalLength),
        (8, 0x8000_0000_0000_0000..) => return Err(DecodeError::LengthOverflow),
        _ => {}
    }
    let mut header = Header {
        fin,
        opcode,
        payload_len,
        key: [0; 4],
        len: 2 + length_len,
    };
    if masked {
        let Some(key) = rest.get(length_len..length_len + 4) else {
            return Ok(None);
        };
        header.key.copy_from_slice(key);
        header.len += 4;
    }
    Ok(Some(header))
}

fn control_message(opcode: u8, payload: Vec<u8>) -> Result<Owned, ReadError> {
    match (opcode, payload.as_slice()) {
        (0x9, _) => Ok(Owned::Ping(payload)),
        (0xA, _) => Ok(Owned::Pong(payload)),
        (_, []) => Ok(Owned::Close(1005, String::new())),
        (_, [_]) => Err(ReadError::Close(ClosePayloadError::Truncated)),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from(*high) * 256 + u16::from(*low);
            let registered = (1000..=1014).contains(&code) && !matches!(code, 1004..=1006);
            if !registered && !(3000..5000).contains(&code) {
                return Err(ReadError::Close(ClosePayloadError::Code(code)));
            }
            match String::from_utf8(reason.to_vec()) {
                Ok(reason) => Ok(Owned::Close(code, reason)),
                Err(_) => Err(ReadError::Close(ClosePayloadError::ReasonNotUtf8)),
            }
        }
    }
}
