//! Histories on disk: what a kill and a failing disk leave of them.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use binary::Binary;
use serde_json::{Value, json};
use throng_testing::Throng;

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

/// Returns the value of a metric.
fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = throng_testing::get(address, "/metrics").body;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap().trim().parse().unwrap()
}

fn failing(address: SocketAddr) -> u64 {
    metric(address, "throng_journal_failing")
}

fn kill(mut binary: Binary) {
    binary.signal("KILL");
    binary.wait();
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
    let written = |address| metric(address, "throng_journal_records_total");
    // The room's epoch and twenty publications.
    throng_testing::until(
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
    binary.wait_for_line("writing histories again");
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
    for file in fs::read_dir(&store).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::write(file, "no store").unwrap();
        }
    }
    let mut refused = start(&refuse);
    refused.wait_for_line("error: THRONG_HISTORY_PATH: ");
    assert_eq!(refused.wait().code(), Some(2));
    let serves = start(&[]);
    serves.wait_for_line("histories are retained in memory only");
    serves.wait_for_line("listening on");
}

/// Renames the directory, publishes, and expects what is to happen while it is away; then it is
/// back.
#[test]
fn a_directory_that_is_moved_while_in_use_fails_and_has_everything_when_it_is_back() {
    for (fsync, refuses) in [("always", true), ("interval", false), ("never", false)] {
        let home = tempfile::tempdir().unwrap();
        let (path, away) = (home.path().join("here"), home.path().join("away"));
        let (binary, address) = serve(&path, fsync);
        let mut bob = Throng::connect_to(address);
        let first = publish(&mut bob, "tea", 1);
        assert_eq!(failing(address), 0);
        fs::rename(&path, &away).unwrap();

        let msg = json!({"id": 2, "to": "tea", "msg": 2, "key": "k2"});
        bob.request("msg", msg);
        if refuses {
            bob.expect_error("storage");
        } else {
            assert_eq!(bob.receive("ack")["position"]["offset"], 2);
        }
        binary.wait_for_line("cannot write histories");
        assert_eq!(failing(address), 1, "{fsync}");
        assert!(!path.exists(), "nothing is made in its place");

        fs::rename(&away, &path).unwrap();
        binary.wait_for_line("writing histories again");
        assert_eq!(failing(address), 0, "{fsync}");
        publish(&mut bob, "tea", 2);
        kill(binary);
        let (_binary, address) = serve(&path, fsync);
        let mut alice = Throng::connect_to(address);
        let joined = alice.rejoin("tea", &first["position"]);
        assert_eq!(joined["recovered"], refuses, "{fsync}");
        alice.expect_msg(2, json!(2));
    }
}

/// Root may do anything, so the server is another user's if the test is root's.
#[test]
fn a_directory_that_becomes_unreadable_while_in_use_fails() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("here");
    fs::create_dir(&path).unwrap();
    let is_root = fs::metadata(home.path()).unwrap().uid() == 0;
    let as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let program = if is_root {
        chown(home.path(), Some(65_534), Some(65_534)).unwrap();
        chown(&path, Some(65_534), Some(65_534)).unwrap();
        &as_nobody[..]
    } else {
        &["env"][..]
    };
    let variables = [
        ("THRONG_HISTORY_PATH", path.to_str().unwrap()),
        ("THRONG_HISTORY_FSYNC", "always"),
    ];
    let (binary, address) = Binary::serve_by(program, &variables);
    let mut bob = Throng::connect_to(address);
    publish(&mut bob, "tea", 1);
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    set(0);

    bob.request("msg", json!({"id": 2, "to": "tea", "msg": 2}));
    bob.expect_error("storage");
    assert!(
        binary
            .wait_for_line("cannot write histories")
            .contains("reached")
    );
    assert_eq!(failing(address), 1);
    set(0o700);
    binary.wait_for_line("writing histories again");
    assert_eq!(publish(&mut bob, "tea", 2)["position"]["offset"], 2);
}

/// Killed at once after it says so, when in its old order it had only just begun.
#[test]
fn histories_are_on_disk_when_they_are_said_to_be_written_again() {
    const ROOMS: u64 = 20;
    const EACH: u64 = 200;
    let home = tempfile::tempdir().unwrap();
    let (binary, address) = Binary::serve_by(
        &["sh", "-c", "trap '' XFSZ; exec \"$0\""],
        &[
            ("THRONG_HISTORY_PATH", home.path().to_str().unwrap()),
            ("THRONG_HISTORY_FSYNC", "always"),
        ],
    );
    let mut bob = Throng::connect_to(address);
    let filler = "x".repeat(1000);
    let room = |number: u64| format!("room {}", number % ROOMS);
    let mut epochs = vec![Value::Null; usize::try_from(ROOMS).unwrap()];
    let all = 0..ROOMS * EACH;
    for number in all.clone() {
        bob.request(
            "msg",
            json!({"id": number, "to": room(number), "msg": filler}),
        );
    }
    for _ in all {
        let ack = bob.receive("ack");
        let room = ack["id"].as_u64().unwrap() % ROOMS;
        epochs[usize::try_from(room).unwrap()] = ack["position"]["epoch"].clone();
    }
    binary.limit_files("4096");
    bob.request("msg", json!({"id": 0, "to": "tea", "msg": 0}));
    bob.expect_error("storage");
    binary.lift_file_limit();
    binary.wait_for_line("writing histories again");
    kill(binary);

    let (_binary, address) = serve(home.path(), "always");
    let mut alice = Throng::connect_to(address);
    for number in 0..ROOMS {
        let last = json!({"epoch": epochs[usize::try_from(number).unwrap()], "offset": EACH});
        let joined = alice.rejoin(&room(number), &last);
        assert_eq!(joined["recovered"], true, "{joined}");
        assert_eq!(joined["position"], last);
    }
}

#[test]
fn what_was_written_and_is_gone_is_told_and_counted_and_rooms_have_new_epochs() {
    for fsync in ["always", "interval"] {
        let home = tempfile::tempdir().unwrap();
        let (mut binary, address) = serve(home.path(), fsync);
        let mut bob = Throng::connect_to(address);
        let kept = publish(&mut bob, "tea", 1)["position"].clone();
        binary.signal("TERM");
        binary.wait();
        let (binary, address) = serve(home.path(), fsync);
        let mut bob = Throng::connect_to(address);
        let lost = publish(&mut bob, "tea", 2)["position"].clone();
        assert_eq!(lost["epoch"], kept["epoch"]);
        let records = || metric(address, "throng_journal_records_total");
        throng_testing::until(
            || (records() >= 1).then_some(()),
            || "nothing was written".to_owned(),
        );
        kill(binary);
        let journal = home.path().join("store/histories.sqlite-wal");
        let journal = OpenOptions::new().write(true).open(journal).unwrap();
        journal.set_len(0).unwrap();

        // A kill before anything is published changes nothing: what was told is on disk.
        let mut epochs = vec![kept["epoch"].clone()];
        for restart in 0..2 {
            let (binary, address) = Binary::serve(&[
                ("THRONG_HISTORY_PATH", home.path().to_str().unwrap()),
                ("THRONG_HISTORY_FSYNC", fsync),
            ]);
            let is_counted = metric(address, "throng_journal_lost_batches_total") > 0;
            assert_eq!(is_counted, restart == 0, "{fsync}");
            for left in [&kept, &lost] {
                let mut alice = Throng::connect_to(address);
                let joined = alice.rejoin("tea", left);
                assert_eq!(joined["recovered"], false, "{fsync} {restart}: {joined}");
                let epoch = &joined["position"]["epoch"];
                assert_ne!(epoch, &kept["epoch"]);
                if !epochs.contains(epoch) {
                    epochs.push(epoch.clone());
                }
            }
            kill(binary);
        }
        // With `always` nothing is missing behind the second kill.
        assert_eq!(epochs.len(), if fsync == "always" { 2 } else { 3 });
    }
}

#[test]
fn a_directory_that_was_put_back_has_new_epochs_after_history_restore() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    let restore = |variables: &[(&str, &str)]| {
        let mut command = Binary::command();
        command.args(["history", "restore"]);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    assert_eq!(restore(&[]).status.code(), Some(2));
    let nothing = restore(&[("THRONG_HISTORY_PATH", path)]);
    assert_eq!(nothing.status.code(), Some(2));
    let (mut binary, address) = serve(home.path(), "always");
    let mut bob = Throng::connect_to(address);
    let left = publish(&mut bob, "tea", 1)["position"].clone();
    let in_use = restore(&[("THRONG_HISTORY_PATH", path)]);
    assert_eq!(in_use.status.code(), Some(2));
    binary.signal("TERM");
    binary.wait();

    let output = restore(&[("THRONG_HISTORY_PATH", path)]);

    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("new epochs for 1 rooms"), "{said}");
    let (_binary, address) = serve(home.path(), "always");
    let mut alice = Throng::connect_to(address);
    let joined = alice.rejoin("tea", &left);
    assert_eq!(joined["recovered"], false);
    assert_ne!(joined["position"]["epoch"], left["epoch"]);
    assert_eq!(joined["position"]["offset"], 1);
}

#[test]
fn histories_are_readable_by_their_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("here");
        let (binary, address) = Binary::serve_by(
            &["sh", "-c", &format!("umask {umask}; exec \"$0\"")],
            &[("THRONG_HISTORY_PATH", path.to_str().unwrap())],
        );
        publish(&mut Throng::connect_to(address), "tea", 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        for directory in [&path, &path.join("store")] {
            assert_eq!(mode(directory), 0o700, "{umask}");
            for file in fs::read_dir(directory).unwrap() {
                let file = file.unwrap().path();
                if file.is_file() {
                    assert_eq!(mode(&file), 0o600, "{umask}: {}", file.display());
                }
            }
        }
        kill(binary);
    }
}
