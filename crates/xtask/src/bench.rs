//! Throng against its peers on this machine: the tables of `docs/benchmarks.md`.
//!
//! The load generator does the work; this only builds it and says which servers.

use anyhow::Result;
use clap::Args;

use crate::command;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Measure Throng against its peers on this machine
///
/// Builds the load generator, and runs `loadtest compare benches/peers/peers.toml --install` with
/// the arguments that are given. Needs two CPUs, npm, Go, and quiet; without Go, name the
/// --servers.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// As `loadtest compare` takes them; `-- --help` lists them
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

impl Options {
    /// Takes what a person would write behind `bench`.
    pub(crate) fn new(argument: &str) -> Self {
        Self {
            arguments: vec![argument.to_owned()],
        }
    }
}

/// Runs the comparison, which prints its tables.
///
/// # Errors
///
/// If cargo could not be started.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<Outcome> {
    let mut compare = repository.cargo();
    compare.args(["run", "--release", "--locked", "--package", "loadtest"]);
    compare.args(["--", "compare", "benches/peers/peers.toml", "--install"]);
    compare.args(&options.arguments);
    command::stream(&mut compare)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Bench {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn flags_are_left_to_the_load_generator() {
        let line = "bench --rounds 3 --scenario idle";
        let bench = Bench::try_parse_from(line.split(' ')).unwrap();

        assert_eq!(
            bench.options.arguments,
            ["--rounds", "3", "--scenario", "idle"]
        );
    }
}
