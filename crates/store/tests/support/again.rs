//! A test that starts itself once more, as another process.
//!
//! The other process runs the same test, sees by the environment that it is the other, and does its
//! part. What it has to say goes to its standard error, line by line: standard output is the test
//! harness's.

use std::env;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIRECTORY: &str = "STORE_TEST_DIRECTORY";
const SEED: &str = "STORE_TEST_SEED";

/// The directory and the seed that this process was told, if it is the other.
pub(crate) fn part() -> Option<(PathBuf, u64)> {
    let directory = env::var_os(DIRECTORY)?.into();
    let seed = env::var(SEED).ok()?.parse().ok()?;
    Some((directory, seed))
}

/// The other process, to be started.
pub(crate) fn again(test: &str, directory: &Path, seed: u64) -> Command {
    let mut command = Command::new(env::current_exe().expect("the test knows its own program"));
    command
        .args([test, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Says a line to the process that started this one.
pub(crate) fn say(line: &str) {
    writeln!(stderr(), "{line}").expect("whoever started this process listens");
}
