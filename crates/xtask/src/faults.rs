//! Clients on a network that fails, around the optimized server: docs/faults.md.
//!
//! The run itself is not optimized: it waits more than it works, and building it costs a third.

use anyhow::Result;
use clap::Args;

use crate::clients;
use crate::command;
use crate::install::Installer;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Find out whether anything is lost in silence when the network fails
///
/// Builds the server and runs `faults` with the arguments that are given. Some of the clients are
/// the JavaScript client, in Node and in Chromium, if those are there.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// As `faults` takes them; `-- --help` lists them
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

impl Options {
    /// Returns what fits among other checks: some seconds of everything, and a restart.
    pub(crate) fn short() -> Self {
        Self::new(SHORT)
    }

    /// Takes what a person would write behind `faults`.
    pub(crate) fn new(arguments: &str) -> Self {
        Self {
            arguments: arguments.split(' ').map(str::to_owned).collect(),
        }
    }
}

/// Carries the run out, which prints its table.
///
/// # Errors
///
/// If a command could not be started.
pub(crate) fn run(
    repository: &Repository,
    installer: &Installer,
    options: &Options,
) -> Result<Outcome> {
    let built = command::stream(&mut repository.optimized_build())?;
    if built != Outcome::PASSED {
        return Ok(built);
    }
    let mut run = repository.cargo();
    run.args(["run", "--locked", "--package", "faults", "--", "--server"]);
    run.arg(repository.optimized("throng"));
    let mut missing = Vec::new();
    match clients::node(repository, installer) {
        Err(reason) => missing.push(format!("JavaScript: {reason}")),
        Ok(node) => {
            let library = repository.path(clients::LIBRARY).join("dist/throng.js");
            run.arg("--js-client").arg(library);
            run.arg("--node-program").arg(node);
            match clients::browser(repository, installer) {
                Err(reason) => missing.push(format!("a browser: {reason}")),
                Ok(browser) => _ = run.arg("--browser-program").arg(browser),
            }
        }
    }
    run.args(&options.arguments);
    let outcome = command::stream(&mut run)?;
    Ok(match outcome {
        Outcome::Passed { .. } if !missing.is_empty() => Outcome::Passed {
            missing: Some(missing.join("; ")),
        },
        outcome => outcome,
    })
}

/// Of a few seconds, with a bit of everything.
const SHORT: &str = "--seconds 15 --clients 60 --plain 20 --rooms 6 --restart";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Faults {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn flags_are_left_to_the_run() {
        let line = "faults --seconds 5 --kill --markdown a.md";
        let faults = Faults::try_parse_from(line.split(' ')).unwrap();

        assert_eq!(
            faults.options.arguments,
            ["--seconds", "5", "--kill", "--markdown", "a.md"]
        );
    }
}
