//! One run: this program again, as a process of its own, against a server that is there.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::peers::Peer;
use super::results::RunResult;
use super::scenarios::Scenario;
use super::serving::Serving;
use super::this_program;
use crate::clock::{Clock, to_ns};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measurement<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) server: &'a Peer,
    /// How long deliveries are counted.
    pub(super) seconds: u32,
    /// The load generator's CPU.
    pub(super) cpu: Option<usize>,
    pub(super) interrupted: &'a AtomicBool,
}

impl Measurement<'_> {
    /// Loads the server. Returns the report of a clean run, or what was wrong with it.
    pub(super) fn run(&self, serving: &Serving) -> RunResult {
        let ended = self.load(serving).map_err(|error| error.to_string())?;
        match ended {
            Ended::Late => Err(format!("no end within {} s", self.time_max().as_secs())),
            Ended::Interrupted => Err("Ctrl-C".to_owned()),
            Ended::Itself {
                status,
                output,
                errors,
            } => verdict(status, &output, &errors),
        }
    }

    fn load(&self, serving: &Serving) -> io::Result<Ended> {
        let url = format!("ws://{}{}", serving.address(), self.server.path);
        let pid = serving.pid().to_string();
        let mut load = this_program();
        load.args(["--json", "--url", &url, "--server-pid", &pid]);
        if let Some(wire) = &self.server.wire {
            load.args(["--wire", wire]);
        }
        if let Some(cpu) = self.cpu {
            load.args(["--pin", &cpu.to_string()]);
        }
        load.args(&self.server.flags).args(&self.scenario.words);
        let child = load
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        wait(Loading(child), self.time_max(), self.interrupted)
    }

    /// Long enough for any run that goes on: connecting, warming up, and twice the time that is
    /// measured, each with as much to wait for what is late.
    fn time_max(&self) -> Duration {
        Duration::from_secs(120 + 4 * u64::from(self.seconds))
    }
}

/// How a load generator ended.
enum Ended {
    Interrupted,
    Itself {
        status: ExitStatus,
        output: String,
        errors: String,
    },
    Late,
}

/// A load generator that ends with its handle.
struct Loading(Child);

impl Drop for Loading {
    fn drop(&mut self) {
        // It has ended by itself nearly always; then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(mut loading: Loading, time_max: Duration, interrupted: &AtomicBool) -> io::Result<Ended> {
    let output = loading.0.stdout.take().map(reader);
    let errors = loading.0.stderr.take().map(reader);
    let clock = Clock::start();
    loop {
        if let Some(status) = loading.0.try_wait()? {
            return Ok(Ended::Itself {
                status,
                output: read(output),
                errors: read(errors),
            });
        }
        if interrupted.load(Ordering::Relaxed) {
            return Ok(Ended::Interrupted);
        }
        if clock.now_ns() > to_ns(time_max) {
            return Ok(Ended::Late);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Reads to the end on a thread of its own: a pipe that nobody empties would stop the writer.
fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all that there is.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn read(reader: Option<JoinHandle<String>>) -> String {
    let text = reader.map(JoinHandle::join);
    text.and_then(Result::ok).unwrap_or_default()
}

/// A report, if the run was clean.
fn verdict(status: ExitStatus, output: &str, errors: &str) -> RunResult {
    let report = serde_json::from_str::<Value>(output);
    match (status.code(), report) {
        (Some(0), Ok(report)) => Ok(report),
        (Some(1), Ok(report)) => Err(faults(&report)),
        _ => {
            let said = |start| errors.lines().find_map(|line| line.strip_prefix(start));
            match said("loadtest: ").or_else(|| said("error: ")) {
                Some(sentence) => Err(sentence.to_owned()),
                None => Err(format!("the load generator ended with {status}")),
            }
        }
    }
}

/// What a report says was not as it should be.
fn faults(report: &Value) -> String {
    let count = |place: &str| report.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let first = |place: &str| {
        let text = report.pointer(place).and_then(Value::as_str);
        text.map_or_else(String::new, |text| format!(" ({text})"))
    };
    let faults: Vec<String> = FAULTS
        .iter()
        .filter(|(place, ..)| count(place) > 0)
        .map(|(place, word, example)| format!("{} {word}{}", count(place), first(example)))
        .collect();
    match faults.len() {
        0 => "not clean, and the report does not say why".to_owned(),
        _ => faults.join(", "),
    }
}

/// Where the counts of a report are, what to call them, and where the first one is described.
const FAULTS: [(&str, &str, &str); 14] = [
    ("/lost", "lost", ""),
    ("/repeated", "repeated", ""),
    ("/reordered", "reordered", ""),
    ("/truncated", "truncated", ""),
    ("/unreadable", "unreadable", ""),
    ("/disconnected", "disconnected", "/first_disconnect"),
    ("/server_errors", "errors", "/first_server_error"),
    ("/positions/offsets_missing", "offsets missing", FIRST_FAULT),
    (
        "/positions/offsets_repeated",
        "offsets repeated",
        FIRST_FAULT,
    ),
    ("/positions/wrong_senders", "wrong senders", ""),
    ("/positions/wrong_messages", "wrong messages", FIRST_FAULT),
    ("/flood/over_limit", "kinds of flood over the limit", ""),
    ("/positions/unacknowledged", "never acknowledged", ""),
    (
        "/slow/gaps/unannounced",
        "missing without a gap",
        "/slow/gaps/first_fault",
    ),
];

const FIRST_FAULT: &str = "/positions/first_fault";

/// Not noticeable to a person, and nothing to a processor.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn a_clean_run_is_its_report() {
        let report = verdict(exit(0), "{\"lost\":0}", "").unwrap();
        assert_eq!(report["lost"], 0);
    }

    #[test]
    fn a_run_that_lost_deliveries_says_how_many() {
        let report = r#"{"lost":3,"repeated":1,"reordered":0,"disconnected":2,
            "first_disconnect":"it said 4102"}"#;
        assert_eq!(
            verdict(exit(1), report, "").unwrap_err(),
            "3 lost, 1 repeated, 2 disconnected (it said 4102)"
        );
        let positions = r#"{"lost":0,"positions":{"offsets_missing":2,"wrong_senders":0,
            "first_fault":"offset 5 where 3 was due"}}"#;
        assert_eq!(
            verdict(exit(1), positions, "").unwrap_err(),
            "2 offsets missing (offset 5 where 3 was due)"
        );
        assert!(
            verdict(exit(1), "{}", "")
                .unwrap_err()
                .contains("does not say why")
        );
    }

    #[test]
    fn a_run_without_a_report_says_its_sentence() {
        let sentence = "loadtest: 127.0.0.1:1 could not be reached\n";
        let reason = verdict(exit(2), "", sentence).unwrap_err();
        assert_eq!(reason, "127.0.0.1:1 could not be reached");
        let usage = "error: unexpected argument '--x' found\n\nUsage: loadtest\n";
        let reason = verdict(exit(2), "", usage).unwrap_err();
        assert_eq!(reason, "unexpected argument '--x' found");
        let killed = verdict(ExitStatus::from_raw(9), "", "").unwrap_err();
        assert!(killed.contains("signal: 9"), "{killed}");
    }

    #[test]
    fn a_load_generator_that_takes_too_long_is_ended() {
        let child = || {
            let mut child = Command::new("sleep");
            Loading(child.arg("600").stdout(Stdio::piped()).spawn().unwrap())
        };
        let late = wait(child(), Duration::ZERO, &AtomicBool::new(false));
        assert!(matches!(late, Ok(Ended::Late)));
        let interrupted = wait(child(), Duration::MAX, &AtomicBool::new(true));
        assert!(matches!(interrupted, Ok(Ended::Interrupted)));
    }
}
