//! The binary `throng` in a process of its own.

#![allow(dead_code, reason = "each file of tests uses its own part of this")]

use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use throng_testing::{TIMEOUT, until};

/// A process, killed when dropped.
pub(crate) struct Binary {
    child: Child,
    /// The lines of its standard error.
    lines: Receiver<String>,
}

impl Binary {
    /// Starts it with these variables and no others.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::spawn(Self::command(), variables)
    }

    fn spawn(mut command: Command, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The command without an environment, so that the tests' own changes nothing.
    pub(crate) fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
        command.env_clear().stdin(Stdio::null());
        command
    }

    /// Starts a server on a port that the kernel chooses; returns the address too.
    pub(crate) fn serve(variables: &[(&str, &str)]) -> (Self, SocketAddr) {
        Self::serve_with(Self::command(), variables)
    }

    /// Serves by another program, which gets the binary's path as its last argument and becomes it.
    pub(crate) fn serve_by(program: &[&str], variables: &[(&str, &str)]) -> (Self, SocketAddr) {
        Self::serve_with(Self::command_of(program), variables)
    }

    /// Starts it by another program, with these variables and no others.
    pub(crate) fn start_by(program: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(Self::command_of(program), variables)
    }

    fn command_of(program: &[&str]) -> Command {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg(env!("CARGO_BIN_EXE_throng"))
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    /// Starts a server whose standard error nobody reads any more once it listens.
    pub(crate) fn serve_unheard() -> Self {
        let mut child = Self::command()
            .env("THRONG_LISTEN", "127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (_, lines) = channel();
        let binary = Self { child, lines };
        let mut heard = stderr.lines().map_while(Result::ok);
        assert!(heard.any(|line| line.contains("listening on http://")));
        binary
    }

    /// Starts a server whose standard error is a pipe that nobody reads once it listens, and that
    /// is full. While what is returned lives, it stays so.
    pub(crate) fn serve_unread(variables: &[(&str, &str)]) -> (Self, SocketAddr, PipeReader) {
        let (pipe, mut filler) = io::pipe().unwrap();
        let child = Self::command()
            .env("THRONG_LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stderr(filler.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(pipe);
        let mut line = String::new();
        while !line.contains("listening on http://") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
        }
        let address = address_in(line.trim_end());
        let watched = filler.try_clone().unwrap();
        // Until nobody reads any more.
        thread::spawn(move || while filler.write_all(&[b'x'; 512]).is_ok() {});
        until(
            || is_full(&watched).then_some(()),
            || "the pipe should be full".to_owned(),
        );
        let (_, lines) = channel();
        (Self { child, lines }, address, said.into_inner())
    }

    fn serve_with(command: Command, variables: &[(&str, &str)]) -> (Self, SocketAddr) {
        let listen = [("THRONG_LISTEN", "127.0.0.1:0")];
        let binary = Self::spawn(command, &[&listen, variables].concat());
        let line = binary.wait_for_line("listening on http://");
        (binary, address_in(&line))
    }

    /// Waits for a line of standard error with this in it.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("no line with {part:?} after {before:#?}"),
            }
        }
    }

    /// Waits for a line of standard error with this in it; returns those before it.
    pub(crate) fn lines_before(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) if line.contains(part) => return before,
                Ok(line) => before.push_str(&(line + "\n")),
                Err(_) => panic!("no line with {part:?} after {before}"),
            }
        }
    }

    /// Sends it a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell has it built in, and so do all systems.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").arg("-c").arg(kill).status().unwrap();
        assert!(status.success());
    }

    /// Lets its files be as long as they like.
    pub(crate) fn lift_file_limit(&self) {
        self.limit_files("unlimited");
    }

    /// Lets no file of its become longer than so many bytes. It must be deaf to SIGXFSZ.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let pid = self.child.id().to_string();
        let limit = format!("--fsize={bytes}:");
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &limit])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Sets how many files it may have open.
    pub(crate) fn limit_open_files(&self, max: usize) {
        let pid = self.child.id().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={max}:")])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(
            || self.child.try_wait().unwrap(),
            || "the process should have ended".to_owned(),
        )
    }

    /// Returns the memory of the process, in bytes, where the system tells.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line?.trim().trim_end_matches(" kB").parse::<u64>();
        kib.ok().map(|kib| kib * 1024)
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The address in the line that says where it listens.
fn address_in(line: &str) -> SocketAddr {
    let (_, address) = line.split_once("http://").unwrap();
    address.trim_end_matches('/').parse().unwrap()
}

/// Returns whether a writer to the pipe would wait.
fn is_full(pipe: &PipeWriter) -> bool {
    let mut pipe = [PollFd::new(pipe, PollFlags::OUT)];
    poll(
        &mut pipe,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .unwrap()
        == 0
}
