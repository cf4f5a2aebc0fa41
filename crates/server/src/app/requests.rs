//! The requests of throng.v1: what they mean (docs/protocol.md).
//!
//! Every request may carry an `id`, and its answer carries the same.

use proto::Json;
use proto::event::{EVENT_NAME_LEN_MAX, JsonParser, is_name};
use rooms::{Acknowledge, EventKind, PastLimits, Since, StreamPosition};
use serde::{Deserialize, Deserializer, Serialize};

use super::connection::Peer;
use super::refusal::Refusal;
use crate::code::Code;
use crate::engine::Sent;
use crate::wire::encode::{encode, encode_written};
use crate::wire::throng_v1::{
    Ack, HISTORY_BYTES_MAX, HISTORY_PUBLICATIONS_MAX, Left, Pong, PublishAnswer, is_reserved,
    write_history,
};

/// How many publications one answer to `history` has if the client does not say.
const HISTORY_LIMIT: u32 = 100;

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

fn emit(connection: &Peer, id: Option<u64>, fields: &Fields<'_>) -> Result<(), Refusal> {
    let room = text(fields.to.as_ref(), "to")?;
    let event = text(fields.event.as_ref(), "event")?;
    if !is_name(event) {
        let text = format!("an event's name is 1 to {EVENT_NAME_LEN_MAX} bytes without a space");
        return Err(Refusal::new(Code::BadEvent, text));
    }
    if is_reserved(event) {
        let text = "the name is the protocol's own: take another";
        return Err(Refusal::new(Code::ReservedEvent, text));
    }
    let data = fields.data.as_ref().unwrap_or(&Json::Null);
    let sent = Sent {
        kind: EventKind::Passing,
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
    let frame = encode_written(HISTORY, write).map_err(Refusal::from)?;
    Ok(connection.engine.direct(connection.id, frame)?)
}

/// The name of the request and of its answer.
const HISTORY: &str = "history";

/// Sends an answer in its place among all that the connection is sent.
fn answer<T: Serialize>(connection: &Peer, event: &str, data: &T) -> Result<(), Refusal> {
    connection.emit(event, data).map_err(Refusal::from)
}

/// Sends an acknowledgement behind the publications of this turn.
fn acknowledge(connection: &Peer, ack: &Ack<'_>) -> Result<(), Refusal> {
    let frame = encode("ack", ack).map_err(Refusal::from)?;
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
            Err(Refusal::new(Code::BadData, text))
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
    Refusal::new(Code::BadData, format!("missing field `{name}`"))
}

fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::new(Code::BadData, format!("field `{name}` must be {expected}"))
}
