//! throng.v1 over loopback: positions, answers, recovery, histories, and what golem's members see
//! of it.

use serde_json::{Value, json};
use throng::{Classes, Config, FlushMode, HistoryLimits, RoomClass, SlowConsumer};
use throng_testing::{TestServer, Throng, config, for_each_flush_mode};

/// A server whose rooms keep what the default class keeps, `few:*` only three publications, and
/// `plain:*` nothing.
fn keeping(flush: FlushMode) -> Config {
    let few = RoomClass {
        history: HistoryLimits {
            publications_max: 3,
            ..HistoryLimits::default()
        },
        publication_bytes_max: 100,
        ..RoomClass::default()
    };
    let patterns = vec![("few:*".into(), few), ("plain:*".into(), RoomClass::PLAIN)];
    Config {
        classes: Classes::new(patterns, RoomClass::default()),
        ..config(flush)
    }
}

#[test]
fn the_subprotocol_is_answered_and_greeted_only_to_those_who_ask() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let golem = server.connect();
        let headers = golem.response.headers();
        assert!(!headers.contains_key("sec-websocket-protocol"));

        let mut alice = Throng::connect(&server);
        let protocol = &alice.client.response.headers()["sec-websocket-protocol"];
        assert_eq!(protocol, "throng.v1");
        assert_eq!(alice.name().len(), 11);
        assert_eq!(alice.hello["limits"]["rooms"], 128);
        assert_eq!(
            alice.ask("ping", json!({"id": 7}), "pong"),
            json!({"id": 7})
        );
        assert_eq!(alice.ask("ping", json!({}), "pong"), json!({}));
    });
}

#[test]
fn members_on_both_wires_hear_each_other_in_one_order() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        let mut golem = server.connect();
        let joined = alice.join("tea \"room\"");
        assert_eq!(joined["room"], "tea \"room\"");
        assert_eq!(joined["position"]["offset"], 0);
        golem.join("tea \"room\"");

        let msg = json!({"to": "tea \"room\"", "msg": {"text": "hot"}, "id": 3});
        alice.request("msg", msg);
        golem.expect(r#"msg {"text":"hot"}"#);
        let own = alice.receive("msg");
        assert_eq!(own["room"], "tea \"room\"");
        assert_eq!(own["from"], alice.name());
        assert_eq!(
            (&own["offset"], &own["msg"]),
            (&json!(1), &json!({"text": "hot"}))
        );
        assert!(own["at"].as_u64().unwrap() > 1_700_000_000_000);
        let position = json!({"epoch": joined["position"]["epoch"], "offset": 1});
        let ack = json!({"id": 3, "room": "tea \"room\"", "position": position});
        alice.expect("ack", ack);

        golem.say("tea \"room\"", "and sweet");
        golem.expect("msg \"and sweet\"");
        alice.expect_msg(2, json!("and sweet"));
    });
}

#[test]
fn who_comes_back_gets_what_was_missed_once_and_then_what_is_live() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut bob = Throng::connect(&server);
        bob.join("tea");
        let mut alice = Throng::connect(&server);
        let left = alice.join("tea")["position"].clone();
        alice.client.close();
        for number in 1..=100 {
            bob.publish("tea", json!(number));
            bob.expect_msg(number, json!(number));
        }

        let mut alice = Throng::connect(&server);
        let joined = alice.rejoin("tea", &left);
        assert_eq!(joined["recovered"], true);
        assert_eq!(
            (&joined["first"], &joined["position"]["offset"]),
            (&json!(1), &json!(100))
        );
        bob.publish("tea", json!("live"));
        for number in 1..=100 {
            alice.expect_msg(number, json!(number));
        }
        alice.expect_msg(101, json!("live"));

        // From where she is, nothing is missing; again while she is a member, nothing is replayed.
        let here = json!({"epoch": left["epoch"], "offset": 101});
        let again = alice.rejoin("tea", &here);
        assert_eq!(
            (&again["already"], &again["position"]),
            (&json!(true), &here)
        );
        alice.request("leave", json!({"room": "tea", "id": 9}));
        alice.expect("left", json!({"room": "tea", "id": 9}));
        let back = alice.rejoin("tea", &here);
        assert_eq!(
            (&back["recovered"], &back["first"]),
            (&json!(true), &json!(102))
        );
        bob.publish("tea", json!("later"));
        alice.expect_msg(102, json!("later"));
    });
}

#[test]
fn what_is_not_held_any_more_is_said_and_the_rest_is_replayed() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut bob = Throng::connect(&server);
        let start = bob.join("few:1")["position"].clone();
        for number in 1..=5 {
            bob.publish("few:1", json!(number));
        }
        let mut alice = Throng::connect(&server);
        for number in 1..=5 {
            bob.expect_msg(number, json!(number));
        }
        let joined = alice.rejoin("few:1", &start);
        assert_eq!(
            (&joined["recovered"], &joined["first"]),
            (&json!(false), &json!(3))
        );
        for number in 3..=5 {
            alice.expect_msg(number, json!(number));
        }

        // Positions of other epochs, and of the future.
        for since in [
            json!({"epoch": "k3f9", "offset": 4}),
            json!({"epoch": "0", "offset": 0}),
            json!({"epoch": "3w5e11264sgsf", "offset": 4}),
            json!({"epoch": "k3f9", "offset": MAX}),
            json!({"epoch": start["epoch"], "offset": 6}),
        ] {
            let mut carol = Throng::connect(&server);
            let joined = carol.rejoin("few:1", &since);
            assert_eq!(
                (&joined["recovered"], &joined["first"]),
                (&json!(false), &json!(3))
            );
            (3..=5).for_each(|number| carol.expect_msg(number, json!(number)));
        }

        let mut dave = Throng::connect(&server);
        let last = dave.ask("join", json!({"room": "few:1", "last": 2}), "joined");
        assert_eq!((last.get("recovered"), &last["first"]), (None, &json!(4)));
        dave.expect_msg(4, json!(4));
        dave.expect_msg(5, json!(5));
    });
}

#[test]
fn a_room_with_history_outlives_its_members_and_one_without_does_not() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        for (room, is_kept) in [("quiet", true), ("plain:quiet", false)] {
            let mut alice = Throng::connect(&server);
            let left = alice.join(room)["position"].clone();
            alice.client.close();
            server.wait_until_empty();
            let mut alice = Throng::connect(&server);
            let joined = alice.rejoin(room, &left);
            assert_eq!(joined["recovered"], is_kept, "{room}");
            assert_eq!(
                joined["position"]["epoch"] == left["epoch"],
                is_kept,
                "{room}"
            );
            alice.client.close();
            server.wait_until_empty();
        }
        assert_eq!(server.metric("throng_rooms_without_members"), 1);

        // Published to nobody: kept where something is kept.
        let mut bob = Throng::connect(&server);
        let ack = bob.ask("msg", json!({"id": 1, "to": "later", "msg": 1}), "ack");
        assert_eq!(ack["position"]["offset"], 1);
        let ack = bob.ask(
            "msg",
            json!({"id": 2, "to": "plain:later", "msg": 1}),
            "ack",
        );
        assert_eq!(ack, json!({"id": 2, "room": "plain:later"}));
        let joined = bob.ask("join", json!({"room": "later", "last": 10}), "joined");
        assert_eq!(joined["first"], 1);
        bob.expect_msg(1, json!(1));
    });
}

#[test]
fn a_repeated_key_is_acknowledged_again_and_delivered_once() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        alice.join("tea");
        let mut bob = Throng::connect(&server);
        let publish =
            |number: u64, key: &str| json!({"id": number, "to": "tea", "msg": number, "key": key});
        let first = bob.ask("msg", publish(1, "c1-1"), "ack");
        let second = bob.ask("msg", publish(2, "c1-2"), "ack");
        let repeat = bob.ask("msg", publish(3, "c1-1"), "ack");
        assert_eq!(first.get("duplicate"), None);
        assert_eq!(
            (&repeat["duplicate"], &repeat["position"]),
            (&json!(true), &first["position"])
        );
        assert_eq!(second["position"]["offset"], 2);
        alice.expect_msg(1, json!(1));
        alice.expect_msg(2, json!(2));
        // The same key in another room is another publication.
        let other = json!({"id": 4, "to": "coffee", "msg": 4, "key": "c1-1"});
        assert_eq!(bob.ask("msg", other, "ack")["position"]["offset"], 1);
        bob.publish("tea", json!("end"));
        alice.expect_msg(3, json!("end"));

        for key in ["", &"x".repeat(65)] {
            bob.request("msg", publish(5, key));
            assert_eq!(bob.expect_error("bad_key")["id"], 5);
        }
    });
}

#[test]
fn events_that_pass_have_no_offset_and_the_protocols_own_names_are_refused() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        alice.join("tea");
        let mut golem = server.connect();
        golem.join("tea");
        let emit =
            |event: &str| json!({"id": 5, "to": "tea", "event": event, "data": {"on": true}});
        alice.request("emit", emit("typing"));
        let data = json!({"room": "tea", "from": alice.name(), "data": {"on": true}});
        alice.expect("typing", data);
        alice.expect("ack", json!({"id": 5, "room": "tea"}));
        golem.expect(r#"typing {"on":true}"#);

        for event in ["msg", "gap", "hello", "throng.next"] {
            alice.request("emit", emit(event));
            assert_eq!(alice.expect_error("reserved_event")["id"], 5);
        }
        for event in ["", "two words", &"x".repeat(65)] {
            alice.request("emit", emit(event));
            alice.expect_error("bad_event");
        }
        alice.publish("tea", json!(1));
        alice.expect_msg(1, json!(1));
    });
}

#[test]
fn a_history_is_read_in_parts_from_a_position_on() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        let nothing = alice.ask("history", json!({"id": 1, "room": "tea"}), "history");
        assert_eq!(
            nothing,
            json!({"id": 1, "room": "tea", "position": null, "publications": []})
        );
        for number in 1..=25 {
            alice.request("msg", json!({"to": "tea", "msg": number}));
        }
        let offsets = |part: &Value| -> Vec<u64> {
            let publications = part["publications"].as_array().unwrap();
            publications
                .iter()
                .map(|p| p["offset"].as_u64().unwrap())
                .collect()
        };
        let last = alice.ask("history", json!({"room": "tea", "last": 3}), "history");
        assert_eq!(offsets(&last), [23, 24, 25]);
        assert_eq!(last["publications"][0]["from"], alice.name());

        let mut since = json!({"epoch": last["position"]["epoch"], "offset": 5});
        let mut read = Vec::new();
        loop {
            let request = json!({"room": "tea", "since": since, "limit": 8});
            let part = alice.ask("history", request, "history");
            assert_eq!(part["recovered"], true);
            read.extend(offsets(&part));
            since = part["position"].clone();
            if part.get("more").is_none() {
                break;
            }
        }
        assert_eq!(read, (6..=25).collect::<Vec<_>>());
        assert_eq!(since["offset"], 25);
    });
}

#[test]
fn what_is_wrong_with_a_request_is_said_with_its_id() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        let bad = [
            ("join", json!({"id": 1}), "bad_data"),
            ("join", json!({"id": 1, "room": 7}), "bad_data"),
            ("join", json!({"id": 1, "room": ""}), "bad_room"),
            (
                "join",
                json!({"id": 1, "room": "a", "since": {"epoch": "a"}}),
                "bad_data",
            ),
            (
                "join",
                json!({"id": 1, "room": "a", "last": -1}),
                "bad_data",
            ),
            (
                "join",
                json!({"id": 1, "room": "a", "last": 1, "since": {"epoch": "a", "offset": 1}}),
                "bad_data",
            ),
            ("leave", json!({"id": 1}), "bad_data"),
            ("msg", json!({"id": 1, "to": "a"}), "bad_data"),
            (
                "msg",
                json!({"id": 1, "to": "x".repeat(256), "msg": 1}),
                "bad_room",
            ),
            (
                "msg",
                json!({"id": 1, "to": "few:1", "msg": "x".repeat(100)}),
                "too_large",
            ),
            (
                "history",
                json!({"id": 1, "room": "a", "limit": "all"}),
                "bad_data",
            ),
        ];
        for (event, data, code) in bad {
            alice.request(event, data.clone());
            let error = alice.expect_error(code);
            assert_eq!(
                (&error["id"], &error["event"]),
                (&json!(1), &json!(event)),
                "{data}"
            );
        }
        for id in [json!(-1), json!("1"), json!(9_007_199_254_740_992_u64)] {
            alice.request("ping", json!({"id": id}));
            assert_eq!(alice.expect_error("bad_data").get("id"), None);
        }
        alice.client.send("join {");
        alice.expect_error("bad_data");
        alice.client.send("unheard_of {}");
        alice.expect_error("unknown_event");
        alice.publish("few:1", Value::Null);
        let last = alice.ask("history", json!({"room": "few:1"}), "history");
        assert_eq!(last["publications"][0]["msg"], Value::Null);
    });
}

/// The largest whole number of the protocol.
const MAX: u64 = (1 << 53) - 1;

#[test]
fn numbers_that_are_too_large_and_epochs_that_no_server_writes_are_refused() {
    let server = TestServer::start(keeping(FlushMode::Auto));
    let mut alice = Throng::connect(&server);
    for number in [
        json!(MAX + 1),
        json!(u64::MAX),
        json!(1e300),
        json!(-1),
        json!(1.5),
        json!("1"),
        json!(null),
    ] {
        let since = json!({"epoch": "k3f9", "offset": number});
        for (event, data) in [
            ("join", json!({"id": 1, "room": "a", "since": since})),
            ("history", json!({"id": 1, "room": "a", "since": since})),
            ("join", json!({"id": 1, "room": "a", "last": number})),
            ("history", json!({"id": 1, "room": "a", "last": number})),
            ("history", json!({"id": 1, "room": "a", "limit": number})),
        ] {
            if number.is_null() && data.get("since").is_none() {
                // As if it were not said.
                continue;
            }
            alice.request(event, data.clone());
            assert_eq!(alice.expect_error("bad_data")["id"], 1, "{event} {data}");
        }
    }
    for epoch in [
        json!(""),
        json!("K3F9"),
        json!("k3 f9"),
        json!("01"),
        json!("-1"),
        json!("\u{e9}"),
        json!("3w5e11264sgsg"),
        json!("zzzzzzzzzzzzz"),
        json!("1".repeat(14)),
        json!(7),
        json!(null),
    ] {
        let since = json!({"epoch": epoch, "offset": 1});
        for event in ["join", "history"] {
            let data = json!({"id": 1, "room": "a", "since": since});
            alice.request(event, data);
            assert_eq!(alice.expect_error("bad_data")["id"], 1, "{event} {epoch}");
        }
    }
    for (field, number) in [("last", MAX), ("limit", MAX), ("limit", 0)] {
        let data = json!({"id": 1, "room": "a", field: number});
        alice.ask("history", data, "history");
    }
}

#[test]
fn a_room_too_many_is_refused_with_the_requests_id() {
    for_each_flush_mode(|flush| {
        let mut config = keeping(flush);
        config.limits.rooms_per_connection_max = 1;
        let server = TestServer::start(config);
        let mut alice = Throng::connect(&server);
        alice.join("tea");
        alice.request("join", json!({"id": 4, "room": "coffee"}));
        let error = alice.expect_error("too_many_rooms");
        assert_eq!(
            (&error["id"], &error["room"]),
            (&json!(4), &json!("coffee"))
        );
    });
}

#[test]
fn answers_and_own_publications_keep_their_order() {
    for_each_flush_mode(|flush| {
        let server = TestServer::start(keeping(flush));
        let mut alice = Throng::connect(&server);
        // All of it in one write, so that it is one turn of the server.
        let mut expected = Vec::new();
        for number in 0..50_u64 {
            let room = format!("r{}", number % 5);
            if number < 5 {
                alice.request("join", json!({"id": number, "room": room}));
                expected.push(format!("joined {number}"));
            }
            alice.request(
                "msg",
                json!({"id": 100 + number, "to": room, "msg": number}),
            );
        }
        alice.request("ping", json!({"id": 999}));
        let mut got = Vec::new();
        let mut own = std::collections::HashSet::new();
        while own.len() < 100 || !got.contains(&"pong 999".to_owned()) {
            let text = alice.client.receive();
            let (event, data) = text.split_once(' ').unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            match event {
                "msg" => assert!(own.insert(data["msg"].as_u64().unwrap())),
                "ack" => {
                    let number = data["id"].as_u64().unwrap() - 100;
                    assert!(own.contains(&number), "the ack of {number} came before it");
                    assert!(own.insert(100 + number));
                }
                _ => got.push(format!("{event} {}", data["id"])),
            }
        }
        expected.push("pong 999".to_owned());
        assert_eq!(got, expected);
    });
}

#[test]
fn a_member_that_reads_nothing_is_told_what_it_was_not_sent_or_closed_as_its_room_says() {
    for_each_flush_mode(|flush| {
        let class = |slow_consumer| RoomClass {
            slow_consumer,
            ..RoomClass::default()
        };
        let patterns = vec![
            ("skip".into(), class(SlowConsumer::Skip)),
            ("latest".into(), class(SlowConsumer::Latest)),
        ];
        let mut config = Config {
            classes: Classes::new(patterns, RoomClass::default()),
            ..keeping(flush)
        };
        config.limits.outbox_bytes_max = 64 * 1024;
        let server = TestServer::start(config);
        for room in ["skip", "latest"] {
            let mut slow = Throng::connect(&server);
            slow.join(room);
            let mut bob = Throng::connect(&server);
            let filler = "x".repeat(16 * 1024);
            let count = 700;
            for number in 1..=count {
                let msg = json!({"number": number, "filler": filler});
                let ack = bob.ask("msg", json!({"id": number, "to": room, "msg": msg}), "ack");
                assert_eq!(ack["position"]["offset"], number);
            }
            assert_eq!(server.metric("throng_connections_pending{le=\"0\"}"), 1);
            assert_eq!(server.metric("throng_connections_pending{le=\"+Inf\"}"), 2);
            // She reads on: everything is there or told, in order, and the newest is there.
            let (mut next, mut gaps) = (1, 0);
            while next <= count {
                let text = slow.client.receive();
                let (event, data) = text.split_once(' ').unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                match event {
                    "msg" => {
                        assert_eq!(data["offset"], next, "{room}");
                        next += 1;
                    }
                    "gap" => {
                        assert_eq!((&data["room"], &data["from"]), (&json!(room), &json!(next)));
                        next = data["to"].as_u64().unwrap() + 1;
                        assert!(next <= count, "the newest is always sent");
                        gaps += 1;
                    }
                    other => panic!("{other}"),
                }
            }
            assert!(gaps > 0, "{room}: her socket took all of it");
            for client in [slow, bob] {
                client.client.close();
            }
            server.wait_until_empty();
        }
        assert!(server.metric("throng_skipped_total") > 0);
        assert_eq!(server.metric("throng_slow_consumers_total"), 0);
    });
}
