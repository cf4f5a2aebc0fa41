//! What is said on a connection: how to join, publish and leave, and what a delivery looks like.
//!
//! A wire is data: a table in `wires.toml`, or the flags that say the same. Texts are put together
//! once for a publication; a delivery is recognized by its [`RoomShape`], which is worked out
//! before the run. A wire with positions, which is throng.v1, says more than texts can: its
//! messages are read and written in [`throng`], and its deliveries in `envelope.rs`.

mod envelope;
mod flags;
mod shape;
mod template;
pub(crate) mod throng;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Deserialize;

pub(crate) use self::envelope::{Envelope, EnvelopeShape, Name};
pub(crate) use self::flags::WireFlags;
pub(crate) use self::shape::{DeliveryShape, DeliveryShapes, RoomShape};
use self::template::Template;
use crate::payload::Stamp;
use crate::plan::Room;

/// What a server speaks: a table in `wires.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wire {
    #[serde(skip)]
    pub(crate) name: String,
    /// What to ask for in `Sec-WebSocket-Protocol`; the server must agree.
    pub(crate) sub_protocol: Option<String>,
    /// Whether publications have offsets, requests have answers, and members come back with a
    /// position.
    pub(crate) positions: bool,
    /// What a connection says as soon as it is open.
    pub(crate) greeting: Template,
    /// Messages of the server that want an answer; the first entry that fits gives it.
    answers: Vec<Answer>,
    /// How the message begins after which a connection may join; without, it joins at once.
    pub(crate) join_after: Option<String>,
    pub(crate) join: Template,
    publish: Template,
    /// Empty where nobody can leave but by closing the connection.
    pub(crate) leave: Template,
    /// A request that no server knows and every one answers with an error; empty where there is
    /// none.
    pub(crate) unknown: Template,
    /// All that a delivery has in front of the payload; with positions, in front of the offset.
    delivery_prefix: Template,
    /// All that it has behind it.
    delivery_suffix: Template,
    /// Whether more than that may stand behind it, between the payload and the suffix.
    more_behind: bool,
    /// Whether a frame may have several messages, one a line.
    pub(crate) lines: bool,
    /// How the server's complaints begin.
    error_prefixes: Vec<String>,
}

/// What to say to a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// How the message begins.
    to: String,
    /// What to say.
    text: String,
}

/// What a message that is no delivery means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// It wants this text back.
    Answer(&'a str),
    /// The server complains.
    Complaint,
    /// It looks like a delivery, but not of this run or not of this room.
    Misdelivery,
    /// The server's own business.
    Other,
}

impl Wire {
    /// Returns the names that [`named`](Self::named) knows.
    pub(crate) fn names() -> Vec<String> {
        entries().into_keys().collect()
    }

    /// Finds the wire of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let wire = entries().remove(name)?;
        Some(Self {
            name: name.to_owned(),
            ..wire
        })
    }

    /// Returns whether publications say which room they are for.
    pub(crate) fn names_rooms(&self) -> bool {
        self.publish.has_room()
    }

    /// Returns whether a message is the one after which a connection may join.
    pub(crate) fn is_welcome(&self, message: &[u8]) -> bool {
        let greeting = self.join_after.as_ref();
        greeting.is_some_and(|greeting| message.starts_with(greeting.as_bytes()))
    }

    /// Returns the message that publishes any JSON.
    pub(crate) fn publication(&self, room: &str, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        let payload = |out: &mut Vec<u8>| out.extend_from_slice(payload);
        self.publish.write(room, payload, &mut message);
        message
    }

    /// Writes the message that publishes a payload of so many bytes.
    pub(crate) fn publish(&self, room: &str, stamp: Stamp, bytes: usize, out: &mut Vec<u8>) {
        self.publish.write(room, |out| stamp.write(bytes, out), out);
    }

    /// Works out what deliveries look like, for each room where the room's name is in them.
    pub(crate) fn delivery_shapes(&self, rooms: &[Room], payload_bytes: usize) -> DeliveryShapes {
        let shape = |room: &str| {
            let mut before = self.delivery_prefix.message(room).unwrap_or_default();
            if self.positions {
                return RoomShape::Enveloped(EnvelopeShape::new(room, &before, payload_bytes));
            }
            let after_bytes = self
                .delivery_suffix
                .message(room)
                .map_or(0, |after| after.len());
            let message_bytes = before.len() + payload_bytes + after_bytes;
            // The payload's own quote is as constant as what precedes it.
            before.push(b'"');
            let shape = DeliveryShape::new(&before, message_bytes as u64);
            RoomShape::Plain(match self.more_behind {
                true => shape.with_more_behind(payload_bytes),
                false => shape,
            })
        };
        if self.delivery_prefix.has_room() || self.delivery_suffix.has_room() {
            DeliveryShapes::PerRoom(rooms.iter().map(|room| shape(&room.name)).collect())
        } else {
            DeliveryShapes::Shared(shape(""))
        }
    }

    /// Returns what a message means that is not a delivery of this run to this room.
    pub(crate) fn meaning(&self, message: &[u8]) -> Meaning<'_> {
        let starts = |prefix: &str| message.starts_with(prefix.as_bytes());
        let delivery = self.delivery_prefix.constant_start();
        if self.error_prefixes.iter().any(|prefix| starts(prefix)) {
            Meaning::Complaint
        } else if let Some(answer) = self.answers.iter().find(|answer| starts(&answer.to)) {
            Meaning::Answer(&answer.text)
        } else if !delivery.is_empty() && starts(delivery) {
            Meaning::Misdelivery
        } else {
            Meaning::Other
        }
    }

    /// Returns why it cannot carry a publication.
    fn check(&self) -> Result<(), &'static str> {
        if !self.publish.has_payload() {
            return Err("--publish has no {payload}");
        }
        if self.join.has_payload() || self.leave.has_payload() {
            return Err("{payload} belongs into --publish alone");
        }
        if self.delivery_prefix.has_payload() || self.delivery_suffix.has_payload() {
            return Err("a delivery is said by what stands around the payload, without {payload}");
        }
        if self.delivery_prefix.bytes_min() > PREFIX_BYTES_MAX {
            return Err("--delivery-prefix has at most 150 bytes");
        }
        Ok(())
    }
}

/// A message that a read cut in two is kept up to 1024 bytes: prefix, room's name, stamp. And a
/// prefix is compared for every delivery.
const PREFIX_BYTES_MAX: usize = 150;

/// So that a person who chose the wrong wire sees what was said.
impl Display for Wire {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (join `{}`, publish `{}`, ",
            self.name, self.join, self.publish
        )?;
        write!(
            f,
            "delivery `{}...{}`)",
            self.delivery_prefix, self.delivery_suffix
        )
    }
}

fn entries() -> BTreeMap<String, Wire> {
    toml::from_str(include_str!("wires.toml")).expect("a test reads the file too")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::STAMP_BYTES;
    use crate::plan::{Plan, RoomId, StreamId};
    use crate::scenario::{Group, Pacing};

    const STAMP: Stamp = Stamp {
        stream: StreamId(7),
        number: 3,
        due_ns: 99,
    };

    fn plan() -> Plan {
        Plan::new(&[Group::alike(2, 1, 1, Pacing::Closed { window: 1 })], 0)
    }

    fn text(bytes: Option<Vec<u8>>) -> String {
        String::from_utf8(bytes.unwrap_or_default()).unwrap()
    }

    /// Where the server says the room's name before each payload.
    fn with_rooms() -> Wire {
        Wire {
            join: Template::parse("SUB {room}"),
            publish: Template::parse("PUB {room} {payload}"),
            delivery_prefix: Template::parse("FROM {room} "),
            delivery_suffix: Template::parse(" END"),
            ..Wire::default()
        }
    }

    #[test]
    fn every_entry_can_carry_a_publication() {
        for (name, wire) in entries() {
            assert_eq!(wire.check(), Ok(()), "{name}");
            let mut out = Vec::new();
            wire.publish("tea", STAMP, 40, &mut out);
            let published = String::from_utf8(out).unwrap();
            assert!(
                wire.names_rooms() && published.contains("tea"),
                "{published}"
            );
        }
        assert_eq!(
            Wire::names(),
            ["centrifugo", "golem", "socket.io", "throng"]
        );
        assert_eq!(Wire::named("morse"), None);
    }

    #[test]
    fn golem_is_spoken_as_its_own_client_does() {
        let golem = Wire::named("golem").unwrap();
        assert_eq!(text(golem.join.message("tea")), r#"join {"name":"tea"}"#);
        assert_eq!(text(golem.leave.message("tea")), r#"leave {"name":"tea"}"#);
        let mut out = Vec::new();
        golem.publish("tea", STAMP, 36, &mut out);
        assert!(out.starts_with(br#"msg {"to":"tea","msg":"aaaaaaah"#));
        assert!(out.ends_with(br#"gd.."}"#), "{}", text(Some(out)));
        assert_eq!(golem.join_after, None);
    }

    #[test]
    fn socket_io_connects_before_it_joins_and_answers_pings() {
        let wire = Wire::named("socket.io").unwrap();
        let open = br#"0{"sid":"x","upgrades":[],"pingInterval":25000}"#;
        assert_eq!(wire.meaning(open), Meaning::Answer("40"));
        assert_eq!(wire.join_after.as_deref(), Some("40"));
        assert_eq!(wire.meaning(b"2"), Meaning::Answer("3"));
        assert_eq!(text(wire.join.message("tea")), r#"42["join","tea"]"#);
        assert_eq!(wire.meaning(br#"44{"message":"no"}"#), Meaning::Complaint);
        assert_eq!(wire.meaning(br#"42["msg","hello"]"#), Meaning::Misdelivery);
        assert_eq!(wire.meaning(br#"42["news","hello"]"#), Meaning::Other);
    }

    #[test]
    fn centrifugo_says_who_published_and_where_behind_the_payload() {
        let wire = Wire::named("centrifugo").unwrap();
        assert_eq!(text(wire.greeting.message("")), r#"{"id":1,"connect":{}}"#);
        assert!(wire.lines);
        let connected = br#"{"id":1,"connect":{"client":"c","version":"6","ping":25}}"#;
        assert!(connected.starts_with(wire.join_after.as_ref().unwrap().as_bytes()));
        assert_eq!(wire.meaning(b"{}"), Meaning::Answer("{}"));
        let refused = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(wire.meaning(refused), Meaning::Complaint);
        let plan = plan();
        let shapes = wire.delivery_shapes(&plan.rooms, STAMP_BYTES + 2);
        let mut payload = Vec::new();
        STAMP.write(STAMP_BYTES + 2, &mut payload);
        let payload = String::from_utf8(payload).unwrap();
        for more in ["", r#","info":{"user":"","client":"c"}"#, r#","offset":7"#] {
            let room = &plan.rooms[0].name;
            let delivery =
                format!(r#"{{"push":{{"channel":"{room}","pub":{{"data":{payload}{more}}}}}}}"#);
            let found = shapes.of(RoomId(0));
            let found = found.delivery(delivery.as_bytes(), delivery.len() as u64);
            assert!(found.unwrap().is_whole, "{delivery}");
        }
    }

    #[test]
    fn what_is_delivered_is_recognized_in_its_own_room_only() {
        let plan = plan();
        let wire = with_rooms();
        let shapes = wire.delivery_shapes(&plan.rooms, STAMP_BYTES + 2);
        let mut delivery = b"FROM load-00000000-1 ".to_vec();
        STAMP.write(STAMP_BYTES + 2, &mut delivery);
        delivery.extend_from_slice(b" END");
        let bytes = delivery.len() as u64;
        let found = shapes.of(RoomId(1)).delivery(&delivery, bytes).unwrap();
        assert_eq!(
            (found.is_whole, Stamp::read(found.letters)),
            (true, Some(STAMP))
        );
        assert!(
            !shapes
                .of(RoomId(1))
                .delivery(&delivery, bytes - 1)
                .unwrap()
                .is_whole
        );
        assert!(shapes.of(RoomId(0)).delivery(&delivery, bytes).is_none());
        assert_eq!(wire.meaning(&delivery), Meaning::Misdelivery);
    }

    #[test]
    fn throng_is_asked_for_by_its_subprotocol_and_delivers_in_envelopes() {
        let plan = plan();
        let wire = Wire::named("throng").unwrap();
        assert_eq!(wire.sub_protocol.as_deref(), Some("throng.v1"));
        assert!(wire.positions && !Wire::named("golem").unwrap().positions);
        assert_eq!(
            text(wire.join.message("tea")),
            r#"join {"id":0,"room":"tea"}"#
        );
        assert_eq!(
            text(wire.leave.message("tea")),
            r#"leave {"id":0,"room":"tea"}"#
        );
        let mut payload = Vec::new();
        STAMP.write(STAMP_BYTES + 2, &mut payload);
        let payload = String::from_utf8(payload).unwrap();
        const NAME: &str = "Xk3qTz9bA_w";
        const AT: u64 = 1_732_270_000_000;
        let room = &plan.rooms[1].name;
        let delivery = format!(
            r#"msg {{"room":"{room}","offset":58,"from":"{NAME}","at":{AT},"msg":{payload}}}"#
        );
        let shapes = wire.delivery_shapes(&plan.rooms, STAMP_BYTES + 2);
        let found = shapes.of(RoomId(1));
        let found = found
            .delivery(delivery.as_bytes(), delivery.len() as u64)
            .unwrap();
        assert_eq!(
            (found.is_whole, Stamp::read(found.letters)),
            (true, Some(STAMP))
        );
        let envelope = found.envelope.unwrap();
        assert_eq!((envelope.offset, envelope.from), (58, Name::parse(NAME)));
        let other = shapes.of(RoomId(0));
        assert!(
            other
                .delivery(delivery.as_bytes(), delivery.len() as u64)
                .is_none()
        );
    }

    #[test]
    fn a_template_that_carries_no_publication_is_refused() {
        let refused = |change: fn(&mut Wire)| {
            let mut spoken = with_rooms();
            change(&mut spoken);
            spoken.check().unwrap_err()
        };
        let long = |spoken: &mut Wire| spoken.delivery_prefix = Template::parse(&"x".repeat(151));
        let around = |spoken: &mut Wire| spoken.delivery_prefix = Template::parse("{payload}");
        assert!(refused(|it| it.publish = Template::parse("PUB {room}")).contains("--publish"));
        assert!(refused(|it| it.join = Template::parse("{payload}")).contains("alone"));
        assert!(refused(around).contains("around"));
        assert!(refused(long).contains("150"));
    }

    #[test]
    fn a_wire_without_messages_for_it_neither_joins_nor_leaves() {
        let mut spoken = with_rooms();
        spoken.join = Template::default();
        let wire = spoken;
        assert_eq!(
            (wire.join.message("tea"), wire.leave.message("tea")),
            (None, None)
        );
    }
}
