//! Protocols of the application's own: which is spoken, what is written how often, what is no
//! event.

#![expect(
    clippy::unwrap_used,
    reason = "what a test expects and does not get is its failure"
)]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeSeed;
use serde_json::{Value, json};
use throng::{
    Config, Connection, Data, FlushMode, Json, Mode, Protocol, ProtocolError, PublishOptions,
    Refusal, Router, Server,
};
use throng_testing::{Client, TestServer, config, for_each_flush_mode};
use tokio_tungstenite::tungstenite::Message;

/// Binary: the length of the event's name, the name, JSON. Counts what it writes.
#[derive(Clone, Default)]
struct Prefixed {
    written: Arc<AtomicUsize>,
}

impl Prefixed {
    /// Returns the number of writes since the last call.
    fn take_written(&self) -> usize {
        self.written.swap(0, Ordering::Relaxed)
    }

    /// A message, as a client writes it.
    fn message(event: &str, data: &Value) -> Message {
        let mut bytes = vec![u8::try_from(event.len()).unwrap()];
        bytes.extend_from_slice(event.as_bytes());
        bytes.extend_from_slice(data.to_string().as_bytes());
        Message::binary(bytes)
    }
}

impl Protocol for Prefixed {
    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
        let (len, rest) = message.split_first().ok_or("an empty message")?;
        assert_ne!(*len, 255, "as a test wants it");
        let (name, data) = rest
            .split_at_checked(usize::from(*len))
            .ok_or("shorter than its name")?;
        Ok((std::str::from_utf8(name)?.into(), data))
    }

    fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
    where
        D: DeserializeSeed<'m>,
    {
        Ok(seed.deserialize(&mut serde_json::Deserializer::from_slice(data))?)
    }

    fn encode<T>(&self, event: &str, data: &T, message: &mut Vec<u8>) -> Result<(), ProtocolError>
    where
        T: Serialize + ?Sized,
    {
        self.written.fetch_add(1, Ordering::Relaxed);
        message.push(u8::try_from(event.len())?);
        message.extend_from_slice(event.as_bytes());
        Ok(serde_json::to_writer(message, data)?)
    }
}

/// Text: the event's name, `=`, JSON.
struct Lines;

impl Protocol for Lines {
    fn mode(&self) -> Mode {
        Mode::Text
    }

    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
        let (name, data) = std::str::from_utf8(message)?
            .split_once('=')
            .ok_or("a line is name=data")?;
        Ok((name.into(), data.as_bytes()))
    }

    fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
    where
        D: DeserializeSeed<'m>,
    {
        Prefixed::default().decode(data, seed)
    }

    fn encode<T>(&self, event: &str, data: &T, message: &mut Vec<u8>) -> Result<(), ProtocolError>
    where
        T: Serialize + ?Sized,
    {
        message.extend_from_slice(event.as_bytes());
        message.push(b'=');
        Ok(serde_json::to_writer(message, data)?)
    }
}

/// A chat for whatever protocol is spoken; `echo` answers with what it was sent.
fn chat(server: &Server) -> Router {
    let mut router = Router::new();
    router.on("echo", |conn: &Connection, data: Value| {
        conn.emit("echo", &data)
    });
    router.on(
        "borrow",
        |conn: &Connection, data: Data<'_>| -> Result<(), Refusal> {
            let json: Json<'_> = data.parse()?;
            Ok(conn.emit("borrowed", &json)?)
        },
    );
    router.on("boom", |_: &Connection| -> () {
        panic!("as the test wants it")
    });
    let rooms = server.rooms();
    router.on("join", move |conn: &Connection, room: String| {
        rooms.join(conn, &room)
    });
    let rooms = server.rooms();
    router.on(
        "say",
        move |_: &Connection, (room, text): (String, String)| rooms.emit(&room, "said", &text),
    );
    let rooms = server.rooms();
    router.on(
        "publish",
        move |_: &Connection, (room, text): (String, String)| {
            rooms.publish(&room, &text, PublishOptions::default())
        },
    );
    router
}

fn start(config: Config, set_up: impl FnOnce(&mut Router)) -> TestServer {
    let server = Server::bind(config).unwrap();
    let mut router = chat(&server);
    set_up(&mut router);
    TestServer::run(server, router)
}

/// A client of [`Prefixed`].
struct Speaker(Client);

impl Speaker {
    fn connect(server: &TestServer, subprotocols: Option<&str>) -> Self {
        let headers: Vec<_> = subprotocols
            .map(|names| ("sec-websocket-protocol", names))
            .into_iter()
            .collect();
        Self(Client::connect_with(server.address(), "/ws", &headers))
    }

    fn send(&mut self, event: &str, data: Value) {
        self.0.send_message(Prefixed::message(event, &data));
    }

    fn expect(&mut self, event: &str, data: Value) {
        let Message::Binary(bytes) = self.0.receive_any() else {
            panic!("no binary message");
        };
        let (name, json) = bytes[1..].split_at(usize::from(bytes[0]));
        assert_eq!(std::str::from_utf8(name).unwrap(), event);
        let received: Value = serde_json::from_slice(json).unwrap();
        if event == "error" {
            assert_eq!(received["code"], data, "{received}");
        } else {
            assert_eq!(received, data);
        }
    }

    /// Returns when all that went before is done.
    fn sync(&mut self) {
        self.send("echo", json!("sync"));
        self.expect("echo", json!("sync"));
    }

    fn join(&mut self, room: &str) {
        self.send("join", json!(room));
        self.sync();
    }
}

#[test]
fn handlers_need_not_know_which_protocol_is_spoken() {
    for_each_flush_mode(|mode| {
        let server = start(config(mode), |router| {
            router.set_protocol(Prefixed::default());
        });
        let mut alice = Speaker::connect(&server, None);
        alice.send("echo", json!({"a": [1, null, "x"]}));
        alice.expect("echo", json!({"a": [1, null, "x"]}));
        alice.send("borrow", json!({"b": "y"}));
        alice.expect("borrowed", json!({"b": "y"}));
    });
}

#[test]
fn what_is_no_event_is_answered_in_the_protocol_and_the_connection_goes_on() {
    let server = start(config(FlushMode::Auto), |router| {
        router.set_protocol(Prefixed::default());
    });
    let mut alice = Speaker::connect(&server, None);
    alice.0.send("echo 1");
    alice.expect("error", json!("text"));
    alice.0.send_message(Message::binary(vec![]));
    alice.expect("error", json!("bad_message"));
    alice.0.send_message(Message::binary(vec![9, b'a']));
    alice.expect("error", json!("bad_message"));
    alice.0.send_message(Message::binary(vec![0, b'1']));
    alice.expect("error", json!("bad_message"));
    let long = [vec![65], vec![b'a'; 65], b"1".to_vec()].concat();
    alice.0.send_message(Message::binary(long));
    alice.expect("error", json!("bad_message"));
    alice.send("nothing", json!(1));
    alice.expect("error", json!("unknown_event"));
    alice.send("join", json!(1));
    alice.expect("error", json!("bad_data"));
    alice.send("join", json!(""));
    alice.expect("error", json!("bad_room"));
    alice.sync();
    for code in ["text", "bad_message", "bad_data"] {
        let name = format!("throng_errors_total{{code=\"{code}\"}}");
        assert!(server.metric(&name) > 0, "{name}");
    }
}

#[test]
fn a_protocol_that_panics_ends_its_connection_and_nobody_elses() {
    let server = start(config(FlushMode::Auto), |router| {
        router.set_protocol(Prefixed::default());
    });
    let mut bystander = Speaker::connect(&server, None);
    for message in [vec![255], b"\x04boom1".to_vec()] {
        let mut culprit = Speaker::connect(&server, None);
        culprit.0.send_message(Message::binary(message));
        assert_eq!(culprit.0.expect_close(1011), "internal error");
    }
    bystander.sync();
}

#[test]
fn a_client_is_given_the_first_subprotocol_of_its_own_that_is_served() {
    let server = start(config(FlushMode::Auto), |router| {
        router.serve_protocol("prefixed", Prefixed::default());
        router.serve_protocol("lines", Lines);
        router.serve_throng_v1();
    });
    let answered = |client: &Client| {
        let name = client.response.headers().get("sec-websocket-protocol");
        name.map(|name| name.to_str().unwrap().to_owned())
    };
    let mut prefixed = Speaker::connect(&server, Some("other, prefixed, throng.v1"));
    assert_eq!(answered(&prefixed.0).as_deref(), Some("prefixed"));
    prefixed.sync();

    let mut lines = Speaker::connect(&server, Some("lines,prefixed")).0;
    assert_eq!(answered(&lines).as_deref(), Some("lines"));
    lines.send("echo=1");
    lines.expect("echo=1");
    lines.send_message(Message::binary(b"echo=1".to_vec()));
    assert!(lines.receive().contains(r#""code":"binary""#));
    lines.send("echo");
    assert!(lines.receive().contains(r#""code":"bad_message""#));

    let mut throng = Speaker::connect(&server, Some("throng.v1, lines")).0;
    assert_eq!(answered(&throng).as_deref(), Some("throng.v1"));
    assert!(throng.receive().starts_with("hello {"));

    let mut golem = server.connect();
    assert_eq!(answered(&golem), None);
    golem.send("echo [1]");
    golem.expect("echo [1]");
}

#[test]
#[should_panic = "at most 14 protocols"]
fn there_are_as_many_protocols_as_connections_can_tell_apart() {
    let mut router = Router::new();
    for _ in 0..=14 {
        router.set_protocol(Lines);
    }
}

#[test]
fn a_room_is_written_for_once_in_each_protocol_that_its_members_speak() {
    for_each_flush_mode(|mode| {
        let prefixed = Prefixed::default();
        let served = prefixed.clone();
        let config = Config {
            cores: 2,
            ..config(mode)
        };
        let server = start(config, |router| {
            router.serve_protocol("prefixed", served);
            router.serve_protocol("lines", Lines);
        });
        let mut speakers: Vec<_> = (0..8)
            .map(|_| Speaker::connect(&server, Some("prefixed")))
            .collect();
        speakers.iter_mut().for_each(|speaker| speaker.join("tea"));
        let mut line = Speaker::connect(&server, Some("lines")).0;
        line.send("join=\"tea\"");
        let mut golem = server.connect();
        golem.send("join \"tea\"");
        golem.send("join \"coffee\"");
        for (client, echo) in [(&mut line, "echo=1"), (&mut golem, "echo 1")] {
            client.send(echo);
            client.expect(echo);
        }
        prefixed.take_written();

        golem.send(r#"say ["tea","hot"]"#);
        golem.expect("said \"hot\"");
        line.expect("said=\"hot\"");
        for speaker in &mut speakers {
            speaker.expect("said", json!("hot"));
        }
        assert_eq!(prefixed.take_written(), 1, "for eight members on two cores");

        golem.send(r#"publish ["tea","kept"]"#);
        golem.expect("msg \"kept\"");
        line.expect("msg=\"kept\"");
        for speaker in &mut speakers {
            speaker.expect("msg", json!("kept"));
        }
        assert_eq!(prefixed.take_written(), 1);

        golem.send(r#"say ["coffee","black"]"#);
        golem.expect("said \"black\"");
        assert_eq!(prefixed.take_written(), 0, "nobody there speaks it");
    });
}

#[test]
fn who_may_be_in_no_more_rooms_is_told_so_in_its_protocol() {
    let mut config = config(FlushMode::Auto);
    config.limits.rooms_per_connection_max = 1;
    let server = start(config, |router| {
        router.set_protocol(Prefixed::default());
    });
    let mut alice = Speaker::connect(&server, None);
    alice.join("tea");
    alice.send("join", json!("coffee"));
    alice.expect("error", json!("too_many_rooms"));
}

/// Data that counts how often it is written.
struct Counted<'a>(&'a AtomicUsize);

impl Serialize for Counted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        serializer.serialize_str("counted")
    }
}

#[test]
fn json_is_not_written_where_nobody_may_speak_it() {
    let config = Config {
        cores: 2,
        ..config(FlushMode::Auto)
    };
    let server = start(config, |router| {
        router.set_protocol(Prefixed::default());
    });
    let mut speakers: Vec<_> = (0..4).map(|_| Speaker::connect(&server, None)).collect();
    speakers.iter_mut().for_each(|speaker| speaker.join("tea"));
    let written = AtomicUsize::new(0);
    let reached = server
        .rooms
        .emit("tea", "said", &Counted(&written))
        .unwrap();
    assert_eq!((reached, written.load(Ordering::Relaxed)), (4, 1));
    for speaker in &mut speakers {
        speaker.expect("said", json!("counted"));
    }
    server
        .rooms
        .emit("nobody", "said", &Counted(&written))
        .unwrap();
    assert_eq!(written.load(Ordering::Relaxed), 1, "for nobody");
}
