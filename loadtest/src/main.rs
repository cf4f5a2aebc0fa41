//! The load generator: rooms full of members on one thread, every delivery checked and timed.
//!
//! It shares only [`proto`] with the server, so that it has none of the server's faults and can be
//! pointed at any server that speaks the same wire.
//!
//! ```text
//! cli ──Scenario──▶ run ──▶ Driver (one thread, its sockets) ──Interval, Ledger──▶ report
//!                            │ bytes ▶ inbox ▶ payload ▶ ledger (sequence, window)
//!                            └ pace ▶ publications ▶ sockets
//! ```
//!
//! The exit code is 0 when every delivery arrived once and in order, 1 when not, and 2 when there
//! is nothing to report: one sentence then says what happened and what to try.

mod cli;
mod clock;
mod compare;
mod connection;
mod driver;
mod failure;
mod handshake;
mod inbox;
mod ledger;
mod limits;
mod pace;
mod payload;
mod plan;
mod process;
mod report;
mod run;
mod scenario;
mod sequence;
mod target;
mod timer;
mod window;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::{Args, Task};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    let clean = match &args.task {
        None => load(&args),
        Some(Task::Compare(options)) => {
            interruption(&[SIGINT, SIGTERM]).and_then(|flag| compare::run(options, &flag))
        }
        Some(Task::Pinned(options)) => Err(compare::pinned::run(options)),
    };
    match clean {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(failure) => {
            report::print_failure(&failure);
            ExitCode::from(2)
        }
    }
}

/// One run; returns whether every delivery was as it should be.
fn load(args: &Args) -> Result<bool, Failure> {
    let setup = args.setup()?;
    let report = run::run(&setup, &*interruption(&[SIGINT])?)?;
    if args.json {
        report.print_json();
    } else {
        report.print_text();
    }
    Ok(!report.is_faulty())
}

/// Whether one of these signals came: the first ends what is under way with what there is, a second
/// one does not wait for that.
fn interruption(signals: &[i32]) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(Failure::System)?;
    }
    Ok(interrupted)
}
