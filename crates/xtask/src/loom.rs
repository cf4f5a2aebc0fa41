//! The model checker: every interleaving of `rooms`' locks and mailboxes, up to a bound.

use anyhow::Result;
use clap::Args;

use crate::command;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Explore the interleavings of `rooms` with loom
///
/// Runs the tests of crates/rooms whose path contains `loom`, built with `--cfg loom` in a target
/// directory of their own (target/loom), so that ordinary builds stay as they are.
#[derive(Args)]
pub(crate) struct Options {
    /// Maximum interruptions of a thread in one interleaving.
    ///
    /// Almost every known bug shows with 2 or 3; each step more multiplies the time.
    #[arg(long, value_name = "N", default_value_t = PREEMPTIONS_MAX)]
    preemptions: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            preemptions: PREEMPTIONS_MAX,
        }
    }
}

/// Runs the loom tests.
///
/// # Errors
///
/// If cargo could not be started.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<Outcome> {
    let mut cargo = repository.cargo();
    cargo.args([
        "test",
        "-p",
        "throng-rooms",
        "--lib",
        "--profile",
        "loom",
        "--locked",
        "loom",
    ]);
    cargo.env("CARGO_TARGET_DIR", repository.target("loom"));
    cargo.env("RUSTFLAGS", "--cfg loom");
    cargo.env("LOOM_MAX_PREEMPTIONS", options.preemptions.to_string());
    command::stream_tests(&mut cargo, command::rust_tests_passed)
}

/// The number that loom's own manual recommends.
const PREEMPTIONS_MAX: u32 = 3;
