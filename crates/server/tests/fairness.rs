//! One peer sends as much as it can: what that takes of a turn has a bound, and others come in
//! between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proto::OpCode;
use throng::{Connection, Router};
use throng_testing::{Gate, TestServer, config, for_each_flush_mode, now, opcode, text};

/// Frames that a peer may repeat for ever, by what they are.
fn floods() -> [(&'static str, Vec<u8>); 6] {
    let json = format!(
        "msg {{\"to\":\"nowhere\",\"msg\":[{}0]}}",
        "1.5e3,".repeat(2_000)
    );
    [
        (
            "messages to an empty room",
            text(r#"msg {"to":"nowhere","msg":"hello"}"#),
        ),
        ("pings", opcode(OpCode::Ping, b"")),
        ("pongs", opcode(OpCode::Pong, &[0; 125])),
        ("JSON that is dear to read", text(&json)),
        ("unknown events", text("nonsense")),
        (
            "fragments",
            [&b"\x01\x80\0\0\0\0"[..], b"\x80\x80\0\0\0\0"].concat(),
        ),
    ]
}

#[test]
fn a_turn_reads_at_most_once_from_each_connection_whatever_is_sent() {
    for_each_flush_mode(|mode| {
        for (what, frame) in floods() {
            let server = TestServer::start(config(mode));
            let flood = frame.repeat(FLOOD_LEN / frame.len());
            let before = turns_and_reads(&server);
            thread::scope(|scope| {
                for _ in 0..FLOODERS {
                    let mut flooder = server.connect_raw_websocket();
                    // One that does not read its answers may be closed for that.
                    scope.spawn({
                        let flood = &flood;
                        move || _ = flooder.try_send(flood)
                    });
                }
            });
            server.wait_for_metric("throng_connections", 0);
            let after = turns_and_reads(&server);
            let (turns, reads) = (after.0 - before.0, after.1 - before.1);
            assert!(
                reads <= turns * FLOODERS,
                "{what}: {reads} reads in {turns} turns"
            );
        }
    });
}

const FLOODERS: u64 = 3;

/// A dozen full reads.
const FLOOD_LEN: usize = 768 << 10;

fn turns_and_reads(server: &TestServer) -> (u64, u64) {
    let reads = server.metric(r#"throng_system_calls_total{call="recv"}"#);
    (server.metric("throng_turns_total"), reads)
}

#[test]
fn others_come_between_messages_that_are_dear_though_all_of_those_are_there() {
    for_each_flush_mode(|mode| {
        let work = Arc::new(AtomicU64::new(0));
        let mut gate = None;
        let server = TestServer::start_with(config(mode), |router, _| {
            gate = Some(Gate::add_to(router));
            add_work_to(router, &work);
        });
        let gate = gate.expect("it was added");
        let [mut holder, mut publisher, mut neighbour] = [(); 3].map(|()| server.connect());

        gate.hold_core_of(&mut holder);
        for number in 0..PIECES {
            publisher.send(&format!("work {number}"));
        }
        neighbour.send("look");
        gate.release();

        let done: u64 = {
            let seen = neighbour.receive();
            let seen = seen
                .strip_prefix("seen ")
                .expect("it was asked what is done");
            seen.parse().expect("a number")
        };
        assert!(done < PIECES / 4, "{done} of {PIECES} were done before");
        // And what was left is done, in order.
        publisher.sync();
        assert_eq!(work.load(Ordering::Relaxed), PIECES);
        assert!(server.metric("throng_slices_used_up_total") > 0);
    });
}

/// Messages that one read takes, each of a twentieth of a millisecond.
const PIECES: u64 = 400;

/// Handles `work`, numbered from 0, and `look`, which says how many were done.
fn add_work_to(router: &mut Router, work: &Arc<AtomicU64>) {
    let done = work.clone();
    router.on("work", move |_: &Connection, number: u64| {
        let next = done.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            number, next,
            "they are handled in the order in which they came"
        );
        let end = now() + Duration::from_micros(50);
        while now() < end {
            std::hint::spin_loop();
        }
    });
    let done = work.clone();
    router.on("look", move |conn: &Connection| {
        conn.emit("seen", &done.load(Ordering::Relaxed))
    });
}

#[test]
fn a_handshake_that_brings_messages_along_waits_its_turn_with_them() {
    for_each_flush_mode(|mode| {
        let server = TestServer::start(config(mode));
        let mut eager = server.connect_raw();
        eager.open_and_send(&[text("sync 1"), text("sync 2")].concat());
        eager.expect("synced 1");
        eager.expect("synced 2");
    });
}
