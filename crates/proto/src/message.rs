//! Frames to messages: fragmentation, limits and UTF-8 (RFC 6455 sections 5.4, 5.5 and 8.1).
//!
//! Invariants: a message that arrives whole is borrowed from the input and never copied. An
//! incomplete message takes at most [`Limits::message_len_max`] bytes, and memory grows with the
//! bytes that have arrived, never with the length that a header announces. Text that cannot become
//! UTF-8 fails with the byte that makes it invalid.

use thiserror::Error;

use crate::close::{CloseCode, CloseFrame, ClosePayloadError};
use crate::decoder::{DecodeError, FrameDecoder, FramePart, Role};
use crate::frame::OpCode;
use crate::utf8::{InvalidUtf8, Utf8Validator};

/// The limits of one connection's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in payload bytes over all its fragments.
    pub message_len_max: usize,
    /// The most frames one message may be cut into.
    pub fragment_count_max: u32,
}

/// One message, unmasked and put together.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A binary message.
    Binary(&'a mut [u8]),
    /// The peer's close frame: nothing may follow it.
    Close(CloseFrame<'a>),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// A text message. The bytes are valid UTF-8; they are mutable because JSON is parsed in place.
    Text(&'a mut [u8]),
}

/// A message that cannot be accepted. The connection cannot continue after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// A close frame's payload is wrong.
    #[error("bad close frame: {0}")]
    Close(ClosePayloadError),
    /// A continuation without a message to continue.
    #[error("continuation of no message")]
    ContinuationUnexpected,
    /// A new data message inside another.
    #[error("new message before the end of the last one")]
    ContinuationExpected,
    /// The framing is broken.
    #[error(transparent)]
    Frame(#[from] DecodeError),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A larger message than allowed.
    #[error("message of over {message_len_max} bytes")]
    MessageTooLarge {
        /// The limit, in bytes.
        message_len_max: usize,
    },
    /// A message in more fragments than allowed.
    #[error("message of over {fragment_count_max} fragments")]
    TooManyFragments {
        /// The limit, in frames.
        fragment_count_max: u32,
    },
}

impl From<InvalidUtf8> for ReadError {
    fn from(InvalidUtf8: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

impl ReadError {
    /// Returns the code to close the connection with.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Close(ClosePayloadError::ReasonNotUtf8) | Self::InvalidUtf8 => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::Close(ClosePayloadError::Code(_) | ClosePayloadError::Truncated)
            | Self::ContinuationUnexpected
            | Self::ContinuationExpected => CloseCode::PROTOCOL_ERROR,
            Self::Frame(error) => error.close_code(),
            Self::MessageTooLarge { .. } | Self::TooManyFragments { .. } => CloseCode::TOO_BIG,
        }
    }
}

/// Bytes from a socket, and the number of them that have been read.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a mut [u8],
    consumed: usize,
}

impl<'a> Input<'a> {
    /// Creates an input of which nothing has been read.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, consumed: 0 }
    }

    /// Returns the bytes that have not been read.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    /// Returns whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.consumed == self.bytes.len()
    }
}

/// Reads messages out of a stream that may be cut anywhere.
///
/// # Examples
///
/// ```
/// use throng_proto::{Input, Limits, Message, MessageReader, Role};
///
/// let limits = Limits { message_len_max: 65536, fragment_count_max: 16 };
/// let mut reader = MessageReader::new(Role::Client);
///
/// // A ping between the two fragments of "hello"; the stream is cut inside the second one.
/// let mut input = *b"\x01\x03hel\x89\x00\x80\x02l";
/// let mut input = Input::new(&mut input);
/// assert_eq!(reader.read(&mut input, &limits)?, Some(Message::Ping(b"")));
/// assert_eq!(reader.read(&mut input, &limits)?, None);
///
/// let mut rest = *b"o";
/// let mut input = Input::new(&mut rest);
/// let mut hello = *b"hello";
/// assert_eq!(reader.read(&mut input, &limits)?, Some(Message::Text(&mut hello)));
/// # Ok::<(), throng_proto::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MessageReader {
    decoder: FrameDecoder,
    /// The data message that is incomplete.
    data: Option<Box<Fragments>>,
    /// The payload of an incomplete control frame.
    control: Vec<u8>,
    /// True after the message in `data` was handed out; the next call frees it.
    data_done: bool,
    /// True after the message in `control` was handed out; the next call frees it.
    control_done: bool,
}

/// An incomplete data message. Boxed: idle connections have none.
#[derive(Clone, Debug)]
struct Fragments {
    opcode: OpCode,
    fragment_count: u32,
    payload: Vec<u8>,
    utf8: Utf8Validator,
}

impl MessageReader {
    /// Creates a reader at the beginning of a stream.
    pub const fn new(role: Role) -> Self {
        Self {
            decoder: FrameDecoder::new(role),
            data: None,
            control: Vec::new(),
            data_done: false,
            control_done: false,
        }
    }

    /// Returns the next message. Returns none when the input is used up, and frees the memory of
    /// the message before.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the reader must not be used again.
    #[inline]
    pub fn read<'m>(
        &'m mut self,
        input: &'m mut Input<'_>,
        limits: &Limits,
    ) -> Result<Option<Message<'m>>, ReadError> {
        self.release();
        while !input.is_empty() {
            let start = input.consumed;
            let (part, consumed) = self.decoder.decode(&mut input.bytes[start..])?;
            input.consumed += consumed;
            let Some(part) = part else { return Ok(None) };
            let FramePart {
                header,
                first,
                last,
                payload,
            } = part;
            let payload_at = input.consumed - payload.len()..input.consumed;
            let whole = first && last;
            if header.opcode.is_control() {
                if !whole {
                    self.control.extend_from_slice(payload);
                }
                if last {
                    return self.control_message(header.opcode, whole, input, payload_at);
                }
                continue;
            }
            if first {
                self.begin_frame(header.opcode, header.payload_len, limits)?;
            }
            if whole && header.fin && self.data.is_none() {
                let payload = &mut input.bytes[payload_at];
                return whole_message(header.opcode, payload).map(Some);
            }
            self.append(header.opcode, payload, first, limits)?;
            if last && header.fin {
                return self.assembled().map(Some);
            }
        }
        Ok(None)
    }

    /// Returns the bytes held for incomplete messages.
    pub fn pending_bytes(&self) -> usize {
        self.control.capacity() + self.data.as_ref().map_or(0, |data| data.payload.capacity())
    }

    /// Frees the memory of the last message.
    fn release(&mut self) {
        if self.data_done {
            self.data_done = false;
            self.data = None;
        }
        if self.control_done {
            self.control_done = false;
            self.control = Vec::new();
        }
    }

    /// Checks a data frame against the incomplete message, before its payload is kept.
    fn begin_frame(
        &mut self,
        opcode: OpCode,
        payload_len: u64,
        limits: &Limits,
    ) -> Result<(), ReadError> {
        let (fragment_count, len) = match (&mut self.data, opcode) {
            (None, OpCode::Continuation) => return Err(ReadError::ContinuationUnexpected),
            (Some(data), OpCode::Continuation) => {
                data.fragment_count += 1;
                (data.fragment_count, data.payload.len())
            }
            (Some(_), _) => return Err(ReadError::ContinuationExpected),
            (None, _) => (1, 0),
        };
        let Limits {
            message_len_max,
            fragment_count_max,
        } = *limits;
        if payload_len.saturating_add(len as u64) > message_len_max as u64 {
            return Err(ReadError::MessageTooLarge { message_len_max });
        }
        if fragment_count > fragment_count_max {
            return Err(ReadError::TooManyFragments { fragment_count_max });
        }
        Ok(())
    }

    /// Keeps a part of a message that did not arrive whole.
    fn append(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        first: bool,
        limits: &Limits,
    ) -> Result<(), ReadError> {
        debug_assert!(
            first || self.data.is_some(),
            "a frame's later part has its message"
        );
        let data = self.data.get_or_insert_with(|| {
            Box::new(Fragments {
                opcode,
                fragment_count: 1,
                payload: Vec::new(),
                utf8: Utf8Validator::default(),
            })
        });
        if data.opcode == OpCode::Text {
            data.utf8.push(payload)?;
        }
        reserve(&mut data.payload, payload.len(), limits.message_len_max);
        data.payload.extend_from_slice(payload);
        Ok(())
    }

    /// Hands out the data message that its last frame completed.
    fn assembled(&mut self) -> Result<Message<'_>, ReadError> {
        self.data_done = true;
        let Some(data) = &mut self.data else {
            return Err(ReadError::ContinuationUnexpected);
        };
        if !data.utf8.is_complete() {
            return Err(ReadError::InvalidUtf8);
        }
        Ok(match data.opcode {
            OpCode::Text => Message::Text(&mut data.payload),
            _ => Message::Binary(&mut data.payload),
        })
    }

    /// Hands out a control message, from the input if it came whole.
    fn control_message<'m>(
        &'m mut self,
        opcode: OpCode,
        whole: bool,
        input: &'m Input<'_>,
        payload_at: std::ops::Range<usize>,
    ) -> Result<Option<Message<'m>>, ReadError> {
        let payload = if whole {
            &input.bytes[payload_at]
        } else {
            self.control_done = true;
            &self.control
        };
        Ok(Some(match opcode {
            OpCode::Ping => Message::Ping(payload),
            OpCode::Pong => Message::Pong(payload),
            _ => Message::Close(CloseFrame::parse(payload).map_err(ReadError::Close)?),
        }))
    }
}

/// Makes room for `added` more bytes. Doubles the capacity, so that a message in small pieces is
/// not copied for each of them, but stays below `len_max`, which doubling alone would pass.
fn reserve(payload: &mut Vec<u8>, added: usize, len_max: usize) {
    let len = payload.len() + added;
    if len > payload.capacity() {
        let capacity = payload.capacity().saturating_mul(2).min(len_max).max(len);
        payload.reserve_exact(capacity - payload.len());
    }
}

/// Returns a data message that arrived whole in one frame.
#[inline]
fn whole_message(opcode: OpCode, payload: &mut [u8]) -> Result<Message<'_>, ReadError> {
    if opcode != OpCode::Text {
        return Ok(Message::Binary(payload));
    }
    match simdutf8::basic::from_utf8(payload) {
        Ok(_) => Ok(Message::Text(payload)),
        Err(_) => Err(ReadError::InvalidUtf8),
    }
}
