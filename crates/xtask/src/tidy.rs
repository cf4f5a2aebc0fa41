//! The house rules that no compiler knows, each a check over the files of the repository.
//!
//! A check reads a [`Tree`] and returns violations; it touches no disk, so that each is tested on a
//! few made-up files. What clippy can say (banned types and methods, unwraps) is left to clippy.

mod arrows;
mod circles;
mod code;
mod links;
mod manifest;
mod named;
mod paths;
mod sources;
mod tree;
mod variables;

use std::fmt;

use anyhow::Result;
use clap::Args;

use crate::outcome::Outcome;
use crate::repository::Repository;

use tree::Tree;

/// Check the house rules that no compiler knows
///
/// Arrows between crates and between files, file headers, lints that every crate opts into, links
/// and anchors in documents, unfinished work, where unsafe code may be, environment variables,
/// dependencies and paths that the documents name. `cargo test` checks the same.
#[derive(Args)]
pub(crate) struct Options {}

/// One breach of one rule, where it is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    /// From 1; 1 also for what concerns a file as a whole.
    line: usize,
    sentence: String,
}

impl Violation {
    fn new(path: &str, line: usize, sentence: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.sentence)
    }
}

/// Checks the repository and prints what breaks the rules.
///
/// # Errors
///
/// If the files cannot be read.
pub(crate) fn run(repository: &Repository, Options {}: &Options) -> Result<Outcome> {
    let tree = Tree::read(repository)?;
    let violations = check(&tree);
    for violation in &violations {
        println!("{violation}");
    }
    Ok(match violations.len() {
        0 => {
            println!("{} files keep the house rules", tree.len());
            Outcome::PASSED
        }
        1 => Outcome::Failed("1 violation of the house rules".to_owned()),
        count => Outcome::Failed(format!("{count} violations of the house rules")),
    })
}

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations: Vec<Violation> = CHECKS.iter().flat_map(|check| check(tree)).collect();
    violations.sort();
    violations
}

const CHECKS: [fn(&Tree) -> Vec<Violation>; 8] = [
    arrows::check,
    circles::check,
    links::check,
    manifest::check,
    named::check,
    paths::check,
    sources::check,
    variables::check,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        let tree = Tree::read(&Repository::open().unwrap()).unwrap();
        let violations: Vec<String> = check(&tree).iter().map(Violation::to_string).collect();

        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }

    #[test]
    fn a_violation_is_a_place_that_an_editor_can_open() {
        let violation = Violation::new("crates/proto/src/lib.rs", 7, "there is no reason");

        assert_eq!(
            violation.to_string(),
            "crates/proto/src/lib.rs:7: there is no reason"
        );
    }
}
