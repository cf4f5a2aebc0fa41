//! The binary as a process: its signals, its exit codes, and what it says of what it cannot use.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/harness.rs"]
mod harness;

use std::net::TcpListener;

use harness::{Binary, Client, Raw};

/// Whoever collects the log may have ended first: that is no reason to go on.
#[test]
fn a_server_whose_log_nobody_reads_any_more_drains_all_the_same() {
    let mut server = Binary::serve_unheard();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_drains_it_and_it_exits_with_0() {
    for (signal, flush) in [("TERM", "auto"), ("INT", "write")] {
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
