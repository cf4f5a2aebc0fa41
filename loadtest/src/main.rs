//! The load generator: rooms full of members on few threads, every delivery checked and timed.
//!
//! It shares only [`proto`] with the server, so that it has none of the server's faults and can be
//! pointed at any server that speaks the same wire.
//!
//! ```text
//! cli ─Setup─▶ mode ─▶ run ─▶ fleet ─▶ Driver (a thread, its sockets) ─Outcome─▶ report
//!                                      │ bytes ▶ inbox ▶ payload ▶ ledger (sequence, window)
//!                                      │ pace ▶ publications ▶ sockets
//!                                      └ readings ▶ monitor (a thread) ▶ progress, series
//! ```
//!
//! The exit code is 0 when every delivery arrived once and in order, 1 when not, and 2 when there
//! is nothing to report: one sentence then says what happened and what to try.

mod catalogue;
mod cli;
mod clock;
mod compare;
mod connection;
mod drift;
mod driver;
mod fleet;
mod flood;
mod handshake;
mod html;
mod inbox;
mod interval;
mod ledger;
mod limits;
mod machine;
mod meanwhile;
mod mode;
mod monitor;
mod opening;
mod pace;
mod payload;
mod plan;
mod positions;
mod probe;
mod process;
mod progress;
mod report;
mod run;
mod scenario;
mod sequence;
mod series;
mod shared;
mod sockets;
mod tally;
mod target;
mod timer;
mod window;
mod wire;

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Error, Result};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::{Request, Setup};
use crate::report::Report;

#[expect(clippy::print_stderr, reason = "a person reads why there is no report")]
fn main() -> ExitCode {
    answer().unwrap_or_else(|failure| {
        eprintln!("loadtest: {}", sentence(&failure));
        ExitCode::from(2)
    })
}

fn answer() -> Result<ExitCode> {
    let is_faulty = match cli::read(std::env::args().collect())? {
        Request::Become(options) => return Err(compare::pinned::run(&options)),
        Request::Compare(options) => !compare::run(&options, &*interruption(&[SIGINT, SIGTERM])?)?,
        Request::Load(setup) => {
            let report = run::run(&setup, &*interruption(&[SIGINT])?)?;
            show(&setup, &report)?;
            report.is_faulty()
        }
        Request::Print(text) => report::print(&text).map(|()| false)?,
    };
    Ok(ExitCode::from(u8::from(is_faulty)))
}

/// Returns the one sentence that says what happened and what to try.
fn sentence(failure: &Error) -> String {
    let is_bare = failure.chain().count() == 1;
    let is_bare = is_bare && (failure.is::<io::Error>() || failure.is::<Errno>());
    let prefix = if is_bare {
        "the operating system refused something needed: "
    } else {
        ""
    };
    format!("{prefix}{failure:#}")
}

/// Prints the report, and writes the page of it that was asked for.
fn show(setup: &Setup, report: &Report) -> Result<()> {
    report.print(&setup.output)?;
    let Some(path) = &setup.output.html else {
        return Ok(());
    };
    let hint = "could not be written; give --html a file in a folder that is yours";
    fs::write(path, html::page(report)).with_context(|| format!("{} {hint}", path.display()))
}

/// Returns what is set when one of these signals comes: the first ends what is under way with what
/// there is, a second one does not wait for that.
fn interruption(signals: &[i32]) -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}
