//! throng.v1: what its requests mean and how they are answered (docs/protocol.md).
//!
//! Spoken with connections that asked for the subprotocol, if the router serves it. Every request may
//! carry an `id`, and its answer carries the same.

use proto::event::{EVENT_NAME_LEN_MAX, JsonParser, is_name};
use proto::{Json, SharedFrame};
use rooms::{
    Acknowledge, EventKind, Joined, KEY_LEN_MAX, Past, PastLimits, Recovery, Since, StreamPosition,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::Config;
use crate::connection::Peer;
use crate::engine::{self, Sent};
use crate::manager::PublishError;
use crate::refusal::{ErrorEvent, Refusal};

/// How many publications one answer to `history` has if the client does not say.
const HISTORY_LIMIT: u32 = 100;

/// The most publications of one answer to `history`.
const HISTORY_PUBLICATIONS_MAX: u32 = 1000;

/// The most bytes of publications in one answer to `history`: a quarter of what may wait for a
/// connection by default. One publication is given however large it is.
const HISTORY_BYTES_MAX: usize = 256 * 1024;

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

/// A refusal, and the request that it answers.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) id: Option<u64>,
    pub(crate) refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { id: None, refusal }
    }
}

/// Which request an event is, if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Emit,
    History,
    Join,
    Leave,
    Msg,
    Ping,
}

impl Request {
    /// The request with this name.
    pub(crate) fn named(event: &str) -> Option<Self> {
        Some(match event {
            "emit" => Self::Emit,
            "history" => Self::History,
            "join" => Self::Join,
            "leave" => Self::Leave,
            "msg" => Self::Msg,
            "ping" => Self::Ping,
            _ => return None,
        })
    }

    /// Carries the request out, if `before` has nothing against it.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing was done.
    pub(crate) fn handle(
        self,
        connection: &Peer,
        json: &mut [u8],
        parser: &mut JsonParser,
        before: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refused> {
        // No data says as little as an empty object.
        let fields: Option<Fields<'_>> = parser.parse(json).map_err(|error| Refused {
            id: None,
            refusal: error.into(),
        })?;
        let fields = fields.unwrap_or_default();
        let id = id_of(fields.id.as_ref()).map_err(|refusal| Refused { id: None, refusal })?;
        before().map_err(|refusal| Refused { id, refusal })?;
        let handled = match self {
            Self::Emit => emit(connection, id, &fields),
            Self::History => history(connection, id, &fields),
            Self::Join => join(connection, id, &fields),
            Self::Leave => leave(connection, id, &fields),
            Self::Msg => msg(connection, id, &fields),
            Self::Ping => answer(connection, "pong", &Pong { id }),
        };
        handled.map_err(|refusal| Refused { id, refusal })
    }
}

/// The greeting of a connection.
pub(crate) fn hello_frame(connection: &Peer, config: &Config) -> Option<SharedFrame> {
    let limits = &config.limits;
    let ping_interval = config.timeouts.ping_interval.as_millis();
    let name = connection.engine.name_of(connection.id);
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
    engine::encode("hello", &hello).ok()
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
    engine::encode("joined", &answer).ok()
}

fn join(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.room.as_ref(), "room")?;
    let since = since(fields)?;
    let request = rooms::JoinRequest { id, since };
    Ok(connection.engine.join_since(connection.id, room, request)?)
}

fn leave(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.room.as_ref(), "room")?;
    connection.engine.leave(connection.id, room.into())?;
    answer(connection, "left", &Left { id, room })
}

fn msg(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.to.as_ref(), "to")?;
    let Some(msg) = &fields.msg else {
        return Err(missing("msg"));
    };
    let key = optional_text(fields.key.as_ref(), "key")?;
    let mut answer = id.map(|id| PublishAnswer { id, room });
    let answer = answer.as_mut().map(|answer| answer as &mut dyn Acknowledge);
    let engine = &connection.engine;
    let sent = Sent {
        from: Some(connection.id),
        key,
        ..Sent::default()
    };
    engine.publish(room.into(), sent, msg, answer)?;
    Ok(())
}

/// How the publisher of a `msg` with an id is told what became of it.
struct PublishAnswer<'a> {
    id: u64,
    room: &'a str,
}

impl Acknowledge for PublishAnswer<'_> {
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame {
        let ack = Ack {
            id: Some(self.id),
            room: self.room,
            position: position.map(Position::from),
            duplicate: duplicate.then_some(true),
        };
        engine::encode("ack", &ack).expect("numbers and strings are always JSON")
    }

    fn refuse(&mut self) -> SharedFrame {
        let refusal = Refusal::from(PublishError::from(rooms::PublishError::Storage));
        let data = ErrorEvent {
            id: Some(self.id),
            event: Some("msg"),
            room: Some(self.room),
            refusal: &refusal,
        };
        engine::encode("error", &data).expect("numbers and strings are always JSON")
    }
}

fn emit(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.to.as_ref(), "to")?;
    let event = text(fields.event.as_ref(), "event")?;
    if !is_name(event) {
        let text = format!("an event's name is 1 to {EVENT_NAME_LEN_MAX} bytes without a space");
        return Err(Refusal::new("bad_event", text));
    }
    if is_reserved(event) {
        let text = "the name is the protocol's own: take another";
        return Err(Refusal::new("reserved_event", text));
    }
    let data = fields.data.as_ref().unwrap_or(&Json::Null);
    let sent = Sent {
        kind: EventKind::Ephemeral,
        from: Some(connection.id),
        ..Sent::default()
    };
    let engine = &connection.engine;
    engine.emit((room.into(), event), sent, data)?;
    if id.is_none() {
        return Ok(());
    }
    let ack = Ack {
        id,
        room,
        position: None,
        duplicate: None,
    };
    acknowledge(connection, &ack)
}

fn history(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.room.as_ref(), "room")?;
    let limit = match &fields.limit {
        None => HISTORY_LIMIT,
        Some(limit) => count(limit, "limit")?,
    };
    let limit = limit.clamp(1, HISTORY_PUBLICATIONS_MAX);
    let (since, limit) = match since(fields)? {
        Since::Now => (Since::Last(limit), limit),
        Since::Last(count) => {
            let count = count.min(HISTORY_PUBLICATIONS_MAX);
            (Since::Last(count), count)
        }
        position @ Since::Position(_) => (position, limit),
    };
    let limits = PastLimits {
        publications_max: limit as usize,
        bytes_max: HISTORY_BYTES_MAX,
    };
    let past = connection.engine.table.past(room, since, limits);
    let write = |json: &mut Vec<u8>| write_history(json, id, room, past.as_ref());
    let frame = engine::encode_written(HISTORY, write).map_err(Refusal::from)?;
    Ok(connection.engine.direct(connection.id, frame)?)
}

/// The name of the request and of its answer.
const HISTORY: &str = "history";

/// Writes the data of an answer to `history`: the stored publications as they were sent.
fn write_history(
    json: &mut Vec<u8>,
    id: Option<u64>,
    room: &str,
    past: Option<&Past>,
) -> Result<(), proto::event::EncodeError> {
    let head = HistoryAnswer {
        id,
        room,
        position: past.map(|past| past.position.into()),
        recovery: past.and_then(|past| past.recovery).into(),
        more: past.is_some_and(|past| past.more).then_some(true),
    };
    proto::event::write_json(json, &head)?;
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

/// Sends an answer in its place among all that the connection is sent.
fn answer<T: Serialize>(connection: &Peer, event: &str, data: &T) -> Result<(), Refusal> {
    connection.emit(event, data).map_err(Refusal::from)
}

/// Sends an acknowledgement behind the publications of this turn.
fn acknowledge(connection: &Peer, ack: &Ack<'_>) -> Result<(), Refusal> {
    let frame = engine::encode("ack", ack).map_err(Refusal::from)?;
    Ok(connection.engine.answer(connection.id, frame)?)
}

/// What any request may carry. Each is read as it came, so that a wrong one is answered with the
/// request's id.
#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    id: Option<Json<'a>>,
    #[serde(borrow, default)]
    room: Option<Json<'a>>,
    #[serde(borrow, default)]
    to: Option<Json<'a>>,
    #[serde(borrow, default)]
    event: Option<Json<'a>>,
    #[serde(borrow, default)]
    key: Option<Json<'a>>,
    #[serde(borrow, default)]
    since: Option<Json<'a>>,
    #[serde(borrow, default)]
    last: Option<Json<'a>>,
    #[serde(borrow, default)]
    limit: Option<Json<'a>>,
    // `null` is something to say, and not the same as nothing.
    #[serde(borrow, default, deserialize_with = "present")]
    msg: Option<Json<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<Json<'a>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json<'de>>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// The largest number of a request, as JavaScript's whole numbers.
const WHOLE_NUMBER_MAX: u64 = (1 << 53) - 1;

/// Reads a whole number; JSON that is none, or a larger one, is nothing.
fn whole_number(json: &Json<'_>) -> Option<u64> {
    match json {
        Json::Unsigned(number) if *number <= WHOLE_NUMBER_MAX => Some(*number),
        _ => None,
    }
}

/// Reads how many publications a request asks for.
fn count(json: &Json<'_>, name: &str) -> Result<u32, Refusal> {
    let number = whole_number(json).ok_or_else(|| wrong(name, WHOLE_NUMBER))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

const WHOLE_NUMBER: &str = "a whole number from 0 to 2^53 - 1";

fn id_of(id: Option<&Json<'_>>) -> Result<Option<u64>, Refusal> {
    match id {
        None => Ok(None),
        Some(id) => match whole_number(id) {
            Some(id) => Ok(Some(id)),
            None => Err(wrong("id", WHOLE_NUMBER)),
        },
    }
}

fn text<'a>(field: Option<&'a Json<'_>>, name: &str) -> Result<&'a str, Refusal> {
    optional_text(field, name)?.ok_or_else(|| missing(name))
}

fn optional_text<'a>(field: Option<&'a Json<'_>>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match field {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "a string")),
    }
}

fn since(fields: &Fields<'_>) -> Result<Since, Refusal> {
    match (&fields.since, &fields.last) {
        (None, None) => Ok(Since::Now),
        (Some(since), None) => position_of(since).map(Since::Position).ok_or_else(|| {
            let epoch = "an epoch that the server wrote";
            wrong("since", &format!("{epoch}, and as offset {WHOLE_NUMBER}"))
        }),
        (None, Some(last)) => Ok(Since::Last(count(last, "last")?)),
        (Some(_), Some(_)) => {
            let text = "since and last exclude each other";
            Err(Refusal::new("bad_data", text))
        }
    }
}

fn position_of(since: &Json<'_>) -> Option<StreamPosition> {
    let Json::Object(fields) = since else {
        return None;
    };
    let field = |name: &str| {
        let found = fields.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value)
    };
    match (field("epoch")?, field("offset")?) {
        (Json::String(epoch), offset) => Some(StreamPosition {
            epoch: epoch.parse().ok()?,
            offset: whole_number(offset)?,
        }),
        _ => None,
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new("bad_data", format!("missing field `{name}`"))
}

fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::new("bad_data", format!("field `{name}` must be {expected}"))
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
struct Left<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    room: &'a str,
}

#[derive(Serialize)]
struct Ack<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

#[derive(Serialize)]
struct Pong {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

/// A position as clients see it.
#[derive(Serialize)]
struct Position {
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
