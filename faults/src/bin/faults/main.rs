//! Clients on a network that fails, around a real server: is anything lost in silence?
//!
//! The exit code is 0 if the promise was kept, 1 if it was not, and 2, with a sentence, if there is
//! nothing to report.

mod cli;
mod crowd;
mod run;
mod schedule;
mod scripts;
mod server;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use cli::Cli;
use table::Report;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to the person who started it"
)]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    // At once, so that a run that is given up can be made again.
    println!("faults: {} s and then some, seed {seed}\n", cli.seconds);
    match report(&cli, seed) {
        Ok(report) => {
            println!("{}", report.text());
            if report.is_kept() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            }
        }
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn report(cli: &Cli, seed: u64) -> Result<Report> {
    // Each client takes three, and the usual limit is 1024. If the system allows no more,
    // connections fail, and that is said then.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    _ = setrlimit(Resource::Nofile, limit);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        // What was started is ended with the run, however that ends.
        tokio::select! {
            report = run::run(cli, seed) => report,
            signal = interrupted() => {
                Err(signal.map_or_else(Into::into, |()| anyhow!("interrupted")))
            }
        }
    })?;
    if let Some(file) = &cli.markdown {
        std::fs::write(file, report.markdown())
            .with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(report)
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
