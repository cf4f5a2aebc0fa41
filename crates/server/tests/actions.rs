//! What hooks are asked before anything is done, on every wire; and that every request is answered.

#![expect(
    clippy::unwrap_used,
    reason = "what a test expects and does not get is its failure"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use throng::{Action, Connection, FlushMode, Refusal, RoomManager, Router, Server};
use throng_testing::{TestServer, Throng, add_signals_to, config};

/// Questions to the hook, as `action room`.
type Asked = Arc<Mutex<Vec<String>>>;

/// Starts a server whose one hook notes what it is asked and keeps everybody out of `staff:*`.
fn start() -> (TestServer, RoomManager, Asked) {
    let asked = Asked::default();
    let notes = asked.clone();
    let mut router = Router::new();
    router.serve_throng_v1().serve_golem();
    router.before(move |_: &Connection, action: Action<'_>| {
        let room = action.room().unwrap_or("-");
        let name = match action {
            Action::Request { event: "sync" } => return Ok(()),
            Action::Request { event } => event,
            action => action.name(),
        };
        notes.lock().push(format!("{name} {room}"));
        match room.starts_with("staff:") {
            true => Err(Refusal::new("forbidden", "this room is for the staff")),
            false => Ok(()),
        }
    });
    router.on("roll", |_: &Connection| Ok::<_, Refusal>(4));
    router.on("shrug", |_: &Connection| ());
    router.on("later", |_: Connection| async {
        tokio::task::yield_now().await;
        Ok::<_, Refusal>("done")
    });
    router.on("fail", |_: &Connection| {
        Err::<(), _>(Refusal::new("tired", "not today"))
    });
    add_signals_to(&mut router);
    let server = Server::bind(config(FlushMode::Auto)).unwrap();
    let rooms = server.rooms();
    (TestServer::run(server, router), rooms, asked)
}

fn take(asked: &Asked) -> Vec<String> {
    std::mem::take(&mut *asked.lock())
}

mod asked {
    use super::*;

    /// Every request of throng.v1 that is about a room, what the hook is asked, and what answers
    /// it.
    const REQUESTS: [(&str, &str, &[&str], &str); 8] = [
        ("join", r#"{"room":"R"}"#, &["join R"], "joined"),
        (
            "join",
            r#"{"room":"R","last":2}"#,
            &["join R", "history R"],
            "joined",
        ),
        (
            "join",
            r#"{"room":"R","since":{"epoch":"e","offset":1}}"#,
            &["join R", "history R"],
            "joined",
        ),
        ("msg", r#"{"to":"R","msg":1}"#, &["publish R"], "ack"),
        ("emit", r#"{"to":"R","event":"wave"}"#, &["emit R"], "ack"),
        ("history", r#"{"room":"R"}"#, &["history R"], "history"),
        (
            "history",
            r#"{"room":"R","last":1}"#,
            &["history R"],
            "history",
        ),
        ("leave", r#"{"room":"R"}"#, &["leave R"], "left"),
    ];

    #[test]
    fn the_hook_is_asked_about_each_request_of_throng_v1_and_its_room() {
        let (server, rooms, asked) = start();
        for (event, data, actions, answer) in REQUESTS {
            // A connection each, so that none is a member already.
            let mut alice = Throng::connect(&server);
            let in_room = |room: &str| {
                let mut data: Value =
                    serde_json::from_str(&data.replace("\"R\"", "\"?\"")).unwrap();
                for field in ["room", "to"] {
                    if data[field] == "?" {
                        data[field] = room.into();
                    }
                }
                data["id"] = 7.into();
                data
            };
            alice.request(event, in_room("tea"));
            // A member gets its own publication and what is kept before or behind the answer.
            let answered = alice.receive_any_of(&[answer]);
            assert_eq!(answered["id"], 7, "{event} {data}");
            let of = |room: &str| -> Vec<String> {
                actions
                    .iter()
                    .map(|action| action.replace('R', room))
                    .collect()
            };
            assert_eq!(take(&asked), of("tea"), "{event} {data}");

            let mut bob = Throng::connect(&server);
            let error = bob.ask(event, in_room("staff:1"), "error");
            assert_eq!(
                (&error["code"], &error["id"], &error["event"]),
                (&json!("forbidden"), &json!(7), &json!(event)),
                "{error}"
            );
            // The first refusal is the last question.
            assert_eq!(take(&asked), of("staff:1")[..1]);
        }
        assert_eq!(rooms.member_count("staff:1"), 0);
        assert_eq!(rooms.position("staff:1"), None);
    }

    #[test]
    fn the_hook_is_asked_about_each_request_of_golems_wire_and_its_room() {
        let (server, rooms, asked) = start();
        let requests = [
            (r#"join {"name":"R"}"#, "join R"),
            (r#"msg {"to":"R","msg":1}"#, "publish R"),
            (r#"leave {"name":"R"}"#, "leave R"),
        ];
        for (request, action) in requests {
            let mut alice = server.connect();
            alice.send(&request.replace('R', "tea"));
            alice.sync();
            assert_eq!(take(&asked), [action.replace('R', "tea")]);

            let mut bob = server.connect();
            bob.send(&request.replace('R', "staff:1"));
            bob.expect_error("forbidden");
            assert_eq!(take(&asked), [action.replace('R', "staff:1")]);
        }
        assert_eq!(rooms.member_count("staff:1"), 0);
        assert_eq!(rooms.position("staff:1"), None);
    }

    #[test]
    fn the_hook_is_asked_about_events_of_the_applications_own_handled_or_not() {
        let (server, _, asked) = start();
        let mut alice = Throng::connect(&server);
        alice.ask("roll", json!({"id": 1}), "ack");
        alice.ask("nonsense", json!({"id": 2}), "error");
        alice.ask("ping", json!({"id": 3}), "pong");
        let mut bob = server.connect();
        bob.send("nonsense");
        bob.expect_error("unknown_event");
        assert_eq!(
            take(&asked),
            ["roll -", "nonsense -", "ping -", "nonsense -"]
        );
    }
}

mod answers {
    use super::*;

    #[test]
    fn what_a_handler_returns_answers_a_request_with_an_id() {
        let (server, _, _) = start();
        let mut alice = Throng::connect(&server);
        assert_eq!(
            alice.ask("roll", json!({"id": 1}), "ack"),
            json!({"id": 1, "data": 4})
        );
        assert_eq!(
            alice.ask("shrug", json!({"id": 2}), "ack"),
            json!({"id": 2})
        );
        assert_eq!(
            alice.ask("later", json!({"sides": 6, "id": 3}), "ack"),
            json!({"id": 3, "data": "done"})
        );
        assert_eq!(
            alice.ask("fail", json!({"id": 4}), "error"),
            json!({"id": 4, "event": "fail", "code": "tired", "message": "not today"})
        );
        // Nobody asked.
        alice.request("roll", json!({}));
        assert_eq!(
            alice.ask("ping", json!({"id": 5}), "pong"),
            json!({"id": 5})
        );
    }

    #[test]
    fn events_that_the_protocol_reserves_come_to_no_handler() {
        let mut router = Router::new();
        router.serve_throng_v1();
        router.on("auth", |_: &Connection| -> () { panic!("never called") });
        let server = Server::bind(config(FlushMode::Auto)).unwrap();
        let server = TestServer::run(server, router);
        let mut alice = Throng::connect(&server);
        for event in ["auth", "presence"] {
            let error = alice.ask(event, json!({"token": "x", "id": 1}), "error");
            assert_eq!(
                (&error["code"], &error["id"]),
                (&json!("unknown_event"), &json!(1))
            );
        }
    }

    /// Data that begins with an id and may be anything behind it.
    fn data() -> impl Strategy<Value = String> {
        let field = prop_oneof![
            Just(r#""room":"tea""#),
            Just(r#""to":"tea""#),
            Just(r#""room":5"#),
            Just(r#""msg":{"a":[1]}"#),
            Just(r#""event":"wave""#),
            Just(r#""event":"a b""#),
            Just(r#""key":"k""#),
            Just(r#""key":"""#),
            Just(r#""last":3"#),
            Just(r#""last":-1"#),
            Just(r#""since":{"epoch":"e","offset":2}"#),
            Just(r#""since":7"#),
            Just(r#""room":"#),
            Just(r#"nonsense"#),
            Just(r#""deep":[[[["#),
        ];
        let ends = prop_oneof![9 => Just("}"), 1 => Just(""), 1 => Just("]"), 1 => Just("}}")];
        (proptest::collection::vec(field, 0..4), ends).prop_map(|(fields, end)| {
            let fields: String = fields.iter().map(|field| format!(",{field}")).collect();
            format!(r#"{{"id":ID{fields}{end}"#)
        })
    }

    #[test]
    fn a_request_with_a_readable_id_always_gets_an_answer_with_it() {
        let (server, _, _) = start();
        let alice = Mutex::new(Throng::connect(&server));
        let id = AtomicU64::new(0);
        let event = prop_oneof![
            Just("join"),
            Just("leave"),
            Just("msg"),
            Just("emit"),
            Just("history"),
            Just("ping"),
            Just("auth"),
            Just("presence"),
            Just("roll"),
            Just("shrug"),
            Just("later"),
            Just("fail"),
            Just("nonsense"),
        ];
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(512)
        };
        proptest!(config, |(event in event, data in data())| {
            let id = 1 + id.fetch_add(1, Ordering::Relaxed);
            let mut alice = alice.lock();
            let data = data.replace("ID", &id.to_string());
            alice.client.send(&format!("{event} {data}"));
            loop {
                let answer = alice.client.receive();
                let (name, data) = throng_testing::split(&answer);
                // Publications to a room that it has joined, and events that it sent itself.
                if matches!(name, "msg" | "wave" | "gap") {
                    continue;
                }
                prop_assert_eq!(&data["id"], &json!(id), "{}", answer);
                break;
            }
        });
    }
}

/// Reads what is no answer away.
trait ReceiveAnyOf {
    fn receive_any_of(&mut self, names: &[&str]) -> Value;
}

impl ReceiveAnyOf for Throng {
    fn receive_any_of(&mut self, names: &[&str]) -> Value {
        loop {
            let text = self.client.receive();
            let (name, data) = throng_testing::split(&text);
            if names.contains(&name) {
                return data;
            }
        }
    }
}
