//! Reads the requests of throng.v1 (docs/protocol.md). Every one may carry an `id`.

use std::borrow::Cow;

use proto::Json;
use proto::event::{EVENT_NAME_LEN_MAX, JsonParser, find_id, is_name};
use rooms::{Since, StreamPosition};
use serde::{Deserialize, Deserializer};

use super::is_reserved;
use crate::app::refusal::Refusal;
use crate::code::Code;
use crate::wire::request::Request;
use crate::wire::{Asked, ReadRequest};

/// Returns what reads the request of this name; none if it is an event of the application's.
pub(super) fn request(event: &str) -> Option<ReadRequest> {
    Some(match event {
        "auth" | "presence" => |json, _| reserved(json),
        "emit" => |json, parser| read_as::<Emit<'_>>(json, parser),
        "history" => |json, parser| read_as::<History<'_>>(json, parser),
        "join" => |json, parser| read_as::<Join<'_>>(json, parser),
        "leave" => |json, parser| read_as::<Leave<'_>>(json, parser),
        "msg" => |json, parser| read_as::<Msg<'_>>(json, parser),
        "ping" => |json, parser| read_as::<Ping<'_>>(json, parser),
        _ => return None,
    })
}

/// Refuses a request of a later version. No handler is to give it another meaning before.
fn reserved<'m>(json: &[u8]) -> Asked<'m> {
    let text = "throng.v1 reserves this event, and this server does not know it";
    Asked {
        id: find_id(json, usize::MAX),
        request: Err(Refusal::new(Code::UnknownEvent, text)),
    }
}

/// The fields of one request. Each is read as it came, so that a wrong one is answered with the
/// request's id.
trait Fields<'m>: Default + Deserialize<'m> + HasId<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal>;
}

fn read_as<'m, F: Fields<'m>>(json: &'m mut [u8], parser: &mut JsonParser) -> Asked<'m> {
    // JSON that is broken behind its id is answered with the id.
    let leading_id = find_id(json, 1);
    // No data says as little as an empty object.
    let fields = match parser.parse::<Option<F>>(json) {
        Ok(fields) => fields.unwrap_or_default(),
        Err(error) => {
            return Asked {
                id: leading_id,
                request: Err(error.into()),
            };
        }
    };
    let (id, request) = match id_of(fields.id()) {
        Ok(id) => (id, fields.into_request()),
        Err(refusal) => (None, Err(refusal)),
    };
    Asked { id, request }
}

/// A request's id, as it came.
trait HasId<'m> {
    fn id(&self) -> Option<&Json<'m>>;
}

/// Declares the fields of a request, any of which may be missing.
macro_rules! fields {
    ($name:ident { $($field:ident),* } $(present { $($present:ident),+ })?) => {
        #[derive(Default, Deserialize)]
        struct $name<'m> {
            #[serde(borrow, default)]
            id: Option<Json<'m>>,
            $(
                #[serde(borrow, default)]
                $field: Option<Json<'m>>,
            )*
            // `null` is something to say, and not the same as nothing.
            $($(
                #[serde(borrow, default, deserialize_with = "present")]
                $present: Option<Json<'m>>,
            )+)?
        }

        impl<'m> HasId<'m> for $name<'m> {
            fn id(&self) -> Option<&Json<'m>> {
                self.id.as_ref()
            }
        }
    };
}

fields!(Emit { to, event } present { data });
fields!(History {
    room,
    since,
    last,
    limit
});
fields!(Join { room, since, last });
fields!(Leave { room });
fields!(Msg { to, key } present { msg });
fields!(Ping {});

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json<'de>>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl<'m> Fields<'m> for Emit<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        let room = text(self.to, "to")?;
        let event = text(self.event, "event")?;
        if !is_name(&event) {
            let text =
                format!("an event's name is 1 to {EVENT_NAME_LEN_MAX} bytes without a space");
            return Err(Refusal::new(Code::BadEvent, text));
        }
        if is_reserved(&event) {
            let text = "throng.v1 reserves this name; take another";
            return Err(Refusal::new(Code::ReservedEvent, text));
        }
        let data = self.data.unwrap_or(Json::Null);
        Ok(Request::Emit { room, event, data })
    }
}

impl<'m> Fields<'m> for History<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        Ok(Request::History {
            room: text(self.room, "room")?,
            limit: self.limit.map(|limit| count(&limit, "limit")).transpose()?,
            since: since(self.since, self.last)?,
        })
    }
}

impl<'m> Fields<'m> for Join<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        Ok(Request::Join {
            room: text(self.room, "room")?,
            since: since(self.since, self.last)?,
        })
    }
}

impl<'m> Fields<'m> for Leave<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        let room = text(self.room, "room")?;
        Ok(Request::Leave { room })
    }
}

impl<'m> Fields<'m> for Msg<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        Ok(Request::Publish {
            room: text(self.to, "to")?,
            data: self.msg.ok_or_else(|| missing("msg"))?,
            key: optional_text(self.key, "key")?,
        })
    }
}

impl<'m> Fields<'m> for Ping<'m> {
    fn into_request(self) -> Result<Request<'m>, Refusal> {
        Ok(Request::Ping)
    }
}

/// The largest number of a request, as JavaScript's whole numbers.
const WHOLE_NUMBER_MAX: u64 = (1 << 53) - 1;

const WHOLE_NUMBER: &str = "a whole number from 0 to 2^53 - 1";

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

fn id_of(id: Option<&Json<'_>>) -> Result<Option<u64>, Refusal> {
    let id = id.map(|id| whole_number(id).ok_or_else(|| wrong("id", WHOLE_NUMBER)));
    id.transpose()
}

fn text<'m>(field: Option<Json<'m>>, name: &str) -> Result<Cow<'m, str>, Refusal> {
    optional_text(field, name)?.ok_or_else(|| missing(name))
}

fn optional_text<'m>(field: Option<Json<'m>>, name: &str) -> Result<Option<Cow<'m, str>>, Refusal> {
    match field {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "a string")),
    }
}

fn since(since: Option<Json<'_>>, last: Option<Json<'_>>) -> Result<Since, Refusal> {
    match (&since, &last) {
        (None, None) => Ok(Since::Now),
        (Some(since), None) => position_of(since).map(Since::Position).ok_or_else(|| {
            let epoch = "an epoch that the server wrote";
            wrong("since", &format!("{epoch}, and as offset {WHOLE_NUMBER}"))
        }),
        (None, Some(last)) => Ok(Since::Last(count(last, "last")?)),
        (Some(_), Some(_)) => {
            let text = "since and last cannot be combined";
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
