//! A server under test: a process group that ends with its handle.
//!
//! What it prints goes straight to its log, which is also where its address is read from: nobody
//! stands between a server and its output while it is measured.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::peers::Peer;
use super::this_program;
use crate::clock::{Clock, to_ns};

/// A running server.
#[derive(Debug)]
pub(super) struct Serving {
    child: Child,
    /// Where it listens, as host and port.
    pub(super) address: String,
}

impl Serving {
    /// Starts a server that is told to take a free port, and waits until it says which one it got;
    /// or that is told which, and waits until it answers there. None if Ctrl-C came meanwhile.
    ///
    /// # Errors
    ///
    /// Why it does not run.
    pub(super) fn start(
        server: &Peer,
        cpu: Option<usize>,
        log: &Path,
        interrupted: &AtomicBool,
    ) -> Result<Option<Self>> {
        let mut log_file = File::options().create(true).append(true).open(log)?;
        let port = server.is_told_its_port().then(free_port).transpose()?;
        let told = port.unwrap_or_default();
        let command = server.command(told);
        writeln!(log_file, "$ {}", command.join(" "))?;
        if let Some(missing) = server.missing() {
            bail!("{missing} is missing, try --install");
        }
        let start = usize::try_from(log_file.metadata()?.len())?;
        let mut pinned = pinned(&command, cpu);
        pinned
            .current_dir(&server.directory)
            .env("PORT", "0")
            .envs(server.variables(told));
        pinned
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file);
        // Ctrl-C at the terminal is for the comparison, which then ends the server itself.
        let child = pinned.process_group(0).spawn()?;
        let mut serving = Self {
            child,
            address: String::new(),
        };
        let clock = Clock::start();
        while !interrupted.load(Ordering::Relaxed) {
            // Whether it has ended is asked first: what it said before that is then in the log.
            let end = serving.child.try_wait()?;
            let said = fs::read(log)?;
            let said = String::from_utf8_lossy(said.get(start..).unwrap_or_default());
            if let Some(status) = end {
                bail!("it ended with {status}");
            }
            let found = match port {
                None => whole_lines(&said).find_map(|line| address(line, server)),
                Some(port) => answering(port),
            };
            if let Some(address) = found {
                serving.address = address;
                return Ok(Some(serving));
            }
            let seconds = START_TIME_MAX.as_secs();
            let is_late = clock.now_ns() > to_ns(START_TIME_MAX);
            ensure!(
                !is_late,
                "it did not say within {seconds} s where it listens"
            );
            thread::sleep(POLL_INTERVAL);
        }
        Ok(None)
    }

    /// Returns its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended, if it did.
    pub(super) fn end_of_server(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It leads its group, so that what it started ends too. It may have ended by itself; then
        // there is nothing left to do.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Starts this program, which becomes the server.
fn pinned(command: &[String], cpu: Option<usize>) -> Command {
    let mut pinned = this_program();
    pinned.arg("pinned");
    if let Some(cpu) = cpu {
        pinned.args(["--cpu", &cpu.to_string()]);
    }
    pinned.arg("--").args(command);
    pinned
}

/// Finds a port that nobody listens at. Somebody may before the server does; then the server says
/// so and ends.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Returns the address of a server that was told its port, if it answers.
fn answering(port: u16) -> Option<String> {
    let address = format!("127.0.0.1:{port}");
    TcpStream::connect(&address).ok()?;
    Some(address)
}

/// Returns the lines that are written to their ends: half a line may have half a port.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    let end = text.rfind('\n').unwrap_or(0);
    text[..end].lines()
}

/// Finds the address in a line such as `listening on http://127.0.0.1:8080/`.
fn address(line: &str, server: &Peer) -> Option<String> {
    let (_, said) = line.split_once(&server.listening)?;
    HOSTS.iter().find_map(|host| {
        let (_, after) = said.split_once(host)?;
        let port: String = after.chars().take_while(char::is_ascii_digit).collect();
        port.parse::<u16>().ok().filter(|port| *port != 0)?;
        Some(format!("{host}{port}"))
    })
}

const HOSTS: [&str; 3] = ["127.0.0.1:", "localhost:", "[::1]:"];

/// Starting takes milliseconds; this is for a machine that is busy with something else.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// Not noticeable to a person, and nothing to a processor.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn address_in(line: &str) -> Option<String> {
        let server = "name = 'a'\ncommand = ['a']\n";
        address(line, &toml::from_str(server).unwrap())
    }

    #[test]
    fn the_address_is_read_from_prose_and_from_a_log_line() {
        for line in [
            "listening on http://127.0.0.1:8080/",
            "listening on 127.0.0.1:8080",
            "2026-08-22T10:00:00Z  INFO throng: listening address=127.0.0.1:8080 cores=2",
        ] {
            assert_eq!(
                address_in(line).as_deref(),
                Some("127.0.0.1:8080"),
                "{line}"
            );
        }
        let other = address_in("now listening at ws://localhost:99/chat");
        assert_eq!(other.as_deref(), Some("localhost:99"));
    }

    #[test]
    fn a_line_that_tells_no_port_is_passed_over() {
        for line in [
            "binding 127.0.0.1:8080",
            "listening on 127.0.0.1:0",
            "listening soon",
        ] {
            assert_eq!(address_in(line), None, "{line}");
        }
    }

    #[test]
    fn half_a_line_is_not_read_yet() {
        assert_eq!(
            whole_lines("one\ntwo\nthr").collect::<Vec<_>>(),
            ["one", "two"]
        );
        assert_eq!(whole_lines("thr").count(), 0);
    }
}
