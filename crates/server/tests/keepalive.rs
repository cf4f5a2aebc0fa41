//! Time: pings, silence, and handshakes and closes that take too long.

use std::time::Duration;

use proto::OpCode;
use throng::{Config, FlushMode, Timeouts};
use throng_testing::{
    Client, MODES, Raw, TIMEOUT, TestServer, config, for_each_flush_mode, get, now,
};

/// Longer than any test may take.
const NEVER: Duration = Duration::from_secs(3600);

/// Short enough to be waited for several times.
const SOON: Duration = Duration::from_millis(100);

/// Time for what must come within a few times [`SOON`] and would be noticed only by a look that
/// comes much later, if it had been forgotten.
const BY_ITSELF: Duration = Duration::from_secs(10);

fn timed(flush: FlushMode, set: impl FnOnce(&mut Timeouts)) -> Config {
    let mut config = config(flush);
    set(&mut config.timeouts);
    config
}

mod pings {
    use super::*;

    #[test]
    fn a_connection_that_answers_its_pings_lives() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(timed(mode, |t| {
                t.ping_interval = SOON;
                t.pong_timeout = TIMEOUT;
            }));
            let mut alice = server.connect();
            for _ in 0..5 {
                alice.expect_ping();
            }
            alice.sync();
            assert!(server.metric("throng_pings_total") >= 5);
            assert_eq!(server.metric("throng_connections"), 1);
        });
    }

    #[test]
    fn a_connection_that_does_not_answer_is_closed_with_1011() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(timed(mode, |t| {
                t.ping_interval = SOON;
                t.pong_timeout = SOON;
            }));
            let mut silent = server.connect_raw_websocket();
            silent.send_text(r#"join {"name":"tea"}"#);
            assert_eq!(silent.receive(), (OpCode::Ping, Vec::new()));
            let reason = silent.expect_close(1011);
            assert_eq!(reason, "keepalive ping timeout");
            let closed = r#"throng_connections_closed_total{reason="keepalive"}"#;
            assert_eq!(server.metric(closed), 1);
            assert_eq!(server.metric("throng_rooms"), 0);
        });
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(timed(mode, |t| {
                t.ping_interval = SOON;
                t.pong_timeout = SOON * 20;
            }));
            let mut raw = server.connect_raw_websocket();
            for _ in 0..4 {
                // Neither a pong nor a whole frame; the next byte begins another one.
                assert_eq!(raw.receive(), (OpCode::Ping, Vec::new()));
                raw.send(&throng_testing::opcode(OpCode::Pong, b"unasked"));
            }
            raw.send(&throng_testing::text("sync 1")[..3]);
            assert_eq!(raw.receive(), (OpCode::Ping, Vec::new()));
            raw.send(&throng_testing::text("sync 1")[3..]);
            raw.expect("synced 1");
        });
    }

    #[test]
    fn pings_keep_their_interval_whatever_the_timeout_is() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.ping_interval = SOON * 4;
            t.pong_timeout = NEVER;
        }));
        let began = now();
        let mut alice = server.connect();
        for _ in 0..3 {
            alice.expect_ping();
        }
        assert!(began.elapsed() < BY_ITSELF);
    }

    #[test]
    fn who_has_the_place_of_another_is_pinged_in_its_own_time() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.ping_interval = SOON * 4;
            t.pong_timeout = NEVER;
        }));
        let mut alice = server.connect();
        alice.expect_ping();
        drop(alice);
        server.wait_for_metric("throng_connections", 0);
        let began = now();
        server.connect().expect_ping();
        assert!(began.elapsed() < BY_ITSELF);
    }
}

mod silence {
    use super::*;

    #[test]
    fn a_connection_without_messages_is_closed_and_pongs_do_not_count() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(timed(mode, |t| {
                t.ping_interval = SOON;
                t.pong_timeout = TIMEOUT;
                t.idle = SOON * 4;
            }));
            let mut alice = server.connect();
            alice.expect_ping();
            let reason = alice.expect_close(1001);
            assert_eq!(reason, "idle for too long");
            let closed = r#"throng_connections_closed_total{reason="idle"}"#;
            assert_eq!(server.metric(closed), 1);
        });
    }

    #[test]
    fn a_connection_with_messages_is_not_idle() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.ping_interval = SOON;
            t.pong_timeout = TIMEOUT;
            t.idle = SOON * 30;
        }));
        let mut alice = server.connect();
        let began = now();
        while began.elapsed() < SOON * 40 {
            alice.expect_ping();
            alice.send("sync 0");
            alice.expect("synced 0");
        }
        alice.sync();
    }

    #[test]
    fn a_ping_under_way_does_not_put_off_the_end_of_the_idle() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.ping_interval = SOON * 4;
            t.pong_timeout = NEVER;
            t.idle = SOON * 10;
        }));
        let began = now();
        let mut idle = server.connect_raw_websocket();
        assert_eq!(idle.receive(), (OpCode::Ping, Vec::new()));
        idle.expect_close(1001);
        assert!(began.elapsed() < BY_ITSELF);
    }
}

mod handshakes {
    use super::*;

    const TIMED_OUT: &str = r#"throng_handshakes_refused_total{reason="handshake_timeout"}"#;

    #[test]
    fn a_head_that_does_not_end_is_waited_for_only_so_long() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.header_read = SOON * 2;
            t.handshake = NEVER;
        }));
        let mut slow = server.connect_raw();
        slow.send(b"GET /ws HTTP/1.1\r\nHost: local");
        slow.expect_end();
        server.wait_for_metric(TIMED_OUT, 1);
        server.connect_raw().expect_end();
        server.wait_for_metric(TIMED_OUT, 2);
        server.check_health();
    }

    #[test]
    fn a_connection_that_becomes_no_websocket_lasts_only_so_long() {
        let server = TestServer::start(timed(FlushMode::Auto, |t| {
            t.header_read = NEVER;
            t.handshake = SOON * 2;
        }));
        let mut raw = server.connect_raw();
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(raw.receive_head().starts_with("HTTP/1.1 200 "));
        raw.expect_end();
        let mut alice = server.connect();
        // Who was answered before was not refused.
        server.connect_raw().expect_end();
        server.wait_for_metric(TIMED_OUT, 1);
        // What has become a WebSocket is not timed any more.
        alice.sync();
    }
}

mod closes {
    use super::*;

    /// Peers that we close and that do not end the connection.
    #[test]
    fn a_peer_that_ignores_our_close_frame_is_ended() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(timed(mode, |t| t.close = SOON * 2));
            let mut deaf = server.connect_raw_websocket();
            let mut chatty = server.connect_raw_websocket();
            let mut narrow = Raw::connect_narrow(server.address()).opened();
            for raw in [&mut deaf, &mut chatty, &mut narrow] {
                raw.send(b"\xff\xff");
            }
            deaf.expect_close(1002);
            chatty.expect_close(1002);
            while chatty.try_send(&throng_testing::text("sync 1")) {}
            server.wait_until_empty();
            server.check_health();
        });
    }

    #[test]
    fn a_peer_that_answers_our_close_frame_is_ended_at_once() {
        for mode in MODES {
            let server = TestServer::start(timed(mode, |t| t.close = NEVER));
            let mut alice = server.connect();
            alice.send_message(vec![0; 70_000].into());
            alice.expect_close(1009);
            drop(alice);
            server.wait_until_empty();
        }
    }

    #[test]
    fn a_peer_that_says_goodbye_first_is_answered_and_ended() {
        for mode in MODES {
            let server = TestServer::start(timed(mode, |t| t.close = NEVER));
            Client::connect(server.address()).close();
            server.wait_until_empty();
            assert_eq!(get(server.address(), "/healthz").status, 200);
        }
    }
}
