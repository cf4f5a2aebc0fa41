//! Members that read slowly, or not at all: what the kernel holds for them, whether they count as
//! dead, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use proto::OpCode;
use serde_json::{Value, json};
use throng::{Classes, CloseCode, Config, Connection, FlushMode, RoomClass, SlowConsumer};
use throng_testing::{
    Gate, Raw, TIMEOUT, TestServer, Throng, close, config, for_each_flush_mode, opcode, queued,
    split, text, until,
};

/// Longer than any test may take.
const NEVER: Duration = Duration::from_secs(3600);

const KIB: u64 = 1024;

/// Rooms named `skip` and `latest` are of these classes.
fn classed(flush: FlushMode) -> Config {
    let class = |slow_consumer| RoomClass {
        slow_consumer,
        ..RoomClass::default()
    };
    let patterns = vec![
        ("skip".into(), class(SlowConsumer::Skip)),
        ("latest".into(), class(SlowConsumer::Latest)),
    ];
    Config {
        classes: Classes::new(patterns, RoomClass::default()),
        ..config(flush)
    }
}

/// A member whose kernel takes little, and that reads when the test says so.
fn sleeper(server: &TestServer, room: &str) -> Raw {
    let mut sleeper = Raw::connect_narrow(server.address()).opened_as_throng();
    sleeper.send_text(&format!(r#"join {{"room":"{room}"}}"#));
    let (_, joined) = sleeper.receive();
    assert!(joined.starts_with(b"joined "));
    sleeper
}

/// 16 KiB to the room, as many times.
fn publish(bob: &mut Throng, room: &str, count: usize) {
    let filler = "x".repeat(16 * 1024);
    for number in 0..count {
        let msg = json!({"number": number, "filler": filler});
        bob.ask("msg", json!({"id": number, "to": room, "msg": msg}), "ack");
    }
}

/// Publishes to a room without members of the test's own until somebody is closed as slow.
fn publish_until_somebody_is_slow(server: &TestServer, room: &str) {
    let mut bob = Throng::connect(server);
    until(
        || {
            publish(&mut bob, room, 1);
            (server.metric("throng_slow_consumers_total") > 0).then_some(())
        },
        || "a member that never reads was never closed".to_owned(),
    );
}

mod kernel {
    use super::*;

    #[test]
    fn little_lies_in_the_kernel_for_a_member_that_does_not_read() {
        for_each_flush_mode(|mode| {
            for room in ["skip", "latest"] {
                let server = TestServer::start(classed(mode));
                let sleeper = sleeper(&server, room);
                publish(&mut Throng::connect(&server), room, 300);
                let unacknowledged = queued(sleeper.ends_at_server()).unacknowledged;
                assert!(unacknowledged <= 48 * KIB, "{room}: {unacknowledged} bytes");
            }
        });
    }

    /// Whatever the window of the peer is: here it takes all there is, and its program reads
    /// nothing.
    #[test]
    fn the_send_buffer_is_bounded_if_what_lies_unsent_is_not() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.limits.unsent_bytes_max = 0;
            config.limits.send_buffer_bytes = 128 * 1024;
            let server = TestServer::start(config);
            let sleeper = sleeper(&server, "skip");
            publish(&mut Throng::connect(&server), "skip", 300);
            let unacknowledged = queued(sleeper.ends_at_server()).unacknowledged;
            // The kernel looks before it takes a buffer, of up to 64 KiB.
            assert!(unacknowledged <= 192 * KIB, "{unacknowledged} bytes");
        });
    }

    #[test]
    fn little_lies_in_the_kernel_of_a_publisher_that_is_not_read_from() {
        let mut gate = None;
        let server = TestServer::start_with(classed(FlushMode::Auto), |router, _| {
            gate = Some(Gate::add_to(router));
        });
        let gate = gate.unwrap();
        let mut alice = server.connect();
        alice.sync();
        let mut flood = server.connect_raw_websocket();
        // A kernel gives more and more to a connection that is read from as fast as it sends.
        let pongs = opcode(OpCode::Pong, &[7; 120]).repeat(500);
        for _ in 0..1000 {
            flood.send(&pongs);
        }
        flood.sync();
        gate.hold_core_of(&mut alice);
        flood.send_until_full(&pongs);
        let unread = queued(flood.ends_at_server()).unread;
        gate.release();
        assert!((1..=256 * KIB).contains(&unread), "{unread} bytes");
    }

    #[test]
    fn a_member_of_a_latest_room_that_reads_again_gets_the_newest_soon() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(classed(mode));
            let mut sleeper = sleeper(&server, "latest");
            let mut bob = Throng::connect(&server);
            publish(&mut bob, "latest", 300);
            let mut before = 0;
            loop {
                let (_, frame) = sleeper.receive();
                let (event, data) = split(str::from_utf8(&frame).unwrap());
                if event == "msg" && data["offset"] == 300 {
                    break;
                }
                before += frame.len() as u64;
            }
            assert!(before <= 64 * KIB, "{before} bytes were older");
        });
    }
}

mod life {
    use super::*;

    /// Publishes without a pause until it is told to stop.
    fn crowd(server: &TestServer, room: &'static str) -> (Arc<AtomicBool>, JoinHandle<()>) {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut bob) = (stop.clone(), Throng::connect(server));
        let publisher = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                publish(&mut bob, room, 1);
                thread::sleep(Duration::from_millis(2));
            }
        });
        (stop, publisher)
    }

    #[test]
    fn a_member_that_reads_steadily_lives_though_its_pings_wait_longer_than_the_timeout() {
        for_each_flush_mode(|mode| {
            for room in ["skip", "latest"] {
                let mut config = classed(mode);
                config.timeouts.ping_interval = Duration::from_millis(200);
                config.timeouts.pong_timeout = Duration::from_secs(2);
                let server = TestServer::start(config);
                let mut slow = sleeper(&server, room);
                let (stop, publisher) = crowd(&server, room);
                // 256 KB a second, of which more than 1 MB waits: four seconds in front of a ping.
                let mut pings = 0;
                for _ in 0..100 {
                    thread::sleep(Duration::from_millis(64));
                    assert!(slow.read_at_most(16 * 1024), "it was ended");
                    for (opcode, payload) in slow.take_frames() {
                        assert_ne!(opcode, OpCode::Close, "it was closed");
                        if opcode == OpCode::Ping {
                            pings += 1;
                            slow.send(&throng_testing::opcode(OpCode::Pong, &payload));
                        }
                    }
                }
                stop.store(true, Ordering::Relaxed);
                publisher.join().unwrap();
                let closed = r#"throng_connections_closed_total{reason="keepalive"}"#;
                assert_eq!(server.metric(closed), 0, "{room}, {pings} pings");
            }
        });
    }

    #[test]
    fn a_member_that_stops_reading_is_found_dead_and_its_place_is_free_at_once() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.timeouts.ping_interval = Duration::from_millis(200);
            config.timeouts.pong_timeout = Duration::from_millis(300);
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let server = TestServer::start(config);
            let stopped = sleeper(&server, "skip");
            let (stop, publisher) = crowd(&server, "skip");
            let closed = r#"throng_connections_closed_total{reason="keepalive"}"#;
            server.wait_for_metric(closed, 1);
            server.wait_for_metric("throng_connections", 1);
            stop.store(true, Ordering::Relaxed);
            publisher.join().unwrap();
            drop(stopped);
            server.wait_until_empty();
        });
    }

    #[test]
    fn a_dead_peer_is_told_why_and_its_place_is_free_at_once() {
        for_each_flush_mode(|mode| {
            let mut config = config(mode);
            config.limits.connections_max = 1.into();
            config.timeouts.ping_interval = Duration::from_millis(100);
            config.timeouts.pong_timeout = Duration::from_millis(100);
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let server = TestServer::start(config);
            let mut silent = server.connect_raw_websocket();
            server.wait_for_metric("throng_connections", 0);
            let mut next = server.connect_raw_websocket();
            next.sync();
            assert_eq!(silent.receive(), (OpCode::Ping, Vec::new()));
            assert_eq!(silent.expect_close(1011), "keepalive ping timeout");
            silent.expect_end();
        });
    }
}

mod ends {
    use super::*;

    #[test]
    fn a_slow_consumer_reads_why_right_behind_what_the_kernel_held() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.timeouts.close = TIMEOUT;
            let server = TestServer::start(config);
            let mut sleeper = sleeper(&server, "tea");
            publish_until_somebody_is_slow(&server, "tea");
            // A megabyte waited for it. Every frame is whole, or it would not be read as one.
            let (before, reason) = sleeper.bytes_to_close(4102);
            let reason: Value = serde_json::from_str(&reason).unwrap();
            assert_eq!(reason["reason"], "slow_consumer");
            assert!(before <= 64 * KIB, "{before} bytes in front of it");
            server.wait_for_metric("throng_members", 0);
        });
    }

    #[test]
    fn what_waits_in_front_of_a_close_frame_makes_way_for_it_before_the_time_is_over() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.timeouts.close = Duration::from_secs(4);
            let server = TestServer::start_with(config, add_ends_to);
            let mut sleeper = sleeper(&server, "skip");
            publish(&mut Throng::connect(&server), "skip", 50);
            let within =
                |le: &str| server.metric(&format!("throng_connections_pending{{le=\"{le}\"}}"));
            let is_more_for_one = |le| within("+Inf") - within(le) == 1;
            assert!(is_more_for_one("262144"));
            sleeper.send_text("bye null");
            until(
                || (!is_more_for_one("65536")).then_some(()),
                || "more than 64 KiB are in front of a close frame".to_owned(),
            );
            let (before, reason) = sleeper.bytes_to_close(4001);
            assert_eq!(reason, "that was all");
            assert!(before <= 64 * KIB, "{before} bytes in front of it");
        });
    }

    /// Two ways of an application to end a connection.
    fn add_ends_to(router: &mut throng::Router, _: &throng::RoomManager) {
        router.on("bye", |conn: &Connection| {
            conn.close(CloseCode(4001), "that was all")
        });
        router.on("panic", |_: &Connection| -> Result<(), throng::Refusal> {
            panic!("as the test wants")
        });
    }

    /// Sends on behind what it was closed for; returns how much of that was read.
    fn send_on(server: &TestServer, raw: &mut Raw) -> u64 {
        let before = server.metric("throng_bytes_in_total");
        raw.send_until_full(&text("still here").repeat(1000));
        server.metric("throng_bytes_in_total") - before
    }

    #[test]
    fn of_a_peer_that_was_closed_and_sends_on_little_is_read_whatever_it_was_closed_for() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.limits.message_bytes_max = 1000;
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let server = TestServer::start_with(config, add_ends_to);
            let ends = [
                (b"\xff\xff".to_vec(), 1002),
                (opcode(OpCode::Binary, &[0; 1001])[..8].to_vec(), 1009),
                (text("bye null"), 4001),
                (text("panic null"), 1011),
                (close(4321), 4321),
            ];
            for (ending, code) in ends {
                let mut raw = server.connect_raw_websocket();
                raw.send(&ending);
                raw.skip_to_close(code);
                let read = send_on(&server, &mut raw);
                assert!(read <= 64 * KIB, "{code}: {read} bytes");
                // Its end is noticed all the same.
                raw.reset();
                server.wait_until_empty();
            }
            server.check_health();
        });
    }

    #[test]
    fn of_a_peer_that_is_closed_when_the_server_stops_little_is_read_too() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            config.timeouts.close = Duration::from_secs(5);
            let server = TestServer::start(config);
            let mut raw = server.connect_raw_websocket();
            let before = server.metric("throng_bytes_in_total");
            server.stop.drain();
            raw.skip_to_close(1001);
            raw.send_until_full(&text("still here").repeat(1000));
            // Nobody serves metrics any more; what the kernel keeps says what was not read.
            assert!(queued(raw.ends_at_server()).unread > 0, "{before}");
            raw.reset();
        });
    }

    #[test]
    fn a_slow_consumer_that_sends_on_and_does_not_read_why_is_not_read_from() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let server = TestServer::start(config);
            let mut sleeper = sleeper(&server, "tea");
            publish_until_somebody_is_slow(&server, "tea");
            server.wait_for_metric("throng_connections", 1);
            let read = send_on(&server, &mut sleeper);
            assert!(read <= 64 * KIB, "{read} bytes");
            sleeper.bytes_to_close(4102);
            sleeper.reset();
            server.wait_until_empty();
        });
    }

    #[test]
    fn a_peer_that_sends_a_little_behind_our_close_frame_reads_it_and_the_end() {
        for_each_flush_mode(|mode| {
            let mut config = classed(mode);
            (config.timeouts.close, config.timeouts.drain) = (NEVER, NEVER);
            let server = TestServer::start(config);
            let mut raw = server.connect_raw_websocket();
            raw.send(b"\xff\xff");
            raw.send(&text("on its way by then").repeat(1000));
            raw.expect_close(1002);
            raw.send(&close(1002));
            raw.shut_sending();
            assert_eq!(raw.receive_all(), "");
            server.wait_until_empty();
        });
    }
}

mod answers {
    use super::*;

    #[test]
    fn who_asks_for_more_than_an_outbox_holds_and_reads_gets_all_of_it_in_order() {
        for_each_flush_mode(|mode| {
            let server = TestServer::start(classed(mode));
            let mut bob = Throng::connect(&server);
            publish(&mut bob, "tea", 15);

            // Each answer is a quarter of a megabyte, and a megabyte may wait.
            let mut eager = Raw::connect_narrow(server.address()).opened_as_throng();
            let ask = |id| text(&format!(r#"history {{"id":{id},"room":"tea","last":15}}"#));
            eager.send(&(1..=ASKED).flat_map(ask).collect::<Vec<u8>>());
            for id in 1..=ASKED {
                let (_, answer) = eager.receive();
                let expected = format!(r#"history {{"id":{id},"#);
                let answer = String::from_utf8_lossy(&answer[..40]);
                assert!(answer.starts_with(&expected), "{answer} for {id}");
            }
            assert_eq!(server.metric("throng_slow_consumers_total"), 0);
        });
    }

    const ASKED: u32 = 60;
}
