//! Histories on disk: what a kill and a failing disk leave of them.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/harness.rs"]
mod harness;

use std::net::SocketAddr;
use std::path::Path;

use harness::{Binary, Throng};
use serde_json::{Value, json};

/// The binary, with a directory for its histories.
fn serve(path: &Path, fsync: &str) -> (Binary, SocketAddr) {
    let path = path.to_str().unwrap();
    Binary::serve(&[
        ("THRONG_HISTORY_PATH", path),
        ("THRONG_HISTORY_FSYNC", fsync),
        ("THRONG_DRAIN_SPREAD_S", "0"),
    ])
}

fn publish(client: &mut Throng, room: &str, number: u64) -> Value {
    let key = format!("k{number}");
    let msg = json!({"id": number, "to": room, "msg": number, "key": key});
    client.ask("msg", msg, "ack")
}

#[test]
fn what_was_acknowledged_survives_a_kill_with_fsync_always() {
    let directory = tempfile::tempdir().unwrap();
    let (mut left, mut acknowledged) = (Value::Null, 0);
    for round in 0..3 {
        let (mut binary, address) = serve(directory.path(), "always");
        let mut alice = Throng::connect_to(address);
        if round == 0 {
            left = alice.join("tea")["position"].clone();
        } else {
            let joined = alice.rejoin("tea", &left);
            assert_eq!(joined["recovered"], true);
            assert_eq!(joined["position"]["epoch"], left["epoch"]);
            (1..=acknowledged).for_each(|number| alice.expect_msg(number, json!(number)));
        }
        let mut bob = Throng::connect_to(address);
        for _ in 0..20 {
            acknowledged += 1;
            publish(&mut bob, "tea", acknowledged);
            alice.expect_msg(acknowledged, json!(acknowledged));
        }
        binary.signal("KILL");
        binary.wait();
    }
}

#[test]
fn a_kill_behind_which_something_may_be_missing_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (mut binary, address) = serve(directory.path(), "interval");
    let mut bob = Throng::connect_to(address);
    let left = bob.join("tea")["position"].clone();
    for number in 1..=20 {
        bob.request("msg", json!({"to": "tea", "msg": number}));
        bob.expect_msg(number, json!(number));
    }
    let written = |address: SocketAddr| {
        let text = harness::get(address, "/metrics").body;
        let name = "throng_journal_records_total ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse::<u64>().unwrap()
    };
    // The room's epoch and twenty publications.
    harness::until(
        || (written(address) >= 21).then_some(()),
        || format!("{} of 21 are written", written(address)),
    );
    binary.signal("KILL");
    binary.wait();

    let (_binary, address) = serve(directory.path(), "interval");
    let here = json!({"epoch": left["epoch"], "offset": 15});
    let mut bob = Throng::connect_to(address);
    let joined = bob.rejoin("tea", &here);
    assert_eq!(
        (&joined["recovered"], &joined["first"]),
        (&json!(false), &json!(16))
    );
    assert_ne!(joined["position"]["epoch"], left["epoch"]);
    assert_eq!(joined["position"]["offset"], 20);
    (16..=20).for_each(|number| bob.expect_msg(number, json!(number)));
    // Who saw more than was written gets what is new, and nothing that it had.
    let mut carol = Throng::connect_to(address);
    let ahead = json!({"epoch": left["epoch"], "offset": 25});
    let joined = carol.rejoin("tea", &ahead);
    assert_eq!(
        (&joined["recovered"], &joined["first"]),
        (&json!(false), &json!(21))
    );
    bob.request("msg", json!({"to": "tea", "msg": "new"}));
    carol.expect_msg(21, json!("new"));
}

#[test]
fn a_full_disk_refuses_publications_and_what_was_acknowledged_is_there_when_it_takes_them_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    // No file may be longer than 4 MiB: to the server that is a disk that is full.
    let limits = "trap '' XFSZ; ulimit -S -f 8192; exec \"$0\"";
    let (mut binary, address) = Binary::serve_by(
        &["sh", "-c", limits],
        &[
            ("THRONG_HISTORY_PATH", path),
            ("THRONG_HISTORY_FSYNC", "always"),
            ("THRONG_HISTORY_BYTES", "1000000000"),
            ("THRONG_HISTORY_PUBLICATIONS", "1000000"),
            ("THRONG_DRAIN_SPREAD_S", "0"),
        ],
    );
    let mut bob = Throng::connect_to(address);
    let filler = "x".repeat(60_000);
    let mut acknowledged = 0;
    let refused = loop {
        let msg = json!({"number": acknowledged + 1, "filler": filler});
        bob.request(
            "msg",
            json!({"id": acknowledged + 1, "to": "tea", "msg": msg}),
        );
        let text = bob.client.receive();
        let (event, data) = text.split_once(' ').unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        if event == "error" {
            break data;
        }
        acknowledged += 1;
        assert_eq!(
            (event, &data["position"]["offset"]),
            ("ack", &json!(acknowledged))
        );
        assert!(acknowledged < 1000, "60 MB are in files of 4 MiB");
    };
    assert_eq!(
        (&refused["code"], &refused["event"]),
        (&json!("storage"), &json!("msg"))
    );
    assert_eq!(refused["id"], acknowledged + 1);
    assert!(refused["retry_after_ms"].as_u64().unwrap() > 0);
    binary.wait_for_line("publications are refused");
    // Who joins sees what was acknowledged, and not what was refused.
    let mut alice = Throng::connect_to(address);
    let joined = alice.ask("join", json!({"room": "tea", "last": 1}), "joined");
    assert_eq!(joined["position"]["offset"], acknowledged);
    assert_eq!(alice.receive("msg")["offset"], acknowledged);

    binary.lift_file_limit();
    binary.wait_for_line("histories are written again");
    let msg = json!({"id": 0, "to": "tea", "msg": "again"});
    let ack = bob.ask("msg", msg, "ack");
    assert_eq!(ack["position"]["offset"], acknowledged + 1);
    alice.expect_msg(acknowledged + 1, json!("again"));
    binary.signal("KILL");
    binary.wait();

    let (_binary, address) = serve(directory.path(), "always");
    let mut alice = Throng::connect_to(address);
    let here = json!({"epoch": ack["position"]["epoch"], "offset": acknowledged - 10});
    let joined = alice.rejoin("tea", &here);
    assert_eq!(joined["recovered"], true, "{joined}");
    for number in acknowledged - 9..=acknowledged {
        let data = alice.receive("msg");
        assert_eq!(data["msg"]["number"], number);
    }
    alice.expect_msg(acknowledged + 1, json!("again"));
}

#[test]
fn one_directory_is_one_servers_and_a_damaged_one_is_refused_or_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (mut binary, _) = serve(directory.path(), "interval");
    let path = directory.path().to_str().unwrap();
    let start = |more: &[(&str, &str)]| {
        let first = [
            ("THRONG_LISTEN", "127.0.0.1:0"),
            ("THRONG_HISTORY_PATH", path),
        ];
        Binary::start(&[&first, more].concat())
    };
    let refuse = [("THRONG_HISTORY_ON_FAILURE", "refuse")];
    // Whatever is to happen while the disk fails: this is no failure of the disk.
    let mut second = start(&[]);
    second.wait_for_line("is in use by another process");
    assert_eq!(second.wait().code(), Some(2));
    binary.signal("TERM");
    assert_eq!(binary.wait().code(), Some(0));

    let store = directory.path().join("store");
    for file in std::fs::read_dir(&store).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::write(file, "no store").unwrap();
        }
    }
    let mut refused = start(&refuse);
    refused.wait_for_line("error: THRONG_HISTORY_PATH: ");
    assert_eq!(refused.wait().code(), Some(2));
    let serves = start(&[]);
    serves.wait_for_line("histories are kept in memory only");
    serves.wait_for_line("listening on");
}
