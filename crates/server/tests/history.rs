//! Histories on disk: what a restart leaves of them. What a kill and a failing disk do is tested
//! with the binary.

use std::path::Path;

use serde_json::{Value, json};
use throng::{Classes, Config, Disk, FlushMode, Fsync, History, RoomClass};
use throng_testing::Throng;

/// A server that keeps histories in a directory.
fn on_disk(path: &Path, fsync: Fsync) -> Config {
    let disk = Disk {
        fsync,
        ..Disk::new(path)
    };
    Config {
        classes: Classes::new(Vec::new(), RoomClass::default()),
        history: History {
            disk: Some(disk),
            ..History::default()
        },
        ..throng_testing::config(FlushMode::Auto)
    }
}

fn publish(client: &mut Throng, room: &str, number: u64) -> Value {
    let key = format!("k{number}");
    let msg = json!({"id": number, "to": room, "msg": number, "key": key});
    client.ask("msg", msg, "ack")
}

const ALL: [Fsync; 3] = [Fsync::Always, Fsync::Interval, Fsync::Never];

#[test]
fn a_clean_restart_keeps_positions_histories_and_keys() {
    for fsync in ALL {
        let directory = tempfile::tempdir().unwrap();
        let server = throng_testing::TestServer::start(on_disk(directory.path(), fsync));
        let mut alice = Throng::connect(&server);
        let left = alice.join("tea")["position"].clone();
        let quiet = alice.join("quiet")["position"].clone();
        alice.client.close();
        let mut bob = Throng::connect(&server);
        for number in 1..=100 {
            let ack = publish(&mut bob, "tea", number);
            let position = json!({"epoch": left["epoch"], "offset": number});
            assert_eq!(ack["position"], position);
        }
        bob.client.close();
        server.drain().unwrap();

        let server = throng_testing::TestServer::start(on_disk(directory.path(), fsync));
        let mut alice = Throng::connect(&server);
        let joined = alice.rejoin("tea", &left);
        assert_eq!(joined["recovered"], true, "{fsync}");
        assert_eq!(joined["position"]["epoch"], left["epoch"]);
        (1..=100).for_each(|number| alice.expect_msg(number, json!(number)));
        let joined = alice.rejoin("quiet", &quiet);
        assert_eq!(
            (&joined["recovered"], &joined["position"]),
            (&json!(true), &quiet)
        );
        let mut bob = Throng::connect(&server);
        let repeat = publish(&mut bob, "tea", 50);
        assert_eq!(repeat["duplicate"], true);
        assert_eq!(repeat["position"]["offset"], 50);
        assert_eq!(publish(&mut bob, "tea", 101)["position"]["offset"], 101);
        alice.expect_msg(101, json!(101));
    }
}
