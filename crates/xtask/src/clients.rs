//! The JavaScript client, and the clients that people use against the server that people run.
//!
//! Both are `node --test`, in `clients/js` and in `crates/server/tests/clients`. The first needs no
//! server of ours and answers in seconds, so it goes first; a failure there does not stop the
//! other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command;
use crate::install::{Installer, Missing};
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Runs the tests of the library and those against the server.
///
/// # Errors
///
/// If a command could not be started, or the directory for screenshots not be made.
pub(crate) fn run(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    let node = match node(repository, installer) {
        Ok(node) => node,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let library = library(repository, &node)?;
    let server = against_server(repository, installer, &node)?;
    Ok(if library == Outcome::PASSED {
        server
    } else {
        library
    })
}

/// Installs exactly what the library is built with, and runs its tests; they also build it, to
/// compare that with what is committed.
fn library(repository: &Repository, node: &Path) -> Result<Outcome> {
    let directory = repository.path(LIBRARY);
    let mut npm = repository.command("npm");
    npm.current_dir(&directory)
        .args(["ci", "--no-audit", "--no-fund"]);
    let prepared = command::stream(&mut npm)?;
    if prepared != Outcome::PASSED {
        return Ok(prepared);
    }
    let mut tests = repository.command(node);
    tests
        .current_dir(&directory)
        .args(["--test", "--test-reporter=spec"]);
    command::stream_tests(&mut tests, passed)
}

/// Installs what the clients need, builds the server and the examples, and runs the clients' tests.
///
/// The tests are told by environment variables where the server is (`THRONG_BIN`), where the
/// examples are (`THRONG_EXAMPLES`), which browser to drive (`CHROMIUM`, unset if there is none)
/// and where screenshots go (`THRONG_SCREENSHOTS`).
fn against_server(repository: &Repository, installer: &Installer, node: &Path) -> Result<Outcome> {
    let browser = browser(repository, installer);
    let directory = repository.path(DIRECTORY);

    let mut npm = repository.command("npm");
    npm.current_dir(&directory)
        .args(["install", "--no-audit", "--no-fund"]);
    let builds = [repository.optimized_build(), repository.examples_build()];
    for mut preparation in [npm].into_iter().chain(builds) {
        let prepared = command::stream(&mut preparation)?;
        if prepared != Outcome::PASSED {
            return Ok(prepared);
        }
    }

    let screenshots = repository.target("screenshots");
    fs::create_dir_all(&screenshots)?;
    let mut tests = repository.command(node);
    tests
        .current_dir(&directory)
        // Most of them wait for a server or a browser most of the time.
        .args(["--test", "--test-reporter=spec", "--test-concurrency=2"]);
    tests.env("THRONG_BIN", repository.optimized("throng"));
    tests.env("THRONG_EXAMPLES", repository.target("debug/examples"));
    tests.env("THRONG_SCREENSHOTS", screenshots);
    if let Ok(browser) = &browser {
        tests.env("CHROMIUM", browser);
    }
    let outcome = command::stream_tests(&mut tests, passed)?;
    Ok(match (outcome, browser) {
        (Outcome::Passed { .. }, Err(reason)) => Outcome::Passed {
            missing: Some(format!("a browser: {reason}")),
        },
        (outcome, _) => outcome,
    })
}

/// Returns the number of passed tests in a line of node's summary, such as `ℹ pass 230`.
fn passed(line: &str) -> Option<u32> {
    command::number_after(line, "ℹ pass ")
}

/// Returns a node that is new enough, with npm beside it.
pub(crate) fn node(repository: &Repository, installer: &Installer) -> Result<PathBuf, Missing> {
    // One after the other: some packages of node bring npm with them and refuse Debian's.
    let node = installer.program(repository, &["node"], &["nodejs"])?;
    installer.program(repository, &["npm"], &["npm"])?;
    let version = command::output(repository.command(&node).arg("--version")).unwrap_or_default();
    match major(&version) {
        Some(major) if major >= NODE_VERSION_MIN => Ok(node),
        _ => Err(format!(
            "node {NODE_VERSION_MIN} or newer is needed, and this one is {version}"
        )),
    }
}

/// Returns a Chromium.
pub(crate) fn browser(repository: &Repository, installer: &Installer) -> Result<PathBuf, Missing> {
    installer.program(repository, &BROWSERS, &["chromium"])
}

fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Directory of the client that we offer.
pub(crate) const LIBRARY: &str = "clients/js";

/// Directory of the clients that are tested against the server.
const DIRECTORY: &str = "crates/server/tests/clients";

/// Under which names a Chromium may be installed; Debian's own name first.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The version that the manifests demand: older ones have no test runner worth the name.
const NODE_VERSION_MIN: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major(""), None);
    }

    #[test]
    fn passed_tests_are_counted_by_their_summary() {
        assert_eq!(passed("ℹ pass 230"), Some(230));
        assert_eq!(passed("✔ it can pass 5 of them (1ms)"), None);
    }
}
