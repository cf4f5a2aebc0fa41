//! Servers of other wires than golem's, and whether what the flags say is what is spoken.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; the helpers are not in a test function"
)]

#[path = "support/rooms.rs"]
mod rooms;
#[path = "support/server.rs"]
mod server;

use std::net::SocketAddr;
use std::process::{Command, Output};

use rooms::{Heard, Speech, start};
use serde_json::Value;

/// A wire of lines, which greets, asks who is there, and names the room in each delivery.
#[derive(Clone, Copy)]
struct Lines;

impl Speech for Lines {
    fn greeting(&self) -> Option<String> {
        Some("WHO".to_owned())
    }

    fn understand(&self, text: &str) -> Heard {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        match &*word() {
            "ME" => Heard::Answer("HELLO".to_owned()),
            "SUB" => Heard::Join(word()),
            "PUB" => Heard::Publish {
                room: word(),
                payload: word(),
            },
            _ => Heard::Nothing,
        }
    }

    fn delivery(&self, room: &str, _: usize, payload: &str) -> Option<String> {
        Some(format!("FROM {room} {payload}"))
    }
}

/// The little of Engine.IO and Socket.IO that a client meets.
#[derive(Clone, Copy)]
struct SocketIo;

impl Speech for SocketIo {
    fn greeting(&self) -> Option<String> {
        Some(r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#.to_owned())
    }

    fn understand(&self, text: &str) -> Heard {
        if text == "40" {
            return Heard::Answer(r#"40{"sid":"t"}"#.to_owned());
        }
        let event: Value = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        match event[0].as_str().unwrap() {
            "join" => Heard::Join(event[1].as_str().unwrap().to_owned()),
            "msg" => Heard::Publish {
                room: event[1]["to"].as_str().unwrap().to_owned(),
                payload: event[1]["msg"].to_string(),
            },
            other => panic!("unknown event {other}"),
        }
    }

    fn delivery(&self, _: &str, _: usize, payload: &str) -> Option<String> {
        Some(format!("42[\"msg\",{payload}]"))
    }
}

fn load(address: SocketAddr, flags: &[&str]) -> Output {
    let url = format!("ws://{address}/ws");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--json", "--url", &url]);
    command.args("--rooms 3 --members 4 --window 6 --seconds 0.3 --warmup 0".split(' '));
    command.args(flags).output().unwrap()
}

#[track_caller]
fn assert_delivers(output: &Output, wire: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["scenario"]["wire"], wire);
    assert!(report["deliveries"].as_u64().unwrap() > 0, "{report}");
}

const LINES: [&str; 15] = [
    "--join",
    "SUB {room}",
    "--publish",
    "PUB {room} {payload}",
    "--delivery-prefix",
    "FROM {room} ",
    "--answer",
    "WHO",
    "ME",
    "--join-after",
    "HELLO",
    "--error-prefix",
    "ERR",
    "--sub-protocol",
    "lines",
];

#[test]
fn a_wire_said_with_flags_is_spoken() {
    assert_delivers(&load(start(Lines), &LINES), "template");
}

#[test]
fn socket_io_is_spoken() {
    let output = load(start(SocketIo), &["--wire", "socket.io"]);
    assert_delivers(&output, "socket.io");
}

/// One that takes as long as the program's patience: 10 s.
#[test]
fn a_server_that_never_lets_anybody_join_is_told_from_a_busy_one() {
    let output = load(start(Lines), &["--wire", "socket.io"]);
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("did not say `40`"), "{sentence}");
    assert!(sentence.contains("the wire socket.io (join"), "{sentence}");
}

#[test]
fn without_the_room_in_a_publication_there_is_one_room() {
    let flags = [
        "--join",
        "",
        "--publish",
        "{payload}",
        "--delivery-prefix",
        "",
    ];
    let output = load(start(Lines), &flags);
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("--rooms is 1"), "{sentence}");
}
