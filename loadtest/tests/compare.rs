//! Comparisons of servers that behave and of servers that do not.
//!
//! The processes that are compared are shell scripts that say they listen where a server in this
//! process does, so that a test can see everything and nothing has to be installed.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; the helpers are not in a test function"
)]

#[path = "support/rooms.rs"]
mod rooms;
#[path = "support/server.rs"]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rooms::{Heard, Speech};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Golem's wire, and what may be done to it.
#[derive(Clone, Default)]
struct Golem {
    /// Publications so far, probes not counted.
    published: Arc<AtomicU64>,
    /// The first member does not get this publication.
    loses: Option<u64>,
    /// A file that is made when this many were published.
    marks: Option<(u64, PathBuf)>,
}

impl Speech for Golem {
    fn understand(&self, text: &str) -> Heard {
        let (event, json) = text.split_once(' ').unwrap();
        let data: Value = serde_json::from_str(json).unwrap();
        match event {
            "join" => Heard::Join(data["name"].as_str().unwrap().to_owned()),
            "msg" => Heard::Publish {
                room: data["to"].as_str().unwrap().to_owned(),
                payload: data["msg"].to_string(),
            },
            "leave" => Heard::Nothing,
            _ => Heard::Answer("error {\"reason\":\"unknown event\"}".to_owned()),
        }
    }

    fn delivery(&self, _: &str, member: usize, payload: &str) -> Option<String> {
        let is_probe = payload.starts_with("\"pppppppp");
        if member == 0 && !is_probe {
            let published = self.published.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some((at, file)) = &self.marks
                && published == *at
            {
                fs::write(file, "").unwrap();
            }
            if self.loses == Some(published) {
                return None;
            }
        }
        Some(format!("msg {payload}"))
    }
}

/// A directory with a list of servers in it, removed at the end.
struct Bench {
    directory: PathBuf,
    list: String,
}

impl Bench {
    fn new(test: &str) -> Self {
        let name = format!("loadtest-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            list: String::new(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A server that is this script.
    fn add(&mut self, name: &str, script: &str) {
        let command = format!("command = ['sh', '-c', '''{script}''']");
        writeln!(self.list, "[[server]]\nname = '{name}'\n{command}").unwrap();
    }

    /// A server that is the one at this address, and leaves its process's id in `NAME.pid`.
    fn add_serving(&mut self, name: &str, address: SocketAddr) {
        let pid = self.file(&format!("{name}.pid"));
        let script = format!(
            "echo $$ > {}; echo listening on http://{address}/; exec sleep 600",
            pid.display()
        );
        self.add(name, &script);
    }

    /// Flags for the load generator at the server that was added last.
    fn add_flags(&mut self, flags: &[&str]) {
        let flags: Vec<_> = flags.iter().map(|flag| format!("'{flag}'")).collect();
        writeln!(self.list, "flags = [{}]", flags.join(", ")).unwrap();
    }

    fn compare(&self, flags: &[&str]) -> Command {
        let list = self.file("peers.toml");
        fs::write(&list, &self.list).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command
            .arg("compare")
            .arg(list)
            .arg("--logs")
            .arg(&self.directory);
        command
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, flags: &[&str]) -> Outcome {
        Outcome::of(self.compare(flags).output().unwrap())
    }

    /// Whether the process that was started as this server is there.
    fn is_running(&self, name: &str) -> bool {
        let pid = fs::read_to_string(self.file(&format!("{name}.pid"))).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A zombie has ended; that nobody waited for it yet is not the comparison's doing.
        stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What the program said.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The cells of a server's row.
    fn row(&self, server: &str) -> Vec<&str> {
        let start = format!("| {server} ");
        let row = self.stdout.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{}\n{}", self.stdout, self.stderr));
        let cells = row.trim_matches('|').split('|').skip(1);
        cells.map(str::trim).collect()
    }
}

fn golem() -> SocketAddr {
    rooms::start(Golem::default())
}

#[test]
fn servers_take_turns_and_end_with_a_table() {
    let mut bench = Bench::new("turns");
    bench.add_serving("one", golem());
    bench.add_serving("two", golem());
    bench.add_flags(&[
        r#"--join=join {"name":"{room}"}"#,
        r#"--publish=msg {"to":"{room}","msg":{payload}}"#,
        "--delivery-prefix=msg ",
    ]);
    let markdown = bench.file("tables.md");
    let markdown = markdown.to_str().unwrap();
    let flags = [
        "--check",
        "--rounds",
        "2",
        "--baseline",
        "two",
        "--markdown",
        markdown,
    ];
    let outcome = bench.run(&flags);

    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let said: Vec<_> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("round"))
        .collect();
    let order = [
        "1/2: check one: ",
        "1/2: check two: ",
        "2/2: check two: ",
        "2/2: check one: ",
    ];
    for (line, start) in said.iter().zip(order) {
        assert!(line.starts_with(&format!("round {start}")), "{said:?}");
    }
    assert_eq!(said.len(), 4);
    // The processes that are measured only sleep, so CPU and ratio say nothing here.
    for server in ["one", "two"] {
        let rate = outcome.row(server)[4].replace(',', "");
        assert!(rate.parse::<f64>().unwrap() > 0.0, "{}", outcome.stdout);
    }
    assert!(outcome.stdout.contains("the ratio is to two"));
    assert_eq!(fs::read_to_string(markdown).unwrap(), outcome.stdout);
    assert!(!bench.is_running("one") && !bench.is_running("two"));
}

#[test]
fn a_server_that_will_not_start_does_not_stop_the_others() {
    let mut bench = Bench::new("broken");
    bench.add("broken", "echo the port is taken >&2; exit 7");
    bench.add_serving("sound", golem());
    let outcome = bench.run(&["--check", "--rounds", "2"]);

    assert_eq!(outcome.code, 1);
    let log = bench.file("broken.log");
    let expected = format!(
        "would not start (it ended with exit status: 7): see {}",
        log.display()
    );
    assert_eq!(outcome.row("broken")[0], expected);
    assert!(
        fs::read_to_string(log)
            .unwrap()
            .contains("the port is taken")
    );
    assert_eq!(
        outcome.stderr.matches("would not start").count(),
        1,
        "tried once"
    );
    assert_eq!(outcome.stderr.matches("check sound").count(), 2);
}

#[test]
fn a_server_that_is_told_its_port_is_waited_for_there() {
    let mut bench = Bench::new("told");
    // It says its port into a pipe, and nowhere where it listens.
    let pipe = bench.file("port");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let script = format!("echo $AT > {}; exec sleep 600", pipe.display());
    bench.add("told", &script);
    bench.list += "env = { AT = '{port}' }\n";
    let mut comparison = bench.compare(&["--scenario", "big-room", "--rounds", "1"]);
    let mut comparison = comparison.spawn().unwrap();
    let port = fs::read_to_string(&pipe).unwrap();
    let port: u16 = port.trim().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    // The first to come only looks whether somebody answers; the load comes behind it.
    let (looked, _) = listener.accept().unwrap();
    drop(looked);
    let (mut load, _) = listener.accept().unwrap();
    let mut said = [0; 7];
    load.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"GET /ws");
    kill(&comparison, Signal::INT);
    comparison.wait().unwrap();
}

#[test]
fn a_server_that_dies_midway_is_told_from_one_that_is_slow() {
    let mut bench = Bench::new("dying");
    let mark = bench.file("published");
    let address = rooms::start(Golem {
        marks: Some((10, mark.clone())),
        ..Golem::default()
    });
    let mark = mark.display();
    bench.add(
        "dying",
        &format!("echo listening on {address}; until [ -e {mark} ]; do sleep 0.01; done; exit 3"),
    );
    let outcome = bench.run(&["--check"]);

    assert_eq!(outcome.code, 1);
    let cell = outcome.row("dying")[0];
    assert!(
        cell.starts_with("the server ended during the run (exit status: 3): see "),
        "{cell}"
    );
}

#[test]
fn what_a_server_loses_stands_in_its_cell() {
    let mut bench = Bench::new("losing");
    let losing = rooms::start(Golem {
        loses: Some(5),
        ..Golem::default()
    });
    bench.add_serving("losing", losing);
    bench.add_serving("sound", golem());
    let outcome = bench.run(&["--check", "--json"]);

    assert_eq!(outcome.code, 1);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let servers = &json["scenarios"][0]["servers"];
    assert_eq!(servers[0]["failures"][0], "1 lost");
    assert_eq!(servers[1]["reports"][0]["lost"], 0);
    assert_eq!(json["baseline"], "losing");
    assert_eq!(servers[1]["ratio"], Value::Null);
}

#[test]
fn a_command_that_cannot_install_a_server_leaves_the_others() {
    let mut bench = Bench::new("install");
    let made = bench.file("made");
    writeln!(
        bench.list,
        "[[server]]\nname = 'absent'\ncommand = ['true']"
    )
    .unwrap();
    writeln!(bench.list, "install = [['sh', '-c', 'exit 9']]").unwrap();
    bench.add_serving("made", golem());
    writeln!(bench.list, "install = [['touch', '{}']]", made.display()).unwrap();
    writeln!(bench.list, "needs = ['{}']", made.display()).unwrap();
    let flags = ["--scenario", "big-room", "--seconds", "1"];

    let without = bench.run(&[&["--servers", "made"], &flags[..]].concat());
    assert_eq!(without.code, 1);
    assert!(without.row("made")[0].contains("made is missing, try --install"));
    let with = bench.run(&["--check"]);
    assert!(with.row("absent")[0].contains("`sh -c exit 9` ended with exit status: 9"));
    assert_ne!(with.row("made")[4], "");
}

#[test]
fn ctrl_c_prints_what_there_is_and_leaves_no_server() {
    let mut bench = Bench::new("ctrl-c");
    bench.add_serving("first", golem());
    let (mut child, _) = start_and_wait_for_the_first_run(&bench);
    kill(&child, Signal::INT);
    let status = child.wait().unwrap();
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut stdout).unwrap();

    assert_eq!(status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("| first |"), "{stdout}");
    assert!(
        stdout.contains("Interrupted: these are the runs so far."),
        "{stdout}"
    );
    assert!(!bench.is_running("first"));
}

#[test]
fn even_a_comparison_that_is_killed_leaves_no_server() {
    let mut bench = Bench::new("killed");
    bench.add_serving("first", golem());
    let (mut child, mut lines) = start_and_wait_for_the_first_run(&bench);
    kill(&child, Signal::KILL);
    child.wait().unwrap();
    // The end of what it says is the end of all who could say something.
    while lines.next().is_some() {}
    while bench.is_running("first") {
        thread::yield_now();
    }
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut bench = Bench::new("unknown");
    bench.add("one", "exit 1");
    let sentence = |flags: &[&str]| {
        let outcome = bench.run(flags);
        assert_eq!(outcome.code, 2, "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        outcome.stderr
    };
    assert!(sentence(&["--servers", "two"]).contains("no server two; there are one"));
    assert!(sentence(&["--scenario", "big"]).contains("no scenario big; there are big-room"));
    assert!(sentence(&["--baseline", "two"]).contains("no server in this comparison two"));
    let mut absent = bench.compare(&[]);
    fs::remove_file(bench.file("peers.toml")).unwrap();
    let outcome = Outcome::of(absent.output().unwrap());
    assert!(
        outcome.stderr.contains("peers.toml cannot be used"),
        "{}",
        outcome.stderr
    );
}

/// A comparison of many rounds, after its first one; what it says goes on in the lines.
fn start_and_wait_for_the_first_run(bench: &Bench) -> (Child, impl Iterator<Item = String>) {
    let mut child = bench
        .compare(&["--check", "--rounds", "1000"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let said = lines.find(|line| line.starts_with("round 1/1000"));
    assert!(said.is_some(), "it ended before the first run did");
    (child, lines)
}

fn kill(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
