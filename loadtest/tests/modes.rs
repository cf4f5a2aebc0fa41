//! The modes in which connections come and go, or do not read, against a server that refuses, drops
//! and closes on purpose: what was done is what is reported.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use server::{Event, Events, Welcome, Writer, listen};
use socket2::SockRef;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// A member that takes nothing for so long does not read. Everybody waits for that twice, once for
/// the part of a frame that fits and once for the rest, for each of two slow members in a test; the
/// program gives up what is under way for 2 s.
const WRITE_PATIENCE: Duration = Duration::from_millis(300);

/// What a member that does read may be behind by before that begins: half a second of publications.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// What becomes of the delivery of a publication to who published it, who always reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Deliver,
    Drop,
    Repeat,
    Truncate,
}

/// How the server behaves.
#[derive(Clone, Copy)]
struct Manners {
    /// Decides by the number of handshakes before.
    welcome: fn(u64) -> Welcome,
    /// Decides by the number of publications before, probes not counted.
    echo: fn(u64) -> Echo,
    /// Whether a member that does not read is closed with 4102; otherwise it is left out.
    closes_slow: bool,
}

const GOOD: Manners = Manners {
    welcome: |_| Welcome::Accept,
    echo: |_| Echo::Deliver,
    closes_slow: true,
};

#[derive(Default)]
struct Injected {
    refused: AtomicU64,
    hung: AtomicU64,
    publications: AtomicU64,
    dropped: AtomicU64,
    repeated: AtomicU64,
    truncated: AtomicU64,
}

struct Server {
    address: SocketAddr,
    injected: Arc<Injected>,
}

impl Server {
    fn start(manners: Manners) -> Self {
        let injected = Arc::new(Injected::default());
        let (events, inbox) = channel();
        let counts = Arc::clone(&injected);
        thread::spawn(move || serve_rooms(&inbox, manners, &counts));
        let counts = Arc::clone(&injected);
        let welcome = move |nth| {
            let welcome = (manners.welcome)(nth);
            match welcome {
                Welcome::Hang => drop(count(&counts.hung)),
                Welcome::Refuse => drop(count(&counts.refused)),
                _ => {}
            }
            welcome
        };
        let address = listen(events, welcome, |_, text| Some(text.to_owned()));
        Self { address, injected }
    }

    fn run(&self, flags: &str) -> Output {
        let url = format!("ws://{}/ws", self.address);
        let mut program = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        program.args(["--url", &url]).args(flags.split_whitespace());
        program.output().unwrap()
    }

    /// Runs the program; its exit code and what it reported.
    fn load(&self, flags: &str) -> (i32, Value) {
        let output = self.run(&format!("--json {flags}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_slice(&output.stdout).expect(&stderr);
        (output.status.code().unwrap(), json)
    }

    fn injected(&self, count: fn(&Injected) -> &AtomicU64) -> u64 {
        count(&self.injected).load(Ordering::SeqCst)
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst)
}

struct Member {
    room: String,
    writer: Writer,
    /// What it was sent before is still in the writer.
    is_full: bool,
}

fn serve_rooms(inbox: &Receiver<Events<String>>, manners: Manners, injected: &Injected) {
    let mut writers: HashMap<u64, Writer> = HashMap::new();
    let mut members: HashMap<u64, Member> = HashMap::new();
    for (id, event) in inbox {
        let text = match event {
            Event::Connected(writer) => {
                let socket = writer.get_ref();
                SockRef::from(socket)
                    .set_send_buffer_size(SEND_BUFFER_BYTES)
                    .unwrap();
                socket.set_write_timeout(Some(WRITE_PATIENCE)).unwrap();
                writers.insert(id, writer);
                continue;
            }
            Event::Gone => {
                writers.remove(&id);
                members.remove(&id);
                continue;
            }
            Event::Heard(text) => text,
        };
        let (event, json) = text.split_once(' ').unwrap();
        let data: Value = serde_json::from_str(json).unwrap();
        match event {
            "join" => {
                let room = data["name"].as_str().unwrap().to_owned();
                let writer = writers.remove(&id).unwrap();
                members.insert(
                    id,
                    Member {
                        room,
                        writer,
                        is_full: false,
                    },
                );
            }
            "leave" => drop(members.remove(&id)),
            "msg" => {
                let text = format!("msg {}", data["msg"]);
                let echo = if text.starts_with("msg \"pppppppp") {
                    Echo::Deliver
                } else {
                    (manners.echo)(count(&injected.publications))
                };
                let mut slow = Vec::new();
                for (&member_id, member) in &mut members {
                    let echo = if member_id == id { echo } else { Echo::Deliver };
                    let is_here = member.room == data["to"].as_str().unwrap();
                    if is_here && !member.deliver(&text, echo, injected) && manners.closes_slow {
                        slow.push(member_id);
                    }
                }
                for id in slow {
                    close_slow(members.remove(&id).unwrap());
                }
            }
            other => panic!("unknown event {other}"),
        }
    }
}

impl Member {
    /// False if it does not read.
    fn deliver(&mut self, text: &str, echo: Echo, injected: &Injected) -> bool {
        match echo {
            Echo::Deliver => self.send(text),
            Echo::Drop => {
                count(&injected.dropped);
                true
            }
            Echo::Repeat => {
                count(&injected.repeated);
                // Both in one write: whoever leaves when it has the first is answered by another
                // thread.
                let _ = self.writer.write(Message::text(text));
                self.send(text)
            }
            Echo::Truncate => {
                count(&injected.truncated);
                let cut = text.strip_suffix(".\"").unwrap();
                self.send(&format!("{cut}\""))
            }
        }
    }

    fn send(&mut self, text: &str) -> bool {
        if self.is_full && self.writer.flush().is_err() {
            return false;
        }
        self.is_full = false;
        match self.writer.send(Message::text(text)) {
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                self.is_full = true;
                // It was waited for once; the others are not to wait for it again.
                let socket = self.writer.get_ref();
                socket
                    .set_write_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                false
            }
            // A connection that is gone is its own thread's business.
            _ => true,
        }
    }
}

/// Says 4102 behind all that is queued, however long the member takes to read that.
fn close_slow(mut member: Member) {
    let close = CloseFrame {
        code: 4102.into(),
        reason: "slow_consumer".into(),
    };
    thread::spawn(move || {
        member.writer.get_ref().set_write_timeout(None).unwrap();
        let _ = member.writer.close(Some(close));
        let _ = member.writer.flush();
    });
}

fn faults(report: &Value) -> [u64; 4] {
    ["lost", "repeated", "reordered", "truncated"].map(|name| report[name].as_u64().unwrap())
}

/// The sum of a storm's figure over all storms.
fn sum(report: &Value, figure: impl Fn(&Value) -> &Value) -> u64 {
    let storms = report["storm"]["storms"].as_array().unwrap();
    let figures = storms.iter().map(|storm| figure(storm).as_u64());
    figures.map(Option::unwrap_or_default).sum()
}

#[test]
fn every_mode_tells_people_what_it_found() {
    for (flags, said) in [
        ("fanout --seconds 0.2 --warmup 0", "\nto each member "),
        ("latency --seconds 0.2 --warmup 0", "\nto the last "),
        ("idle --settle 0", "10 of 10 had the last publication"),
        ("neighbour --seconds 0.2 --warmup 0", "\nsmall, flooded "),
        (
            "churn --seconds 0.3 --warmup 0",
            " cleanly, 0 of them unanswered, ",
        ),
        (
            "knee --rate 5 --step-seconds 0.2 --seconds 0.3 --p99 10s",
            "\n         5 ",
        ),
        ("slow --seconds 0.3 --warmup 0", "\nslow members   1: "),
        ("soak --rate 500 --seconds 0.3 --warmup 0", "\ndeliveries "),
        (
            "storm --storms 1 --seconds 0.2 --warmup 0",
            "\nstorm 1        all served after ",
        ),
    ] {
        let output = Server::start(GOOD).run(&format!("{flags} --members 10"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.contains("faults           0 lost, 0 repeated, 0 reordered"),
            "{text}"
        );
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn visitors_that_are_refused_are_counted_and_the_others_get_what_they_said() {
    for threads in [1, 2] {
        let server = Server::start(Manners {
            // Residents, who come first, are two.
            welcome: |nth| match nth % 3 {
                2 => Welcome::Refuse,
                _ => Welcome::Accept,
            },
            ..GOOD
        });
        let (code, report) = server.load(&format!(
            "churn --members 20 --rate 200 --seconds 1 --publications 4 --threads {threads}"
        ));
        let churn = &report["churn"];
        let number = |name: &str| churn[name].as_u64().unwrap();
        let refused = server.injected(|counts| &counts.refused);
        let connects = number("connects");
        assert_eq!((code, faults(&report)), (0, [0; 4]), "{report}");
        assert!(refused > 20, "{refused}");
        assert_eq!(churn["refusals"]["status_503"], refused);
        assert_eq!(number("attempts"), connects + refused);
        assert_eq!(number("joins"), connects);
        assert_eq!(number("visitor_publications"), 4 * connects);
        assert_eq!(
            number("left_cleanly") + number("left_by_reset"),
            connects,
            "{churn}"
        );
        assert_eq!(number("closes_unanswered"), 0);
        assert_eq!(faults(&churn["visitor_faults"]), [0; 4]);
        let published = report["publications"].as_u64().unwrap() + number("visitor_publications");
        assert!(published <= server.injected(|counts| &counts.publications));
        for name in ["handshake_us", "join_us"] {
            assert_eq!(churn[name]["count"], connects, "{name}");
        }
    }
}

#[test]
fn closes_that_a_server_does_not_answer_are_counted() {
    let server = Server::start(Manners {
        welcome: |_| Welcome::AcceptForGood,
        ..GOOD
    });
    let (code, report) = server.load("churn --members 10 --seconds 0.5 --rst-percent 20");
    let churn = &report["churn"];
    let cleanly = churn["left_cleanly"].as_u64().unwrap();
    assert!(cleanly > churn["left_by_reset"].as_u64().unwrap());
    assert_eq!(churn["closes_unanswered"], cleanly);
    assert_eq!(code, 0, "an unanswered close loses nobody's delivery");
}

/// It takes as long as the program waits for the deliveries that are dropped: 5 s.
#[test]
fn what_a_visitor_misses_of_its_own_or_gets_twice_or_cut_is_reported_exactly() {
    let server = Server::start(Manners {
        echo: |nth| match nth {
            60 | 90 => Echo::Drop,
            64 | 94 | 124 => Echo::Repeat,
            68 => Echo::Truncate,
            _ => Echo::Deliver,
        },
        ..GOOD
    });
    // Who leaves by a reset may do so before it has read that its last is there twice, and who
    // leaves with a close frame reads that before the answer.
    let (code, report) = server.load("churn --members 100 --rate 200 --seconds 1 --rst-percent 0");
    let injected = [
        server.injected(|counts| &counts.dropped),
        server.injected(|counts| &counts.repeated),
        0,
        server.injected(|counts| &counts.truncated),
    ];
    assert_eq!(injected, [2, 3, 0, 1]);
    let visitors = faults(&report["churn"]["visitor_faults"]);
    let residents = faults(&report);
    let reported = [0, 1, 2, 3].map(|fault| visitors[fault] + residents[fault]);
    assert_eq!((code, reported), (1, injected), "{report}");
}

#[test]
fn everybody_comes_back_through_refusals_and_the_server_is_given_the_time_it_asks_for() {
    for threads in [1, 2] {
        let server = Server::start(Manners {
            welcome: |nth| match nth {
                0..30 => Welcome::Accept,
                _ if nth.is_multiple_of(3) => Welcome::Refuse,
                _ if nth % 10 == 1 => Welcome::Hang,
                _ => Welcome::Accept,
            },
            ..GOOD
        });
        let (code, report) = server.load(&format!(
            "storm --rooms 3 --members 10 --storms 2 --seconds 0.3 --warmup 0 --threads {threads}"
        ));
        assert_eq!((code, faults(&report)), (0, [0; 4]), "{report}");
        let refused = server.injected(|counts| &counts.refused);
        let hung = server.injected(|counts| &counts.hung);
        assert!(refused >= 20 && hung >= 4, "{refused}, {hung}");
        assert_eq!(sum(&report, |it| &it["refusals"]["status_503"]), refused);
        assert_eq!(sum(&report, |it| &it["refusals"]["reset"]), hung);
        assert_eq!(sum(&report, |it| &it["attempts"]), 2 * 30 + refused + hung);
        assert_eq!(sum(&report, |it| &it["served_us"]["count"]), 2 * 30);
        assert_eq!(sum(&report, |it| &it["rooms_emptied"]), 2 * 3);
        for storm in report["storm"]["storms"].as_array().unwrap() {
            let seconds = storm["all_served_seconds"].as_f64().unwrap();
            assert!(seconds >= 1.0, "Retry-After was a second: {seconds}");
        }
    }
}

#[test]
fn what_is_lost_after_a_storm_is_reported_exactly() {
    let server = Server::start(Manners {
        echo: |nth| match nth % 7 {
            0 => Echo::Drop,
            _ => Echo::Deliver,
        },
        ..GOOD
    });
    let (code, report) = server.load("storm --members 10 --storms 2 --seconds 0.3 --warmup 0");
    let dropped = server.injected(|counts| &counts.dropped);
    assert!(dropped > 6, "{dropped}");
    assert_eq!((code, faults(&report)), (1, [dropped, 0, 0, 0]));
}

#[test]
fn those_who_do_not_come_back_are_reported() {
    let server = Server::start(Manners {
        welcome: |nth| match nth {
            0..15 => Welcome::Accept,
            _ => Welcome::Refuse,
        },
        ..GOOD
    });
    let (code, report) =
        server.load("storm --members 10 --storms 3 --seconds 0.3 --warmup 0 --patience 1.5");
    assert_eq!(code, 1);
    assert_eq!(report["storm"]["storms"].as_array().unwrap().len(), 1);
    assert_eq!(sum(&report, |it| &it["not_served"]), 5);
    assert_eq!(faults(&report), [0; 4], "those who are there miss nothing");
}

#[test]
fn slow_members_that_the_server_closes_are_found_with_their_code_and_nobody_else_suffers() {
    for threads in [1, 2] {
        let server = Server::start(GOOD);
        let (code, report) = server.load(&format!(
            "slow --members 8 --slow-percent 25 --rate 50 --seconds 1.5 --warmup 0 \
             --threads {threads}"
        ));
        assert_eq!((code, faults(&report)), (0, [0; 4]), "{report}");
        let slow = &report["slow"];
        assert_eq!(slow["slow_members"], 2);
        assert_eq!(slow["closed"]["4102"], 2, "{slow}");
        assert_eq!(
            (&slow["connected"], &slow["cut_off"]),
            (&0.into(), &0.into())
        );
        assert_eq!(
            (&slow["skipped"], &slow["misdelivered"]),
            (&0.into(), &0.into())
        );
        assert!(slow["deliveries_left"].as_u64().unwrap() > 0);
        assert!(slow["queued_bytes_max"].as_u64().unwrap() > 16 * 1024);
        // Six members read all along.
        let with = slow["latency_with_us"]["count"].as_u64().unwrap();
        assert_eq!(with % 6, 0, "{with}");
        let without = slow["latency_without_us"]["count"].as_u64().unwrap();
        assert_eq!(without % 8, 0, "{without}");
    }
}

#[test]
fn slow_members_that_read_on_say_how_old_it_was() {
    let server = Server::start(GOOD);
    let (code, report) = server.load(
        "slow --members 8 --slow-percent 25 --slow-read-rate 50000000 --rate 50 --seconds 1.5 \
         --warmup 0",
    );
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report}");
    let slow = &report["slow"];
    assert_eq!(
        (&slow["connected"], &slow["skipped"]),
        (&2.into(), &0.into())
    );
    let ages = slow["age_seconds"].as_array().unwrap();
    assert!(ages[0].as_f64() <= ages[1].as_f64() && ages[1].as_f64() > Some(0.0));
}

#[test]
fn a_fast_member_that_misses_something_beside_slow_ones_has_lost_it() {
    let server = Server::start(Manners {
        echo: |nth| match nth % 9 {
            4 => Echo::Drop,
            _ => Echo::Deliver,
        },
        closes_slow: false,
        ..GOOD
    });
    let (code, report) = server.load("slow --members 4 --rate 50 --seconds 1.5 --warmup 0");
    let dropped = server.injected(|counts| &counts.dropped);
    assert!(dropped > 10, "{dropped}");
    assert_eq!((code, faults(&report)), (1, [dropped, 0, 0, 0]));
    let slow = &report["slow"];
    assert_eq!(
        (&slow["slow_members"], &slow["connected"]),
        (&1.into(), &1.into())
    );
    assert_eq!(slow["misdelivered"], 0);
}
