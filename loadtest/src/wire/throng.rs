//! What throng.v1 says beside publications, read and written: greetings, answers, gaps, the end of
//! a server.
//!
//! None of this is on the way of a delivery, so that a JSON parser reads it. What is said against
//! the protocol is [`Said::Wrong`], with what is wrong; what the protocol does not name is for
//! others.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::envelope::{Name, WHOLE_NUMBER_MAX};
use crate::payload::Stamp;

/// The `id` of every `join`, which each connection sends once, and of `leave`.
const JOIN_ID: u64 = 0;

/// The `id` of the first publication that wants to be acknowledged.
pub(crate) const FIRST_PUBLICATION_ID: u64 = 1;

/// A place in a room's stream of publications.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// Where a membership began.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) position: Position,
    /// Whether nothing is missing; none if nothing was asked for.
    pub(crate) recovered: Option<bool>,
    /// The first publication that is sent again.
    pub(crate) first: Option<u64>,
    #[serde(default)]
    pub(crate) already: bool,
}

/// What became of a publication.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: u64,
    pub(crate) position: Option<Position>,
    #[serde(default)]
    pub(crate) duplicate: bool,
}

/// One message of the server that is no publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ack(Ack),
    /// A request was refused; which, and after which time it may be sent again, as far as it is
    /// said.
    Complaint {
        id: Option<u64>,
        retry_after: Option<Duration>,
    },
    /// The connection will end, and is not to come back before this has passed.
    Drain(Duration),
    /// Publications that are not sent to this member, from the first to the last.
    Gap {
        first: u64,
        last: u64,
    },
    Hello(Name),
    Joined(Joined),
    /// An answer to what is not looked at, or an event that the protocol leaves to others.
    Other,
    /// A publication that is none of this room, or of this run.
    Publication,
    Wrong(&'static str),
}

/// Returns the message that makes a connection a member of a room, and asks for what came behind a
/// position.
pub(crate) fn join(room: &str, epoch: &str, offset: u64) -> Vec<u8> {
    format!(
        r#"join {{"id":{JOIN_ID},"room":"{room}","since":{{"epoch":"{epoch}","offset":{offset}}}}}"#
    )
    .into_bytes()
}

/// Writes the message that publishes a payload of so many bytes and wants to be acknowledged.
/// Whoever sends the same again with the same key publishes it once.
pub(crate) fn publish(
    room: &str,
    (id, key): (u64, &str),
    stamp: Stamp,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    let head = format!(r#"msg {{"id":{id},"key":"{key}","to":"{room}","msg":"#);
    out.extend_from_slice(head.as_bytes());
    stamp.write(payload_bytes, out);
    out.push(b'}');
}

/// Returns how long not to come back, by the reason of a close frame that says so.
pub(crate) fn pause(code: u16, reason: &str) -> Option<Duration> {
    if !COME_BACK_LATER.contains(&code) {
        return None;
    }
    let reason: Pause = serde_json::from_str(reason).ok()?;
    Some(Duration::from_millis(reason.after_ms))
}

/// Close codes that have a pause in their reason.
const COME_BACK_LATER: std::ops::RangeInclusive<u16> = 4100..=4199;

/// Returns what a message to a member of `room` means.
pub(crate) fn understand(message: &[u8], room: &str) -> Said {
    let space = message.iter().position(|&byte| byte == b' ');
    let (event, data) = message.split_at(space.unwrap_or(message.len()));
    let said = match event {
        b"ack" => about(data, room, ack),
        b"drain" => parsed(data).map(|Pause { after_ms }| Said::Drain(ms(after_ms))),
        b"error" => complaint(data),
        b"gap" => about(data, room, gap),
        b"hello" => hello(data),
        b"joined" => about(data, room, joined),
        b"msg" => Ok(Said::Publication),
        b"left" | b"history" | b"pong" => parsed::<IgnoredAny>(data).map(|_| Said::Other),
        _ => Ok(Said::Other),
    };
    said.unwrap_or_else(Said::Wrong)
}

type Understood = Result<Said, &'static str>;

/// Reads an answer that has to be about the member's room.
fn about<T: DeserializeOwned>(
    data: &[u8],
    room: &str,
    understood: fn(T) -> Understood,
) -> Understood {
    let About { room: told, answer } = parsed(data)?;
    if told == room {
        understood(answer)
    } else {
        Err("an answer about another room")
    }
}

fn ack(ack: Ack) -> Understood {
    ack.position.as_ref().map_or(Ok(()), check)?;
    Ok(Said::Ack(ack))
}

fn complaint(data: &[u8]) -> Understood {
    let error: ErrorData = parsed(data)?;
    if error.code.is_empty() || error.message.is_empty() {
        return Err("an error without a code or a message");
    }
    Ok(Said::Complaint {
        id: error.id,
        retry_after: error.retry_after_ms.map(ms),
    })
}

fn gap(
    Gap {
        from: first,
        to: last,
    }: Gap,
) -> Understood {
    if first == 0 || first > last || last > WHOLE_NUMBER_MAX {
        return Err("a gap of nothing");
    }
    Ok(Said::Gap { first, last })
}

fn hello(data: &[u8]) -> Understood {
    let hello: HelloData = parsed(data)?;
    if hello.server.is_empty() {
        return Err("a hello of nobody");
    }
    let name = Name::parse(&hello.connection).ok_or("a hello without a connection's name")?;
    Ok(Said::Hello(name))
}

fn joined(Answer { id, answer: joined }: Answer<Joined>) -> Understood {
    if id != JOIN_ID {
        return Err("a joined without the id of the join");
    }
    check(&joined.position)?;
    if joined
        .first
        .is_some_and(|first| first == 0 || first > joined.position.offset + 1)
    {
        return Err("a joined whose first publication is behind its position");
    }
    Ok(Said::Joined(joined))
}

fn parsed<T: DeserializeOwned>(data: &[u8]) -> Result<T, &'static str> {
    serde_json::from_slice(data).map_err(|_| "what cannot be read")
}

fn check(position: &Position) -> Result<(), &'static str> {
    let is_usual = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let is_epoch = (1..=EPOCH_BYTES_MAX).contains(&position.epoch.len());
    if is_epoch && position.epoch.bytes().all(is_usual) && position.offset <= WHOLE_NUMBER_MAX {
        Ok(())
    } else {
        Err("what is no position")
    }
}

const EPOCH_BYTES_MAX: usize = 16;

fn ms(after_ms: u64) -> Duration {
    Duration::from_millis(after_ms)
}

#[derive(Deserialize)]
struct About<T> {
    room: String,
    #[serde(flatten)]
    answer: T,
}

#[derive(Deserialize)]
struct Answer<T> {
    id: u64,
    #[serde(flatten)]
    answer: T,
}

#[derive(Deserialize)]
struct ErrorData {
    id: Option<u64>,
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Gap {
    from: u64,
    to: u64,
}

/// The limits are there, and numbers; nothing that is sent here is beyond them.
#[derive(Deserialize)]
#[expect(
    dead_code,
    reason = "that they are there is all that is asked of most of them"
)]
struct HelloData {
    server: String,
    connection: String,
    keepalive_ms: u64,
    limits: HelloLimits,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "that they are there is all that is asked of them")]
struct HelloLimits {
    message_bytes: u64,
    rooms: u64,
    room_name_bytes: u64,
    key_bytes: u64,
    history_publications: u64,
    history_bytes: u64,
}

#[derive(Deserialize)]
struct Pause {
    after_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StreamId;

    fn said(text: &str) -> Said {
        understand(text.as_bytes(), "tea")
    }

    fn position(offset: u64) -> Position {
        Position {
            epoch: "k3f9".to_owned(),
            offset,
        }
    }

    #[test]
    fn what_a_server_says_is_understood() {
        let limits = r#""rooms":128,"room_name_bytes":255,"key_bytes":64,"history_bytes":262144"#;
        let limits = format!(r#"{{"message_bytes":65536,"history_publications":1000,{limits}}}"#);
        let who = r#""server":"throng/0.1.0","connection":"Xk3qTz9bA_w""#;
        let hello = format!(r#"hello {{{who},"keepalive_ms":25000,"limits":{limits},"new":[]}}"#);
        assert_eq!(
            said(&hello),
            Said::Hello(Name::parse("Xk3qTz9bA_w").unwrap())
        );
        let position_text = r#""position":{"epoch":"k3f9","offset":57}"#;
        let joined = Joined {
            position: position(57),
            recovered: Some(true),
            first: Some(42),
            already: false,
        };
        assert_eq!(
            said(&format!(
                r#"joined {{"id":0,"room":"tea",{position_text},"recovered":true,"first":42}}"#
            )),
            Said::Joined(joined)
        );
        let ack = |id, duplicate| Ack {
            id,
            position: Some(position(58)),
            duplicate,
        };
        let text = r#"ack {"id":3,"room":"tea","position":{"epoch":"k3f9","offset":58}}"#;
        assert_eq!(said(text), Said::Ack(ack(3, false)));
        let text = text.replace("}}", "},\"duplicate\":true}");
        assert_eq!(said(&text), Said::Ack(ack(3, true)));
        assert_eq!(
            said(r#"gap {"room":"tea","from":58,"to":77}"#),
            Said::Gap {
                first: 58,
                last: 77
            }
        );
        assert_eq!(
            said(r#"drain {"after_ms":1730}"#),
            Said::Drain(Duration::from_millis(1730))
        );
        let why = r#""code":"overloaded","message":"later","retry_after_ms":1500"#;
        let error = format!(r#"error {{"id":3,"event":"msg",{why}}}"#);
        assert_eq!(
            said(&error),
            Said::Complaint {
                id: Some(3),
                retry_after: Some(Duration::from_millis(1500))
            }
        );
        assert_eq!(said(r#"left {"id":0,"room":"tea"}"#), Said::Other);
        assert_eq!(
            said("typing {"),
            Said::Other,
            "an event that is not known is left alone"
        );
        assert_eq!(said(r#"msg {"room":"tea"}"#), Said::Publication);
    }

    #[test]
    fn what_breaks_the_protocol_is_told() {
        for text in [
            "hello",
            r#"hello {"server":"","connection":"Xk3qTz9bA_w","keepalive_ms":1,"limits":{}}"#,
            r#"hello {"server":"x","connection":"Xk3","keepalive_ms":1,"limits":{}}"#,
            r#"joined {"id":0,"room":"coffee","position":{"epoch":"k3f9","offset":57}}"#,
            r#"joined {"room":"tea","position":{"epoch":"k3f9","offset":57}}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"K3F9","offset":57}}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"","offset":57}}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"12345678901234567","offset":57}}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"k3f9","offset":9007199254740992}}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"k3f9","offset":57},"first":59}"#,
            r#"joined {"id":0,"room":"tea","position":{"epoch":"k3f9","offset":57},"first":0}"#,
            r#"joined {"id":0,"room":"tea"}"#,
            r#"ack {"room":"tea","position":{"epoch":"k3f9","offset":58}}"#,
            r#"gap {"room":"tea","from":78,"to":77}"#,
            r#"gap {"room":"tea","from":0,"to":77}"#,
            r#"gap {"room":"coffee","from":1,"to":77}"#,
            "drain {}",
            r#"error {"code":"","message":"x"}"#,
            "left",
        ] {
            assert!(
                matches!(said(text), Said::Wrong(_)),
                "{text}: {:?}",
                said(text)
            );
        }
    }

    #[test]
    fn requests_are_json_and_have_what_they_are_answered_by() {
        let request = |bytes: &[u8], event: &str| -> serde_json::Value {
            let json = bytes.strip_prefix(event.as_bytes()).unwrap();
            serde_json::from_slice(json).unwrap()
        };
        let join = request(&join("tea", "k3f9", 41), "join ");
        assert_eq!(
            join["since"],
            serde_json::json!({"epoch": "k3f9", "offset": 41})
        );
        assert_eq!(
            (&join["id"], &join["room"]),
            (&JOIN_ID.into(), &"tea".into())
        );
        let stamp = Stamp {
            stream: StreamId(1),
            number: 2,
            due_ns: 3,
        };
        let mut out = Vec::new();
        publish("tea", (7, "a-1"), stamp, 40, &mut out);
        let msg = request(&out, "msg ");
        assert_eq!(
            (&msg["id"], &msg["key"], &msg["to"]),
            (&7.into(), &"a-1".into(), &"tea".into())
        );
        assert_eq!(msg["msg"].as_str().unwrap().len(), 38);
    }

    #[test]
    fn a_close_frame_says_how_long_to_stay_away() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(pause(4100, r#"{"reason":"drain","after_ms":1000}"#), second);
        assert_eq!(
            pause(4102, r#"{"reason":"slow_consumer","after_ms":1000}"#),
            second
        );
        assert_eq!(pause(1001, r#"{"after_ms":1000}"#), None);
        assert_eq!(pause(4100, "server is stopping"), None);
    }
}
