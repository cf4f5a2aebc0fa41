//! The `event json` wire: a text message is the event's name, one space, and JSON.
//!
//! The JSON may be absent (`leave_all`), and then the space may be too. Parsing is in place:
//! handlers read data that is borrowed from the socket's buffer.

use serde::de::Visitor;
use serde::{Deserialize, Serialize};
use simd_json::{Buffers, Deserializer, Node, StaticNode, Tape, fill_tape};
use thiserror::Error;

pub use crate::id::find_id;

use crate::frame::{FrameHeader, HEADER_LEN_MAX, OpCode, SharedFrame};

/// The depth to which arrays and objects may nest, so that no peer chooses how much stack is used.
///
/// The default of serde_json; real data stays below 20.
pub const JSON_DEPTH_MAX: usize = 128;

/// The longest event name, in bytes: generous for a name, short enough to quote in an answer.
pub const EVENT_NAME_LEN_MAX: usize = 64;

/// Returns whether an event can have this name: 1 to [`EVENT_NAME_LEN_MAX`] bytes without a space.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= EVENT_NAME_LEN_MAX && !name.contains(' ')
}

/// A text message that is not `event json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// No name, or one of over [`EVENT_NAME_LEN_MAX`] bytes.
    #[error("a message is an event's name of 1 to {EVENT_NAME_LEN_MAX} bytes, one space, and JSON")]
    Name,
}

/// Splits a text message at its first space: the event's name, and its JSON, empty if there is
/// none.
///
/// # Errors
///
/// [`SplitError::Name`].
///
/// # Examples
///
/// ```
/// let mut text = *b"join {\"name\":\"lobby\"}";
/// let (name, json) = throng_proto::event::split(&mut text)?;
/// assert_eq!((name, &*json), ("join", &b"{\"name\":\"lobby\"}"[..]));
/// # Ok::<(), throng_proto::event::SplitError>(())
/// ```
pub fn split(text: &mut [u8]) -> Result<(&str, &mut [u8]), SplitError> {
    let window_len = text.len().min(EVENT_NAME_LEN_MAX + 1);
    let name_len = match text[..window_len].iter().position(|&byte| byte == b' ') {
        Some(space) => space,
        None if text.len() <= EVENT_NAME_LEN_MAX => text.len(),
        None => return Err(SplitError::Name),
    };
    if name_len == 0 {
        return Err(SplitError::Name);
    }
    let (name, json) = text.split_at_mut(name_len);
    let json = if json.is_empty() {
        json
    } else {
        &mut json[1..]
    };
    let name = std::str::from_utf8(name).map_err(|_| SplitError::Name)?;
    Ok((name, json))
}

/// Data that cannot be read as the requested type.
#[derive(Debug, Error)]
#[error("{text}")]
pub struct ParseError {
    /// The problem, for the person who wrote the data.
    text: String,
}

/// The memory for parsing JSON, reused from message to message.
///
/// It grows to a small multiple of the largest message seen; keep one for each thread.
pub struct JsonParser {
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for JsonParser {
    fn default() -> Self {
        Self {
            buffers: Buffers::with_max_depth(0, JSON_DEPTH_MAX),
            tape: Tape(Vec::new()),
        }
    }
}

impl std::fmt::Debug for JsonParser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonParser").finish_non_exhaustive()
    }
}

impl ParseError {
    /// Creates an error with this text, for data in another format than JSON.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl JsonParser {
    /// Parses `json` in place; strings in the result may borrow from it.
    ///
    /// Empty input is read as `null`, for an event without data. `json` is scrambled afterwards.
    ///
    /// # Errors
    ///
    /// [`ParseError`] if it is not JSON, nests deeper than [`JSON_DEPTH_MAX`], or is not a `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use serde::Deserialize;
    /// #[derive(Deserialize)]
    /// struct Join<'a> { name: &'a str }
    ///
    /// let mut parser = throng_proto::event::JsonParser::default();
    /// let mut json = *br#"{"name":"lob\u0062y"}"#;
    /// let join: Join<'_> = parser.parse(&mut json)?;
    /// assert_eq!(join.name, "lobby");
    ///
    /// let error = parser.parse::<Join<'_>>(&mut *b"{}".to_vec().leak()).err().unwrap();
    /// assert_eq!(error.to_string(), "missing field `name`");
    /// # Ok::<(), throng_proto::event::ParseError>(())
    /// ```
    pub fn parse<'a, T: Deserialize<'a>>(&mut self, json: &'a mut [u8]) -> Result<T, ParseError> {
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed = if json.is_empty() {
            tape.0.push(Node::Static(StaticNode::Null));
            Ok(())
        } else {
            fill_tape(json, &mut self.buffers, &mut tape)
        };
        let mut deserializer = Deserializer::from_tape(tape);
        let value = parsed.and_then(|()| T::deserialize(Named(&mut deserializer)));
        self.tape = deserializer.into_tape().reset();
        value.map_err(|error| ParseError {
            text: describe(&error),
        })
    }
}

/// Reads a struct from an object only. The derive of serde would also take `["lobby"]` for
/// `{"name":"lobby"}`, which no client means.
struct Named<D>(D);

/// Passes each method on.
macro_rules! pass_on {
    ($($method:ident),+ $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        })+
    };
}

impl<'de, D: serde::Deserializer<'de>> serde::Deserializer<'de> for Named<D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any, deserialize_bool, deserialize_byte_buf, deserialize_bytes,
        deserialize_char, deserialize_f32, deserialize_f64, deserialize_i8, deserialize_i16,
        deserialize_i32, deserialize_i64, deserialize_identifier, deserialize_ignored_any,
        deserialize_map, deserialize_option, deserialize_seq, deserialize_str,
        deserialize_string, deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64,
        deserialize_unit,
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }
}

/// Returns a text that helps the person who wrote the JSON, not the parser's own.
fn describe(error: &simd_json::Error) -> String {
    use simd_json::ErrorType;
    match error.error() {
        ErrorType::DepthLimitExceeded => format!("JSON nests over {JSON_DEPTH_MAX} deep"),
        ErrorType::ExpectedMap => "an object is expected".to_owned(),
        ErrorType::Serde(text) => text.clone(),
        _ => "not valid JSON".to_owned(),
    }
}

/// An event that cannot be put on the wire.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The caller's data cannot be serialized.
    #[error("data of the event cannot be written: {0}")]
    Data(String),
    /// The name is empty, too long, or has a space in it.
    #[error("an event's name is 1 to {EVENT_NAME_LEN_MAX} bytes without a space")]
    Name,
}

/// Encodes events as text frames, with the memory reused from one to the next.
#[derive(Debug, Default)]
pub struct EventEncoder {
    scratch: Vec<u8>,
}

/// A scratch buffer above this size is freed after the event that needed it.
const SCRATCH_KEPT_MAX: usize = 256 * 1024;

impl EventEncoder {
    /// Encodes one event as an unmasked text frame, its header in front.
    ///
    /// Costs the serialization, one copy of the bytes and one allocation.
    ///
    /// # Errors
    ///
    /// [`EncodeError`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut encoder = throng_proto::event::EventEncoder::default();
    /// let frame = encoder.encode("msg", "hi")?;
    /// assert_eq!(&*frame, b"\x81\x08msg \"hi\"");
    /// assert!(encoder.encode("two words", "").is_err());
    /// # Ok::<(), throng_proto::event::EncodeError>(())
    /// ```
    pub fn encode<T>(&mut self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        self.begin(event)?;
        simd_json::to_writer(&mut self.scratch, data)
            .map_err(|error| EncodeError::Data(describe(&error)))?;
        Ok(self.finish())
    }

    /// Encodes one event whose data is these pieces of JSON, one behind the other.
    ///
    /// For data that is put together from parts that were encoded before. The caller makes sure
    /// that they are JSON.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Name`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut encoder = throng_proto::event::EventEncoder::default();
    /// let frame = encoder.encode_pieces("msg", &[b"{\"a\":", b"1", b"}"])?;
    /// assert_eq!(&frame[2..], br#"msg {"a":1}"#);
    /// # Ok::<(), throng_proto::event::EncodeError>(())
    /// ```
    pub fn encode_pieces(
        &mut self,
        event: &str,
        pieces: &[&[u8]],
    ) -> Result<SharedFrame, EncodeError> {
        self.begin(event)?;
        for piece in pieces {
            self.scratch.extend_from_slice(piece);
        }
        Ok(self.finish())
    }

    /// Begins a frame. The header's length is known only when the payload is there, so the payload
    /// starts behind the longest header, and the header is written right in front of it.
    fn begin(&mut self, event: &str) -> Result<(), EncodeError> {
        if !is_name(event) {
            return Err(EncodeError::Name);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&[0; HEADER_LEN_MAX]);
        self.scratch.extend_from_slice(event.as_bytes());
        self.scratch.push(b' ');
        Ok(())
    }

    fn finish(&mut self) -> SharedFrame {
        let payload_len = (self.scratch.len() - HEADER_LEN_MAX) as u64;
        let header = FrameHeader {
            fin: true,
            opcode: OpCode::Text,
            payload_len,
            masking_key: None,
        };
        let (bytes, len) = header.encode();
        let start = HEADER_LEN_MAX - len;
        self.scratch[start..HEADER_LEN_MAX].copy_from_slice(&bytes[..len]);
        let frame = SharedFrame::from(&self.scratch[start..]);
        if self.scratch.capacity() > SCRATCH_KEPT_MAX {
            self.scratch = Vec::new();
        }
        frame
    }
}

/// Appends data as JSON to `into`, as [`EventEncoder::encode`] does.
///
/// # Errors
///
/// [`EncodeError::Data`]; a part may have been written.
pub fn write_json<T>(into: &mut Vec<u8>, data: &T) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
{
    simd_json::to_writer(into, data).map_err(|error| EncodeError::Data(describe(&error)))
}

/// Returns the data of an event in an unmasked text frame that this file encoded: the bytes behind
/// the event's name.
///
/// None if the frame is not one of those.
///
/// # Examples
///
/// ```
/// let frame = throng_proto::event::EventEncoder::default().encode("msg", "hi")?;
/// assert_eq!(throng_proto::event::data_of(&frame), Some(&b"\"hi\""[..]));
/// # Ok::<(), throng_proto::event::EncodeError>(())
/// ```
pub fn data_of(frame: &[u8]) -> Option<&[u8]> {
    let header_len = match frame.get(1)? {
        0..=125 => 2,
        126 => 4,
        127 => 10,
        _ => return None,
    };
    let payload = frame.get(header_len..)?;
    let space = payload.iter().position(|byte| *byte == b' ')?;
    payload.get(space + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn split_owned(text: &str) -> Result<(String, String), SplitError> {
        let mut bytes = text.as_bytes().to_vec();
        split(&mut bytes)
            .map(|(name, json)| (name.to_owned(), String::from_utf8(json.to_vec()).unwrap()))
    }

    #[test]
    fn a_message_splits_at_its_first_space() {
        let pair = |name: &str, json: &str| Ok((name.to_owned(), json.to_owned()));
        assert_eq!(split_owned("msg \"a b\""), pair("msg", "\"a b\""));
        assert_eq!(split_owned("leave_all"), pair("leave_all", ""));
        assert_eq!(split_owned("leave_all "), pair("leave_all", ""));
        assert_eq!(split_owned("a  1"), pair("a", " 1"));
    }

    #[test]
    fn a_message_without_a_name_or_with_an_endless_one_is_refused() {
        for text in [
            "",
            " ",
            " {}",
            &"x".repeat(65),
            &format!("{} 1", "x".repeat(65)),
        ] {
            assert_eq!(split_owned(text), Err(SplitError::Name), "{text:?}");
        }
        assert!(split_owned(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn json_that_nests_too_deep_is_refused_and_the_parser_goes_on() {
        let mut parser = JsonParser::default();
        for open in ["[", "{\"a\":"] {
            let mut deep = open.repeat(30_000).into_bytes();
            assert!(parser.parse::<Json<'_>>(&mut deep).is_err());
        }
        let mut fine = *b"[1]";
        assert_eq!(parser.parse::<Vec<u8>>(&mut fine).unwrap(), [1]);
    }

    #[test]
    fn a_struct_is_read_from_an_object_only() {
        #[derive(Debug, Deserialize)]
        struct Join {
            name: String,
        }
        let mut parser = JsonParser::default();
        let join: Join = parser.parse(&mut br#"{"name":"lobby"}"#.to_vec()).unwrap();
        assert_eq!(join.name, "lobby");
        assert!(parser.parse::<Join>(&mut br#"["lobby"]"#.to_vec()).is_err());
    }

    #[test]
    fn no_data_is_read_as_null() {
        let mut parser = JsonParser::default();
        assert_eq!(parser.parse::<Option<u8>>(&mut []).unwrap(), None);
        assert!(parser.parse::<u8>(&mut []).is_err());
    }

    #[test]
    fn lengths_around_each_header_form_are_encoded_minimally() {
        let mut encoder = EventEncoder::default();
        for (text_len, header_len) in [(119, 2), (120, 4), (65529, 4), (65530, 10)] {
            let frame = encoder.encode("msg", &"x".repeat(text_len)).unwrap();
            assert_eq!(frame.len(), header_len + "msg \"\"".len() + text_len);
        }
    }
}
