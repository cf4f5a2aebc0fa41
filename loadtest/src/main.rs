//! The load generator: rooms full of members on few threads, every delivery checked and timed.
//!
//! It shares only [`proto`] with the server, so that it has none of the server's faults and can be
//! pointed at any server that speaks the same wire.
//!
//! ```text
//! cli ──Setup──▶ mode ──▶ run ──▶ fleet ──▶ Driver (a thread, its sockets) ──Interval, Ledger──▶ report
//!                                           │ bytes ▶ inbox ▶ payload ▶ ledger (sequence, window)
//!                                           │ pace ▶ publications ▶ sockets
//!                                           └ readings ▶ monitor (a thread) ▶ progress, series
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
mod failure;
mod fleet;
mod flood;
mod handshake;
mod html;
mod inbox;
mod interval;
mod latencies;
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
mod target;
mod timer;
mod window;
mod wire;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::{Request, Setup};
use crate::failure::Failure;
use crate::report::Report;

fn main() -> ExitCode {
    match answer() {
        Ok(code) => code,
        Err(failure) => {
            report::print_failure(&failure);
            ExitCode::from(2)
        }
    }
}

fn answer() -> Result<ExitCode, Failure> {
    match cli::read(std::env::args().collect())? {
        Request::Become(options) => return Err(compare::pinned::run(&options)),
        Request::Compare(options) => {
            let clean = compare::run(&options, &*interruption(&[SIGINT, SIGTERM])?)?;
            return Ok(ExitCode::from(u8::from(!clean)));
        }
        Request::List => report::print_scenarios()?,
        Request::Load(setup) => {
            let report = load(&setup)?;
            show(&setup, &report)?;
            return Ok(ExitCode::from(u8::from(report.is_faulty())));
        }
        Request::Print(entry) => report::print_scenario(&entry)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the report, and writes the page of it that was asked for.
fn show(setup: &Setup, report: &Report) -> Result<(), Failure> {
    report.print(&setup.output)?;
    let Some(path) = &setup.output.html else {
        return Ok(());
    };
    fs::write(path, html::page(report)).map_err(|error| Failure::Unwritable {
        path: path.clone(),
        error,
    })
}

fn load(setup: &Setup) -> Result<Report, Failure> {
    run::run(setup, &*interruption(&[SIGINT])?)
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
