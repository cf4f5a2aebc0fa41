//! What a release runs: every check, and what takes too long for each change.

use anyhow::Result;
use clap::Args;

use crate::bench;
use crate::command;
use crate::faults;
use crate::install::Installer;
use crate::instructions;
use crate::outcome::Outcome;
use crate::repository::Repository;
use crate::table::Table;
use crate::test;

/// Run every check there is, and the long ones: an hour and more
///
/// `cargo xtask test` with five minutes of fuzzing for each target, then the build that is
/// shipped, a thousand simulations, thousands of cases for each property, five minutes of faults
/// with `kill -9`, the instruction counts, and a short run of each server to compare with.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs all of it and prints the table.
///
/// # Errors
///
/// None: a step that could not be carried out is a failed row.
pub(crate) fn run(repository: &Repository, Options {}: &Options) -> Result<Outcome> {
    let installer = Installer::permitted();
    let mut table = Table::default();
    table.run("test", "Every check of a change", || {
        test::run(repository, &test::Options::all(FUZZ_SECONDS))
    });
    table.run("shipped", "Does what is shipped build?", || {
        let mut cargo = repository.cargo();
        cargo.args(["build", "--release", "--locked", "--bins"]);
        command::stream(&mut cargo)
    });
    table.run("simulation", "A thousand networks that fail", || {
        let mut cargo = tests(repository, "throng-rooms");
        cargo.args(["--test", "simulation"]);
        cargo.env("THRONG_SIMULATION_RUNS", "1000");
        command::stream_tests(&mut cargo, command::rust_tests_passed)
    });
    for package in ["throng-proto", "throng-rooms", "throng-store"] {
        table.run(package, "Thousands of cases for each property", || {
            let mut cargo = tests(repository, package);
            cargo.env("PROPTEST_CASES", "5000");
            command::stream_tests(&mut cargo, command::rust_tests_passed)
        });
    }
    table.run(
        "faults",
        "Is anything lost in five minutes, with kill -9?",
        || faults::run(repository, &installer, &faults::Options::new(FAULTS)),
    );
    table.run("instructions", "Have the hot paths become dearer?", || {
        instructions::run(repository, &installer, &instructions::Options::default())
    });
    table.run("bench", "Can each server still be compared?", || {
        bench::run(repository, &bench::Options::new("--check"))
    });
    println!("\n{table}");
    Ok(table.outcome())
}

/// Tests that are optimized, for there are many cases.
fn tests(repository: &Repository, package: &str) -> std::process::Command {
    let mut cargo = repository.cargo();
    cargo.args(["test", "--release", "--locked", "--package", package]);
    cargo
}

const FUZZ_SECONDS: u32 = 300;

const FAULTS: &str = "--seconds 300 --kill --times 3";
