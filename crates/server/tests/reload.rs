//! Changing the configuration of a server that serves.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::time::Duration;

use serde_json::json;
use throng::{Classes, Config, FlushMode, Handle, Limits, RoomClass, Router, Server};
use throng_testing::{Client, TestServer, Throng, config, exchange, for_each_flush_mode};

/// A server with what changes it.
fn changing(config: Config) -> (TestServer, Handle) {
    let server = Server::bind(config).unwrap();
    let handle = server.handle();
    (TestServer::serve(server, |_, _| {}), handle)
}

/// Waits until the connection's core has changed over: it does so at the end of a turn at the
/// latest.
fn settle(client: &mut Client) {
    client.sync();
    client.sync();
}

/// The answer to a request for a WebSocket, with these headers more, which is to be refused.
fn refused(server: &TestServer, headers: &str) -> u16 {
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    exchange(server.address(), &request).status
}

#[test]
fn lower_limits_hold_for_connections_that_are_open_and_close_nobody() {
    for_each_flush_mode(|flush| {
        let before = config(flush);
        let (server, handle) = changing(before.clone());
        let mut alice = server.connect();
        alice.join("tea");
        alice.join("milk");
        alice.join("a-room-with-a-long-name");
        let limits = Limits {
            message_bytes_max: 60,
            rooms_per_connection_max: 2,
            room_name_bytes_max: 10,
            connections_max: 1.into(),
            ..before.limits
        };
        let lower = Config {
            limits,
            ..before.clone()
        };
        assert_eq!(handle.reload(&lower), [""; 0]);
        settle(&mut alice);

        alice.say("tea", "still there");
        alice.expect("msg \"still there\"");
        alice.send(r#"join {"name":"coffee"}"#);
        alice.expect_error("too_many_rooms");
        alice.send(r#"join {"name":"another-long-name"}"#);
        alice.expect_error("bad_room");
        alice.leave("a-room-with-a-long-name");
        assert_eq!(refused(&server, ""), 503);
        alice.say("tea", &"x".repeat(60));
        alice.expect_close(1009);
        drop(alice);
        server.wait_until_empty();

        assert_eq!(handle.reload(&before), [""; 0]);
        let (mut bob, _carol) = (server.connect(), server.connect());
        bob.say("tea", &"x".repeat(60));
        bob.sync();
    });
}

#[test]
fn other_origins_hold_for_the_next_page() {
    let before = config(FlushMode::Auto);
    let (server, handle) = changing(before.clone());
    let page = "https://www.example";
    let origin = format!("Origin: {page}\r\n");
    assert_eq!(refused(&server, &origin), 403);
    let origins = "same,https://www.example".parse().unwrap();
    handle.reload(&Config {
        origins,
        ..before.clone()
    });
    let headers = [("origin", page)];
    Client::connect_with(server.address(), "/ws", &headers).sync();
    handle.reload(&before);
    assert_eq!(refused(&server, &origin), 403);
}

#[test]
fn rooms_that_exist_keep_their_class_and_others_get_the_new_one() {
    let before = config(FlushMode::Auto);
    let (server, handle) = changing(before.clone());
    let mut alice = Throng::connect(&server);
    alice.join("old");
    handle.reload(&Config {
        classes: Classes::new(Vec::new(), RoomClass::default()),
        ..before
    });
    alice.join("new");
    for room in ["old", "new"] {
        alice.publish(room, json!("hot"));
        alice.expect_msg(1, json!("hot"));
    }
    let history = |client: &mut Throng, room: &str| {
        let asked = json!({"room": room, "last": 10});
        let joined = client.ask("join", asked, "joined");
        (
            joined["position"]["offset"].clone(),
            joined["first"].clone(),
        )
    };
    let mut bob = Throng::connect(&server);
    assert_eq!(
        history(&mut bob, "old"),
        (json!(1), json!(2)),
        "nothing kept"
    );
    assert_eq!(history(&mut bob, "new"), (json!(1), json!(1)));
    bob.expect_msg(1, json!("hot"));
    // With its last member the old one ends, and what comes next by its name is new.
    for client in [&mut alice, &mut bob] {
        client.ask("leave", json!({"id": 1, "room": "old"}), "left");
    }
    alice.join("old");
    alice.publish("old", json!("again"));
    alice.expect_msg(1, json!("again"));
    bob.ask("join", json!({"room": "old", "last": 10}), "joined");
    bob.expect_msg(1, json!("again"));
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    let before = config(FlushMode::Auto);
    let (server, handle) = changing(before.clone());
    let mut other = Config {
        listen: Vec::new(),
        path: None,
        cores: 2,
        pin: true,
        shards: 64,
        flush: FlushMode::Write,
        ..before
    };
    other.timeouts.close = Duration::from_secs(1);
    other.history.memory_bytes_max = 1;
    other.limits.connections_max = 1.into();
    let all = [
        "listen", "path", "cores", "pin", "shards", "flush", "timeouts", "history",
    ];
    assert_eq!(handle.reload(&other), all);
    assert_eq!(handle.reload(&other), all, "they are still otherwise");
    let mut alice = server.connect();
    alice.sync();
    assert_eq!(server.metric("throng_cores"), 1);
}

#[test]
fn a_server_may_be_changed_before_it_serves() {
    let before = config(FlushMode::Auto);
    let server = Server::bind(before.clone()).unwrap();
    let limits = Limits {
        rooms_per_connection_max: 1,
        ..before.limits
    };
    server.handle().reload(&Config { limits, ..before });
    let mut router = Router::new();
    throng_testing::add_chat_to(&mut router);
    let server = TestServer::run(server, router);
    let mut alice = server.connect();
    alice.join("tea");
    alice.send(r#"join {"name":"milk"}"#);
    alice.expect_error("too_many_rooms");
}
