//! The library without its features, and with each of them alone: what people build who want less
//! of it.
//!
//! Every other task builds it with all of them, and would not notice that one leans on another.

use std::fs;

use anyhow::{Context, Result};
use toml::de::DeTable;

use crate::command;
use crate::install::Installer;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Lints the library with no feature and with each alone, and runs its own tests with none.
///
/// The linter and not only the compiler, since it fails on what nobody uses, which is how a part of
/// a missing feature shows that was left behind.
///
/// # Errors
///
/// If a command could not be started, or the library's manifest not be read.
pub(crate) fn run(repository: &Repository, installer: &Installer) -> Result<Outcome> {
    if let Err(reason) = installer.component(repository, "clippy", "clippy") {
        return Ok(Outcome::Skipped(reason));
    }
    let manifest = fs::read_to_string(repository.path(MANIFEST))
        .with_context(|| format!("could not read {MANIFEST}"))?;
    let features = features(&manifest).with_context(|| format!("{MANIFEST} has no features"))?;
    let mut outcomes = Vec::new();
    for alone in [""].into_iter().chain(features.iter().map(String::as_str)) {
        let mut cargo = repository.cargo();
        cargo.args(["clippy", "--package", PACKAGE, "--lib", "--locked"]);
        cargo.args(["--no-default-features", "--features", alone]);
        cargo.args(["--", "-D", "warnings"]);
        outcomes.push(command::stream(&mut cargo)?);
    }
    let mut tests = repository.cargo();
    tests.args(["test", "--package", PACKAGE, "--lib", "--locked"]);
    tests.arg("--no-default-features");
    outcomes.push(command::stream_tests(
        &mut tests,
        command::rust_tests_passed,
    )?);
    let failed = |outcome: &Outcome| *outcome != Outcome::PASSED;
    Ok(outcomes.into_iter().find(failed).unwrap_or(Outcome::PASSED))
}

/// Returns the features of a manifest, without the list of those that are on by default; `None` if
/// it has none.
fn features(manifest: &str) -> Option<Vec<String>> {
    let table = DeTable::parse(manifest).ok()?;
    let features = table.get_ref().get("features")?.get_ref().as_table()?;
    let names = features.keys().map(|name| name.get_ref().to_string());
    let names: Vec<String> = names.filter(|name| name != "default").collect();
    (!names.is_empty()).then_some(names)
}

const PACKAGE: &str = "throng";

const MANIFEST: &str = "crates/server/Cargo.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_a_manifest_are_its_own_and_not_the_list_of_defaults() {
        let manifest =
            "[features]\ndefault = [\"quick\"]\nquick = []\nsmall = []\n[dependencies]\nit = {}\n";
        let expected = ["quick", "small"].map(str::to_owned);
        assert_eq!(features(manifest).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn a_manifest_without_features_is_told_from_one_with_some() {
        for manifest in ["[package]\n", "[features]\ndefault = []\n", "["] {
            assert_eq!(features(manifest), None, "{manifest}");
        }
    }
}
