//! Clients on a network that fails, around a real server: is anything lost in silence?
//!
//! The exit code is 0 if the promise was kept, 1 if it was not, and 2, with a sentence, if there is
//! nothing to report.

mod cli;
mod crowd;
mod limits;
mod run;
mod schedule;
mod scripts;
mod server;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use cli::Cli;
use table::Report;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to the person who started it"
)]
fn main() -> ExitCode {
    let cli = Cli::parse();
    match report(&cli) {
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

fn report(cli: &Cli) -> Result<Report> {
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(run::run(cli))?;
    if let Some(file) = &cli.markdown {
        std::fs::write(file, report.markdown())
            .with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(report)
}
