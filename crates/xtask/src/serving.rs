//! A server under test, as a child that ends with its handle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A running server.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    /// Starts a server that is told to take a free port, and waits until it says which one it got.
    ///
    /// Whatever it prints goes to `log`, as long as it runs.
    ///
    /// # Errors
    ///
    /// If it could not be started, ended early or did not say where it listens.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .with_context(|| format!("could not start {program}"))?;
        let log_file = File::options().create(true).append(true).open(log)?;
        let (sender, receiver) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            follow(output, log_file.try_clone()?, sender.clone());
        }
        if let Some(output) = child.stderr.take() {
            follow(output, log_file, sender);
        }
        let mut server = Self {
            child,
            address: String::new(),
        };
        match receiver.recv_timeout(START_TIME_MAX) {
            Ok(address) => server.address = address,
            Err(_) => bail!(
                "{program} did not say where it listens; see {}",
                log.display()
            ),
        }
        Ok(server)
    }

    /// Returns the address that it listens on, as host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies what the server prints to its log, and sends each address that it says it listens on.
fn follow(output: impl Read + Send + 'static, mut log: File, addresses: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // A log that cannot be written costs a diagnosis, not the run.
            let _ = writeln!(log, "{line}");
            if let Some(address) = address(&line) {
                let _ = addresses.send(address);
            }
        }
    });
}

/// Returns the address in a line such as `listening on http://127.0.0.1:8080/`.
fn address(line: &str) -> Option<String> {
    let (_, said) = line.split_once("listening")?;
    let (_, after) = said.split_once(HOST)?;
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    port.parse::<u16>().ok().filter(|port| *port != 0)?;
    Some(format!("{HOST}{port}"))
}

const HOST: &str = "127.0.0.1:";

/// Starting takes milliseconds; this is for a machine that is busy with something else.
const START_TIME_MAX: Duration = Duration::from_secs(20);

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
            assert_eq!(address(line).as_deref(), Some("127.0.0.1:8080"), "{line}");
        }
    }

    #[test]
    fn a_line_that_tells_no_port_is_passed_over() {
        for line in [
            "binding 127.0.0.1:8080",
            "listening on 127.0.0.1:0",
            "listening soon",
        ] {
            assert_eq!(address(line), None, "{line}");
        }
    }
}
