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
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::cli::Args;
use crate::failure::Failure;
use crate::report::Report;

fn main() -> ExitCode {
    let args = Args::parse();
    match load(&args) {
        Ok(report) => {
            if args.json {
                report.print_json();
            } else {
                report.print_text();
            }
            ExitCode::from(u8::from(report.is_faulty()))
        }
        Err(failure) => {
            report::print_failure(&failure);
            ExitCode::from(2)
        }
    }
}

fn load(args: &Args) -> Result<Report, Failure> {
    let setup = args.setup()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    // The first Ctrl-C ends the run with what it has; a second one does not wait for that.
    flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&interrupted)))
        .map_err(Failure::System)?;
    run::run(&setup, &interrupted)
}
