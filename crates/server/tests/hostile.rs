//! Peers that no decent person wrote: after each of them the server serves others as before, and
//! nothing of them is left.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::thread;
use std::time::Duration;

use proto::OpCode;
use throng::FlushMode;
use throng_testing::{
    Client, Gate, Raw, TestServer, config, for_each_flush_mode, opcode, seed, text,
};

/// Runs an attack on a server of its own for each way of writing, and checks what is left of it.
fn survives(attack: impl Fn(&TestServer)) {
    for_each_flush_mode(|mode| {
        let mut config = config(mode);
        // The attackers are to be ended by what they do, or by going: not by a clock.
        config.timeouts.close = Duration::from_millis(200);
        let server = TestServer::start(config);
        attack(&server);
        server.wait_until_empty();
        server.check_health();
        server.wait_until_empty();
    });
}

mod handshakes {
    use super::*;

    #[test]
    fn torn_ones_leave_nothing_behind() {
        let whole = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        survives(|server| {
            for (turn, len) in (0..whole.len()).step_by(7).enumerate() {
                let mut raw = server.connect_raw();
                raw.send(&whole.as_bytes()[..len]);
                match turn % 3 {
                    0 => raw.reset(),
                    1 => raw.shut_sending(),
                    _ => drop(raw),
                }
            }
            // A whole one that does not wait for its answer.
            for turn in 0..20 {
                let mut raw = server.connect_raw();
                raw.send(whole.as_bytes());
                if turn % 2 == 0 {
                    raw.reset();
                }
            }
            server.wait_for_metric("throng_connections", 0);
        });
    }

    #[test]
    fn one_that_comes_byte_by_byte_is_taken_for_what_it_is() {
        survives(|server| {
            let mut raw = server.connect_raw();
            for byte in b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n" {
                raw.send(&[*byte]);
            }
            for byte in b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" {
                raw.send(&[*byte]);
            }
            for byte in b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" {
                raw.send(&[*byte]);
            }
            assert!(raw.receive_head().starts_with("HTTP/1.1 101 "));
            for byte in text("sync 0") {
                raw.send(&[byte]);
            }
            raw.expect("synced 0");
        });
    }

    #[test]
    fn heads_that_are_too_large_or_no_heads_are_refused() {
        survives(|server| {
            let endless_header = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(70_000));
            let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(5_000));
            let endless_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
            for head in [endless_header, many_headers, endless_path] {
                let mut raw = server.connect_raw();
                raw.try_send(head.as_bytes());
                let answer = raw.receive_all();
                // A peer that is cut off while it still sends may lose the answer.
                assert!(
                    answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                    "{answer}"
                );
            }
            for garbage in [
                &b"\0\0\0\0"[..],
                b"\x16\x03\x01\x02\0\x01\0",
                b"HELO\r\n\r\n",
                b"\r\n\r\n\r\n",
            ] {
                let mut raw = server.connect_raw();
                raw.send(garbage);
                raw.shut_sending();
                raw.expect_end();
            }
            let refused = r#"throng_handshakes_refused_total{reason="bad_handshake"}"#;
            assert!(server.metric(refused) >= 5);
        });
    }
}

mod frames {
    use super::*;

    #[test]
    fn what_the_protocol_forbids_is_closed_with_its_code() {
        let long_ping = opcode(OpCode::Ping, &[0; 126]);
        let bad_utf8 = opcode(OpCode::Text, b"\xff");
        let bad_close = opcode(OpCode::Close, &1006_u16.to_be_bytes());
        let half_code = opcode(OpCode::Close, &[3]);
        let bad_reason = opcode(OpCode::Close, b"\x03\xe8\xff");
        let orphan = opcode(OpCode::Continuation, b"x");
        let cases: [(&str, &[u8], u16); 12] = [
            ("reserved bits", b"\xC1\x80\0\0\0\0", 1002),
            ("reserved opcode", b"\x83\x80\0\0\0\0", 1002),
            ("reserved control opcode", b"\x8B\x80\0\0\0\0", 1002),
            ("no mask", b"\x81\x00", 1002),
            ("fragmented ping", b"\x09\x80\0\0\0\0", 1002),
            ("long ping", &long_ping, 1002),
            ("continuation of nothing", &orphan, 1002),
            ("close with a code that is never sent", &bad_close, 1002),
            ("close with half a code", &half_code, 1002),
            ("close with a reason that is no text", &bad_reason, 1007),
            ("text that is none", &bad_utf8, 1007),
            ("a gigabyte", b"\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0", 1009),
        ];
        survives(|server| {
            for (name, bytes, code) in cases {
                println!("{name}");
                let mut raw = server.connect_raw_websocket();
                raw.send_text(r#"join {"name":"tea"}"#);
                raw.send(bytes);
                raw.expect_close(code);
                raw.expect_end();
            }
            let closed = r#"throng_connections_closed_total{reason="protocol_error"}"#;
            assert_eq!(server.metric(closed), cases.len() as u64);
        });
    }

    #[test]
    fn garbage_of_any_kind_ends_its_own_connection_only() {
        let seed = seed();
        survives(|server| {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..60 {
                let mut bytes = vec![0; random.usize(1..4_000)];
                random.fill(&mut bytes);
                let mut raw = server.connect_raw_websocket();
                raw.send_text(r#"join {"name":"tea"}"#);
                raw.try_send(&bytes);
                raw.shut_sending();
                raw.expect_end();
            }
        });
    }

    #[test]
    fn resets_in_the_middle_of_a_frame_leave_nothing_behind() {
        survives(|server| {
            let frame = text(r#"msg {"to":"tea","msg":"this one is cut"}"#);
            for len in 0..frame.len() {
                let mut raw = server.connect_raw_websocket();
                raw.send_text(r#"join {"name":"tea"}"#);
                raw.send(&frame[..len]);
                raw.reset();
            }
        });
    }

    #[test]
    fn a_peer_that_says_it_will_send_no_more_is_ended_and_gets_its_answers() {
        survives(|server| {
            let mut raw = server.connect_raw_websocket();
            raw.send(&[text(r#"join {"name":"tea"}"#), text("sync 0")].concat());
            raw.shut_sending();
            raw.expect("synced 0");
            raw.expect_end();
        });
    }

    /// A publication to the room that only the witness is in.
    const SAY: &str = r#"msg {"to":"news","msg":1}"#;

    /// A core that can be held up, and somebody on it who hears the news.
    struct Scene {
        witness: Client,
        gate: Gate,
        server: TestServer,
    }

    impl Scene {
        fn start(mode: FlushMode) -> Self {
            let mut gate = None;
            let server = TestServer::start_with(config(mode), |router, _| {
                gate = Some(Gate::add_to(router));
            });
            let gate = gate.unwrap();
            let mut witness = server.connect();
            witness.join("news");
            Self {
                witness,
                gate,
                server,
            }
        }

        /// A peer from whom the kernel takes much at once: it gives more room to those who have
        /// sent much.
        fn publisher(&self) -> Raw {
            let mut raw = self.server.connect_raw_websocket();
            let nothing = opcode(OpCode::Pong, &[0; 125]).repeat(40_000);
            raw.send(&nothing);
            raw.sync();
            raw
        }

        /// Expects this many publications, and then that only the witness is left.
        fn expect_news(&mut self, count: usize) {
            for _ in 0..count {
                self.witness.expect("msg 1");
            }
            self.server.wait_for_metric("throng_connections", 1);
        }
    }

    /// The end of a stream is told once: who stops reading before it must come back to it.
    #[test]
    fn an_end_behind_more_than_a_buffer_of_messages_is_found() {
        for_each_flush_mode(|mode| {
            let mut scene = Scene::start(mode);
            // One buffer of the loop and a little, several, and exactly one.
            for len in [64 * 1024 + 100, 300 * 1024, 64 * 1024] {
                let mut raw = scene.publisher();
                scene.gate.hold_core_of(&mut scene.witness);
                let count = len / text(SAY).len();
                let mut bytes = text(SAY).repeat(count);
                let padding = len - bytes.len();
                // What is left over is a frame that is cut.
                bytes.extend(&opcode(OpCode::Binary, &[0; 100])[..padding]);
                raw.send(&bytes);
                drop(raw);
                scene.gate.release();
                scene.expect_news(count);
            }
        });
    }
}

mod floods {
    use super::*;

    #[test]
    fn who_floods_with_pings_and_reads_no_pongs_is_a_slow_consumer() {
        for_each_flush_mode(|mode| {
            let mut config = config(mode);
            config.limits.outbox_bytes_max = 64 * 1024;
            config.timeouts.close = Duration::from_millis(200);
            let server = TestServer::start(config);
            let mut raw = Raw::connect_narrow(server.address()).opened();
            let pings = opcode(OpCode::Ping, &[0; 100]).repeat(1_000);
            while raw.try_send(&pings) {}
            server.wait_until_empty();
            assert_eq!(server.metric("throng_slow_consumers_total"), 1);
            server.check_health();
        });
    }

    #[test]
    fn json_that_nests_deep_is_refused() {
        survives(|server| {
            let mut alice = server.connect();
            let event = |open: &str| {
                let nest = open.repeat((64 * 1024 - 40) / open.len());
                format!(r#"msg {{"to":"tea","msg":{nest}"#)
            };
            for open in ["[", "{\"a\":", "[{\"\":"] {
                alice.send(&event(open));
                alice.expect_error("bad_data");
            }
            alice.send(&"[".repeat(64 * 1024));
            alice.expect_error("bad_message");
            alice.sync();
        });
    }

    #[test]
    fn joins_to_ever_new_rooms_end_at_the_limit() {
        survives(|server| {
            let mut raw = server.connect_raw_websocket();
            for round in 0..20 {
                let bytes: Vec<u8> = (0..500)
                    .flat_map(|number| text(&format!(r#"join {{"name":"{round}-{number}"}}"#)))
                    .collect();
                raw.send(&bytes);
                // Room for 128; everything else is answered by an error.
                let refused = if round == 0 { 500 - 128 } else { 500 };
                for _ in 0..refused {
                    let (_, error) = raw.receive();
                    assert!(error.starts_with(b"error "));
                }
            }
            raw.sync();
            assert_eq!(server.metric("throng_rooms"), 128);
            assert_eq!(server.metric("throng_members"), 128);
        });
    }

    #[test]
    fn who_floods_with_nonsense_and_reads_no_errors_is_not_read_from() {
        for_each_flush_mode(|mode| {
            let mut config = config(mode);
            config.limits.outbox_bytes_max = 64 * 1024;
            config.timeouts.close = Duration::from_millis(200);
            let server = TestServer::start(config);
            let mut witness = server.connect();
            let mut raw = Raw::connect_narrow(server.address()).opened();
            let flooder = thread::spawn(move || {
                let nonsense = text("dance").repeat(1_000);
                while raw.try_send(&nonsense) {}
            });
            let errors = || server.metric(r#"throng_errors_total{code="unknown_event"}"#);
            // Between two answers to the witness, the core reads from everybody who is to be read
            // from.
            let refused = loop {
                let before = errors();
                witness.sync();
                witness.sync();
                if before > 0 && errors() == before {
                    break before;
                }
            };
            // Some fill a quarter of the outbox, some the kernel's buffers.
            assert!(refused < 20_000, "{refused} errors wait");
            assert_eq!(server.metric("throng_slow_consumers_total"), 0);
            drop(witness);
            server.check_health();
            server.drain().unwrap();
            flooder.join().unwrap();
        });
    }
}

mod crowds {
    use super::*;

    const CROWD: u64 = 1_000;

    #[test]
    fn a_thousand_members_that_vanish_at_once_leave_nothing_behind() {
        survives(|server| {
            let crowd: Vec<Raw> = (0..CROWD)
                .map(|_| {
                    let mut raw = server.connect_raw();
                    raw.open_and_send(&text(r#"join {"name":"tea"}"#));
                    raw
                })
                .collect();
            server.wait_for_metric("throng_members", CROWD);
            // They go while they are published to.
            server.rooms.emit("tea", "said", "one").unwrap();
            crowd.into_iter().for_each(Raw::reset);
            while server.rooms.emit("tea", "said", "two").unwrap() > 0 {
                thread::yield_now();
            }
        });
    }

    #[test]
    fn sockets_that_are_opened_and_never_used_are_ended() {
        let mut config = config(FlushMode::Auto);
        config.timeouts.header_read = Duration::from_millis(300);
        let server = TestServer::start(config);
        let mut idle: Vec<Raw> = (0..500).map(|_| server.connect_raw()).collect();
        server.check_health();
        for raw in &mut idle {
            raw.expect_end();
        }
        let refused = r#"throng_handshakes_refused_total{reason="handshake_timeout"}"#;
        server.wait_for_metric(refused, 500);
    }
}
