//! The server, as a process of its own, and its configuration.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use faults::record::ROOM_PREFIX;
use rustix::process::{Pid, Signal, kill_process};
use serving::Serving;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::cli::Cli;

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    /// Of its configuration, and its log.
    directory: PathBuf,
    serving: Serving,
}

/// Stopping takes as long as its drain; this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Server {
    /// Starts it, with what the run wants, and waits until it listens. Its files are in
    /// `directory`.
    pub(crate) async fn start(cli: &Cli, directory: &Path) -> Result<Self> {
        let program = match &cli.server {
            Some(program) => program.clone(),
            None => beside("throng")?,
        };
        let config = directory.join(CONFIG);
        std::fs::write(&config, configuration(cli, directory))
            .with_context(|| format!("could not write {}", config.display()))?;
        let serving = spawn(&program, directory).await?;
        let directory = directory.to_owned();
        Ok(Self {
            program,
            directory,
            serving,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        if let Some(status) = self.serving.try_wait()? {
            let lines = self.serving.last_lines();
            bail!("the server ended by itself with {status}:\n{lines}");
        }
        let id = i32::try_from(self.serving.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(id.context("the server has no process id")?, Signal::TERM)?;
        let status = self.ended().await?;
        let lines = self.serving.last_lines();
        ensure!(status.success(), "the server ended with {status}:\n{lines}");
        Ok(())
    }

    /// Kills it, as a machine that loses power does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.serving.kill()?;
        self.ended().await?;
        Ok(())
    }

    /// Starts it anew, with the same configuration and files, at another address.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.serving = spawn(&self.program, &self.directory).await?;
        Ok(())
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.serving.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the server does not end");
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Starts a server on a thread of its own: the network and the clients go on meanwhile.
async fn spawn(program: &Path, directory: &Path) -> Result<Serving> {
    let mut command = Command::new(program);
    command.env_clear().env("NO_COLOR", "1");
    command.arg("--config").arg(directory.join(CONFIG));
    let log = directory.join("server.log");
    Ok(spawn_blocking(move || Serving::start(&mut command, &log)).await??)
}

const CONFIG: &str = "throng.toml";

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

/// What the server is told: everything short, so that much happens in little time, and histories
/// that hold what a run publishes, so that nothing has to be missing.
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
