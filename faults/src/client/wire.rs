//! throng.v1 as text: messages `event json` to values and back. Pure.
//!
//! Written from docs/protocol.md alone. Fields that are not known are passed over, and so are events.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A message of the server.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// A publication was taken, or an emit.
    Ack(Ack),
    /// The server stops soon.
    Drain,
    /// A request was refused.
    Error(Refused),
    /// Publications are missing.
    Gap(Gap),
    /// The greeting.
    Hello(Hello),
    /// A membership began.
    Joined(Joined),
    /// A publication.
    Msg(Msg),
    /// Something else, which a client passes over.
    Other,
}

/// The server's greeting, as far as it is used here.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Hello {
    /// What others see this connection's publications come from.
    pub(super) connection: String,
    /// After how long a silence the server pings, in milliseconds.
    pub(super) keepalive_ms: u64,
}

/// A place in a room's stream.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct Place {
    /// Which life of the stream.
    pub(super) epoch: String,
    /// The last publication before the place.
    pub(super) offset: u64,
}

/// A membership that began.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Joined {
    /// The request.
    pub(super) id: u64,
    /// The room's name.
    pub(super) room: String,
    /// Where the room was.
    pub(super) position: Place,
    /// Whether nothing is missing since the place that was asked for.
    pub(super) recovered: Option<bool>,
    /// The first publication of the replay.
    pub(super) first: Option<u64>,
    /// Whether it was a member before.
    #[serde(default)]
    pub(super) already: bool,
}

/// A publication.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct Msg {
    /// The room's name.
    pub(super) room: String,
    /// Its place.
    pub(super) offset: u64,
    /// What was published.
    pub(super) msg: serde_json::Value,
}

/// Publications that this client was not sent, both ends included.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Gap {
    /// The room's name.
    pub(super) room: String,
    /// The first.
    pub(super) from: u64,
    /// The last.
    pub(super) to: u64,
}

/// A request that was carried out.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Ack {
    /// The request.
    pub(super) id: u64,
    /// The place of the publication; none if nobody was there and nothing is kept.
    pub(super) position: Option<Place>,
    /// Whether it was known by its key.
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// A request that was not carried out.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Refused {
    /// The request.
    pub(super) id: Option<u64>,
    /// Why, for programs.
    pub(super) code: String,
    /// After how many milliseconds it may be asked again; none if it is wrong as it is.
    pub(super) retry_after_ms: Option<u64>,
}

/// A message that throng.v1 does not have.
#[derive(Debug, Error)]
pub(super) enum MessageError {
    /// The data of an event lacks something, or is no JSON.
    #[error("{0:?} with data that is none of it")]
    Data(&'static str, #[source] serde_json::Error),
    /// There is no event's name.
    #[error("a message without an event")]
    Event,
}

/// Reads a message of the server.
///
/// # Errors
///
/// If it is none that throng.v1 has.
pub(super) fn read(text: &str) -> Result<Event, MessageError> {
    let (event, data) = text.split_once(' ').ok_or(MessageError::Event)?;
    Ok(match event {
        "ack" => Event::Ack(of("ack", data)?),
        "drain" => Event::Drain,
        "error" => Event::Error(of("error", data)?),
        "gap" => Event::Gap(of("gap", data)?),
        "hello" => Event::Hello(of("hello", data)?),
        "joined" => Event::Joined(of("joined", data)?),
        "msg" => Event::Msg(of("msg", data)?),
        _ => Event::Other,
    })
}

fn of<'a, T: Deserialize<'a>>(event: &'static str, data: &'a str) -> Result<T, MessageError> {
    serde_json::from_str(data).map_err(|error| MessageError::Data(event, error))
}

/// Asks to become a member.
#[derive(Debug, Serialize)]
pub(super) struct Join<'a> {
    /// The request.
    pub(super) id: u64,
    /// The room's name.
    pub(super) room: &'a str,
    /// From where on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Place>,
}

/// Publishes.
#[derive(Debug, Serialize)]
pub(super) struct Publish<'a> {
    /// The request.
    pub(super) id: u64,
    /// The room's name.
    pub(super) to: &'a str,
    /// What to publish.
    pub(super) msg: Content<'a>,
    /// What makes it one publication.
    pub(super) key: &'a str,
}

/// What clients of a run publish.
#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    /// Which publication it is, so that who gets it can say which it got.
    pub(super) key: &'a str,
    /// The number of its room: golem's wire does not say it.
    pub(super) room: u32,
    /// So that it has its size.
    pub(super) pad: &'a str,
}

/// Writes a request.
///
/// # Panics
///
/// Never: strings and numbers can be written as JSON.
pub(super) fn write(event: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("strings and numbers can be written as JSON");
    format!("{event} {data}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_what_is_not_known_is_passed_over() {
        let text = r#"joined {"id":1,"room":"a","position":{"epoch":"k3","offset":5},"recovered":true,"first":3,"new":[]}"#;
        let Event::Joined(joined) = read(text).unwrap() else {
            panic!("it is a joined");
        };
        assert_eq!(
            (joined.first, joined.recovered, joined.already),
            (Some(3), Some(true), false)
        );
        let Event::Ack(ack) = read(r#"ack {"id":4,"room":"a"}"#).unwrap() else {
            panic!("it is an ack");
        };
        assert_eq!((ack.id, ack.position, ack.duplicate), (4, None, false));
        assert_eq!(read(r#"presence {"room":"a"}"#).unwrap(), Event::Other);
        assert_eq!(read("drain {}").unwrap(), Event::Drain);
    }

    #[test]
    fn messages_that_are_none_are_said_so() {
        assert!(matches!(read("msg"), Err(MessageError::Event)));
        for text in [r#"msg {"room":"a"}"#, "gap {", r#"ack {"id":-1}"#] {
            assert!(matches!(read(text), Err(MessageError::Data(..))), "{text}");
        }
    }

    #[test]
    fn requests_are_written_as_the_protocol_has_them() {
        let join = Join {
            id: 2,
            room: "a \"b\"",
            since: None,
        };
        assert_eq!(write("join", &join), r#"join {"id":2,"room":"a \"b\""}"#);
        let publish = Publish {
            id: 3,
            to: "a",
            msg: Content {
                key: "c1-2",
                room: 7,
                pad: "",
            },
            key: "c1-2",
        };
        let text = r#"msg {"id":3,"to":"a","msg":{"key":"c1-2","room":7,"pad":""},"key":"c1-2"}"#;
        assert_eq!(write("msg", &publish), text);
    }
}
