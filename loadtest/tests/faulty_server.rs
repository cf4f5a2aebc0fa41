//! The program against a server that drops, repeats, swaps and cuts deliveries on purpose: what was
//! done is what is reported. And against no server, and servers that are none.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use server::{Event, Events, Welcome, Writer, listen};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// What is done to one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection is closed with 4102 instead.
    Close,
    Drop,
    None,
    /// Delivered twice.
    Repeat,
    /// Delivered late: the server stands still before it, for longer than streams are waited for.
    Stall,
    /// Delivered after the next.
    Swap,
    /// Delivered with the end of its filler cut off.
    Truncate,
}

/// Decides by the member's place in its room and the number of publications it was due before.
type Faults = fn(member: usize, nth: u64) -> Fault;

/// A server of golem's wire with faults, counted as they are made.
struct Server {
    address: SocketAddr,
    injected: Arc<Injected>,
}

#[derive(Default)]
struct Injected {
    dropped: AtomicU64,
    repeated: AtomicU64,
    swapped: AtomicU64,
    truncated: AtomicU64,
    /// Publications received, probes not counted.
    published: AtomicU64,
}

struct Member {
    writer: Writer,
    due: u64,
    held: Option<String>,
}

impl Server {
    fn start(faults: Faults) -> Self {
        let injected = Arc::new(Injected::default());
        let (events, inbox) = channel();
        let counts = Arc::clone(&injected);
        thread::spawn(move || serve_rooms(&inbox, faults, &counts));
        let address = listen(events, |_| Welcome::Accept, |_, text| Some(text.to_owned()));
        Self { address, injected }
    }

    fn load(&self, flags: &str) -> Report {
        Report::of(self.command(flags).output().unwrap())
    }

    fn command(&self, flags: &str) -> Command {
        let mut command = loadtest(&format!("--url ws://{}/ws --json {flags}", self.address));
        command.stdout(Stdio::piped());
        command
    }

    fn injected(&self, count: fn(&Injected) -> &AtomicU64) -> u64 {
        count(&self.injected).load(Ordering::SeqCst)
    }
}

fn serve_rooms(inbox: &Receiver<Events<String>>, faults: Faults, injected: &Injected) {
    let mut writers: HashMap<u64, Writer> = HashMap::new();
    let mut rooms: HashMap<String, Vec<Member>> = HashMap::new();
    for (id, event) in inbox {
        let text = match event {
            Event::Connected(writer) => {
                writers.insert(id, writer);
                continue;
            }
            Event::Gone => {
                writers.remove(&id);
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
                let (due, held) = (0, None);
                rooms
                    .entry(room)
                    .or_default()
                    .push(Member { writer, due, held });
            }
            "msg" => {
                let text = format!("msg {}", data["msg"]);
                let published = u64::from(!text.starts_with("msg \"pppppppp"));
                injected.published.fetch_add(published, Ordering::SeqCst);
                let members = rooms.get_mut(data["to"].as_str().unwrap());
                for (index, member) in members.into_iter().flatten().enumerate() {
                    let fault = match published {
                        0 => Fault::None,
                        _ => faults(index, member.due),
                    };
                    member.due += published;
                    member.deliver(&text, fault, injected);
                }
            }
            other => panic!("unknown event {other}"),
        }
    }
}

impl Member {
    fn deliver(&mut self, text: &str, fault: Fault, injected: &Injected) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
        match fault {
            Fault::Close => {
                let close = CloseFrame {
                    code: 4102.into(),
                    reason: "slow_consumer".into(),
                };
                let _ = self.writer.close(Some(close));
                let _ = self.writer.flush();
                return;
            }
            Fault::Drop => {
                count(&injected.dropped);
                return;
            }
            Fault::Swap => {
                count(&injected.swapped);
                self.held = Some(text.to_owned());
                return;
            }
            Fault::Repeat => {
                count(&injected.repeated);
                self.send(text);
            }
            Fault::Stall => thread::sleep(Duration::from_secs(3)),
            Fault::Truncate => {
                count(&injected.truncated);
                let cut = text.strip_suffix("..\"").unwrap();
                self.send(&format!("{cut}\""));
                return;
            }
            Fault::None => {}
        }
        self.send(text);
        if let Some(held) = self.held.take() {
            self.send(&held);
        }
    }

    fn send(&mut self, text: &str) {
        // A driver that has ended does not read; that is not this thread's business.
        let _ = self.writer.send(Message::text(text));
    }
}

/// What the program said.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    fn of(output: Output) -> Self {
        let json = serde_json::from_slice(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            code: output.status.code().unwrap(),
            json: json.expect(&stderr),
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.json[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {}", self.json))
    }

    fn faults(&self) -> (u64, u64, u64) {
        (
            self.number("lost"),
            self.number("repeated"),
            self.number("reordered"),
        )
    }
}

fn loadtest(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(flags.split_whitespace());
    command
}

/// Runs to a failure; the sentence that it ended with.
fn failure(flags: &str) -> String {
    let output = loadtest(flags).output().unwrap();
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{sentence}");
    assert!(output.stdout.is_empty());
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence
}

/// Answers every connection with these bytes and ends it.
fn answer_all(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn a_faithful_server_has_no_faults_and_every_figure_is_reported() {
    for threads in [1, 2] {
        let server = Server::start(|_, _| Fault::None);
        let pid = std::process::id();
        let report = server.load(&format!(
        "--rooms 2 --members 5 --publishers 4 --window 8 --payload 100 --seconds 0.5 --warmup 0.1 \
         --server-pid {pid} --threads {threads}"
    ));
        assert_eq!((report.code, report.faults()), (0, (0, 0, 0)));
        let scenario = &report.json["scenario"];
        assert_eq!(scenario["mode"], "fanout");
        let numbers = ["rooms", "members", "publishers", "window", "payload_bytes"];
        assert_eq!(
            numbers.map(|name| scenario[name].as_u64().unwrap()),
            [2, 5, 4, 8, 100]
        );
        for name in [
            "deliveries",
            "deliveries_per_second",
            "server_cpu_us_per_delivery",
            "driver_cpu_us_per_delivery",
            "connects_per_second",
        ] {
            assert!(
                report.json[name].as_f64().unwrap() > 0.0,
                "{name} in {}",
                report.json
            );
        }
        let latency = ["p50", "p90", "p99", "p999", "max"]
            .map(|name| report.json["latency_us"][name].as_f64().unwrap());
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{latency:?}");
        for name in ["before", "after"] {
            assert!(report.json["server_pss_bytes"][name].as_u64().unwrap() > 0);
        }
    }
}

#[test]
fn what_a_server_drops_repeats_and_swaps_is_reported_exactly() {
    for threads in [1, 2] {
        let server = Server::start(|member, nth| match (member, nth) {
            (1, 10..100) if nth.is_multiple_of(10) => Fault::Drop,
            (2, 10..100) if nth.is_multiple_of(7) => Fault::Repeat,
            (3, 10..100) if nth.is_multiple_of(8) => Fault::Swap,
            _ => Fault::None,
        });
        let report = server.load(&format!(
            "--members 5 --publishers 1 --rate 400 --seconds 0.5 --warmup 0 --threads {threads}"
        ));
        assert_eq!(report.faults(), (9, 13, 11));
        assert_eq!(report.code, 1);
        let published = server.injected(|counts| &counts.published);
        assert_eq!(report.number("publications"), published);
        assert_eq!(server.injected(|counts| &counts.dropped), 9);
        assert_eq!(server.injected(|counts| &counts.repeated), 13);
        assert_eq!(server.injected(|counts| &counts.swapped), 11);
    }
}

/// Payloads on both sides of the shortest frame header, which have different ways through the
/// program.
#[test]
fn what_a_server_truncates_is_reported_exactly_and_is_a_delivery() {
    for (payload, threads) in [(64, 1), (5000, 1), (64, 2)] {
        let server = Server::start(|member, nth| match (member, nth) {
            (2, 10..100) if nth.is_multiple_of(9) => Fault::Truncate,
            _ => Fault::None,
        });
        let report = server.load(&format!(
            "--members 4 --rate 400 --seconds 0.5 --warmup 0 --payload {payload} \
             --threads {threads}"
        ));
        assert_eq!(server.injected(|counts| &counts.truncated), 10);
        assert_eq!((report.code, report.number("truncated")), (1, 10));
        assert_eq!(report.faults(), (0, 0, 0));
    }
}

/// Its last publication is given up and comes after all, when nothing else is under way any more.
#[test]
fn a_server_that_stands_still_at_the_end_has_lost_nothing() {
    let server = Server::start(|member, nth| match (member, nth) {
        (0, 5) => Fault::Stall,
        _ => Fault::None,
    });
    // The run is over before the server goes on.
    let report = server.load("--members 4 --window 1 --warmup 0 --seconds 0.5");
    assert_eq!(report.number("given_up"), 1, "{}", report.json);
    assert_eq!((report.code, report.number("lost")), (0, 0));
}

#[test]
fn a_closed_loop_goes_on_when_a_server_loses_deliveries() {
    for threads in [1, 2] {
        let server = Server::start(|member, nth| match (member, nth) {
            (0 | 2, 3..1_000_000) if nth.is_multiple_of(5) => Fault::Drop,
            _ => Fault::None,
        });
        let report = server.load(&format!(
            "--members 4 --publishers 2 --window 64 --seconds 0.5 --warmup 0 --threads {threads}"
        ));
        let dropped = server.injected(|counts| &counts.dropped);
        assert!(dropped > 20, "{dropped}");
        assert_eq!((report.code, report.faults()), (1, (dropped, 0, 0)));
    }
}

#[test]
fn a_server_that_stops_delivering_to_one_member_loses_the_rest() {
    for threads in [1, 2] {
        let server = Server::start(|member, nth| {
            if member == 1 && nth >= 20 {
                Fault::Drop
            } else {
                Fault::None
            }
        });
        let report = server.load(&format!(
            "--members 3 --rate 200 --seconds 0.5 --warmup 0 --threads {threads}"
        ));
        let dropped = server.injected(|counts| &counts.dropped);
        assert_eq!((report.code, report.faults()), (1, (dropped, 0, 0)));
        assert_eq!(report.number("given_up"), dropped);
    }
}

#[test]
fn a_member_that_the_server_closes_is_reported_with_its_reason() {
    for threads in [1, 2] {
        let server = Server::start(|member, nth| {
            if member == 2 && nth == 20 {
                Fault::Close
            } else {
                Fault::None
            }
        });
        let report = server.load(&format!(
            "--members 3 --rate 200 --seconds 0.5 --warmup 0 --threads {threads}"
        ));
        assert_eq!((report.code, report.number("disconnected")), (1, 1));
        let reason = report.json["first_disconnect"].as_str().unwrap();
        assert!(reason.contains("4102 slow_consumer"), "{reason}");
    }
}

#[test]
fn idle_connections_are_all_there_at_the_end() {
    let server = Server::start(|_, _| Fault::None);
    let pid = std::process::id();
    let report = server.load(&format!(
        "idle --members 50 --settle 0.1 --server-pid {pid}"
    ));
    assert_eq!((report.code, report.number("deliveries")), (0, 50));
    assert!(report.json["bytes_per_connection"].is_number());
}

#[test]
fn a_small_room_is_measured_alone_and_beside_a_flood() {
    let server = Server::start(|_, _| Fault::None);
    let report = server.load("neighbour --members 20 --window 4 --seconds 0.5 --warmup 0.1");
    assert_eq!((report.code, report.faults()), (0, (0, 0, 0)));
    for name in ["alone", "flooded"] {
        assert!(report.json["neighbour"][name]["p99"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn latency_is_measured_to_each_member_and_to_the_last() {
    for threads in [1, 2] {
        let server = Server::start(|member, nth| {
            if member == 2 && nth == 30 {
                Fault::Drop
            } else {
                Fault::None
            }
        });
        let flags = "latency --members 4 --rate 200 --seconds 0.5 --warmup 0";
        let report = server.load(&format!("{flags} --threads {threads}"));
        assert_eq!(report.faults(), (1, 0, 0));
        let count = |name: &str| report.json[name]["count"].as_u64().unwrap();
        let complete = count("latency_last_us");
        assert!(complete > 50, "{complete}");
        let one_did_not_reach_everybody = complete * 4 + 3;
        assert_eq!(count("latency_us"), one_did_not_reach_everybody);
        let quantile = |name: &str, quantile: &str| report.json[name][quantile].as_f64().unwrap();
        assert!(quantile("latency_last_us", "p50") >= quantile("latency_us", "p50"));
        let latency = &report.json["latency_us"];
        let distribution = latency["distribution"].as_array().unwrap();
        assert_eq!(distribution.last().unwrap()[1], latency["max"]);
    }
}

#[test]
fn a_run_is_followed_over_time_and_says_where_and_what_it_was() {
    let server = Server::start(|_, _| Fault::None);
    let report = server.load("--members 5 --window 2 --seconds 1 --warmup 0");
    let series = report.json["series"].as_array().unwrap();
    assert!(series.len() >= 2, "{series:?}");
    let seconds: Vec<f64> = series
        .iter()
        .map(|point| point["seconds"].as_f64().unwrap())
        .collect();
    assert!(seconds.is_sorted(), "{seconds:?}");
    for point in series {
        assert_eq!(
            (&point["connections"], &point["lost"]),
            (&5.into(), &0.into())
        );
        assert!(point["server_pss_bytes"].is_number() || point["server_pss_bytes"].is_null());
    }
    assert_eq!(
        report.json["server"]["pid"],
        std::process::id(),
        "it is this test's process"
    );
    assert!(
        report.json["server"]["command"]
            .as_str()
            .unwrap()
            .contains("faulty_server")
    );
    assert!(report.json["machine"]["cpus"].as_u64().unwrap() > 0);
    assert!(report.json["started"].as_str().unwrap().ends_with('Z'));
    let command = report.json["command"].as_array().unwrap();
    assert!(command.contains(&"--members".into()), "{command:?}");
}

#[test]
fn progress_is_written_beside_the_report_and_the_page_to_its_file() {
    let server = Server::start(|_, _| Fault::None);
    let folder = std::env::temp_dir().join(format!("loadtest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let page = folder.join("report.html");
    let flags = format!(
        "--members 5 --seconds 0.3 --warmup 0 --progress --html {}",
        page.display()
    );
    let output = server
        .command(&flags)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(progress.contains("deliveries/s"), "{progress}");
    assert_eq!(Report::of(output).code, 0);
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(text.contains("</html>") && text.contains("latency_us"));
    let nowhere = server
        .command("--members 2 --seconds 0.1 --html /nowhere/report.html")
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn the_knee_is_below_the_rates_that_lose_and_that_is_no_fault() {
    // Every connection loses what is beyond its first 60 publications: only short or slow steps
    // hold, whatever the machine.
    let server = Server::start(|member, nth| {
        if member == 1 && nth >= 60 {
            Fault::Drop
        } else {
            Fault::None
        }
    });
    let flags = "knee --members 3 --rate 20 --step-seconds 0.5 --p99 10s --threads 2";
    let report = server.load(flags);
    assert_eq!(report.code, 0, "{}", report.json);
    let knee = &report.json["knee"];
    let held = knee["rate_held"].as_f64().unwrap();
    assert_eq!(knee["limit_found"], true, "{knee}");
    assert!((20.0..=120.0).contains(&held), "{knee}");
    let steps = knee["steps"].as_array().unwrap();
    let broken: Vec<_> = steps.iter().filter(|step| step["held"] == false).collect();
    assert!(!broken.is_empty(), "{knee}");
    for step in broken {
        assert_eq!(step["broken_by"], "loss");
        assert!(step["lost"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_search_that_finds_no_limit_says_so_and_how_far_it_came() {
    let server = Server::start(|_, _| Fault::None);
    let flags = "knee --members 3 --rate 5 --seconds 0.5 --step-seconds 0.2 --p99 10s --threads 2";
    let report = server.load(flags);
    let knee = &report.json["knee"];
    assert_eq!(
        (report.code, &knee["limit_found"]),
        (0, &false.into()),
        "{knee}"
    );
    let mut text = loadtest(flags);
    let output = text.args(["--url", &format!("ws://{}/ws", server.address)]);
    let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
    assert!(text.contains("no limit was found up to "), "{text}");
    assert!(!text.contains("the last rate that held"), "{text}");
}

#[test]
fn a_soak_reports_the_slope_of_memory() {
    let server = Server::start(|_, _| Fault::None);
    // The server is in this process, whose memory takes long to read while many tests run in it,
    // and is then asked for every few seconds only. So that of a small process is told instead.
    let mut small = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = small.id();
    let flags = "soak --members 5 --rate 500 --seconds 2 --warmup 0";
    let report = server.load(&format!("{flags} --server-pid {pid}"));
    small.kill().unwrap();
    small.wait().unwrap();
    assert_eq!((report.code, report.faults()), (0, (0, 0, 0)));
    let soak = &report.json["soak"];
    assert!(soak["pss_growth_bytes_per_hour"].is_number(), "{soak}");
    assert!(soak["latency_drifts"].is_boolean(), "{soak}");
}

#[test]
fn a_scenario_of_ones_own_is_run_and_overridden() {
    let server = Server::start(|_, _| Fault::None);
    let path = std::env::temp_dir().join(format!("loadtest-{}.toml", std::process::id()));
    let text = "stands_for = \"A test.\"\nmode = \"fanout\"\nrooms = 2\nmembers = 9\nwindow = 4\n";
    std::fs::write(&path, text).unwrap();
    let flags = format!(
        "run {} --members 3 --seconds 0.2 --warmup 0",
        path.display()
    );
    let report = server.load(&flags);
    std::fs::remove_file(&path).unwrap();
    let scenario = &report.json["scenario"];
    let numbers = ["rooms", "members", "window"].map(|name| scenario[name].as_u64().unwrap());
    assert_eq!((report.code, numbers), (0, [2, 3, 4]));
    assert_eq!(scenario["name"], path.to_str().unwrap());
}

#[test]
fn ctrl_c_ends_with_the_report_so_far() {
    let server = Server::start(|_, _| Fault::None);
    let child = server
        .command("--members 5 --window 2 --seconds 600 --warmup 0")
        .spawn()
        .unwrap();
    while server.injected(|counts| &counts.published) < 100 {
        thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let report = Report::of(child.wait_with_output().unwrap());
    assert_eq!((report.code, report.faults()), (0, (0, 0, 0)));
    assert_eq!(report.json["interrupted"], true);
    assert!(report.number("deliveries") > 0);
    assert!(report.json["series"].is_array());
}

#[test]
fn nobody_at_the_address_is_said() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let sentence = failure(&format!("--url ws://{address}/ws"));
    assert!(
        sentence.contains("could not be reached after 0 connections"),
        "{sentence}"
    );
}

#[test]
fn a_refused_handshake_is_said_with_status_and_body() {
    let address = answer_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno room");
    let sentence = failure(&format!("--url ws://{address}/nowhere"));
    assert!(sentence.contains("404 Not Found: no room"), "{sentence}");
    let address = answer_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nfull");
    let sentence = failure(&format!("--url ws://{address}/ws"));
    assert!(
        sentence.contains("503 Service Unavailable: full"),
        "{sentence}"
    );
}

#[test]
fn what_is_no_websocket_server_is_said() {
    let address = answer_all(b"");
    assert!(failure(&format!("--url ws://{address}/ws")).contains("what is not HTTP"));
    let address = answer_all(b"SSH-2.0-hello\r\n");
    assert!(failure(&format!("--url ws://{address}/ws")).contains("what is not HTTP"));
}

#[test]
fn other_peoples_servers_are_left_alone() {
    assert!(failure("--url ws://192.0.2.1/ws").contains("--i-own-this-server"));
}

#[test]
fn a_server_process_that_is_gone_is_said() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let server = Server::start(|_, _| Fault::None);
    let url = format!("--url ws://{}/ws", server.address);
    let sentence = failure(&format!("{url} --server-pid {}", ended.id()));
    assert!(sentence.contains("is not running"), "{sentence}");
}

/// The one test that takes as long as the program's patience: 10 s.
#[test]
fn a_server_that_delivers_nothing_does_not_hang_the_program() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
            thread::spawn(move || while socket.read().is_ok() {});
        }
    });
    let sentence = failure(&format!("--url ws://{address}/ws --members 2"));
    assert!(
        sentence.contains("no member received a publication"),
        "{sentence}"
    );
    assert!(
        sentence.contains(r#"the wire golem (join `join {"name":"{room}"}`, publish"#),
        "{sentence}"
    );
}
