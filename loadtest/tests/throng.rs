//! The program on throng.v1 against a server that breaks the protocol on purpose: what was done is
//! what is reported.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/server.rs"]
mod server;
#[path = "support/throng.rs"]
mod support;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Fate, Fault, Greeting, Manners, Replay, Server};

/// Runs the program; its exit code, what it reported, and the sentence with which it failed.
fn run(server: &Server, flags: &[&str]) -> (i32, Value, String) {
    let url = format!("ws://{}/ws", server.address);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--url", &url, "--wire", "throng", "--json"])
        .args(flags)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), json, stderr)
}

fn load(server: &Server, flags: &str) -> (i32, Value) {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let (code, report, stderr) = run(server, &flags);
    assert!(report.is_object(), "{stderr}");
    (code, report)
}

fn faults(report: &Value) -> [u64; 4] {
    ["lost", "repeated", "reordered", "truncated"].map(|name| report[name].as_u64().unwrap())
}

fn position(report: &Value, name: &str) -> u64 {
    report["positions"][name].as_u64().unwrap()
}

/// Offsets missing and repeated, wrong senders, wrong messages, never acknowledged.
fn positions(report: &Value) -> [u64; 5] {
    let names = [
        "offsets_missing",
        "offsets_repeated",
        "wrong_senders",
        "wrong_messages",
        "unacknowledged",
    ];
    names.map(|name| position(report, name))
}

/// A server that does this to every tenth delivery of the second member, from the tenth to the
/// 99th.
fn faulty(fault: fn(usize, u64) -> Fault) -> Server {
    Server::start(Manners {
        fault,
        ..Manners::default()
    })
}

macro_rules! every_tenth {
    ($fault:expr) => {
        |member, nth| match (member, nth) {
            (1, 10..100) if nth.is_multiple_of(10) => $fault,
            _ => Fault::None,
        }
    };
}

const FLAGS: &str = "--members 4 --rate 400 --seconds 0.5 --warmup 0";

#[test]
fn a_faithful_server_has_no_faults_whatever_the_order_of_its_fields() {
    for (payload, threads) in [(64, 1), (5000, 1), (64, 2)] {
        let server = faulty(|_, nth| match nth % 7 {
            3 => Fault::Other,
            _ => Fault::None,
        });
        let (code, report) = load(
            &server,
            &format!(
                "--rooms 2 --members 5 --publishers 4 --window 8 --seconds 0.4 --warmup 0.1 \
                 --payload {payload} --threads {threads}"
            ),
        );
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (0, [0; 4], [0; 5]),
            "{report}"
        );
        assert_eq!(report["scenario"]["wire"], "throng");
        assert!(report["deliveries"].as_u64().unwrap() > 0);
        assert_eq!(report["positions"]["first_fault"], Value::Null);
    }
}

#[test]
fn an_offset_that_is_left_out_is_found_though_nothing_is_lost() {
    for threads in [1, 2] {
        let server = Server::start(Manners {
            fate: |nth| match nth {
                20 | 30 | 31 => Fate::LeaveOut,
                _ => Fate::Good,
            },
            ..Manners::default()
        });
        let (code, report) = load(&server, &format!("{FLAGS} --threads {threads}"));
        // Each of four members misses each of three.
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (1, [0; 4], [12, 0, 0, 0, 0])
        );
    }
}

#[test]
fn a_lost_publication_is_lost_and_only_a_gap_accounts_for_its_offset() {
    for (fault, announced) in [
        (every_tenth!(Fault::Drop) as fn(usize, u64) -> Fault, 0),
        (every_tenth!(Fault::Announce), 9),
    ] {
        let server = faulty(fault);
        let (code, report) = load(&server, FLAGS);
        assert_eq!((code, faults(&report)), (1, [9, 0, 0, 0]), "{report}");
        assert_eq!(positions(&report), [9 - announced, 0, 0, 0, 0]);
        assert_eq!(position(&report, "announced"), announced);
    }
}

#[test]
fn a_repeated_offset_and_a_wrong_sender_are_counted_exactly() {
    let server = faulty(every_tenth!(Fault::RepeatOffset));
    let (code, report) = load(&server, FLAGS);
    // The one that repeats an offset leaves its own out.
    assert_eq!(
        (code, faults(&report), positions(&report)),
        (1, [0; 4], [9, 9, 0, 0, 0])
    );
    let server = faulty(every_tenth!(Fault::WrongSender));
    let (code, report) = load(&server, FLAGS);
    assert_eq!(
        (code, faults(&report), positions(&report)),
        (1, [0; 4], [0, 0, 9, 0, 0])
    );
}

#[test]
fn a_wrong_envelope_is_no_delivery_and_a_short_payload_is_one() {
    for fault in [
        every_tenth!(Fault::WrongRoom) as fn(usize, u64) -> Fault,
        every_tenth!(Fault::Timeless),
    ] {
        let (code, report) = load(&faulty(fault), FLAGS);
        assert_eq!((code, &report["unreadable"]), (1, &9.into()));
        assert_eq!(
            (faults(&report), positions(&report)),
            ([9, 0, 0, 0], [9, 0, 0, 0, 0])
        );
        let first = report["positions"]["first_fault"].as_str().unwrap();
        assert!(first.starts_with("unreadable: msg {"), "{first}");
    }
    for payload in [64, 5000] {
        let flags = format!("{FLAGS} --payload {payload}");
        let (code, report) = load(&faulty(every_tenth!(Fault::Truncate)), &flags);
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (1, [0, 0, 0, 9], [0; 5])
        );
    }
}

#[test]
fn a_server_that_does_not_agree_or_greet_is_told() {
    let greets = |greeting| {
        let manners = Manners {
            greeting,
            ..Manners::default()
        };
        Server::start(manners)
    };
    let (code, _, sentence) = run(&greets(Greeting::WithoutProtocol), &["--members", "2"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("asked for throng.v1") && sentence.contains("agreed to none"));
    for greeting in [Greeting::None, Greeting::Nameless] {
        let (code, report) = load(&greets(greeting), FLAGS);
        // Without a name nobody knows whose publications these are.
        let [.., wrong_messages, _] = positions(&report);
        assert_eq!(code, 1);
        assert!(wrong_messages >= 4, "{report}");
    }
}

#[test]
fn visitors_are_checked_as_members_are() {
    let flags = "churn --members 20 --rate 100 --seconds 0.5 --rst-percent 0";
    let (code, report) = load(&Server::start(Manners::default()), flags);
    assert_eq!((code, positions(&report)), (0, [0; 5]), "{report}");
    assert!(report["churn"]["joins"].as_u64().unwrap() > 20);
    let server = faulty(|member, nth| match (member, nth) {
        // Two stay; whoever is behind them is a visitor, at its second delivery.
        (2.., 1) => Fault::RepeatOffset,
        _ => Fault::None,
    });
    let (code, report) = load(&server, flags);
    let injected = server.injected(|counts| &counts.faults);
    let [missing, repeated, ..] = positions(&report);
    assert_eq!((code, repeated), (1, injected));
    assert!(injected > 0 && missing <= injected, "{report}");
}

#[test]
fn idle_members_are_all_there() {
    let server = Server::start(Manners::default());
    let (code, report) = load(&server, "idle --members 30 --settle 0.1");
    assert_eq!((code, &report["deliveries"]), (0, &30.into()));
    assert_eq!(positions(&report), [0; 5]);
}

/// The sum of a figure over all storms.
fn sum(report: &Value, place: &str) -> u64 {
    let storms = report["storm"]["storms"].as_array().unwrap();
    storms
        .iter()
        .map(|storm| storm.pointer(place).unwrap().as_u64().unwrap())
        .sum()
}

const STORM: &str = "storm --rooms 2 --members 10 --storms 2 --rate 400 --seconds 0.3 --warmup 0";

#[test]
fn everybody_comes_back_for_what_was_missed() {
    for threads in [1, 2] {
        let server = Server::start(Manners::default());
        let (code, report) = load(&server, &format!("{STORM} --threads {threads}"));
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (0, [0; 4], [0; 5]),
            "{report}"
        );
        // Two publishers stay.
        assert_eq!(sum(&report, "/recovery/recovered"), 2 * 18);
        assert_eq!(server.injected(|counts| &counts.rejoined), 2 * 18);
        assert_eq!(sum(&report, "/recovery/not_recovered"), 0);
        assert_eq!(sum(&report, "/recovery/lost"), 0);
        let replayed = server.injected(|counts| &counts.replayed);
        assert_eq!(sum(&report, "/recovery/replayed"), replayed);
        assert_eq!(sum(&report, "/served_us/count"), 2 * 18);
        let acknowledged = position(&report, "acknowledged");
        assert_eq!(acknowledged, server.injected(|counts| &counts.published));
        assert_eq!(
            sum(&report, "/not_served") + sum(&report, "/rooms_emptied"),
            0
        );
    }
}

/// Storms in which something is always missed: publications go out before anybody is back.
fn storm_with(replay: Replay) -> (Server, i32, Value) {
    let server = Server::start(Manners {
        replay,
        ..Manners::default()
    });
    let flags = "storm --members 10 --storms 1 --rate 2000 --seconds 0.3 --warmup 0 --together 1";
    let (code, report) = load(&server, flags);
    assert!(server.injected(|counts| &counts.replayed) > 0, "{report}");
    (server, code, report)
}

#[test]
fn what_a_replay_leaves_out_or_repeats_is_reported() {
    let (_, code, report) = storm_with(Replay::LeavesOut);
    let [lost, repeated, reordered, _] = faults(&report);
    assert_eq!((code, repeated, reordered), (1, 0, 0), "{report}");
    assert!((1..=9).contains(&lost), "{report}");
    assert_eq!(sum(&report, "/recovery/lost"), lost);
    // The hole of a replay of one is in front of what is live.
    assert_eq!(positions(&report), [lost, 0, 0, 0, 0]);

    let (_, code, report) = storm_with(Replay::Repeats);
    let [lost, repeated, reordered, _] = faults(&report);
    assert_eq!((code, lost, reordered), (1, 0, 0), "{report}");
    assert!((1..=9).contains(&repeated), "{report}");
    assert_eq!(positions(&report), [0, repeated, 0, 0, 0]);
}

#[test]
fn what_a_server_does_not_hold_any_more_is_told_and_lost() {
    let (_, code, report) = storm_with(Replay::Evicts(1));
    let lost = faults(&report)[0];
    assert_eq!((code, positions(&report)), (1, [0; 5]), "{report}");
    assert!(lost > 0);
    assert_eq!(sum(&report, "/recovery/evicted"), lost);
    assert_eq!(
        sum(&report, "/recovery/not_recovered"),
        lost,
        "one for each"
    );
    assert_eq!(sum(&report, "/recovery/lost"), lost);
}

#[test]
fn an_answer_that_does_not_say_whether_something_is_missing_is_wrong() {
    let server = Server::start(Manners {
        replay: Replay::SaysNothing,
        ..Manners::default()
    });
    let (code, report) = load(&server, STORM);
    assert_eq!((code, position(&report, "wrong_messages")), (1, 2 * 18));
}

/// A pipe that a test's restart command writes to; removed at the end.
struct Pipe(PathBuf);

impl Pipe {
    fn new(test: &str) -> Self {
        let name = format!("loadtest-{test}-{}.pipe", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_restart_is_survived_with_the_pause_that_the_server_asks_for_or_without() {
    for (keeps_pauses, threads) in [(true, "1"), (false, "1"), (true, "2")] {
        let pipe = Pipe::new(&format!("restart-{keeps_pauses}-{threads}"));
        let pause_ms = if keeps_pauses { 700 } else { 20_000 };
        let server = Server::start(Manners {
            restarts: Some((pipe.path().to_owned(), pause_ms)),
            ..Manners::default()
        });
        let command = format!("echo restart > {}", pipe.path().display());
        let mut flags: Vec<&str> =
            "storm --rooms 2 --members 10 --storms 2 --rate 200 --seconds 0.3 --warmup 0"
                .split(' ')
                .collect();
        flags.extend(["--threads", threads, "--restart-command", &command]);
        if !keeps_pauses {
            flags.push("--ignore-pauses");
        }
        let (code, report, stderr) = run(&server, &flags);
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (0, [0; 4], [0; 5]),
            "{stderr}{report}"
        );
        // Publishers too are closed, and come first.
        assert_eq!(sum(&report, "/ended_by/code_4100"), 2 * 20);
        assert_eq!(sum(&report, "/recovery/recovered"), 2 * 20);
        assert_eq!(sum(&report, "/rooms_emptied"), 2 * 2);
        let storms = report["storm"]["storms"].as_array().unwrap();
        for storm in storms {
            let median_ms = storm["served_us"]["p50"].as_f64().unwrap() / 1000.0;
            let expected_ms = if keeps_pauses {
                690.0..19_000.0
            } else {
                0.0..19_000.0
            };
            assert!(expected_ms.contains(&median_ms), "{storm}");
            let published = storm["recovery"]["publications"].as_u64().unwrap();
            assert!(published > 0, "it goes on meanwhile");
        }
        // What was still on its way when everybody was closed is a repeat too, of which nobody is
        // told.
        let duplicates = server.injected(|counts| &counts.duplicates);
        assert!(position(&report, "duplicates") <= duplicates, "{report}");
    }
}

#[test]
fn a_restart_command_that_fails_is_said_at_once() {
    let server = Server::start(Manners::default());
    let flags = [
        "storm",
        "--members",
        "4",
        "--seconds",
        "0.1",
        "--warmup",
        "0",
    ];
    let command = ["--restart-command", "exit 7"];
    let (code, _, sentence) = run(&server, &[&flags[..], &command].concat());
    assert_eq!(code, 2);
    assert!(
        sentence.contains("exit status: 7") && sentence.contains("exit 7"),
        "{sentence}"
    );
}

#[test]
fn an_ack_comes_behind_its_publication_and_what_is_put_off_is_sent_again() {
    let server = Server::start(Manners {
        fate: |nth| match nth {
            5 | 9 => Fate::AckEarly,
            _ => Fate::Good,
        },
        ..Manners::default()
    });
    let (code, report) = load(&server, STORM);
    assert_eq!(
        (code, faults(&report), positions(&report)),
        (1, [0; 4], [0, 0, 0, 2, 0])
    );
    let server = Server::start(Manners {
        fate: |nth| match nth % 5 {
            3 => Fate::Refuse,
            _ => Fate::Good,
        },
        ..Manners::default()
    });
    // So rare that the next is not there before what is sent again.
    let flags = "storm --members 4 --storms 1 --rate 5 --seconds 2 --warmup 0";
    let (code, report) = load(&server, flags);
    assert!(server.injected(|counts| &counts.fates) > 0);
    assert_eq!(
        (code, faults(&report), positions(&report)),
        (0, [0; 4], [0; 5]),
        "{report}"
    );
}

/// It takes as long as the program waits for acknowledgements: 5 s.
#[test]
fn what_is_never_acknowledged_is_counted() {
    let server = Server::start(Manners {
        fate: |nth| match nth {
            5 | 9 | 12 => Fate::AckNever,
            _ => Fate::Good,
        },
        ..Manners::default()
    });
    let flags = "storm --members 4 --storms 1 --rate 100 --seconds 0.3 --warmup 0";
    let (code, report) = load(&server, flags);
    assert_eq!(
        (code, faults(&report), positions(&report)),
        (1, [0; 4], [0, 0, 0, 0, 3])
    );
}

const RECOVERY: &str =
    "recovery --members 12 --live 4 --missed 30 --rate 50 --within 200ms --seconds 0.3 --warmup 0";

#[test]
fn who_recovers_and_who_was_there_are_told_apart() {
    for threads in [1, 2] {
        let server = Server::start(Manners::default());
        let (code, report) = load(&server, &format!("{RECOVERY} --threads {threads}"));
        assert_eq!(
            (code, faults(&report), positions(&report)),
            (0, [0; 4], [0; 5]),
            "{report}"
        );
        let recovery = &report["recovery"];
        let number = |name: &str| recovery[name].as_u64().unwrap();
        assert_eq!(
            (number("live_members"), number("returning_members")),
            (4, 8)
        );
        assert_eq!((number("recovered"), number("not_recovered")), (8, 0));
        assert_eq!((number("not_served"), number("evicted")), (0, 0));
        assert_eq!(
            number("replayed"),
            server.injected(|counts| &counts.replayed)
        );
        assert!(number("replayed") >= 8 * 30, "{recovery}");
        assert_eq!(recovery["served_us"]["count"], 8);
        for room in ["same_room", "other_room"] {
            for when in ["calm_us", "meanwhile_us"] {
                assert!(
                    recovery[room][when]["count"].as_u64().unwrap() > 0,
                    "{recovery}"
                );
            }
        }
        // Only the four who stayed are timed here.
        let live = recovery["same_room"]["meanwhile_us"]["count"]
            .as_u64()
            .unwrap();
        assert_eq!(live % 4, 0, "{recovery}");
    }
}

#[test]
fn what_was_missed_is_told_to_people_too() {
    for (flags, said) in [
        (RECOVERY, "               all had everything after "),
        (STORM, "\n  recovered    18 members, 0 not; "),
    ] {
        let server = Server::start(Manners::default());
        let url = format!("ws://{}/ws", server.address);
        let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        program
            .args(["--url", &url, "--wire", "throng"])
            .args(flags.split_whitespace());
        let output = program.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.contains("\npositions        0 offsets missing, 0 repeated, "),
            "{text}"
        );
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_live_delivery_that_is_late_is_counted() {
    // Who was there from the beginning has had 15 publications while it was calm, and 30 that
    // others missed.
    let server = faulty(|member, nth| match (member, nth) {
        (0, 46..48) => Fault::Stall,
        _ => Fault::None,
    });
    let (code, report) = load(&server, RECOVERY);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "late is not lost");
    assert!(
        report["recovery"]["same_room"]["late"].as_u64().unwrap() > 0,
        "{report}"
    );
    let (_, report) = load(&server, &format!("{RECOVERY} --limit 1h"));
    assert_eq!(report["recovery"]["same_room"]["late"], 0);
}

#[test]
fn what_slow_members_are_not_sent_must_be_announced() {
    // Of a hundred in the first half and a hundred in the second, in which one does not read. The
    // others lose the same.
    let flags = "slow --members 5 --payload 64 --rate 100 --seconds 1 --warmup 0";
    let middle = 150..160_u64;
    for (fault, announced, unannounced) in [
        (
            (|_, nth| match nth {
                150..160 => Fault::Announce,
                _ => Fault::None,
            }) as fn(usize, u64) -> Fault,
            middle.clone(),
            0..0,
        ),
        (
            |_, nth| match nth {
                150..160 => Fault::Drop,
                _ => Fault::None,
            },
            0..0,
            middle,
        ),
        // Not even those behind which nothing comes.
        (
            |_, nth| match nth {
                150.. => Fault::Drop,
                _ => Fault::None,
            },
            0..0,
            150..u64::MAX,
        ),
    ] {
        let server = faulty(fault);
        let (code, report) = load(&server, flags);
        let gaps = &report["slow"]["gaps"];
        let number = |name: &str| gaps[name].as_u64().unwrap();
        // How many go out in a second, and not in 1.01, is the machine's business.
        let published = server.injected(|counts| &counts.published);
        let count = |numbers: Range<u64>| numbers.end.min(published).saturating_sub(numbers.start);
        assert_eq!((code, number("faults")), (1, 0), "{report}");
        assert_eq!(number("announced"), count(announced));
        assert_eq!(number("unannounced"), count(unannounced));
        assert_eq!(
            number("missing"),
            number("announced") + number("unannounced")
        );
        let fast = faults(&report)[0];
        assert_eq!(fast, 4 * number("missing"), "{report}");
    }
}

#[test]
fn slow_members_that_miss_nothing_have_no_gaps() {
    let server = Server::start(Manners::default());
    let flags = "slow --members 5 --payload 64 --rate 100 --seconds 0.5 --warmup 0";
    let (code, report) = load(&server, flags);
    assert_eq!(
        (code, &report["slow"]["gaps"]["missing"]),
        (0, &0.into()),
        "{report}"
    );
}
