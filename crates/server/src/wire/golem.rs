//! golem's wire: text messages `event json`, without ids and answers.

use proto::event::{EncodeError, EventEncoder, ParseError};
use proto::{Json, SharedFrame};
use rooms::Since;
use serde::{Deserialize, Serialize};

use super::encode::encode;
use super::parts::Parts;
use super::request::Request;
use super::{Asked, ReadRequest, Spoken};
use crate::app::refusal::Refusal;

/// golem's wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Golem {
    /// True if `join`, `leave` and `msg` are requests, false if they are events like others.
    pub(crate) has_requests: bool,
}

#[derive(Deserialize)]
struct Room {
    name: String,
}

#[derive(Deserialize)]
struct Msg<'m> {
    to: &'m str,
    #[serde(borrow)]
    msg: Json<'m>,
}

impl Spoken for Golem {
    fn request(self, event: &str) -> Option<ReadRequest> {
        Some(match event {
            _ if !self.has_requests => return None,
            "join" => |json, parser| {
                asked(parser.parse(json).map(|Room { name }| Request::Join {
                    room: name.into(),
                    since: Since::Now,
                }))
            },
            "leave" => |json, parser| {
                let room = parser.parse(json).map(|Room { name }| name.into());
                asked(room.map(|room| Request::Leave { room }))
            },
            "msg" => |json, parser| {
                asked(parser.parse(json).map(|Msg { to, msg }| Request::Publish {
                    room: to.into(),
                    data: msg,
                    key: None,
                }))
            },
            _ => return None,
        })
    }

    fn event<T>(self, event: &str, data: &T) -> Result<SharedFrame, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        encode(event, data)
    }
}

fn asked(request: Result<Request<'_>, ParseError>) -> Asked<'_> {
    Asked {
        id: None,
        request: request.map_err(Refusal::from),
    }
}

/// Writes what members of a room are sent: the data alone.
pub(super) fn write_to_room(
    encoder: &mut EventEncoder,
    event: &str,
    parts: &Parts<'_>,
) -> Result<SharedFrame, EncodeError> {
    encoder.encode_pieces(event, &[parts.data])
}
