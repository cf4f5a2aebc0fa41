//! The chat of the binary `throng`, without its sockets: what a client sends, and what becomes of
//! it.

use proto::MaskingKey;
use proto::event::{self, EventEncoder, JsonParser};
use proto::frame::encode_masked;
use proto::{Input, Json, Limits, Message, MessageReader, OpCode, Role, SharedFrame};
use serde::Deserialize;

/// The data of a `join` or a `leave`.
#[derive(Deserialize)]
pub struct RoomRequest<'a> {
    /// The room's name.
    pub name: &'a str,
}

/// The data of a `msg`.
#[derive(Deserialize)]
pub struct Msg<'a> {
    /// The room's name.
    pub to: &'a str,
    /// The message that members get.
    #[serde(borrow)]
    pub msg: Json<'a>,
}

/// Returns the text of a `msg` to `room` with a string of `payload_len` bytes.
pub fn msg_text(room: &str, payload_len: usize) -> String {
    format!(
        r#"msg {{"to":"{room}","msg":"{}"}}"#,
        "x".repeat(payload_len)
    )
}

/// Returns the bytes of `count` equal text frames, as a client sends them.
pub fn client_frames(text: &str, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        encode_masked(OpCode::Text, text.as_bytes(), MASKING_KEY, &mut bytes);
    }
    bytes
}

/// One connection's reader with what its core parses and encodes with.
#[derive(Debug)]
pub struct Relay {
    reader: MessageReader,
    parser: JsonParser,
    encoder: EventEncoder,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            reader: MessageReader::new(Role::Server),
            parser: JsonParser::default(),
            encoder: EventEncoder::default(),
        }
    }
}

impl Relay {
    /// Reads what one `recv` brought, and hands on each `msg` that is complete: the room's name and
    /// the encoded publication. Returns how many.
    ///
    /// # Panics
    ///
    /// If the bytes are anything else than `msg` events: these are ours, so they are right.
    pub fn read(&mut self, bytes: &mut [u8], mut publish: impl FnMut(&str, SharedFrame)) -> usize {
        let Self {
            reader,
            parser,
            encoder,
        } = self;
        let mut input = Input::new(bytes);
        let mut count = 0;
        while let Some(message) = reader.read(&mut input, &LIMITS).expect("frames of ours") {
            let Message::Text(text) = message else {
                panic!("only text is sent, not {message:?}");
            };
            let (name, json) = event::split(text).expect("an event of ours");
            assert_eq!(name, "msg");
            let Msg { to, msg } = parser.parse(json).expect("JSON of ours");
            publish(to, encoder.encode("msg", &msg).expect("a value of ours"));
            count += 1;
        }
        count
    }
}

/// The server's defaults.
pub const LIMITS: Limits = Limits {
    message_len_max: 64 * 1024,
    fragment_count_max: 128,
};

/// Any key does; not zeros, which would change nothing.
pub const MASKING_KEY: MaskingKey = [0x5A, 0x3C, 0xA7, 0x19];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_published_wherever_the_bytes_are_cut() {
        let bytes = client_frames(&msg_text("tea", 3), 5);
        for cut in 0..=bytes.len() {
            let mut relay = Relay::default();
            let mut published = Vec::new();
            let (mut first, mut second) = (bytes[..cut].to_vec(), bytes[cut..].to_vec());
            for piece in [&mut first, &mut second] {
                relay.read(piece, |room, frame| {
                    published.push((room.to_owned(), frame));
                });
            }
            let expected = ("tea".to_owned(), b"\x81\x09msg \"xxx\"".as_slice().into());
            assert_eq!(published, vec![expected; 5], "cut at {cut}");
        }
    }
}
