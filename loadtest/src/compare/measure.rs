//! One run: this program again, as a process of its own, against a server that is there.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::figures::faults;
use super::results::RunResult;
use crate::clock::{Clock, to_ns};

/// Runs a load generator that measures for so long. Returns the report of a clean run, or what was
/// wrong with it.
pub(super) fn run(load: &mut Command, seconds: u32, interrupted: &AtomicBool) -> RunResult {
    load.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = load
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    // Long enough for any run that goes on: connecting, warming up, and twice the time that is
    // measured, each with as much to wait for what is late.
    let time_max = Duration::from_secs(120 + 4 * u64::from(seconds));
    Loading(child).wait(time_max, interrupted)
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

impl Loading {
    /// Waits for the end, and reads what it said.
    fn wait(mut self, time_max: Duration, interrupted: &AtomicBool) -> RunResult {
        let output = reader(self.0.stdout.take());
        let errors = reader(self.0.stderr.take());
        let clock = Clock::start();
        loop {
            if let Some(status) = self.0.try_wait().map_err(|error| error.to_string())? {
                let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
                return verdict(status, &text(output), &text(errors));
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err("Ctrl-C".to_owned());
            }
            if clock.now_ns() > to_ns(time_max) {
                return Err(format!("no end within {} s", time_max.as_secs()));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Reads to the end on a thread of its own: a pipe that nobody empties would stop the writer.
fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let read = move || {
        pipe.and_then(|pipe| io::read_to_string(pipe).ok())
            .unwrap_or_default()
    };
    thread::spawn(read)
}

/// Returns a report, if the run was clean.
fn verdict(status: ExitStatus, output: &str, errors: &str) -> RunResult {
    match (status.code(), serde_json::from_str(output)) {
        (Some(0), Ok(report)) => Ok(report),
        (Some(1), Ok(report)) => Err(faults(&report)),
        _ => {
            let said = |start| errors.lines().find_map(|line| line.strip_prefix(start));
            let sentence = said("loadtest: ")
                .or_else(|| said("error: "))
                .map(str::to_owned);
            Err(sentence.unwrap_or_else(|| format!("the load generator ended with {status}")))
        }
    }
}

/// Not noticeable to a person, and nothing to a processor.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

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
        assert_eq!(verdict(exit(1), r#"{"lost":3}"#, "").unwrap_err(), "3 lost");
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
        let late = child().wait(Duration::ZERO, &AtomicBool::new(false));
        assert_eq!(late.unwrap_err(), "no end within 0 s");
        let interrupted = child().wait(Duration::MAX, &AtomicBool::new(true));
        assert_eq!(interrupted.unwrap_err(), "Ctrl-C");
    }
}
