//! The clients that people use, against the server that people run: `node --test` in
//! `crates/server/tests/clients`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::command;
use crate::install::{Installer, Missing};
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Installs what the clients need, builds the server and runs the clients' tests.
///
/// The tests are told by environment variables where the server is (`THRONG_BIN`), which browser to
/// drive (`CHROMIUM`, unset if there is none) and where screenshots go (`THRONG_SCREENSHOTS`).
///
/// # Errors
///
/// If a command could not be started, or the directory for screenshots not be made.
pub(crate) fn run(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    let node = match node(repository, installer) {
        Ok(node) => node,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let browser = installer.program(repository, &BROWSERS, &["chromium"]);
    let directory = repository.path(DIRECTORY);

    let mut npm = repository.command("npm");
    npm.current_dir(&directory)
        .args(["install", "--no-audit", "--no-fund"]);
    for mut preparation in [npm, repository.release_build()] {
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
        .args(["--test", "--test-reporter=spec"]);
    tests.env("THRONG_BIN", repository.target("release/throng"));
    tests.env("THRONG_SCREENSHOTS", screenshots);
    if let Ok(browser) = &browser {
        tests.env("CHROMIUM", browser);
    }
    // Its summary has a line such as `ℹ pass 230`.
    let passed = |line: &str| command::number_after(line, "ℹ pass ");
    let outcome = command::stream_tests(&mut tests, passed)?;
    Ok(match (outcome, browser) {
        (Outcome::Passed { .. }, Err(reason)) => Outcome::Passed {
            missing: Some(format!("a browser: {reason}")),
        },
        (outcome, _) => outcome,
    })
}

/// A node that is new enough, with npm beside it.
fn node(repository: &Repository, installer: &Installer) -> Result<PathBuf, Missing> {
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

fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

const DIRECTORY: &str = "crates/server/tests/clients";

/// Under which names a Chromium may be installed; Debian's own name first.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What the tests' own manifest demands: older ones have no test runner worth the name.
const NODE_VERSION_MIN: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major(""), None);
    }
}
