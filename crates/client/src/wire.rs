//! throng.v1 as text: messages `event json` to values and back. Pure.
//!
//! Written from docs/protocol.md alone. Unknown fields and unknown events are ignored.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::position::Position;
use crate::refused::Refused;

/// The value of `Sec-WebSocket-Protocol`.
pub(crate) const SUBPROTOCOL: &str = "throng.v1";

/// The longest name of an emitted event, in bytes.
pub(crate) const EVENT_BYTES_MAX: usize = 64;

/// The greeting of a server.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Hello {
    /// Its name and version, such as `throng/0.1.0`.
    pub server: String,
    /// This connection's id: what others see as `from`. Each connection has another one.
    pub connection: String,
    /// The server pings after so many milliseconds of silence; 0 is never.
    pub keepalive_ms: u64,
    /// The limits of one connection.
    pub limits: Limits,
}

/// The limits of one connection. `None`: the server did not say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Limits {
    /// The largest message, in bytes.
    pub message_bytes: Option<usize>,
    /// The most rooms that a connection may be in.
    pub rooms: Option<usize>,
    /// The longest name of a room, in bytes.
    pub room_name_bytes: Option<usize>,
    /// The longest key of a publication, in bytes.
    pub key_bytes: Option<usize>,
    /// The most publications in one answer to a question for history.
    pub history_publications: Option<u64>,
    /// The most bytes of publications in one such answer.
    pub history_bytes: Option<u64>,
}

/// A message of the server.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Ack(Ack),
    Drain(Drain),
    Emitted(&'a str, Emitted<'a>),
    Error(RefusedFields),
    Gap(GapFields),
    Hello(Hello),
    History(HistoryFields<'a>),
    Joined(JoinedFields),
    Left(Answer),
    Msg(Msg<'a>),
    Pong(Answer),
    /// Something of a later version, which a client ignores.
    Unknown,
}

/// An answer of which only the request matters.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: Option<u64>,
}

/// A publication was taken.
#[derive(Debug, Deserialize)]
pub(crate) struct Ack {
    pub(crate) id: Option<u64>,
    pub(crate) position: Option<Position>,
    #[serde(default)]
    pub(crate) duplicate: bool,
}

/// The server stops soon.
#[derive(Debug, Deserialize)]
pub(crate) struct Drain {
    pub(crate) after_ms: u64,
}

/// An ephemeral event.
#[derive(Debug, Deserialize)]
pub(crate) struct Emitted<'a> {
    pub(crate) room: Option<String>,
    pub(crate) from: Option<String>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// A request that was not carried out.
#[derive(Debug, Deserialize)]
pub(crate) struct RefusedFields {
    pub(crate) id: Option<u64>,
    #[serde(flatten)]
    pub(crate) refused: Refused,
}

/// Publications that this client was not sent, both ends included.
#[derive(Debug, Deserialize)]
pub(crate) struct GapFields {
    pub(crate) room: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A part of a room's history.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryFields<'a> {
    pub(crate) id: Option<u64>,
    pub(crate) position: Option<Position>,
    #[serde(borrow)]
    pub(crate) publications: Vec<Msg<'a>>,
    pub(crate) first: Option<u64>,
    pub(crate) recovered: Option<bool>,
    #[serde(default)]
    pub(crate) more: bool,
}

/// A membership that began.
#[derive(Debug, Deserialize)]
pub(crate) struct JoinedFields {
    pub(crate) id: Option<u64>,
    pub(crate) position: Position,
    pub(crate) recovered: Option<bool>,
    pub(crate) first: Option<u64>,
    #[serde(default)]
    pub(crate) already: bool,
}

/// A publication.
#[derive(Debug, Deserialize)]
pub(crate) struct Msg<'a> {
    pub(crate) room: String,
    pub(crate) offset: u64,
    pub(crate) from: Option<String>,
    pub(crate) at: Option<u64>,
    #[serde(borrow)]
    pub(crate) msg: &'a RawValue,
}

/// Reads a message of the server; `None` if its data is not what throng.v1 says.
pub(crate) fn read(text: &str) -> Option<Event<'_>> {
    let (event, data) = text.split_once(' ').unwrap_or((text, "null"));
    Some(match event {
        "ack" => Event::Ack(of(data)?),
        "drain" => Event::Drain(of(data)?),
        "error" => Event::Error(of(data)?),
        "gap" => Event::Gap(of(data)?),
        "hello" => Event::Hello(of(data)?),
        "history" => Event::History(of(data)?),
        "joined" => Event::Joined(of(data)?),
        "left" => Event::Left(of(data)?),
        "msg" => Event::Msg(of(data)?),
        "pong" => Event::Pong(of(data)?),
        _ if is_reserved(event) => Event::Unknown,
        _ => of(data).map_or(Event::Unknown, |emitted| Event::Emitted(event, emitted)),
    })
}

fn of<'a, T: Deserialize<'a>>(data: &'a str) -> Option<T> {
    serde_json::from_str(data).ok()
}

/// Returns whether only the protocol itself may use this name of an event.
pub(crate) fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event) || event.starts_with("throng")
}

const RESERVED: [&str; 15] = [
    "ack", "drain", "emit", "error", "gap", "hello", "history", "join", "joined", "leave", "left",
    "msg", "ping", "pong", "presence",
];

/// A request. Which fields it has depends on the event; those that are `None` are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<&'a Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) msg: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
}

/// Writes a request.
pub(crate) fn write(event: &str, request: &Request<'_>) -> String {
    let data = serde_json::to_string(request).expect("strings and numbers can be written as JSON");
    format!("{event} {data}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_unknown_events_are_ignored() {
        let text = r#"joined {"id":1,"room":"a","position":{"epoch":"k","offset":5},"new":[]}"#;
        let Some(Event::Joined(joined)) = read(text) else {
            panic!("{text} is a joined");
        };
        assert_eq!(
            (joined.id, joined.first, joined.already),
            (Some(1), None, false)
        );
        assert!(matches!(
            read(r#"presence {"room":"a"}"#),
            Some(Event::Unknown)
        ));
        assert!(matches!(read("throngish"), Some(Event::Unknown)));
        assert!(matches!(read("typing [1]"), Some(Event::Unknown)));
    }

    #[test]
    fn data_that_is_not_what_the_protocol_says_is_not_read() {
        for text in [
            "msg",
            r#"msg {"room":"a"}"#,
            "gap {",
            r#"ack {"id":-1}"#,
            "hello 5",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn deep_data_is_kept_as_it_came() {
        let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
        let text = format!(r#"msg {{"room":"a","offset":1,"msg":{deep}}}"#);
        let Some(Event::Msg(msg)) = read(&text) else {
            panic!("it is a publication");
        };
        assert_eq!(msg.msg.get(), deep);
    }
}
