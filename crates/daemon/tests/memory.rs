//! How much memory the binary takes for peers that no decent person wrote, and what is left of
//! them.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use binary::Binary;
use proto::OpCode;
use throng_testing::{Client, Raw, get, opcode, text, until};

const CROWD: u64 = 1_000;

/// Maximum memory that may be left of an attack. At its height the second one holds 180 MB, of
/// which the allocator keeps up to 20.
const LEFT_BYTES_MAX: u64 = 32 << 20;

#[test]
fn the_memory_of_a_crowd_and_of_half_sent_messages_is_given_back() {
    for flush in ["auto", "write"] {
        let (binary, address) = Binary::serve(&[
            ("THRONG_FLUSH", flush),
            ("THRONG_CORES", "1"),
            ("THRONG_MAX_MESSAGE_BYTES", "1000000"),
        ]);
        server_is_used(address);
        let Some(before) = binary.resident_bytes() else {
            println!("this system does not tell");
            return;
        };
        for attack in [crowd_comes_and_goes, half_sends, half_asks] {
            attack(address);
            wait_until_empty(address);
            let resident = || binary.resident_bytes().unwrap();
            until(
                || (resident() < before + LEFT_BYTES_MAX).then_some(()),
                || format!("{before} bytes before, and {} after", resident()),
            );
            println!("{before} bytes before, and {} after", resident());
        }
    }
}

/// Uses the server as any client does, which leaves some memory behind for good.
fn server_is_used(address: std::net::SocketAddr) {
    let mut alice = Client::connect(address);
    alice.send(r#"join {"name":"tea"}"#);
    alice.say("tea", "hi");
    alice.expect("msg \"hi\"");
    alice.close();
    wait_until_empty(address);
}

fn crowd_comes_and_goes(address: std::net::SocketAddr) {
    let crowd: Vec<Raw> = (0..CROWD)
        .map(|_| {
            let mut raw = Raw::connect(address);
            raw.open_and_send(&text(r#"join {"name":"tea"}"#));
            raw
        })
        .collect();
    let mut alice = Client::connect(address);
    let long = "x".repeat(10_000);
    for _ in 0..20 {
        alice.say("tea", &long);
    }
    crowd.into_iter().for_each(Raw::reset);
    alice.close();
}

/// 200 messages of nearly a megabyte, of which the last byte does not come.
fn half_sends(address: std::net::SocketAddr) {
    let whole = opcode(OpCode::Binary, &vec![0; 900_000]);
    let senders: Vec<Raw> = (0..200)
        .map(|_| {
            let mut raw = Raw::connect_websocket(address);
            raw.send(&whole[..whole.len() - 1]);
            raw
        })
        .collect();
    senders.into_iter().for_each(Raw::reset);
}

/// 3,000 requests without their end, of two lengths. No WebSocket comes of any, so that the loop of
/// the core sees nothing of them.
fn half_asks(address: std::net::SocketAddr) {
    let askers: Vec<Raw> = (0..HALF_ASKERS)
        .map(|turn| {
            let mut raw = Raw::connect(address);
            raw.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX: ");
            raw.send(&vec![b'x'; if turn % 2 == 0 { 10 } else { 6_000 }]);
            raw
        })
        .collect();
    askers.into_iter().for_each(Raw::reset);
}

const HALF_ASKERS: usize = 3_000;

/// Attacks a server that is used for nothing else, where nothing else gives the memory back.
#[test]
fn the_memory_of_requests_without_an_end_is_given_back_though_nobody_else_comes() {
    throng_testing::raise_file_limit();
    let (binary, address) = Binary::serve(&[("THRONG_CORES", "1")]);
    assert_eq!(get(address, "/healthz").status, 200);
    let Some(before) = binary.resident_bytes() else {
        println!("this system does not tell");
        return;
    };
    half_asks(address);
    let resident = || binary.resident_bytes().unwrap();
    let at_most = before + LEFT_OF_ASKERS_MAX;
    until(
        || (resident() < at_most).then_some(()),
        || format!("{before} bytes before, and {} after", resident()),
    );
    println!("{before} bytes before, and {} after", resident());
}

/// Of the 50 to 80 MB that they hold at their height.
const LEFT_OF_ASKERS_MAX: u64 = 16 << 20;

fn wait_until_empty(address: std::net::SocketAddr) {
    until(
        || {
            let text = get(address, "/metrics").body;
            let gone = |line: &str| text.lines().any(|found| found == line);
            (gone("throng_connections 0") && gone("throng_rooms 0")).then_some(())
        },
        || "somebody is left".to_owned(),
    );
}

/// The outbox is bounded in bytes, so what each byte in it costs must be about one.
#[test]
fn pongs_that_nobody_reads_take_little_more_memory_than_the_outbox_allows() {
    for flush in ["auto", "write"] {
        let (binary, address) = Binary::serve(&[
            ("THRONG_FLUSH", flush),
            ("THRONG_CORES", "1"),
            ("THRONG_MAX_OUTBOX_BYTES", "1048576"),
            ("THRONG_CLOSE_TIMEOUT_S", "0.2"),
            ("MIMALLOC_PURGE_DELAY", "0"),
        ]);
        let mut raw = Raw::connect_narrow(address).opened();
        let Some(before) = binary.resident_bytes() else {
            println!("this system does not tell");
            return;
        };
        let pings = opcode(OpCode::Ping, b"").repeat(10_000);
        let mut peak = before;
        while raw.try_send(&pings) {
            peak = peak.max(binary.resident_bytes().unwrap());
        }
        println!("{before} bytes before, {peak} at most");
        assert!(
            peak < before + (8 << 20),
            "{before} bytes before, {peak} at most"
        );
    }
}

const HISTORY_BYTES: u64 = 16 << 20;

/// A load, published until ten times the limit has passed through.
struct Load {
    name: &'static str,
    rooms: u64,
    /// Lengths of what is published, in bytes; each as often as it stands here. Those of 20 have
    /// keys.
    lens: &'static [usize],
}

const LOADS: [Load; 2] = [
    Load {
        name: "4 KB",
        rooms: 100,
        lens: &[4096],
    },
    Load {
        name: "mixed",
        rooms: 100,
        lens: &[20, 20, 20, 200, 200, 1000, 4096],
    },
];

/// The limit is one of the process's memory, whatever is published: it is what a machine is sized
/// by.
#[test]
fn the_process_grows_by_what_histories_may_take() {
    for load in LOADS {
        let (binary, address) = Binary::serve(&[
            ("THRONG_CORES", "1"),
            ("THRONG_HISTORY_MEMORY_BYTES", &HISTORY_BYTES.to_string()),
        ]);
        let mut raw = speak_throng_v1(address);
        // What any use takes: buffers, the table's first places.
        let warm = publish(&mut raw, &load, 1, HISTORY_BYTES / 20);
        wait_for_publications(address, warm);
        let Some(before) = binary.resident_bytes() else {
            println!("this system does not tell");
            return;
        };
        let held_before = metric(address, "throng_history_bytes ");
        let more = publish(&mut raw, &load, 2, 10 * HISTORY_BYTES);
        wait_for_publications(address, warm + more);

        let room = HISTORY_BYTES - held_before;
        let resident = || binary.resident_bytes().unwrap();
        let percent = || (resident() - before) * 100 / room;
        // What is freed is given back a little later. What the process takes for itself counts more
        // here than with a limit that anybody sets.
        until(
            || (80..=115).contains(&percent()).then_some(()),
            || format!("{}: grown by {} % of the limit", load.name, percent()),
        );
        println!("{}: grown by {} % of the limit", load.name, percent());
    }
}

fn speak_throng_v1(address: std::net::SocketAddr) -> Raw {
    let mut raw = Raw::connect(address);
    raw.send(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Protocol: throng.v1\r\n\r\n",
    );
    assert!(raw.receive_head().starts_with("HTTP/1.1 101"));
    raw
}

/// Publishes so many bytes, with what the smallest frames have around them; returns how many
/// publications those were.
fn publish(raw: &mut Raw, load: &Load, seed: u64, bytes: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut count, mut sent, mut batch) = (0, 0, Vec::new());
    while sent < bytes {
        let len = load.lens[random.usize(..load.lens.len())];
        let room = random.u64(..load.rooms);
        let key = if len == 20 {
            format!(r#","key":"{:x}""#, random.u64(..))
        } else {
            String::new()
        };
        let body = "x".repeat(len);
        batch.extend(text(&format!(
            r#"msg {{"to":"room {room}","msg":"{body}"{key}}}"#
        )));
        count += 1;
        sent += len as u64 + 250;
        if batch.len() > 1 << 16 {
            raw.send(&batch);
            batch.clear();
        }
    }
    raw.send(&batch);
    count
}

fn wait_for_publications(address: std::net::SocketAddr, count: u64) {
    let published = || metric(address, "throng_publications_total ");
    until(
        || (published() == count).then_some(()),
        || format!("{} of {count} are published", published()),
    );
}

fn metric(address: std::net::SocketAddr, name: &str) -> u64 {
    let text = get(address, "/metrics").body;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap().parse().unwrap()
}
