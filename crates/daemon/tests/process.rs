//! The binary as a process: its signals, its exit codes, and what it says of what it cannot use.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;

use binary::Binary;
use throng_testing::{Client, Raw, Throng, exchange, get};

/// Whoever collects the log may have ended first: that is no reason to go on.
#[test]
fn a_server_whose_log_nobody_reads_any_more_drains_all_the_same() {
    let mut server = Binary::serve_unheard();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// Nor is one that is there and does not read: a pipe that is full takes nothing for ever.
#[test]
fn a_log_that_nobody_reads_stops_neither_members_nor_signals_nor_the_end() {
    let (mut server, address, _pipe) = Binary::serve_unread(&[("THRONG_LOG", "trace")]);
    let mut alice = Client::connect(address);
    alice.send(r#"join {"name":"tea"}"#);
    for number in 0..20 {
        // A line each.
        server.signal("HUP");
        let refused = exchange(
            address,
            &format!(
                "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Origin: https://{number}.example\r\n\r\n"
            ),
        );
        assert_eq!(refused.status, 403);
        alice.say("tea", "hi");
        alice.expect("msg \"hi\"");
    }
    let metrics = get(address, "/metrics").body;
    assert!(
        metrics.contains("\nthrong_log_lines_dropped_total "),
        "{metrics}"
    );
    server.signal("TERM");
    alice.expect_close(1001);
    drop(alice);
    assert_eq!(server.wait().code(), Some(0));
}

/// More than a server of one core needs for itself.
const OPEN_FILES_MAX: usize = 100;

#[test]
fn open_files_used_up_are_said_when_they_are_and_when_they_are_not_any_more() {
    let (server, address) = Binary::serve(&[("THRONG_CORES", "1")]);
    let mut alice = Client::connect(address);
    alice.send(r#"join {"name":"tea"}"#);
    alice.say("tea", "hi");
    alice.expect("msg \"hi\"");
    server.limit_open_files(OPEN_FILES_MAX);
    let waiting: Vec<Raw> = (0..OPEN_FILES_MAX).map(|_| Raw::connect(address)).collect();
    server.wait_for_line("out of file descriptors");
    alice.say("tea", "still there");
    alice.expect("msg \"still there\"");
    server.limit_open_files(4 * OPEN_FILES_MAX);
    server.wait_for_line("accepting connections again");
    drop(waiting);
}

#[test]
fn a_page_that_is_refused_is_said_once_with_the_setting_that_lets_it_in() {
    let (server, address) = Binary::serve(&[]);
    let refuse = |page: &str| {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {page}\r\n\r\n"
        );
        assert_eq!(exchange(address, &request).status, 403);
    };
    for page in [
        "https://a.example",
        "https://a.example",
        "*",
        "same",
        "https://b.example",
    ] {
        refuse(page);
    }
    let lines: Vec<String> = (0..4)
        .map(|_| server.wait_for_line("may not open"))
        .collect();
    let lets_in = |line: &str| {
        line.split_once("THRONG_ORIGINS=")
            .map(|(_, rules)| rules.to_owned())
    };
    let wanted = |page| Some(format!("same,https://{page}.example (or Config::origins)"));
    let found: Vec<_> = lines.iter().map(|line| lets_in(line)).collect();
    let trimmed =
        |rules: Option<String>| rules.map(|rules| rules.split(" times").next().unwrap().to_owned());
    let found: Vec<_> = found.into_iter().map(trimmed).collect();
    assert_eq!(found, [wanted("a"), None, None, wanted("b")], "{lines:#?}");
}

#[test]
fn a_member_that_is_too_slow_is_named_in_the_log() {
    let (server, address) = Binary::serve(&[("THRONG_MAX_OUTBOX_BYTES", "100000")]);
    let mut slow = Throng::connect_to(address);
    slow.join("tea");
    let mut bob = Client::connect(address);
    let filler = "x".repeat(60_000);
    while get(address, "/metrics")
        .body
        .contains("\nthrong_slow_consumers_total 0\n")
    {
        bob.say("tea", &filler);
    }
    let line = server.wait_for_line("slow consumer closed");
    let name = format!("connection=\"{}\"", slow.name());
    assert!(line.contains("WARN") && line.contains(&name), "{line}");
}

/// The library's tests serve a chat of their own, with the same events.
#[test]
fn its_chat_has_golems_events_and_throng_v1_in_the_same_rooms() {
    let (_server, address) = Binary::serve(&[]);
    let mut alice = Client::connect(address);
    let mut bob = Throng::connect_to(address);
    bob.join("tea");
    alice.send(r#"join {"name":"tea"}"#);
    alice.say("tea", "hi");
    alice.expect("msg \"hi\"");
    bob.expect_msg(1, "hi".into());
    alice.send(r#"leave {"name":"tea"}"#);
    for (request, code) in [
        (r#"join {"name":""}"#, "bad_room"),
        (r#"leave {}"#, "bad_data"),
        (r#"msg {"to":"","msg":1}"#, "bad_room"),
        (r#"msg {"to":"tea"}"#, "bad_data"),
        ("dance", "unknown_event"),
    ] {
        alice.send(request);
        alice.expect_error(code);
    }
    alice.say("tea", "from outside");
    bob.expect_msg(2, "from outside".into());
    bob.publish("tea", 3.into());
    bob.expect_msg(3, 3.into());
    // Whoever has left gets nothing of that; the next thing that comes is an answer.
    alice.send("dance");
    alice.expect_error("unknown_event");
}

#[test]
fn signals_that_mean_nothing_here_end_nothing() {
    let (mut server, address) = Binary::serve(&[]);
    let mut alice = Client::connect(address);
    for signal in ["HUP", "USR1", "USR2", "XFSZ", "PIPE"] {
        server.signal(signal);
    }
    server.wait_for_line("no configuration file to reload");
    alice.send(r#"join {"name":"tea"}"#);
    alice.say("tea", "hi");
    alice.expect("msg \"hi\"");
    server.signal("TERM");
    alice.expect_close(1001);
    drop(alice);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_drains_it_and_it_exits_with_0() {
    for (signal, flush) in [("TERM", "auto"), ("INT", "write"), ("QUIT", "auto")] {
        let (mut binary, address) = Binary::serve(&[("THRONG_FLUSH", flush)]);
        let mut alice = Client::connect(address);
        alice.send(r#"join {"name":"tea"}"#);
        alice.say("tea", "hi");
        alice.expect("msg \"hi\"");
        binary.signal(signal);
        alice.expect_close(1001);
        drop(alice);
        assert_eq!(binary.wait().code(), Some(0));
        binary.wait_for_line("stopped");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut binary, address) = Binary::serve(&[
        ("THRONG_DRAIN_TIMEOUT_S", "3600"),
        ("THRONG_CLOSE_TIMEOUT_S", "3600"),
    ]);
    let mut deaf = Raw::connect_websocket(address);
    binary.signal("TERM");
    deaf.expect_close(1001);
    binary.signal("TERM");
    assert_eq!(binary.wait().code(), Some(130));
}

#[test]
fn a_bad_setting_is_named_on_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (variable, value) in [
        ("THRONG_LISTEN", &*taken),
        ("THRONG_LISTEN", "nonsense"),
        ("THRONG_LISTEN", "127.0.0.1:0,"),
        ("THRONG_LISTEN", "unix:/no/such/directory/throng.sock"),
        ("THRONG_LISTEN", "192.0.2.1:80"),
        ("THRONG_CORES", "many"),
        ("THRONG_CORES", "257"),
        ("THRONG_CORES", "-1"),
        ("THRONG_PATH", "ws"),
        ("THRONG_ORIGINS", "https://a.example/chat"),
        ("THRONG_ORIGINS", "same,"),
        ("THRONG_ALLOWED_HOSTS", "https://a.example"),
        ("THRONG_MAX_CONNECTIONS", "many"),
        ("THRONG_MAX_CONNECTIONS", "-1"),
        ("THRONG_FLUSH", "fast"),
        ("THRONG_MAX_MESSAGE_BYTES", "0"),
        ("THRONG_PONG_TIMEOUT_S", "0"),
        ("THRONG_DRAIN_TIMEOUT_S", "soon"),
        ("THRONG_PIN", "perhaps"),
        ("THRONG_SLOW_CONSUMER", "wait"),
        ("THRONG_HISTORY_BYTES", "-1"),
        ("THRONG_ROOMS", "cursor:*"),
        ("THRONG_ROOMS", "[{match = \"*\"}, {match = \"a\"}]"),
        ("THRONG_LISTEN", "127.0.0.1:8080,127.0.0.1:8080"),
        ("THRONG_LISTEN", "unix:/run/t,unix:/run/t"),
        ("THRONG_LISTEN", ""),
        ("THRONG_CORES", ""),
        ("THRONG_PIN", ""),
        ("THRONG_PATH", ""),
        ("THRONG_CONFIG", ""),
        ("THRONG_CONFIG", "/no/such/file"),
        ("THRONG_LOG", ""),
        ("THRONG_LOG", "warning"),
        ("THRONG_LOG", "thrang=debug"),
        ("THRONG_IDLE_TIMEOUT_S", "NaN"),
        ("THRONG_IDLE_TIMEOUT_S", "inf"),
        ("THRONG_IDLE_TIMEOUT_S", "1e-30"),
        ("THRONG_HISTORY_FSYNC", "always"),
        ("THRONG_HISTORY_ON_FAILURE", "refuse"),
        ("THRONG_HISTORY_PATH", ""),
        ("THRONG_HISTORY_PATH", " "),
        ("THRONG_HISTORY_PATH", "/dev/null"),
        ("THRONG_HISTORY_PATH", "/dev/null/histories"),
        ("THRONG_HISTORY_PATH", "/proc/histories"),
    ] {
        let output = Binary::command().env(variable, value).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let case = format!("{variable}={value}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{case}");
        assert_eq!(stderr.lines().count(), 1, "{case}");
        assert!(stderr.contains(variable), "{case}");
        assert!(output.stdout.is_empty(), "{case}");
    }
}

#[test]
fn a_value_that_is_no_text_is_named() {
    let no_text = std::ffi::OsStr::from_bytes(b"\xff");
    let mut command = Binary::command();
    let output = command.env("THRONG_CORES", no_text).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(
        stderr,
        "error: THRONG_CORES: the value is not valid UTF-8\n"
    );
}

#[test]
fn a_bad_flag_is_named() {
    for arguments in [&["--cores", "many"][..], &["--cores=many"], &["--no-such"]] {
        let output = Binary::command().args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let flag = arguments[0].split('=').next().unwrap();
        assert!(stderr.contains(flag), "{stderr}");
    }
}

#[test]
fn a_flag_goes_before_its_variable() {
    let output = Binary::command()
        .env("THRONG_CORES", "many")
        .args(["--cores", "1", "--listen", "nonsense"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--listen"), "{stderr}");
}

#[test]
fn the_help_names_every_flag_with_its_variable() {
    let output = Binary::command().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, options) = help.split_once("Options:\n").unwrap();
    let mut flag_count = 0;
    for option in options.split("\n\n") {
        let flag = option.trim_start().split([' ', '\n', '[']).next().unwrap();
        if !flag.starts_with("--") {
            assert!(["-h,", "-V,"].contains(&flag), "{option}");
            continue;
        }
        let variable = flag.trim_start_matches("--").replace('-', "_");
        let variable = format!("[env: THRONG_{}", variable.to_uppercase());
        // Long lines are wrapped.
        let words: Vec<&str> = option.split_whitespace().collect();
        assert!(words.join(" ").contains(&variable), "{option}");
        flag_count += 1;
    }
    assert!(flag_count > 20, "{help}");
}

#[test]
fn a_connection_before_the_signal_and_one_after_the_restart_are_served() {
    let (mut first, address) = Binary::serve(&[]);
    let mut alice = Client::connect(address);
    alice.send("dance");
    alice.expect_error("unknown_event");
    first.signal("TERM");
    alice.expect_close(1001);
    drop(alice);
    first.wait();
    // The connection of the last run is in TIME_WAIT on the same port.
    let listen = address.to_string();
    let second = Binary::start(&[("THRONG_LISTEN", &listen)]);
    second.wait_for_line("listening on");
    let mut bob = Client::connect(address);
    bob.send("dance");
    bob.expect_error("unknown_event");
}
