//! Running other programs: shown before they start, streamed while they run, bounded if asked.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::outcome::Outcome;

/// Runs a command with its output going straight to ours, after printing its command line.
///
/// # Errors
///
/// If the program could not be started. A program that ran and failed is an [`Outcome::Failed`].
pub(crate) fn stream(command: &mut Command) -> Result<Outcome> {
    println!("$ {}", command_line(command));
    let status = command
        .status()
        .with_context(|| format!("could not start {}", display(command.get_program())))?;
    Ok(outcome(command, status))
}

/// Runs a command that runs tests, as [`stream`] does; to have run none is to have failed.
///
/// `passed` reads from a line of its output how many tests that line says have passed.
///
/// # Errors
///
/// If the program could not be started, or its output not be read.
pub(crate) fn stream_tests(
    command: &mut Command,
    passed: impl Fn(&str) -> Option<u32>,
) -> Result<Outcome> {
    println!("$ {}", command_line(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", display(command.get_program())))?;
    let mut count = 0;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            count += passed(&line).unwrap_or(0);
        }
    }
    let outcome = outcome(command, child.wait()?);
    Ok(if outcome == Outcome::PASSED && count == 0 {
        Outcome::Failed(format!("`{}` ran no test", program_name(command)))
    } else {
        outcome
    })
}

/// Returns the number of passed tests in a line of `cargo test`.
pub(crate) fn rust_tests_passed(line: &str) -> Option<u32> {
    number_after(line, "test result: ok. ")
}

/// Returns the number behind a word: `number_after("ok. 3 passed", "ok. ")` is 3.
pub(crate) fn number_after(line: &str, word: &str) -> Option<u32> {
    let (_, rest) = line.split_once(word)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Runs a command for what it prints, without showing anything.
///
/// Returns `None` if it could not be started or failed: for asking "is it there, and which?".
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(printed)
}

/// Waits for a child, and ends it if it takes longer than `limit`.
///
/// Returns `None` if it had to be ended.
///
/// # Errors
///
/// If the system refuses to say how the child is.
pub(crate) fn wait_at_most(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut waited = Duration::ZERO;
    while waited < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL_INTERVAL);
        waited += POLL_INTERVAL;
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Finds a program on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
}

/// Returns the command line as a person would type it, with the variables that were set for it.
pub(crate) fn command_line(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter(|(name, _)| !UNINTERESTING_VARIABLES.iter().any(|known| name == known))
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!("{}={}", display(name), quoted(value)));
    let name = program_name(command);
    let path = Path::new(command.get_program());
    // Where cargo, or what is first on `PATH`, is installed is noise; others need their path.
    let is_first = path == Path::new(&name) || find(&name).is_some_and(|first| first == path);
    let program = if is_first || name == "cargo" {
        name
    } else {
        quoted(path.as_os_str())
    };
    variables
        .chain([program])
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

fn outcome(command: &Command, status: ExitStatus) -> Outcome {
    if status.success() {
        return Outcome::PASSED;
    }
    let program = program_name(command);
    let subcommand = command.get_args().next().map(display).unwrap_or_default();
    let ran = format!("{program} {subcommand}");
    Outcome::Failed(format!("`{}` ended with {status}", ran.trim()))
}

fn program_name(command: &Command) -> String {
    let program = command.get_program();
    display(Path::new(program).file_name().unwrap_or(program))
}

fn is_executable(candidate: &Path) -> bool {
    fs::metadata(candidate)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn display(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn quoted(text: &OsStr) -> String {
    let text = display(text);
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{text}'")
    }
}

/// Time between two looks whether a bounded child has ended: not noticeable to a person, and
/// nothing to a processor.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Set for every cargo that we start, and of no interest in a command line to copy.
const UNINTERESTING_VARIABLES: [&str; 1] = ["CARGO_TARGET_DIR"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_copied_into_a_shell() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command
            .args(["test", "two words"])
            .env("RUSTFLAGS", "--cfg loom");

        assert_eq!(
            command_line(&command),
            "RUSTFLAGS='--cfg loom' cargo test 'two words'"
        );
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_status() {
        let outcome = stream(Command::new("sh").args(["-c", "exit 3"])).unwrap();

        assert_eq!(
            outcome,
            Outcome::Failed("`sh -c` ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn tests_that_are_none_have_failed() {
        let ran =
            |text: &str| stream_tests(Command::new("echo").arg(text), rust_tests_passed).unwrap();

        assert_eq!(ran("test result: ok. 3 passed; 0 failed"), Outcome::PASSED);
        let none = Outcome::Failed("`echo` ran no test".to_owned());
        assert_eq!(ran("test result: ok. 0 passed; 0 failed"), none);
        assert_eq!(ran("nothing"), none);
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();

        assert_eq!(wait_at_most(&mut child, POLL_INTERVAL).unwrap(), None);
    }

    #[test]
    fn a_program_is_found_on_the_path_and_a_made_up_one_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
