//! A program on one CPU that does not outlive whoever started it.
//!
//! A comparison starts servers through this, so that neither a panic nor a kill of its own leaves
//! one behind. Both properties are set in this process and survive becoming the other program.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::failure::Failure;
use crate::limits;

/// Becomes another program, on one CPU, that ends with its parent.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The CPU [default: any]
    #[arg(long)]
    cpu: Option<usize>,

    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Returns only if there is no such program.
pub(crate) fn run(options: &Options) -> Failure {
    let signal = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = signal {
        return Failure::System(error.into());
    }
    if let Some(Err(failure)) = options.cpu.map(limits::pin) {
        return failure;
    }
    let error = Command::new(&options.command[0])
        .args(&options.command[1..])
        .exec();
    Failure::File {
        path: options.command[0].clone(),
        reason: error.to_string(),
    }
}
