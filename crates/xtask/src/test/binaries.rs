//! Runs cargo's test binaries, several at a time: most of them wait for timeouts and sockets, and
//! cargo runs one after the other.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// The number of binaries that run at a time. Each has a thread for every core already.
const AT_ONCE: usize = 2;

/// A test binary, and where cargo would start it.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    path: PathBuf,
    /// The directory of its package.
    directory: PathBuf,
}

/// Builds all test binaries and runs each; one that fails does not stop the others.
///
/// # Errors
///
/// If cargo or a binary could not be started.
pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut build = repository.cargo();
    build.args([
        "test",
        "--workspace",
        "--all-features",
        "--locked",
        "--no-run",
    ]);
    let built = command::stream(&mut build)?;
    if built != Outcome::PASSED {
        return Ok(built);
    }
    // Nothing is left to build: this only says what there is.
    let messages = command::output(build.arg("--message-format=json"))
        .context("cargo did not say which test binaries there are")?;
    let binaries = binaries(&messages);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Done> {
        let mut done = Done::default();
        while let Some(binary) = binaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.run(repository, binary)?;
        }
        Ok(done)
    };
    let mut all = Done::default();
    let workers: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join();
        workers.into_iter().map(join).collect()
    });
    for worker in workers {
        let done = worker.unwrap_or_else(|panic| resume_unwind(panic))?;
        all.passed += done.passed;
        all.failed.extend(done.failed);
    }
    Ok(match (all.failed.as_slice(), all.passed) {
        ([], 0) => Outcome::Failed("no test ran".to_owned()),
        ([], _) => Outcome::PASSED,
        (failed, _) => Outcome::Failed(format!("{} failed; see above", failed.join(", "))),
    })
}

/// The results of some binaries.
#[derive(Default)]
struct Done {
    /// The number of tests that passed.
    passed: u32,
    /// The binaries of which a test failed.
    failed: Vec<String>,
}

impl Done {
    fn run(&mut self, repository: &Repository, binary: &Binary) -> Result<()> {
        let output = start(repository, binary)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let passed = text.lines().filter_map(command::rust_tests_passed);
        self.passed += passed.sum::<u32>();
        let errors = String::from_utf8_lossy(&output.stderr);
        // As a whole, so that the output of two does not mix.
        println!("$ {}\n{text}{errors}", binary.path.display());
        if !output.status.success() {
            self.failed.push(binary.path.display().to_string());
        }
        Ok(())
    }
}

fn start(repository: &Repository, binary: &Binary) -> Result<Output> {
    // Benches among them run each of theirs once, as with cargo.
    let mut command = Command::new(&binary.path);
    command
        .current_dir(&binary.directory)
        .env("CARGO_MANIFEST_DIR", &binary.directory)
        .env("CARGO_TARGET_DIR", repository.target(""))
        .stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("could not start {}", binary.path.display()))
}

/// Reads which test binaries cargo has built out of its messages, one in each line.
fn binaries(messages: &str) -> Vec<Binary> {
    let messages = messages.lines();
    let messages = messages.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true);
    tests
        .filter_map(|message| {
            let manifest = PathBuf::from(message["manifest_path"].as_str()?);
            Some(Binary {
                path: message["executable"].as_str()?.into(),
                directory: manifest.parent()?.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_read_from_cargos_messages_and_nothing_else_is() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","#,
            r#""profile":{"test":true},"executable":"/t/a-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/r/b/Cargo.toml","#,
            r#""profile":{"test":false},"executable":"/t/b"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\nno JSON\n",
        );
        let binary = Binary {
            path: "/t/a-1".into(),
            directory: "/r/a".into(),
        };
        assert_eq!(binaries(messages), [binary]);
    }
}
