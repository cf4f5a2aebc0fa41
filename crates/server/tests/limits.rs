//! Every limit of the configuration over loopback: what happens there, to whom, and what counts it.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use proto::{FrameHeader, OpCode};
use serde_json::Value;
use throng::{CloseCode, Config, Connection, FlushMode, JoinError, Request, Router, Server};
use throng_testing::{
    Client, Gate, Raw, Reply, TIMEOUT, TestServer, close, config, exchange, for_each_flush_mode,
    get, opcode, text, until,
};
use tokio::sync::Semaphore;

/// Longer than any test may take.
const NEVER: Duration = Duration::from_secs(3600);

fn limited(flush: FlushMode, set: impl FnOnce(&mut throng::Limits)) -> Config {
    let mut config = config(flush);
    set(&mut config.limits);
    config
}

mod messages {
    use super::*;

    /// A `sync` of this many bytes.
    fn sync_of(len: usize) -> String {
        let mut text = "sync ".to_owned();
        text.extend(std::iter::repeat_n(' ', len - 6));
        text.push('7');
        text
    }

    #[test]
    fn a_message_over_the_limit_closes_with_1009_and_one_at_the_limit_does_not() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.message_bytes_max = 1000));
            let mut alice = server.connect();
            alice.send(&sync_of(1000));
            alice.expect("synced 7");
            alice.send(&sync_of(1001));
            let reason = alice.expect_close(1009);
            assert!(reason.contains("1000"), "{reason}");
            drop(alice);
            let closed = r#"throng_connections_closed_total{reason="protocol_error"}"#;
            assert_eq!(server.metric(closed), 1);
            server.wait_until_empty();
        });
    }

    #[test]
    fn the_limit_is_on_the_whole_message_and_not_on_its_frames() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.message_bytes_max = 1000));
            let mut raw = server.connect_raw_websocket();
            raw.send(&fragments(&sync_of(1000), 4));
            raw.expect("synced 7");
            raw.send(&fragments(&sync_of(1001), 4));
            raw.expect_close(1009);
        });
    }

    #[test]
    fn a_header_is_enough_to_be_refused_by() {
        let server = TestServer::start(limited(FlushMode::Auto, |l| l.message_bytes_max = 1000));
        let mut raw = server.connect_raw_websocket();
        let whole = opcode(OpCode::Binary, &[0; 1001]);
        raw.send(&whole[..8]);
        raw.expect_close(1009);
    }

    #[test]
    fn a_message_in_too_many_fragments_closes_with_1009() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.fragments_max = 4));
            let mut raw = server.connect_raw_websocket();
            for _ in 0..3 {
                raw.send(&fragments("sync 7", 4));
                raw.expect("synced 7");
            }
            raw.send(&fragments("sync 7", 5));
            let reason = raw.expect_close(1009);
            assert!(reason.contains("4 fragments"), "{reason}");
        });
    }

    /// A text message in this many frames.
    fn fragments(text: &str, count: usize) -> Vec<u8> {
        let len = text.len().div_ceil(count);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(len).collect();
        // So short a text does not divide evenly: the last frames may be empty.
        let pieces: Vec<_> = (0..count)
            .map(|index| pieces.get(index).copied().unwrap_or_default())
            .collect();
        let frame = |(index, payload): (usize, &&[u8])| {
            let header = FrameHeader {
                fin: index + 1 == count,
                opcode: if index == 0 {
                    OpCode::Text
                } else {
                    OpCode::Continuation
                },
                payload_len: payload.len() as u64,
                masking_key: Some([0; 4]),
            };
            let (bytes, len) = header.encode();
            [&bytes[..len], payload].concat()
        };
        pieces.iter().enumerate().flat_map(frame).collect()
    }
}

mod rooms {
    use super::*;

    #[test]
    fn one_room_too_many_is_refused_by_name_and_nothing_else_changes() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.rooms_per_connection_max = 2));
            let mut alice = server.connect();
            alice.join("tea");
            alice.join("coffee");
            alice.join("milk");
            let error = alice.expect_error("too_many_rooms");
            assert_eq!(
                (&error["event"], &error["room"]),
                (&"join".into(), &"milk".into())
            );
            assert_eq!(server.metric("throng_rooms"), 2);
            assert_eq!(server.metric("throng_members"), 2);
            assert_eq!(
                server.metric(r#"throng_errors_total{code="too_many_rooms"}"#),
                1
            );

            // A room that it is in already is none too many, and what it leaves makes place.
            alice.join("tea");
            alice.expect_nothing();
            alice.say("milk", "to nobody");
            alice.say("tea", "hot");
            alice.expect("msg \"hot\"");
            alice.leave("coffee");
            alice.join("milk");
            alice.say("milk", "cold");
            alice.expect("msg \"cold\"");
            alice.expect_nothing();
        });
    }

    #[test]
    fn a_name_that_is_too_long_or_empty_is_refused() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.room_name_bytes_max = 4));
            let mut alice = server.connect();
            for name in ["", "12345", "äää"] {
                alice.join(name);
                let error = alice.expect_error("bad_room");
                assert_eq!(error["event"], "join");
            }
            alice.join("1234");
            alice.join("ää");
            alice.expect_nothing();
            assert_eq!(server.metric("throng_rooms"), 2);
            assert_eq!(server.metric(r#"throng_errors_total{code="bad_room"}"#), 3);
        });
    }
}

mod outbox {
    use super::*;

    #[test]
    fn a_member_that_never_reads_is_closed_and_the_others_get_everything() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(limited(mode, |l| l.outbox_bytes_max = 64 * 1024));
            let mut sleeper = Raw::connect_narrow(server.address()).opened();
            sleeper.send_text(r#"join {"name":"tea"}"#);
            sleeper.sync();
            let mut alice = server.connect();
            let mut bob = server.connect();
            alice.join("tea");
            bob.join("tea");

            let long = "x".repeat(30_000);
            let mut number = 0;
            let mut say = |number: u32| {
                let text = format!("{number} {long}");
                alice.say("tea", &text);
                bob.expect(&format!("msg \"{text}\""));
                alice.expect(&format!("msg \"{text}\""));
            };
            until(
                || {
                    number += 1;
                    say(number);
                    let closed = server.metric("throng_slow_consumers_total");
                    (closed == 1).then_some(())
                },
                || "a member that never reads was never closed".to_owned(),
            );
            // It is gone from the room, and the others are not.
            server.wait_for_metric("throng_members", 2);
            say(number + 1);
            assert_eq!(server.metric("throng_slow_consumers_total"), 1);

            // Awake again, it reads what was on the wire already, and why it ended.
            let reason: Value = serde_json::from_str(&sleeper.skip_to_close(4102)).unwrap();
            assert_eq!(reason["reason"], "slow_consumer");
            assert!(reason["after_ms"].as_u64().unwrap() > 0);
            let closed = r#"throng_connections_closed_total{reason="slow_consumer"}"#;
            assert_eq!(server.metric(closed), 1);
        });
    }

    /// Somebody who reads, and is sent at once what `burst` sends, through an outbox of 16 KiB.
    fn burst(mode: FlushMode, burst: fn(&Connection)) -> (TestServer, Client) {
        let config = limited(mode, |l| l.outbox_bytes_max = 16 * 1024);
        let server = TestServer::start_with(config, |router, _| _ = router.on("burst", burst));
        let mut alice = server.connect();
        alice.send("burst");
        (server, alice)
    }

    fn send_a_hundred(conn: &Connection) {
        for number in 0..100 {
            conn.send_text(&long(number)).unwrap();
        }
    }

    fn expect_a_hundred(client: &mut Client) {
        for number in 0..100 {
            client.expect(&long(number));
        }
    }

    fn long(number: usize) -> String {
        format!("{number} {}", "x".repeat(1000))
    }

    #[test]
    fn a_burst_over_the_limit_to_a_member_that_reads_arrives() {
        for_each_flush_mode(|mode| {
            let (_server, mut alice) = burst(mode, send_a_hundred);
            expect_a_hundred(&mut alice);
            alice.expect_nothing();
        });
    }

    #[test]
    fn a_burst_over_the_limit_arrives_before_the_close_behind_it() {
        for_each_flush_mode(|mode| {
            let (_server, mut alice) = burst(mode, |conn| {
                send_a_hundred(conn);
                conn.close(CloseCode(4001), "that was all").unwrap();
            });
            expect_a_hundred(&mut alice);
            assert_eq!(alice.expect_close(4001), "that was all");
        });
    }

    #[test]
    fn a_message_larger_than_the_outbox_arrives_before_the_close_behind_it() {
        for_each_flush_mode(|mode| {
            let (_server, mut alice) = burst(mode, |conn| {
                conn.send_text(&"x".repeat(100_000)).unwrap();
                conn.close(CloseCode(4001), "that was all").unwrap();
            });
            alice.expect(&"x".repeat(100_000));
            assert_eq!(alice.expect_close(4001), "that was all");
        });
    }
}

mod places {
    use super::*;

    /// A request to open a WebSocket.
    const OPENING: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// The answer to a request to open a WebSocket, which is to be refused.
    fn refused(server: &TestServer) -> Reply {
        let reply = exchange(server.address(), OPENING);
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
        assert!(reply.body.len() > 10, "there is a sentence: {reply:?}");
        reply
    }

    #[test]
    fn one_connection_too_many_is_refused_until_one_ends() {
        let config = limited(FlushMode::Auto, |l| l.connections_max = 2.into());
        let server = TestServer::start(config);
        let alice = server.connect();
        let _bob = server.connect();
        refused(&server);
        refused(&server);
        let counter = r#"throng_handshakes_refused_total{reason="connections"}"#;
        assert_eq!(server.metric(counter), 2);
        assert_eq!(get(server.address(), "/healthz").status, 200);

        alice.close();
        server.wait_for_metric("throng_connections", 1);
        let mut carol = server.connect();
        carol.sync();
        refused(&server);
    }

    #[test]
    fn one_connection_too_many_from_an_address_is_refused_until_one_ends() {
        let config = limited(FlushMode::Auto, |l| l.connections_per_ip_max = 2);
        let server = TestServer::start(config);
        let alice = server.connect_raw_websocket();
        let _bob = server.connect();
        refused(&server);
        let counter = r#"throng_handshakes_refused_total{reason="connections_per_ip"}"#;
        assert_eq!(server.metric(counter), 1);

        alice.reset();
        server.wait_for_metric("throng_connections", 1);
        let mut carol = server.connect();
        carol.sync();
        refused(&server);
    }

    #[test]
    fn a_place_is_free_again_after_every_way_to_fail() {
        let mut config = limited(FlushMode::Auto, |l| l.connections_max = 1.into());
        config.timeouts.close = Duration::from_millis(100);
        let server = TestServer::start(config);
        for round in 0..10 {
            let mut raw = server.connect_raw_websocket();
            match round % 4 {
                0 => raw.send(b"\xff\xff"),
                1 => raw.reset(),
                2 => raw.shut_sending(),
                _ => drop(raw),
            }
            server.wait_for_metric("throng_connections", 0);
        }
    }

    const EVICTED: &str = r#"throng_handshakes_refused_total{reason="evicted"}"#;

    /// Makes sure that the server has accepted all who connected before, and read what they sent.
    fn server_has_read(other: &mut Raw) {
        other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(other.receive_head().starts_with("HTTP/1.1 200 "));
        other.receive_text(3);
    }

    #[test]
    fn as_many_silent_connections_as_there_are_places_make_way_oldest_first() {
        const PLACES: usize = 50;
        let config = limited(FlushMode::Auto, |l| l.handshakes_max = PLACES);
        let server = TestServer::start(config);
        let mut silent: Vec<Raw> = (0..PLACES).map(|_| server.connect_raw()).collect();
        // In at once, whatever the timeouts.
        let mut alice = server.connect();
        alice.sync();
        silent.remove(0).expect_end();
        assert!(server.metric(EVICTED) >= 1);
        assert_eq!(get(server.address(), "/healthz").status, 200);
        // Those requests are over, and Alice needs no place any more. For two more that stay, the
        // next oldest has to go, and the youngest is still heard.
        let _more = [(); 2].map(|()| server.connect_raw());
        silent.remove(0).expect_end();
        let youngest = silent.pop().unwrap().opened();
        drop(youngest);
        let refused = r#"throng_handshakes_refused_total{reason="handshakes"}"#;
        assert_eq!(server.metric(refused), 0);
    }

    #[test]
    fn heads_that_come_a_byte_at_a_time_make_way_too() {
        const PLACES: usize = 20;
        let config = limited(FlushMode::Auto, |l| l.handshakes_max = PLACES);
        let server = TestServer::start(config);
        let mut other = server.connect_raw();
        let mut trickling: Vec<Raw> = (1..PLACES).map(|_| server.connect_raw()).collect();
        for byte in b"GET /ws HTTP/1.1\r\nX: " {
            for raw in &mut trickling {
                raw.send(&[*byte]);
            }
        }
        server_has_read(&mut other);
        let mut alice = server.connect();
        alice.sync();
        trickling.remove(0).expect_end();
        assert!(server.metric(EVICTED) >= 1);
    }

    #[test]
    fn a_crowd_of_silent_connections_leaves_alone_who_has_begun_to_ask() {
        let config = limited(FlushMode::Auto, |l| l.handshakes_max = 5);
        let server = TestServer::start(config);
        let mut other = server.connect_raw();
        let mut asking = server.connect_raw();
        asking.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
        server_has_read(&mut other);
        let mut crowd: Vec<Raw> = (0..40).map(|_| server.connect_raw()).collect();
        crowd[0].expect_end();
        crowd[30].expect_end();
        asking.send(b"Connection: close\r\n\r\n");
        assert!(asking.receive_all().starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn while_all_handshakes_wait_for_the_server_others_are_refused_and_health_is_answered() {
        let mut config = limited(FlushMode::Auto, |l| l.handshakes_max = 2);
        config.cores = 2;
        let (looks, looked) = std::sync::mpsc::channel();
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let router = Router::with_handshake(move |_: Request| {
            let (looks, held) = (looks.clone(), held.clone());
            async move {
                _ = looks.send(());
                held.acquire().await.map(|permit| permit.forget()).unwrap();
                Ok(())
            }
        });
        let server = TestServer::run(Server::bind(config).unwrap(), router);
        let asking: Vec<Raw> = (0..2)
            .map(|_| {
                let mut raw = server.connect_raw();
                raw.send(OPENING.as_bytes());
                looked.recv_timeout(TIMEOUT).unwrap();
                raw
            })
            .collect();
        let reply = exchange(server.address(), OPENING);
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
        assert!(reply.body.contains("handshakes"), "{}", reply.body);
        assert_eq!(get(server.address(), "/healthz").body, "ok\n");
        let refused = r#"throng_handshakes_refused_total{reason="handshakes"}"#;
        assert_eq!(server.metric(refused), 1);
        gate.add_permits(2);
        for mut raw in asking {
            assert!(raw.receive_head().starts_with("HTTP/1.1 101 "));
        }
    }
}

mod mailbox {
    use super::*;

    #[test]
    fn publishers_are_held_back_and_nothing_is_lost_or_reordered() {
        const EACH: usize = 400;
        for_each_flush_mode(|mode| {
            let mut config = limited(mode, |l| l.mailbox_bytes_max = 1024);
            config.cores = 2;
            let server = TestServer::start(config);
            let members: Vec<Client> = [0, 0, 1, 1]
                .map(|core| {
                    let mut member = server.connect_on(core);
                    member.join("tea");
                    member
                })
                .into();
            let publishers: Vec<_> = (0..4)
                .map(|name| {
                    let address = server.address();
                    thread::spawn(move || {
                        let mut raw = Raw::connect_websocket(address);
                        let bytes: Vec<u8> = (0..EACH)
                            .flat_map(|number| {
                                text(&format!(r#"msg {{"to":"tea","msg":[{name},{number}]}}"#))
                            })
                            .collect();
                        raw.send(&bytes);
                        raw.sync();
                    })
                })
                .collect();
            let listeners: Vec<_> = members
                .into_iter()
                .map(|mut member| {
                    thread::spawn(move || -> Vec<String> {
                        (0..4 * EACH).map(|_| member.receive()).collect()
                    })
                })
                .collect();
            for publisher in publishers {
                publisher.join().unwrap();
            }
            let heard: Vec<_> = listeners.into_iter().map(|l| l.join().unwrap()).collect();
            let mut next = [0; 4];
            for message in &heard[0] {
                let data = message.strip_prefix("msg ").unwrap();
                let (name, number): (usize, usize) = serde_json::from_str(data).unwrap();
                assert_eq!(number, next[name], "publisher {name}");
                next[name] += 1;
            }
            assert_eq!(next, [EACH; 4]);
            assert!(heard.iter().all(|other| *other == heard[0]));
            assert!(server.metric("throng_publisher_stalls_total") > 0);
            server.wait_for_metric("throng_mailbox_pending_bytes", 0);
        });
    }

    /// A core that stands still, a publisher on the other one, and somebody to see by what it does.
    struct Stalled {
        /// On the core that stands still.
        member: Client,
        /// On the publisher's core.
        witness: Client,
        publisher: Raw,
        /// Number of publications that were handled.
        handled: Arc<AtomicUsize>,
        /// The codes of connections that ended.
        ends: Arc<Mutex<Vec<u16>>>,
        gate: Gate,
        server: TestServer,
    }

    impl Stalled {
        fn start(mode: FlushMode) -> Self {
            let mut config = limited(mode, |l| l.mailbox_bytes_max = 1024);
            config.cores = 2;
            // What ends here ends by itself.
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let handled = Arc::new(AtomicUsize::new(0));
            let count = handled.clone();
            let ends = Arc::<Mutex<Vec<u16>>>::default();
            let noted = ends.clone();
            let mut gate = None;
            let server = TestServer::start_with(config, |router, rooms| {
                gate = Some(Gate::add_to(router));
                router.on_close(move |_, disconnect| noted.lock().push(disconnect.code.0));
                let rooms = rooms.clone();
                router.on("publish", move |_: &Connection, number: u64| {
                    count.fetch_add(1, Ordering::Relaxed);
                    rooms.emit("tea", "said", &number)
                });
            });
            let mut member = server.connect_on(1);
            member.join("tea");
            let witness = server.connect_on(0);
            let mut publisher = until(
                || {
                    let mut raw = server.connect_raw_websocket();
                    raw.send_text("core");
                    (raw.receive().1 == b"core 0").then_some(raw)
                },
                || "no connection came to core 0".to_owned(),
            );
            publisher.send_text(r#"join {"name":"lobby"}"#);
            publisher.sync();
            let gate = gate.unwrap();
            gate.hold_core_of(&mut member);
            Self {
                member,
                witness,
                publisher,
                handled,
                ends,
                gate,
                server,
            }
        }

        /// Waits until no more of the publisher's messages are handled; returns how many were.
        /// Between two answers to the witness, its core reads from everybody who waits to be read
        /// from.
        fn wait_until_held_back(&mut self) -> usize {
            let handled = || self.handled.load(Ordering::Relaxed);
            loop {
                self.witness.sync();
                let before = handled();
                self.witness.sync();
                self.witness.sync();
                if before > 0 && handled() == before {
                    return before;
                }
            }
        }
    }

    /// Of a publisher that is held back only what it had sent in one go is above the bound.
    #[test]
    fn a_publisher_of_one_message_a_packet_is_held_back_too() {
        for_each_flush_mode(|mode| {
            let mut stalled = Stalled::start(mode);
            for number in 0..200 {
                stalled.publisher.send_text(&format!("publish {number}"));
                // What was there before the witness's question was there to be read.
                stalled.witness.sync();
            }
            stalled.witness.sync();
            let handled = stalled.handled.load(Ordering::Relaxed);
            stalled.gate.release();
            for number in 0..200 {
                stalled.member.expect(&format!("said {number}"));
            }
            assert!(handled < 50, "{handled} went to a full mailbox");
        });
    }

    #[test]
    fn a_publisher_that_hangs_up_while_it_is_held_back_is_heard_and_forgotten() {
        for_each_flush_mode(|mode| hang_up_while_held_back(mode, drop));
    }

    /// It cannot be written to any more, but it is not for that that its messages were not heard.
    #[test]
    fn a_publisher_that_crashes_while_it_is_held_back_is_heard_and_forgotten() {
        for_each_flush_mode(|mode| hang_up_while_held_back(mode, Raw::reset));
    }

    fn hang_up_while_held_back(mode: FlushMode, hang_up: impl Fn(Raw)) {
        let mut stalled = Stalled::start(mode);
        let bytes: Vec<u8> = (0..200)
            .flat_map(|number| text(&format!("publish {number}")))
            .collect();
        stalled.publisher.send(&bytes);
        stalled.witness.sync();
        // Its last words and its end come while nobody listens.
        stalled.publisher.send_text("publish 200");
        hang_up(stalled.publisher);
        stalled.witness.say("lobby", "are you there");
        stalled.witness.sync();
        stalled.witness.say("lobby", "still there");
        stalled.witness.sync();
        assert!(stalled.handled.load(Ordering::Relaxed) < 200);
        stalled.gate.release();
        for number in 0..=200 {
            stalled.member.expect(&format!("said {number}"));
        }
        stalled.server.wait_for_metric("throng_connections", 2);
    }

    #[test]
    fn a_publisher_that_hung_up_while_it_was_held_back_does_not_delay_a_drain() {
        for_each_flush_mode(|mode| {
            let mut stalled = Stalled::start(mode);
            let bytes: Vec<u8> = (0..200)
                .flat_map(|number| text(&format!("publish {number}")))
                .collect();
            stalled.publisher.send(&bytes);
            stalled.witness.sync();
            drop(stalled.publisher);
            stalled.witness.sync();
            stalled.server.stop.drain();
            stalled.witness.expect_close(1001);
            stalled.gate.release();
            drop((stalled.witness, stalled.member));
            stalled.server.drain().unwrap();
        });
    }

    /// The goodbye is read in one turn with the end behind it, if both came while nobody listened.
    #[test]
    fn a_publisher_that_says_goodbye_while_it_is_held_back_is_heard() {
        for_each_flush_mode(|mode| {
            let mut stalled = Stalled::start(mode);
            let publish = |numbers: std::ops::Range<usize>| -> Vec<u8> {
                numbers
                    .flat_map(|number| text(&format!("publish {number}")))
                    .collect()
            };
            stalled.publisher.send(&publish(0..200));
            let until_full = stalled.wait_until_held_back();
            stalled.gate.release();
            for number in 0..200 {
                stalled.member.expect(&format!("said {number}"));
            }

            // Once more, so that only one publication is left to be handled.
            stalled.gate.hold_core_of(&mut stalled.member);
            stalled.publisher.send(&publish(0..until_full + 1));
            assert_eq!(stalled.wait_until_held_back(), 200 + until_full);
            stalled.gate.hold_core_of(&mut stalled.witness);
            stalled.gate.release();
            for number in 0..until_full {
                stalled.member.expect(&format!("said {number}"));
            }
            stalled.publisher.send(&close(4321));
            drop(stalled.publisher);
            stalled.gate.release();
            stalled.member.expect(&format!("said {until_full}"));
            stalled.server.wait_for_metric("throng_connections", 2);
            let ends = stalled.ends.lock().clone();
            assert_eq!(ends.last(), Some(&4321), "{ends:?}");
        });
    }

    /// Whatever a thread outside asks of a core that does not come round to it is bounded.
    #[test]
    fn a_thread_outside_is_refused_whatever_it_asks_of_a_full_mailbox() {
        let handles = Arc::<Mutex<Vec<Connection>>>::default();
        let seen = handles.clone();
        let mut gate = None;
        let config = limited(FlushMode::Auto, |l| l.mailbox_bytes_max = 1024);
        let server = TestServer::start_with(config, |router, _| {
            gate = Some(Gate::add_to(router));
            router.on_connect(move |conn, _| seen.lock().push(conn.clone()));
        });
        let gate = gate.unwrap();
        let mut alice = server.connect();
        alice.sync();
        let handle = handles.lock()[0].clone();
        let rooms = &server.rooms;
        gate.hold_core_of(&mut alice);

        let mut sent = 0;
        let error = until(
            || match handle.emit("number", &sent) {
                Ok(()) => {
                    sent += 1;
                    None
                }
                Err(error) => Some(error),
            },
            || "a mailbox of 1 KiB never filled".to_owned(),
        );
        assert!(matches!(error, throng::EmitError::Overloaded(_)), "{error}");
        assert!(sent < 50, "{sent} in 1 KiB");
        handle.send_text("late").unwrap_err();
        handle.send_binary(b"late").unwrap_err();
        handle.close(CloseCode(4001), "late").unwrap_err();
        rooms.leave(&handle, "tea").unwrap_err();
        rooms.leave_all(&handle).unwrap_err();
        let error = rooms.join(&handle, "tea").unwrap_err();
        assert!(matches!(error, JoinError::Overloaded(_)), "{error}");
        assert_eq!(rooms.member_count("tea"), 0);

        gate.release();
        for number in 0..sent {
            alice.expect(&format!("number {number}"));
        }
        // Nothing of what was refused has happened, and now it is not refused.
        alice.expect_nothing();
        rooms.join(&handle, "tea").unwrap();
        rooms.emit("tea", "said", "hot").unwrap();
        alice.expect("said \"hot\"");
        handle.close(CloseCode(4001), "now").unwrap();
        assert_eq!(alice.expect_close(4001), "now");
    }

    #[test]
    fn a_thread_outside_is_refused_at_a_full_mailbox() {
        let mut stalled = Stalled::start(FlushMode::Auto);
        let mut accepted = 0;
        let error = until(
            || match stalled.server.rooms.emit("tea", "said", &accepted) {
                Ok(member_count) => {
                    assert_eq!(member_count, 1);
                    accepted += 1;
                    None
                }
                Err(error) => Some(error),
            },
            || "a mailbox of 1 KiB never filled".to_owned(),
        );
        assert!(matches!(error, throng::EmitError::Overloaded(_)), "{error}");
        stalled.gate.release();
        for number in 0..accepted {
            stalled.member.expect(&format!("said {number}"));
        }
        stalled.member.expect_nothing();
    }
}
