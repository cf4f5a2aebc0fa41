//! How many instructions the hot paths take, against the baseline that is checked in.
//!
//! Counted by callgrind through gungraun, to the instruction: a machine that does other work, or a
//! slower one, counts the same. What does change the counts is the compiler, the processor's vector
//! instructions and the C library, so the baseline names its toolchain, and a difference is said.

mod baseline;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use toml::de::DeTable;

use crate::command;
use crate::install::Installer;
use crate::outcome::Outcome;
use crate::repository::Repository;

use baseline::{Baseline, Toolchain};
use table::Table;

/// Count the instructions of the hot paths and compare with the baseline
///
/// Fails if a path takes over 3 % more instructions than benches/instructions/baseline.toml says,
/// or if the two do not name the same paths. Needs valgrind; gungraun's runner is built with cargo
/// the first time, into target/tools.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Write what was counted to the baseline, for a change that is meant.
    #[arg(long)]
    bless: bool,
}

/// Instructions by the name of the path.
type Counts = BTreeMap<String, u64>;

/// Counts, prints the table, and writes the baseline if asked.
///
/// # Errors
///
/// If something could not be built or run, or its report or the baseline cannot be read.
pub(crate) fn run(
    repository: &Repository,
    installer: &Installer,
    options: &Options,
) -> Result<Outcome> {
    if let Err(reason) = installer.program(repository, &["valgrind"], &["valgrind"]) {
        return Ok(Outcome::Skipped(reason));
    }
    let path = repository.path(BASELINE);
    let baseline = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && options.bless => Baseline::default(),
        text => Baseline::parse(&text.with_context(|| format!("{BASELINE} cannot be read"))?)
            .with_context(|| format!("{BASELINE} is not one; --bless writes it anew"))?,
    };
    let now = Baseline {
        toolchain: Toolchain::find(repository),
        counts: count(repository)?,
    };
    let table = Table::new(&baseline.counts, &now.counts);
    println!("{table}");
    if options.bless {
        fs::write(&path, now.to_string())?;
        println!("{BASELINE} says so now.");
        return Ok(Outcome::PASSED);
    }
    if baseline.toolchain != now.toolchain {
        println!(
            "The baseline was counted with {}, this with {}: a difference may be theirs.",
            baseline.toolchain, now.toolchain
        );
    }
    let complaints = table.complaints();
    Ok(if complaints.is_empty() {
        Outcome::PASSED
    } else {
        Outcome::Failed(format!(
            "{}; `cargo xtask instructions --bless` accepts it",
            complaints.join("; ")
        ))
    })
}

/// Runs the benches under callgrind.
fn count(repository: &Repository) -> Result<Counts> {
    let mut cargo = repository.cargo();
    cargo.env("GUNGRAUN_RUNNER", runner(repository)?);
    cargo.args(["bench", "-p", "benches", "--bench", "instructions"]);
    cargo.args(["--locked", "--", "--output-format=json"]);
    println!("$ {}", command::command_line(&cargo));
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the benches ended with {}", output.status);
    }
    parse(&String::from_utf8(output.stdout)?)
}

/// Reads the summaries that gungraun prints, one on a line.
fn parse(report: &str) -> Result<Counts> {
    let summaries = report.lines().filter(|line| line.starts_with('{'));
    let counts: Counts = summaries.map(parse_summary).collect::<Result<_>>()?;
    if counts.is_empty() {
        bail!("the benches reported nothing");
    }
    Ok(counts)
}

fn parse_summary(line: &str) -> Result<(String, u64)> {
    let summary: Value = serde_json::from_str(line)?;
    let word = |name: &str| summary.get(name).and_then(Value::as_str);
    let instructions = summary.pointer(INSTRUCTIONS).and_then(Value::as_u64);
    match (word("function_name"), word("id"), instructions) {
        (Some(function), Some(id), Some(count)) => Ok((format!("{function}.{id}"), count)),
        _ => bail!("a summary of gungraun has another form than expected: {line}"),
    }
}

/// gungraun's own program, of the version of its library, built if it is not there yet.
fn runner(repository: &Repository) -> Result<PathBuf> {
    let lock = fs::read_to_string(repository.path("Cargo.lock"))?;
    let version = locked_version(&lock, RUNNER)
        .with_context(|| format!("Cargo.lock does not list {RUNNER}"))?;
    let root = repository.target(&format!("tools/{RUNNER}-{version}"));
    let program = root.join("bin").join(RUNNER);
    if !program.is_file() {
        let mut cargo = repository.cargo();
        cargo.args(["install", RUNNER, "--locked", "--version"]);
        cargo.arg(format!("={version}")).arg("--root").arg(&root);
        if command::stream(&mut cargo)? != Outcome::PASSED {
            bail!("{RUNNER} could not be built; it comes from the same registry as the libraries");
        }
    }
    Ok(program)
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let table = DeTable::parse(lock).ok()?;
    let packages = table.get_ref().get("package")?.get_ref().as_array()?;
    let field = |package: &toml::de::DeValue<'_>, key: &str| {
        Some(package.get(key)?.get_ref().as_str()?.to_owned())
    };
    packages
        .iter()
        .map(toml::Spanned::get_ref)
        .find(|package| field(package, "name").as_deref() == Some(name))
        .and_then(|package| field(package, "version"))
}

const BASELINE: &str = "benches/instructions/baseline.toml";

const RUNNER: &str = "gungraun-runner";

/// The place of the count in a summary: version 7 of its schema.
const INSTRUCTIONS: &str = "/profiles/0/data/total/metrics/Ir/values/new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_lines_that_are_summaries() {
        let summary = |id: &str, count: u64| {
            format!(
                r#"{{"function_name":"encode","id":"{id}","profiles":[{{"data":{{"total":
                {{"metrics":{{"Ir":{{"values":{{"new":{count},"old":1}}}}}}}}}}}}]}}"#
            )
            .replace('\n', "")
        };
        let report = format!("noise\n{}\n{}\n", summary("b64", 455), summary("b4096", 9));

        let expected = [
            ("encode.b4096".to_owned(), 9),
            ("encode.b64".to_owned(), 455),
        ];
        assert_eq!(parse(&report).unwrap(), expected.into());
    }

    #[test]
    fn a_report_without_counts_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("{\"function_name\":\"encode\",\"id\":\"b64\"}\n").is_err());
    }

    #[test]
    fn the_runner_has_the_version_of_its_library() {
        let repository = Repository::open().unwrap();
        let lock = fs::read_to_string(repository.path("Cargo.lock")).unwrap();

        let version = locked_version(&lock, RUNNER);
        assert!(version.is_some());
        assert_eq!(version, locked_version(&lock, "gungraun"));
        assert_eq!(locked_version(&lock, "no-such-crate"), None);
    }
}
