//! The end of a server, and starts that fail.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use throng::{BindError, Drain, FlushMode, Server};
use throng_testing::{Gate, Raw, TestServer, Throng, config, for_each_flush_mode, now, until};

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
