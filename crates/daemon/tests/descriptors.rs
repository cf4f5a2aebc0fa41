//! The binary when its limit of open files is small, or used up: members are served, and health is
//! answered.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use std::net::SocketAddr;
use std::process::Command;

use binary::Binary;
use throng_testing::{Client, Raw, Reply, exchange, get, until};

const OPENING: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Few enough to be used up in a moment.
const OPEN_FILES_MAX: usize = 200;

/// A server with so few descriptors; nothing where limits cannot be set.
#[expect(clippy::print_stdout, reason = "says what was not tested")]
fn serve(variables: &[(&str, &str)]) -> Option<(Binary, SocketAddr)> {
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("there is no prlimit to set the limit with");
        return None;
    }
    let limit = format!("--nofile={OPEN_FILES_MAX}:{OPEN_FILES_MAX}");
    let cores = [("THRONG_CORES", "1")];
    let program = ["prlimit", &limit];
    Some(Binary::serve_by(&program, &[&cores, variables].concat()))
}

fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = get(address, "/metrics").body;
    let sample = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(' ')
            .map(str::to_owned)
    };
    let value = text.lines().find_map(sample);
    let value = value.unwrap_or_else(|| panic!("no {name} in {text:?}"));
    value.parse().unwrap()
}

/// Opens WebSockets until one is refused; returns those that are open, and the refusal.
fn open_until_refused(address: SocketAddr) -> (Vec<Raw>, Reply) {
    let mut members = Vec::new();
    loop {
        let mut raw = Raw::connect(address);
        raw.send(OPENING.as_bytes());
        let head = raw.receive_head();
        if !head.starts_with("HTTP/1.1 101 ") {
            let mut refusal = Reply::parse(&head);
            refusal.body = raw.receive_all();
            return (members, refusal);
        }
        members.push(raw);
        assert!(members.len() <= OPEN_FILES_MAX, "there is no limit");
    }
}

#[test]
fn when_all_descriptors_are_used_up_health_and_metrics_are_answered_and_others_get_503() {
    let Some((_binary, address)) = serve(&[("THRONG_MAX_CONNECTIONS", "0")]) else {
        return;
    };
    let mut alice = Client::connect(address);
    alice.send(r#"join {"name":"tea"}"#);
    let (mut members, refusal) = open_until_refused(address);
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
    assert!(refusal.body.contains("too many open files"), "{refusal:?}");
    // Also again and again, and behind peers that say nothing.
    let _silent: Vec<Raw> = (0..50).map(|_| Raw::connect(address)).collect();
    for _ in 0..20 {
        assert_eq!(get(address, "/healthz").body, "ok\n");
        let reply = exchange(address, OPENING);
        assert_eq!(
            (reply.status, reply.header("connection")),
            (503, Some("close"))
        );
    }
    let refused = r#"throng_handshakes_refused_total{reason="open_files"}"#;
    assert!(metric(address, refused) >= 21);
    let expected = u64::try_from(members.len() + 1).unwrap();
    assert_eq!(metric(address, "throng_connections"), expected);
    alice.say("tea", "still here");
    alice.expect("msg \"still here\"");
    // Whoever goes makes room.
    for _ in 0..10 {
        members.pop().unwrap().reset();
    }
    until(
        || exchange_status(address).eq(&101).then_some(()),
        || "nobody is let in any more".to_owned(),
    );
}

fn exchange_status(address: SocketAddr) -> u16 {
    let mut raw = Raw::connect(address);
    raw.send(OPENING.as_bytes());
    Reply::parse(&raw.receive_head()).status
}

#[test]
fn by_default_the_limit_of_open_files_is_what_connections_follow_from() {
    let Some((_binary, address)) = serve(&[]) else {
        return;
    };
    let (members, refusal) = open_until_refused(address);
    assert_eq!(refusal.status, 503);
    assert!(refusal.body.contains("too many connections"), "{refusal:?}");
    let refused = r#"throng_handshakes_refused_total{reason="connections"}"#;
    assert_eq!(metric(address, refused), 1);
    let refused = r#"throng_handshakes_refused_total{reason="open_files"}"#;
    assert_eq!(metric(address, refused), 0);
    assert_eq!(get(address, "/healthz").body, "ok\n");
    assert!(members.len() > OPEN_FILES_MAX / 2, "{}", members.len());
}

#[test]
fn the_log_says_how_many_connections_there_may_be_and_that_the_limit_of_open_files_is_smaller() {
    for (max, is_short) in [("auto", false), ("10", false), ("0", true), ("1000", true)] {
        let limit = format!("--nofile={OPEN_FILES_MAX}:{OPEN_FILES_MAX}");
        if Command::new("prlimit").arg("--version").output().is_err() {
            println!("there is no prlimit to set the limit with");
            return;
        }
        let variables = [
            ("THRONG_MAX_CONNECTIONS", max),
            ("THRONG_CORES", "1"),
            ("THRONG_LISTEN", "127.0.0.1:0"),
        ];
        let binary = Binary::start_by(&["prlimit", &limit], &variables);
        let line = binary.wait_for_line("limits (0: none)");
        assert!(line.contains(&format!("max_connections={max} ")), "{line}");
        assert!(line.contains("open_files_max=200"), "{line}");
        let number = line.split(" connections_max=").nth(1).unwrap();
        let number: usize = number.split(' ').next().unwrap().parse().unwrap();
        match max {
            "auto" => assert!((100..OPEN_FILES_MAX).contains(&number), "{line}"),
            max => assert_eq!(number.to_string(), max, "{line}"),
        }
        binary.wait_for_line("listening on http://");
        if is_short {
            binary.wait_for_line("leaves room for fewer");
        } else {
            binary.signal("TERM");
            let before = binary.lines_before("stopped");
            assert!(!before.contains("leaves room"), "{before}");
        }
    }
}
