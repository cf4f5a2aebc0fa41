//! The one test command: its steps, their order, and the verdict.
//!
//! A failed step does not stop the others: one run tells everything that is wrong. The steps go
//! from the quickest answer to the slowest, except that the optimized build comes before those that
//! need its binaries.

mod binaries;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::command;
use crate::conformance;
use crate::faults;
use crate::features;
use crate::fuzz;
use crate::install::Installer;
use crate::loom;
use crate::outcome::Outcome;
use crate::repository::Repository;
use crate::table::Table;
use crate::{clients, tidy};

/// Run every check there is, or the steps that are named
///
/// What a step needs and the machine lacks (node, nginx, Chromium, a C++ compiler) is installed
/// with apt-get, as root or through a sudo that asks no password. A step that cannot have what it
/// needs is skipped, and the table at the end says why. Fails if any step failed.
///
/// Meant to fit 25 minutes on two cores, from a clean clone. `--quick` answers sooner, and
/// `cargo xtask full` takes hours.
#[derive(Args)]
pub(crate) struct Options {
    /// The steps to run; all of them if none is named.
    #[arg(value_enum, value_name = "STEP")]
    steps: Vec<Step>,

    /// Run only what answers within a minute or two: fmt, tidy, clippy, tests.
    #[arg(long, conflicts_with = "steps")]
    quick: bool,

    /// Seconds that each fuzz target runs.
    #[arg(long, value_name = "N", default_value_t = FUZZ_SECONDS)]
    fuzz_seconds: u32,

    /// Install nothing; skip the steps that lack something.
    #[arg(long)]
    no_install: bool,
}

/// One step, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Step {
    /// Is everything formatted? (cargo fmt)
    Fmt,
    /// Does the repository keep its own rules? (cargo xtask tidy)
    Tidy,
    /// Does the linter object? (cargo clippy)
    Clippy,
    /// Do the API's pages build without a warning? (cargo doc)
    Docs,
    /// Unit tests, integration tests, doctests (cargo test)
    Tests,
    /// Does the library build, and work, without its features? (cargo clippy, cargo test)
    Features,
    /// Does the optimized build work? (cargo build --profile checked)
    Release,
    /// Interleavings of the state under its locks (cargo xtask loom)
    Loom,
    /// The JavaScript client; clients and a browser against the server (node --test)
    Clients,
    /// Is anything lost in silence when the network fails? (cargo xtask faults)
    Faults,
    /// The Autobahn testsuite (cargo xtask conformance)
    Conformance,
    /// Fuzz targets, for a bounded time (cargo xtask fuzz)
    Fuzz,
}

impl Options {
    /// Every step, each target fuzzed for so many seconds.
    pub(crate) const fn all(fuzz_seconds: u32) -> Self {
        Self {
            steps: Vec::new(),
            quick: false,
            fuzz_seconds,
            no_install: false,
        }
    }
}

/// Runs the steps that were asked for and prints the table.
///
/// # Errors
///
/// None: a step that could not be carried out is a failed row.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<Outcome> {
    let installer = if options.no_install {
        Installer::forbidden()
    } else {
        Installer::permitted()
    };
    let mut table = Table::default();
    for step in selected(options) {
        table.run(&step.name(), &step.question(), || {
            carry_out(step, repository, &installer, options)
        });
    }
    println!("\n{table}");
    Ok(table.outcome())
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn question(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| Some(value.get_help()?.to_string()))
            .unwrap_or_default()
    }
}

fn selected(options: &Options) -> Vec<Step> {
    if options.quick {
        return QUICK.to_vec();
    }
    let chosen = |step: &Step| options.steps.is_empty() || options.steps.contains(step);
    Step::value_variants()
        .iter()
        .copied()
        .filter(chosen)
        .collect()
}

fn carry_out(
    step: Step,
    repository: &Repository,
    installer: &Installer,
    options: &Options,
) -> Result<Outcome> {
    match step {
        Step::Fmt => fmt(repository, installer),
        Step::Tidy => tidy::run(repository, &tidy::Options {}),
        Step::Clippy => clippy(repository, installer),
        Step::Docs => docs(repository),
        // Quick is also without waiting for packages.
        Step::Tests if options.quick => tests(repository, &Installer::forbidden()),
        Step::Tests => tests(repository, installer),
        Step::Features => features::run(repository, installer),
        Step::Release => command::stream(&mut repository.optimized_build()),
        Step::Loom => loom::run(repository, &loom::Options::default()),
        Step::Clients => clients::run(repository, installer),
        Step::Faults => faults::run(repository, installer, &faults::Options::short()),
        Step::Conformance => {
            conformance::run(repository, installer, &conformance::Options::default())
        }
        Step::Fuzz => fuzz::run(
            repository,
            installer,
            &fuzz::Options::all(options.fuzz_seconds),
        ),
    }
}

/// All workspaces: some are no members of the main one, but the same people read them.
fn fmt(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    if let Err(reason) = installer.component(repository, "fmt", "rustfmt") {
        return Ok(Outcome::Skipped(reason));
    }
    let main = command::stream(repository.cargo().args(["fmt", "--all", "--check"]))?;
    let mut outcomes = vec![main];
    for manifest in [fuzz::MANIFEST, PEER_MANIFEST] {
        let arguments = ["fmt", "--manifest-path", manifest, "--check"];
        outcomes.push(command::stream(repository.cargo().args(arguments))?);
    }
    let failed = |outcome: &Outcome| *outcome != Outcome::PASSED;
    Ok(outcomes.into_iter().find(failed).unwrap_or(Outcome::PASSED))
}

/// All of cargo's tests. The one of the example for nginx passes without one, so that is said here.
fn tests(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    let nginx = installer.program(repository, &["nginx"], &["nginx-light"]);
    let binaries = binaries::run(repository)?;
    let mut documents = repository.cargo();
    documents.args(["test", "--workspace", "--all-features", "--locked", "--doc"]);
    let documents = command::stream_tests(&mut documents, command::rust_tests_passed)?;
    let outcome = match binaries {
        Outcome::PASSED => documents,
        failed => failed,
    };
    Ok(match (outcome, nginx) {
        (Outcome::Passed { .. }, Err(reason)) => Outcome::Passed {
            missing: Some(format!("the example for nginx: {reason}")),
        },
        (outcome, _) => outcome,
    })
}

fn clippy(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    if let Err(reason) = installer.component(repository, "clippy", "clippy") {
        return Ok(Outcome::Skipped(reason));
    }
    let mut cargo = repository.cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    command::stream(&mut cargo)
}

fn docs(repository: &Repository) -> Result<Outcome> {
    let mut cargo = repository.cargo();
    cargo.args([
        "doc",
        "--workspace",
        "--all-features",
        "--no-deps",
        "--locked",
    ]);
    command::stream(cargo.env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// The peer that is written in Rust.
const PEER_MANIFEST: &str = "benches/peers/tokio/Cargo.toml";

/// Seconds that a target is fuzzed among other checks; `cargo xtask fuzz` takes longer.
const FUZZ_SECONDS: u32 = 20;

/// The steps of `--quick`: nothing that needs an optimized build or another program.
const QUICK: [Step; 4] = [Step::Fmt, Step::Tidy, Step::Clippy, Step::Tests];

#[cfg(test)]
mod tests {
    use super::*;

    fn options(steps: &[Step], quick: bool) -> Options {
        Options {
            steps: steps.to_vec(),
            quick,
            fuzz_seconds: 1,
            no_install: true,
        }
    }

    #[test]
    fn all_steps_run_unless_some_are_named() {
        assert_eq!(selected(&options(&[], false)), Step::value_variants());
    }

    #[test]
    fn named_steps_run_once_each_in_the_order_of_the_whole() {
        let named = options(&[Step::Fuzz, Step::Fmt, Step::Fuzz], false);

        assert_eq!(selected(&named), [Step::Fmt, Step::Fuzz]);
    }

    #[test]
    fn quick_leaves_out_everything_slow() {
        assert_eq!(selected(&options(&[], true)), QUICK);
    }

    #[test]
    fn every_step_has_a_name_and_a_question() {
        for step in Step::value_variants() {
            assert!(!step.name().is_empty() && !step.question().is_empty());
        }
    }
}
