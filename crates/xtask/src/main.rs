//! Every task of the repository, as `cargo xtask TASK`.
//!
//! Written in Rust so that a person and a build machine run the same thing and need nothing but
//! the toolchain. Each task is one file; this one only reads the command line and turns an outcome
//! into an exit code. Nothing of ours is linked in: the tasks drive cargo and the built binaries
//! from outside, so they still run when the workspace does not compile.
#![expect(
    clippy::print_stdout,
    reason = "a task talks to the person who started it"
)]

mod bench;
mod clients;
mod command;
mod conformance;
mod faults;
mod features;
mod full;
mod fuzz;
mod install;
mod instructions;
mod loom;
mod outcome;
mod repository;
mod table;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use install::Installer;
use outcome::Outcome;
use repository::Repository;

/// The tasks of this repository.
///
/// Start with `cargo xtask test`: it installs what it needs and runs every check there is.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One task and its options.
#[derive(Subcommand)]
enum Task {
    Bench(bench::Options),
    Conformance(conformance::Options),
    Faults(faults::Options),
    Full(full::Options),
    Fuzz(fuzz::Options),
    Instructions(instructions::Options),
    Loom(loom::Options),
    Test(test::Options),
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(&arguments.task);
    // The table of `test` has said everything, and its last line must stay the last.
    if !matches!(
        (&arguments.task, &outcome),
        (Task::Full(_) | Task::Test(_), Ok(_))
    ) {
        println!("xtask: {}", in_words(&outcome));
    }
    match outcome {
        Ok(Outcome::Passed { .. } | Outcome::Skipped(_)) => ExitCode::SUCCESS,
        Ok(Outcome::Failed(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn in_words(outcome: &Result<Outcome>) -> String {
    match outcome {
        Ok(outcome) => match outcome.remark() {
            remark if remark.is_empty() => outcome.word().to_owned(),
            remark => format!("{}: {remark}", outcome.word()),
        },
        Err(error) => format!("{error:#}"),
    }
}

/// Runs one task. `test` and `full` alone may install anything: the others are for people at their
/// desks.
fn run(task: &Task) -> Result<Outcome> {
    let repository = Repository::open()?;
    let installer = Installer::forbidden();
    match task {
        Task::Bench(options) => bench::run(&repository, options),
        Task::Conformance(options) => conformance::run(&repository, &installer, options),
        Task::Faults(options) => faults::run(&repository, &installer, options),
        Task::Full(options) => full::run(&repository, options),
        Task::Fuzz(options) => fuzz::run(&repository, &installer, options),
        Task::Instructions(options) => instructions::run(&repository, &installer, options),
        Task::Loom(options) => loom::run(&repository, options),
        Task::Test(options) => test::run(&repository, options),
        Task::Tidy(options) => tidy::run(&repository, options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
