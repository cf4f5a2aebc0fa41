//! A program on one CPU that does not outlive whoever started it.
//!
//! A comparison starts servers through this, so that neither a panic nor a kill of its own leaves
//! one behind. Both properties are set in this process and survive becoming the other program.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Error, Result};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

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

/// Returns only if there is no such program, and then why.
pub(crate) fn run(options: &Options) -> Error {
    exec(options)
        .err()
        .unwrap_or_else(|| unreachable!("this is another program by now"))
}

fn exec(options: &Options) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    options.cpu.map_or(Ok(()), limits::pin)?;
    let (program, arguments) = options
        .command
        .split_first()
        .expect("the parser asks for one");
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{program} cannot be used"))
}
