//! A server under test, as a child process that ends with its handle.
//!
//! The server is told to take a free port, and is asked nothing: what it prints goes to a file, and
//! says where it listens. The standard library is enough for that, so that every task may use it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// A running server.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Serving {
    /// Starts a server, and waits until it says where it listens, for 20 seconds at most.
    ///
    /// Appends whatever it prints to `log`, as long as it runs.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or ends or says nothing. It does not run then.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log_file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
        })?;
        let mut serving = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log: log.to_owned(),
        };
        let (sender, receiver) = mpsc::channel();
        if let Some(output) = serving.child.stdout.take() {
            follow(output, log_file.try_clone()?, sender.clone());
        }
        if let Some(output) = serving.child.stderr.take() {
            follow(output, log_file, sender);
        }
        serving.address = receiver.recv_timeout(START_TIME_MAX).map_err(|_| {
            let lines = serving.last_lines();
            io::Error::other(format!("{program} does not say where it listens:\n{lines}"))
        })?;
        Ok(serving)
    }

    /// Returns where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended; `None` if it has not.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it, as a machine that loses power does.
    ///
    /// # Errors
    ///
    /// If the system does not let us.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Returns the last lines that it has printed: enough to see why it ended.
    pub fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Copies what the server prints to its log, and sends each address that it says it listens on.
fn follow(output: impl Read + Send + 'static, mut log: File, addresses: Sender<SocketAddr>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // A log that cannot be written costs a diagnosis, not the run.
            _ = writeln!(log, "{line}");
            if let Some(address) = address(&line) {
                _ = addresses.send(address);
            }
        }
    });
}

/// Reads the address in a line such as `listening on http://127.0.0.1:8080/`.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, said) = line.split_once("listening")?;
    let (_, after) = said.split_once(HOST)?;
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(([127, 0, 0, 1], port).into())
}

const HOST: &str = "127.0.0.1:";

/// Starting takes milliseconds; this is for a machine that is busy with something else.
const START_TIME_MAX: Duration = Duration::from_secs(20);

const LAST_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_prose_and_from_a_log_line() {
        for line in [
            "listening on http://127.0.0.1:8080/",
            "listening on 127.0.0.1:8080",
            "2026-08-22T10:00:00Z  INFO throng: listening address=127.0.0.1:8080 cores=2",
        ] {
            assert_eq!(address(line), Some(([127, 0, 0, 1], 8080).into()), "{line}");
        }
    }

    #[test]
    fn a_line_that_tells_no_port_is_passed_over() {
        for line in [
            "binding 127.0.0.1:8080",
            "listening on 127.0.0.1:0",
            "listening on unix:/run/throng.sock",
            "listening soon",
        ] {
            assert_eq!(address(line), None, "{line}");
        }
    }

    #[test]
    fn a_server_that_ends_or_is_not_there_is_said_with_its_last_lines() {
        let log = std::env::temp_dir().join(format!("serving-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening nowhere; exit 3"]);
        let error = Serving::start(&mut command, &log).unwrap_err().to_string();
        assert!(error.contains("listening nowhere"), "{error}");
        let error = Serving::start(&mut Command::new("/no/such/program"), &log).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
        _ = std::fs::remove_file(&log);
    }
}
