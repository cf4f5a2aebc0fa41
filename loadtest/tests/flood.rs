//! Clients that only send, against a server that is there, one that ends them, and one that serves
//! nobody else meanwhile: what it did is what is reported.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; the helpers are not in a test function"
)]

#[path = "support/rooms.rs"]
mod rooms;
#[path = "support/server.rs"]
mod server;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rooms::{Heard, Speech, start};
use serde_json::Value;

/// Golem's wire, as far as it is needed here. What comes from a flooder is counted and goes
/// nowhere.
#[derive(Clone, Default)]
struct Golem {
    flooded: Arc<AtomicU64>,
    /// Whether a room that is beside a flood gets nothing any more.
    starves: bool,
    is_flooded: Arc<AtomicBool>,
}

impl Speech for Golem {
    fn understand(&self, text: &str) -> Heard {
        if text.contains("\"flood-") {
            self.flooded.fetch_add(1, Ordering::SeqCst);
            self.is_flooded.store(true, Ordering::SeqCst);
            return Heard::Nothing;
        }
        let (event, json) = text.split_once(' ').unwrap();
        let data: Value = serde_json::from_str(json).unwrap();
        match event {
            "nonsense" => Heard::Answer(r#"error {"code":"unknown_event"}"#.to_owned()),
            "join" => Heard::Join(data["name"].as_str().unwrap().to_owned()),
            _ => Heard::Publish {
                room: data["to"].as_str().unwrap().to_owned(),
                payload: data["msg"].to_string(),
            },
        }
    }

    fn delivery(&self, _: &str, _: usize, payload: &str) -> Option<String> {
        let is_lost = self.starves && self.is_flooded.load(Ordering::SeqCst);
        (!is_lost).then(|| format!("msg {payload}"))
    }
}

/// Runs the mode; its exit code and its report.
fn flood(golem: &Golem, flags: &str) -> (i32, Value) {
    let url = format!("ws://{}/ws", start(golem.clone()));
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["flood", "--json", "--url", &url, "--warmup", "0"])
        .args(flags.split_whitespace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).expect(&errors);
    (output.status.code().unwrap(), report)
}

#[test]
fn a_room_is_measured_alone_and_beside_a_flood_of_each_kind() {
    let golem = Golem::default();
    let (code, report) = flood(
        &golem,
        "--flooders 2 --read --kind msg,fragment,unknown --seconds 2",
    );
    assert_eq!((code, &report["lost"]), (0, &0.into()), "{report}");
    assert!(golem.flooded.load(Ordering::SeqCst) > 0);
    let flood = &report["flood"];
    let count = |latency: &Value| latency["count"].as_u64().unwrap();
    assert!(count(&flood["alone_us"]) > 0, "{flood}");
    let floods = flood["floods"].as_array().unwrap();
    let kinds: Vec<_> = floods
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["msg", "fragment", "unknown"]);
    for one in floods {
        assert!(count(&one["room_us"]) > 0, "{one}");
        assert_eq!(one["parts_p99_us"].as_array().unwrap().len(), 3, "{one}");
        assert!(one["growth"].as_f64().unwrap() > 0.0, "{one}");
        let taken = one["taken_bytes_per_second"].as_array().unwrap();
        let taken: Vec<_> = taken.iter().map(|taken| taken.as_f64().unwrap()).collect();
        assert!(
            // On a busy machine, one of two may have had no turn in this time.
            taken.len() == 2 && taken.iter().any(|&taken| taken > 0.0),
            "{one}"
        );
        assert_eq!(
            (&one["connections"], &one["is_starved"]),
            (&2.into(), &false.into())
        );
        // Whoever asks for a page there is sent away without an answer.
        assert!(one["page_unanswered"].as_u64().unwrap() > 0, "{one}");
        let p99 = &flood["p99_us_by_kind"][one["kind"].as_str().unwrap()];
        assert_eq!(p99, &one["room_us"]["p99"]);
    }
}

#[test]
fn connections_that_the_server_ends_are_opened_again_and_counted() {
    // What is no text ends a connection there.
    let (code, report) = flood(&Golem::default(), "--kind binary --seconds 0.6");
    assert_eq!(code, 0, "{report}");
    let one = &report["flood"]["floods"][0];
    let ended = one["ended"].as_object().unwrap();
    let ended: u64 = ended.values().map(|count| count.as_u64().unwrap()).sum();
    let connections = one["connections"].as_u64().unwrap();
    assert!(connections > 1 && ended + 1 >= connections, "{one}");
}

#[test]
fn a_room_that_is_later_than_the_limit_fails_the_run() {
    for (limit, code) in [("1us", 1), ("1h", 0)] {
        let flags = format!("--kind msg --seconds 0.6 --p99 {limit}");
        let (ended, report) = flood(&Golem::default(), &flags);
        assert_eq!(
            (ended, &report["flood"]["over_limit"]),
            (code, &code.into()),
            "{report}"
        );
        assert_eq!(report["flood"]["floods"][0]["is_over_limit"], code == 1);
    }
}

#[test]
fn a_kind_that_the_wire_cannot_say_is_left_out() {
    let url = format!("ws://{}/ws", start(Golem::default()));
    let run = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args("flood --warmup 0 --kind unknown,pong --seconds 0.3 --url".split(' '))
            .arg(&url)
            .args(["--join", r#"join {"name":"{room}"}"#])
            .args(["--publish", r#"msg {"to":"{room}","msg":{payload}}"#])
            .args(["--delivery-prefix", "msg "])
            .args(flags)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    };
    let report: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let floods = &report["flood"]["floods"];
    let unspeakable = [0, 1].map(|place: usize| floods[place]["is_unspeakable"] == true);
    assert_eq!(unspeakable, [true, false], "{floods}");
    assert_eq!(report["flood"]["p99_us_by_kind"]["unknown"], Value::Null);
    let text = run(&["--p99", "1h"]);
    for said in [
        "unknown      cannot be said on this wire\n",
        "p99 is within 3600.0 s beside every",
    ] {
        assert!(text.contains(said), "{text}");
    }
}

/// One that takes as long as what is late is waited for: 5 s, beside the flood and behind it.
#[test]
fn a_room_that_gets_nothing_beside_a_flood_is_starved_and_not_fast() {
    let golem = Golem {
        starves: true,
        ..Golem::default()
    };
    let (code, report) = flood(&golem, "--kind msg --seconds 0.6");
    assert_eq!(code, 1, "{report}");
    let one = &report["flood"]["floods"][0];
    assert_eq!(one["is_starved"], true, "{one}");
    let p99 = report["flood"]["p99_us_by_kind"]["msg"].as_f64().unwrap();
    assert!(p99 >= 5e6, "{p99}");
}
