//! The end of a server, by the library's call and by a signal to the binary; and starts that fail.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/harness.rs"]
mod harness;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use harness::{
    Binary, Client, Gate, Raw, TestServer, Throng, config, for_each_flush_mode, now, until,
};
use serde_json::json;
use throng::{BindError, Drain, FlushMode, Server};

/// Longer than any test may take.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn what_was_published_before_the_drain_arrives_before_its_close() {
    for_each_flush_mode(|mode| {
        let mut config = config(mode);
        config.cores = 2;
        let server = TestServer::start(config);
        let mut members = [0, 1].map(|core| {
            let mut member = server.connect_on(core);
            member.join("tea");
            member
        });
        for number in 0..500 {
            server.rooms.emit("tea", "said", &number).unwrap();
        }
        server.stop.drain();
        server.rooms.emit("tea", "said", "too late").unwrap();
        for member in &mut members {
            for number in 0..500 {
                member.expect(&format!("said {number}"));
            }
            member.expect_close(1001);
        }
        drop(members);
        server.drain().unwrap();
    });
}

#[test]
fn more_than_an_outbox_holds_arrives_before_the_close_too() {
    for_each_flush_mode(|mode| {
        let mut config = config(mode);
        config.limits.outbox_bytes_max = 64 * 1024;
        let mut gate = None;
        let server = TestServer::start_with(config, |router, _| {
            gate = Some(Gate::add_to(router));
        });
        let (gate, mut holder) = (gate.unwrap(), server.connect());
        let mut member = server.connect();
        member.join("tea");
        // Held up, the core finds the publications and the drain together.
        gate.hold_core_of(&mut holder);
        let long = "x".repeat(1000);
        for number in 0..500 {
            let text = format!("{number} {long}");
            server.rooms.emit("tea", "said", &text).unwrap();
        }
        server.stop.drain();
        gate.release();
        for number in 0..500 {
            member.expect(&format!("said \"{number} {long}\""));
        }
        member.expect_close(1001);
        drop((holder, member));
        server.drain().unwrap();
    });
}

#[test]
fn a_drain_ends_with_the_last_connection() {
    for_each_flush_mode(|mode| {
        let mut config = config(mode);
        (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
        let server = TestServer::start(config);
        let mut alice = server.connect();
        let mut raw = server.connect_raw_websocket();
        // Neither of these has begun a request, so nobody waits for their end.
        let mut kept_alive = server.connect_raw();
        kept_alive.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        kept_alive.receive_head();
        let _silent = server.connect_raw();
        alice.sync();
        server.stop.drain();
        alice.expect_close(1001);
        raw.expect_close(1001);
        raw.expect_end();
        drop((alice, raw));
        server.drain().unwrap();
    });
}

#[test]
fn a_peer_that_never_closes_delays_a_drain_only_so_long() {
    for_each_flush_mode(|mode| {
        let mut config = config(mode);
        config.timeouts.close = NEVER;
        config.timeouts.drain = Duration::from_millis(200);
        let server = TestServer::start(config);
        let mut deaf = server.connect_raw_websocket();
        let mut blocked = Raw::connect_narrow(server.address()).opened();
        blocked.send_text(r#"join {"name":"tea"}"#);
        blocked.sync();
        for _ in 0..100 {
            let long = "x".repeat(10_000);
            server.rooms.emit("tea", "said", &long).unwrap();
        }
        let began = now();
        server.drain().unwrap();
        assert!(began.elapsed() >= Duration::from_millis(200));
        deaf.expect_close(1001);
        deaf.expect_end();
    });
}

#[test]
fn half_a_request_does_not_delay_a_drain_until_its_timeout() {
    let mut config = config(FlushMode::Auto);
    (config.timeouts.drain, config.timeouts.handshake) = (NEVER, NEVER);
    config.timeouts.header_read = NEVER;
    let server = TestServer::start(config);
    let mut half = server.connect_raw();
    half.send(b"GET /ws HT");
    let mut second = server.connect_raw();
    second.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /hea");
    assert!(second.receive_head().starts_with("HTTP/1.1 200 "));
    let idle = server.connect_raw();
    // The server has accepted all three.
    server.check_health();
    server.drain().unwrap();
    half.expect_end();
    drop((second, idle));
}

#[test]
fn nobody_comes_in_during_a_drain() {
    let server = TestServer::start(config(FlushMode::Auto));
    let mut raw = server.connect_raw_websocket();
    raw.sync();
    server.stop.drain();
    raw.expect_close(1001);
    // It goes on until the last connection has ended, but the listener is closed.
    until(
        || TcpStream::connect(server.address()).is_err().then_some(()),
        || "a server that drains still accepts".to_owned(),
    );
    drop(raw);
    server.drain().unwrap();
}

#[test]
fn a_server_that_was_stopped_before_it_served_ends_at_once() {
    for cores in [1, 3] {
        let mut config = config(FlushMode::Auto);
        config.cores = cores;
        let server = Server::bind(config).unwrap();
        server.stop().drain();
        server.stop().drain();
        TestServer::serve(server, |_, _| {}).wait().unwrap();
    }
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let first = TestServer::start(config(FlushMode::Auto));
    let mut config = config(FlushMode::Auto);
    config.listen = first.addresses.clone();
    let error = Server::bind(config).unwrap_err();
    assert!(matches!(error, BindError::Listen(_)));
    assert!(
        error.to_string().contains(&first.address().to_string()),
        "{error}"
    );
    first.check_health();
}

/// Servers of one user may share a port by the option that our cores share theirs by, but two of
/// ours must not.
#[test]
fn of_two_servers_that_start_at_the_same_time_one_gets_the_port() {
    for _ in 0..200 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut config = config(FlushMode::Write);
        config.cores = 2;
        config.listen = vec![address.to_string().parse().unwrap()];
        let start = std::sync::Barrier::new(2);
        let bound = std::thread::scope(|scope| {
            let bind = || {
                start.wait();
                Server::bind(config.clone())
            };
            let threads = [scope.spawn(bind), scope.spawn(bind)];
            threads.map(|thread| thread.join().unwrap())
        });
        let count = bound.iter().filter(|bound| bound.is_ok()).count();
        assert!(count < 2, "two servers share {address}");
    }
}

mod binary {
    use super::*;

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
}

#[test]
fn everybody_is_told_when_to_come_back_and_the_closes_are_spread() {
    for_each_flush_mode(|flush| {
        let mut config = config(flush);
        config.drain = Drain {
            spread: Duration::from_secs(3),
            rate: 100,
        };
        let server = TestServer::start(config);
        let mut clients: Vec<Throng> = (0..30).map(|_| Throng::connect(&server)).collect();
        let mut golem = server.connect();
        for client in &mut clients {
            client.join("tea");
        }
        let began = now();
        server.stop.drain();

        let pauses: Vec<u64> = clients
            .iter_mut()
            .map(|client| client.receive("drain")["after_ms"].as_u64().unwrap())
            .collect();
        assert!(pauses.iter().all(|pause| *pause <= 3000));
        let distinct: std::collections::HashSet<_> = pauses.iter().collect();
        assert!(distinct.len() > 15, "{pauses:?}");
        // Told, but not closed: the last of them still publishes, and is heard by itself.
        let last = clients.last_mut().unwrap();
        last.publish("tea", json!("goodbye"));
        assert_eq!(last.receive("msg")["msg"], "goodbye");
        for (client, pause) in clients.iter_mut().zip(pauses) {
            let reason = loop {
                // Who is closed late hears the goodbye first.
                match client.client.receive_or_close() {
                    Ok(text) => assert!(text.starts_with("msg "), "{text}"),
                    Err((code, reason)) => {
                        assert_eq!(code, 4100);
                        break reason;
                    }
                }
            };
            assert_eq!(
                reason,
                format!(r#"{{"reason":"drain","after_ms":{pause}}}"#)
            );
        }
        golem.expect_close(1001);
        // 31 at 100 a second, less the first: not all at once.
        assert!(began.elapsed() >= Duration::from_millis(290));
        drop((clients, golem));
        server.drain().unwrap();
    });
}
