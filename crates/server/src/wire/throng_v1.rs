//! throng.v1 (docs/protocol.md): positions, answers and recovery.

mod read;

use proto::SharedFrame;
use proto::event::{EncodeError, EventEncoder, find_id, write_json};
use rooms::{Disconnect, Joined, KEY_LEN_MAX, Past, Recovery};
use serde::Serialize;

use super::encode::{encode, encode_written};
use super::name::ConnectionName;
use super::parts::Parts;
use super::position::Position;
use super::request::{HISTORY_BYTES_MAX, HISTORY_PUBLICATIONS_MAX};
use super::{Ack, Answer, ReadRequest, Spoken};
use crate::app::error::EmitError;
use crate::config::Config;

/// Events of the protocol's own, which nobody can emit.
const RESERVED: [&str; 16] = [
    "ack", "auth", "drain", "emit", "error", "gap", "hello", "history", "join", "joined", "leave",
    "left", "msg", "ping", "pong", "presence",
];

/// The beginning of the names that later versions will give their events.
const RESERVED_PREFIX: &str = "throng";

/// Returns whether the name is the protocol's own.
fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event) || event.starts_with(RESERVED_PREFIX)
}

/// throng.v1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThrongV1;

impl Spoken for ThrongV1 {
    fn greeting(self, name: &ConnectionName, config: &Config) -> Option<SharedFrame> {
        let limits = &config.limits;
        let ping_interval = config.timeouts.ping_interval.as_millis();
        let hello = Hello {
            server: concat!("throng/", env!("CARGO_PKG_VERSION")),
            connection: name.as_str(),
            keepalive_ms: u64::try_from(ping_interval).unwrap_or(u64::MAX),
            limits: HelloLimits {
                message_bytes: limits.message_bytes_max,
                rooms: limits.rooms_per_connection_max,
                room_name_bytes: limits.room_name_bytes_max,
                key_bytes: KEY_LEN_MAX,
                history_publications: HISTORY_PUBLICATIONS_MAX,
                history_bytes: HISTORY_BYTES_MAX,
            },
        };
        // Strings and numbers are always writable as JSON.
        encode("hello", &hello).ok()
    }

    fn request(self, event: &str) -> Option<ReadRequest> {
        read::request(event)
    }

    fn id_of(self, json: &[u8]) -> Option<u64> {
        find_id(json, usize::MAX)
    }

    fn check_event(self, event: &str) -> Result<(), EmitError> {
        match is_reserved(event) {
            true => Err(EmitError::Reserved),
            false => Ok(()),
        }
    }

    fn event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        encode(event, data)
    }

    fn application_event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        encode(event, &OfApplication { data })
    }

    fn answer(self, answer: &Answer<'_>) -> Result<Option<SharedFrame>, EncodeError> {
        let frame = match *answer {
            Answer::Ack(Ack {
                id,
                room,
                position,
                duplicate,
                data,
            }) => encode(
                "ack",
                &AckData {
                    id,
                    room,
                    position: position.map(Position::from),
                    duplicate: duplicate.then_some(true),
                    data,
                },
            ),
            Answer::History { id, room, past } => {
                encode_written("history", |json| write_history(json, id, room, past))
            }
            Answer::Joined {
                room,
                joined,
                already,
            } => encode("joined", &JoinedAnswer::new(room, joined, already)),
            Answer::Left { id, room } => encode("left", &Left { id, room }),
            Answer::Pong { id } => encode("pong", &Pong { id }),
        };
        frame.map(Some)
    }

    fn drain(self, after_ms: u64) -> Option<SharedFrame> {
        // Numbers are always writable as JSON.
        encode("drain", &Drain { after_ms }).ok()
    }

    fn drained(self, after_ms: u64) -> Disconnect {
        Disconnect::drain(after_ms)
    }
}

/// Writes what members of a room are sent: a publication if it has an offset, else an event.
pub(super) fn write_to_room(
    encoder: &mut EventEncoder,
    event: &str,
    parts: &Parts<'_>,
    offset: Option<u64>,
) -> Result<SharedFrame, EncodeError> {
    let (mut offset_digits, mut at_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (from_key, from_end) = match parts.from {
        Some(_) => (&br#","from":""#[..], &br#"""#[..]),
        None => (&b""[..], &b""[..]),
    };
    let from = parts.from.unwrap_or_default().as_bytes();
    match offset {
        Some(offset) => encoder.encode_pieces(
            event,
            &[
                br#"{"room":"#,
                parts.room,
                br#","offset":"#,
                offset_digits.format(offset).as_bytes(),
                from_key,
                from,
                from_end,
                br#","at":"#,
                at_digits.format(parts.at_ms).as_bytes(),
                br#","msg":"#,
                parts.data,
                b"}",
            ],
        ),
        None => encoder.encode_pieces(
            event,
            &[
                br#"{"room":"#,
                parts.room,
                from_key,
                from,
                from_end,
                br#","data":"#,
                parts.data,
                b"}",
            ],
        ),
    }
}

/// Writes the data of an answer to `history`: the stored publications as they were sent.
fn write_history(
    json: &mut Vec<u8>,
    id: Option<u64>,
    room: &str,
    past: Option<&Past>,
) -> Result<(), EncodeError> {
    let head = HistoryAnswer {
        id,
        room,
        position: past.map(|past| past.position.into()),
        recovery: past.and_then(|past| past.recovery).into(),
        more: past.is_some_and(|past| past.more).then_some(true),
    };
    write_json(json, &head)?;
    // The object goes on with the one field that is not encoded anew.
    json.pop();
    json.extend_from_slice(br#","publications":["#);
    let frames = past.into_iter().flat_map(|past| &past.frames);
    let publications = frames.filter_map(|frame| proto::event::data_of(frame));
    for (index, publication) in publications.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(publication);
    }
    json.extend_from_slice(b"]}");
    Ok(())
}

#[derive(Serialize)]
struct Hello<'a> {
    server: &'static str,
    connection: &'a str,
    keepalive_ms: u64,
    limits: HelloLimits,
}

#[derive(Serialize)]
struct HelloLimits {
    message_bytes: usize,
    rooms: usize,
    room_name_bytes: usize,
    key_bytes: usize,
    history_publications: u32,
    history_bytes: usize,
}

#[derive(Serialize)]
struct JoinedAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    room: &'a str,
    position: Position,
    #[serde(flatten)]
    recovery: RecoveryFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    already: Option<bool>,
}

impl<'a> JoinedAnswer<'a> {
    fn new(room: &'a str, joined: &Joined, already: bool) -> Self {
        Self {
            id: joined.id,
            room,
            position: joined.position.into(),
            recovery: joined.recovery.filter(|_| !already).into(),
            already: already.then_some(true),
        }
    }
}

#[derive(Serialize)]
struct HistoryAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    room: &'a str,
    position: Option<Position>,
    #[serde(flatten)]
    recovery: RecoveryFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

#[derive(Default, Serialize)]
struct RecoveryFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
}

impl From<Option<Recovery>> for RecoveryFields {
    fn from(recovery: Option<Recovery>) -> Self {
        recovery.map_or_else(Self::default, |recovery| Self {
            recovered: recovery.recovered,
            first: Some(recovery.first),
        })
    }
}

#[derive(Serialize)]
struct Left<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    room: &'a str,
}

#[derive(Serialize)]
struct AckData<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a dyn erased_serde::Serialize>,
}

#[derive(Serialize)]
struct Pong {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

/// The data of an event of the application's that is of no room: to one connection, or to
/// everybody.
#[derive(Serialize)]
struct OfApplication<'a, T: ?Sized> {
    data: &'a T,
}

/// The data of a `drain` event.
#[derive(Serialize)]
struct Drain {
    after_ms: u64,
}
