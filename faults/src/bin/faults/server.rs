//! The server, as a process of its own, and its configuration.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use faults::record::ROOM_PREFIX;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::Cli;

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    config: PathBuf,
    child: Child,
    address: SocketAddr,
    log: Log,
}

/// The last lines that it printed.
type Log = Arc<Mutex<VecDeque<String>>>;

/// How many lines of its log an error prints.
const LOG_LINES_MAX: usize = 20;

/// Starting takes milliseconds, stopping as long as its drain; this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Server {
    /// Starts it, with what the run wants, and waits until it listens. Its files are in `directory`.
    pub(crate) async fn start(cli: &Cli, directory: &Path) -> Result<Self> {
        let program = match &cli.server {
            Some(program) => program.clone(),
            None => beside("throng")?,
        };
        let config = directory.join("throng.toml");
        std::fs::write(&config, configuration(cli, directory))
            .with_context(|| format!("could not write {}", config.display()))?;
        let (child, address, log) = spawn(&program, &config).await?;
        Ok(Self {
            program,
            config,
            child,
            address,
            log,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the server ended by itself with {status}:\n{}",
                self.last_lines()
            );
        }
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.context("the server has no process id")?;
        kill_process(id, Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(
            status.success(),
            "the server ended with {status}:\n{}",
            self.last_lines()
        );
        Ok(())
    }

    /// Kills it, as a machine that loses power does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.ended().await?;
        Ok(())
    }

    /// Starts it anew, with the same configuration and files, at another address.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        (self.child, self.address, self.log) = spawn(&self.program, &self.config).await?;
        Ok(())
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the server does not end");
            sleep(LOOK_AGAIN).await;
        }
    }

    fn last_lines(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

async fn spawn(program: &Path, config: &Path) -> Result<(Child, SocketAddr, Log)> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("NO_COLOR", "1")
        .arg("--config")
        .arg(config);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let name = program.display();
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start {name}"))?;
    let stderr = child
        .stderr
        .take()
        .context("the server has no standard error")?;
    let log = Log::default();
    let (sender, address) = oneshot::channel();
    let written = log.clone();
    thread::spawn(move || follow(stderr, &written, sender));
    match timeout(PATIENCE, address).await {
        Ok(Ok(address)) => Ok((child, address, log)),
        _ => {
            // It may have ended already.
            _ = child.kill();
            _ = child.wait();
            Err(anyhow!("{name} does not listen:\n{}", last_lines(&log)))
        }
    }
}

/// Keeps the last lines, and says where the server listens when it has said so.
fn follow(stderr: ChildStderr, log: &Log, sender: oneshot::Sender<SocketAddr>) {
    let mut sender = Some(sender);
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(address) = listening_at(&line)
            && let Some(sender) = sender.take()
        {
            // Nobody waits any more if it took too long.
            _ = sender.send(address);
        }
        let mut log = log.lock();
        log.push_back(line);
        if log.len() > LOG_LINES_MAX {
            log.pop_front();
        }
    }
}

/// The address in a line such as `listening on http://127.0.0.1:40123/`.
fn listening_at(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split('/').next()?.trim().parse().ok()
}

fn last_lines(log: &Log) -> String {
    log.lock().iter().cloned().collect::<Vec<_>>().join("\n")
}

fn beside(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(program);
    ensure!(
        path.is_file(),
        "there is no {}: say where the server is with --server",
        path.display()
    );
    Ok(path)
}

/// What the server is told: everything short, so that much happens in little time, and histories that
/// hold what a run publishes, so that nothing has to be missing.
fn configuration(cli: &Cli, directory: &Path) -> String {
    let mut text = format!(
        "listen = [\"127.0.0.1:0\"]\n\
         # The page of the clients in a browser is from another port.\n\
         origins = [\"http://127.0.0.1:*\"]\n\
         ping_interval_s = 2\n\
         pong_timeout_s = 2\n\
         close_timeout_s = 1\n\
         drain_timeout_s = 5\n\
         drain_spread_s = 1\n\
         max_outbox_bytes = {OUTBOX_BYTES}\n\
         history_memory_bytes = 1073741824\n"
    );
    if let Some(fsync) = cli.fsync() {
        // A path as Debug writes it is a TOML string, as long as it has no control characters.
        let path = directory.join("history");
        _ = writeln!(text, "history_path = {path:?}\nhistory_fsync = \"{fsync}\"");
    }
    let policy = cli.policy;
    _ = write!(
        text,
        "\n[[rooms]]\n\
         match = \"{ROOM_PREFIX}*\"\n\
         history_publications = 1000000\n\
         history_bytes = 268435456\n\
         max_keys = 1000000\n\
         slow_consumer = \"{policy}\"\n"
    );
    text
}

/// What may wait for one connection: little, so that members on slow links are slow consumers.
const OUTBOX_BYTES: u32 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_servers_log() {
        let line = "2026-08-22T10:00:00Z  INFO throng: listening on http://127.0.0.1:40123/";
        assert_eq!(listening_at(line), Some(([127, 0, 0, 1], 40123).into()));
        assert_eq!(listening_at("listening on unix:/run/throng.sock"), None);
        assert_eq!(listening_at("draining"), None);
    }
}
