//! What a flooder sends: one stretch of bytes, whole frames, again and again.

use clap::ValueEnum;
use proto::OpCode;
use proto::frame::{self, FrameHeader};
use serde::Serialize;

use crate::wire::Wire;

/// What a flood is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Publications to a room that nobody is in
    #[default]
    Msg,
    /// Publications to a room that the flooder is in: on throng.v1 with history
    Room,
    /// Pings, each of which wants a pong
    Ping,
    /// Pongs that nobody asked for
    Pong,
    /// Publications of 60 kB whose JSON takes long to read: numbers, escapes, arrays in arrays
    Json,
    /// Binary messages
    Binary,
    /// Requests that the server does not know, each of which wants an error
    Unknown,
    /// Joins and leaves
    Join,
    /// Publications in frames of one byte each
    Fragment,
}

/// One write is about as much: a system call then costs nothing beside its bytes.
const WRITE_BYTES_MIN: usize = 256 * 1024;

/// A message with this payload is below 64 KiB, which many servers refuse to go over.
const JSON_BYTES: usize = 60_000;

/// Deep, and far from what JSON libraries refuse.
const ARRAYS_MAX: usize = 60;

/// What fills a publication that is not dear.
const SMALL: &[u8] = br#""................""#;

impl Kind {
    /// Returns its name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no kind is hidden");
        value.get_name().to_owned()
    }

    /// Returns whole frames to send again and again, on behalf of a room; none if the wire cannot
    /// say them.
    pub(super) fn bytes(self, wire: &Wire, room: &str) -> Option<Vec<u8>> {
        let round = self.round(wire, room)?;
        Some(round.repeat(WRITE_BYTES_MIN.div_ceil(round.len())))
    }

    /// Returns the frames that are repeated.
    fn round(self, wire: &Wire, room: &str) -> Option<Vec<u8>> {
        let mut frames = Vec::new();
        let publication = |payload: &[u8]| {
            // Without a room's name a publication would be for the neighbours.
            wire.names_rooms().then(|| wire.publication(room, payload))
        };
        match self {
            Self::Msg | Self::Room => push(OpCode::Text, &publication(SMALL)?, &mut frames),
            Self::Ping => push(OpCode::Ping, SMALL, &mut frames),
            Self::Pong => push(OpCode::Pong, SMALL, &mut frames),
            Self::Json => {
                for payload in [numbers(), escapes(), arrays()] {
                    push(OpCode::Text, &publication(&payload)?, &mut frames);
                }
            }
            Self::Binary => push(OpCode::Binary, SMALL, &mut frames),
            Self::Unknown => push(OpCode::Text, &wire.unknown.message(room)?, &mut frames),
            Self::Join => {
                push(OpCode::Text, &wire.join.message(room)?, &mut frames);
                push(OpCode::Text, &wire.leave.message(room)?, &mut frames);
            }
            Self::Fragment => push_bytewise(&publication(SMALL)?, &mut frames),
        }
        Some(frames)
    }
}

fn push(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    frame::encode_masked(opcode, payload, fastrand::u32(..).to_ne_bytes(), out);
}

/// Appends a text message as one frame for each of its bytes.
fn push_bytewise(message: &[u8], out: &mut Vec<u8>) {
    for (place, &byte) in message.iter().enumerate() {
        let masking_key = fastrand::u32(..).to_ne_bytes();
        let opcode = if place == 0 {
            OpCode::Text
        } else {
            OpCode::Continuation
        };
        let header = FrameHeader {
            fin: place + 1 == message.len(),
            opcode,
            payload_len: 1,
            masking_key: Some(masking_key),
        };
        let (bytes, len) = header.encode();
        out.extend_from_slice(&bytes[..len]);
        out.push(byte ^ masking_key[0]);
    }
}

/// Returns numbers that take the long way to be read exactly.
fn numbers() -> Vec<u8> {
    listed(b"-1.7976931348623157e-298")
}

/// Returns one string of escapes.
fn escapes() -> Vec<u8> {
    let escape = br"\ud83c\udf75\u0041\n";
    let escapes = escape.repeat(JSON_BYTES / escape.len());
    [b"\"", &*escapes, b"\""].concat()
}

/// Returns arrays in arrays, and again.
fn arrays() -> Vec<u8> {
    let nested = [b"[".repeat(ARRAYS_MAX), b"]".repeat(ARRAYS_MAX)].concat();
    listed(&nested)
}

/// Returns an array of the same value, of about [`JSON_BYTES`].
fn listed(value: &[u8]) -> Vec<u8> {
    let count = JSON_BYTES / (value.len() + 1);
    let values = vec![value; count].join(&b","[..]);
    [b"[", &*values, b"]"].concat()
}

#[cfg(test)]
mod tests {
    use proto::{Input, Limits, Message, MessageReader, Role};

    use super::*;

    /// What a server reads of a round, as a transcript.
    fn heard(kind: Kind, wire: &str) -> Option<Vec<String>> {
        let mut bytes = kind.round(&Wire::named(wire).unwrap(), "tea")?;
        let limits = Limits {
            message_len_max: 65_536,
            fragment_count_max: 256,
        };
        let (mut reader, mut input) = (MessageReader::new(Role::Server), Input::new(&mut bytes));
        let mut heard = Vec::new();
        while let Some(message) = reader.read(&mut input, &limits).unwrap() {
            let (name, payload) = match message {
                Message::Binary(payload) => ("binary", &*payload),
                Message::Ping(payload) => ("ping", payload),
                Message::Pong(payload) => ("pong", payload),
                Message::Text(payload) => ("text", &*payload),
                Message::Close(_) => panic!("it says goodbye"),
            };
            heard.push(format!("{name} {}", String::from_utf8_lossy(payload)));
        }
        Some(heard)
    }

    #[test]
    fn each_kind_is_what_its_name_says() {
        let msg = r#"text msg {"to":"tea","msg":"................"}"#;
        let ping = r#"ping "................""#;
        for (kind, said) in [
            (Kind::Msg, vec![msg]),
            (Kind::Room, vec![msg]),
            (Kind::Fragment, vec![msg]),
            (Kind::Ping, vec![ping]),
            (Kind::Pong, vec![&*ping.replace("ping", "pong")]),
            (Kind::Binary, vec![&*ping.replace("ping", "binary")]),
            (Kind::Unknown, vec!["text nonsense {}"]),
            (
                Kind::Join,
                vec![
                    r#"text join {"name":"tea"}"#,
                    r#"text leave {"name":"tea"}"#,
                ],
            ),
        ] {
            assert_eq!(heard(kind, "golem").unwrap(), said, "{kind:?}");
        }
    }

    #[test]
    fn a_fragment_is_a_frame_of_one_byte() {
        let golem = Wire::named("golem").unwrap();
        let message = golem.publication("tea", SMALL);
        let frames = Kind::Fragment.round(&golem, "tea").unwrap();
        // A header of two bytes and its key for each.
        assert_eq!(frames.len(), message.len() * 7);
    }

    #[test]
    fn dear_json_is_json_and_as_large_as_servers_take() {
        for wire in Wire::names() {
            let said = heard(Kind::Json, &wire).unwrap();
            assert_eq!(said.len(), 3);
            for said in said {
                assert!((55_000..65_536).contains(&said.len()), "{}", said.len());
            }
        }
        for payload in [numbers(), escapes(), arrays()] {
            let read: serde_json::Result<serde_json::Value> = serde_json::from_slice(&payload);
            assert!(read.is_ok(), "{}", read.unwrap_err());
        }
    }

    #[test]
    fn a_write_is_large_and_ends_with_a_frame() {
        for kind in Kind::value_variants() {
            let golem = Wire::named("golem").unwrap();
            let (round, bytes) = (kind.round(&golem, "tea"), kind.bytes(&golem, "tea"));
            let (round, bytes) = (round.unwrap().len(), bytes.unwrap().len());
            assert!(
                bytes >= WRITE_BYTES_MIN && bytes.is_multiple_of(round),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_wire_that_cannot_say_a_kind_has_no_bytes_of_it() {
        for name in Wire::names() {
            let wire = Wire::named(&name).unwrap();
            let can = |kind: &&Kind| kind.round(&wire, "tea").is_some();
            let said = Kind::value_variants().iter().filter(can).count();
            assert_eq!(said, Kind::value_variants().len(), "{name}");
        }
        let bare = Wire::default();
        for kind in [Kind::Msg, Kind::Json, Kind::Unknown, Kind::Join] {
            assert_eq!(kind.round(&bare, "tea"), None, "{kind:?}");
        }
        assert!(Kind::Ping.round(&bare, "tea").is_some());
    }
}
