//! Frames of throng.v1 (docs/protocol.md): the greeting, and the answers to requests.

use proto::SharedFrame;
use proto::event::{EncodeError, write_json};
use rooms::{Acknowledge, Joined, KEY_LEN_MAX, Past, Recovery, StreamPosition};
use serde::{Serialize, Serializer};

use crate::app::error::PublishError;
use crate::app::refusal::{ErrorEvent, Refusal};
use crate::config::Config;
use crate::wire::encode::encode;
use crate::wire::name::ConnectionName;

/// The most publications of one answer to `history`.
pub(crate) const HISTORY_PUBLICATIONS_MAX: u32 = 1000;

/// The most bytes of publications in one answer to `history`: a quarter of what may wait for a
/// connection by default. One publication is given however large it is.
pub(crate) const HISTORY_BYTES_MAX: usize = 256 * 1024;

/// Events of the protocol's own, which nobody can emit.
const RESERVED: [&str; 15] = [
    "ack", "drain", "emit", "error", "gap", "hello", "history", "join", "joined", "leave", "left",
    "msg", "ping", "pong", "presence",
];

/// What later versions will call their events.
const RESERVED_PREFIX: &str = "throng";

/// Whether the name is the protocol's own.
pub(crate) fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event) || event.starts_with(RESERVED_PREFIX)
}

/// The greeting of a connection.
pub(crate) fn hello_frame(name: &ConnectionName, config: &Config) -> Option<SharedFrame> {
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

/// The answer to a join that was carried out.
pub(crate) fn joined_frame(room: &str, joined: &Joined, already: bool) -> Option<SharedFrame> {
    let answer = JoinedAnswer {
        id: joined.id,
        room,
        position: joined.position.into(),
        recovery: joined.recovery.filter(|_| !already).into(),
        already: already.then_some(true),
    };
    encode("joined", &answer).ok()
}

/// Writes the data of an answer to `history`: the stored publications as they were sent.
pub(crate) fn write_history(
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

/// How the publisher of a `msg` with an id is told what became of it.
pub(crate) struct PublishAnswer<'a> {
    pub(crate) id: u64,
    pub(crate) room: &'a str,
}

impl Acknowledge for PublishAnswer<'_> {
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame {
        let ack = Ack {
            id: Some(self.id),
            room: self.room,
            position: position.map(Position::from),
            duplicate: duplicate.then_some(true),
        };
        encode("ack", &ack).expect("numbers and strings are always JSON")
    }

    fn refuse(&mut self) -> SharedFrame {
        let refusal = Refusal::from(PublishError::Storage);
        let data = ErrorEvent {
            id: Some(self.id),
            event: Some("msg"),
            room: Some(self.room),
            refusal: &refusal,
        };
        encode("error", &data).expect("numbers and strings are always JSON")
    }
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
pub(crate) struct Left<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    pub(crate) room: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Ack<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    pub(crate) room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate: Option<bool>,
}

#[derive(Serialize)]
pub(crate) struct Pong {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
}

/// A position as clients see it.
#[derive(Serialize)]
pub(crate) struct Position {
    epoch: EpochText,
    offset: u64,
}

impl From<StreamPosition> for Position {
    fn from(position: StreamPosition) -> Self {
        Self {
            epoch: EpochText(position.epoch),
            offset: position.offset,
        }
    }
}

struct EpochText(rooms::Epoch);

impl Serialize for EpochText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The data of an event of the application's that is of no room: to one connection, or to everybody.
#[derive(Serialize)]
pub(crate) struct OfApplication<'a, T: ?Sized> {
    pub(crate) data: &'a T,
}

/// The data of a `drain` event.
#[derive(Serialize)]
pub(crate) struct Drain {
    pub(crate) after_ms: u64,
}
