//! The fuzz targets of `fuzz/`, built as cargo-fuzz builds them and run for a bounded time.
//!
//! cargo-fuzz itself is not needed: what it adds are the compiler's flags, and those are here. With
//! a nightly toolchain the address sanitizer is linked in: it watches the memory that `unsafe` code
//! of dependencies touches, and it lets the fuzzer see the operands of `memcmp`. A stable toolchain
//! fuzzes without both.

mod targets;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command;
use crate::install::Installer;
use crate::outcome::Outcome;
use crate::repository::Repository;

/// Build the fuzz targets and run each for a bounded time
///
/// What a target finds worth keeping is collected in fuzz/corpus/TARGET and used the next time;
/// what crashes it is left in fuzz/artifacts/TARGET, and the command that reproduces it is printed.
/// As many targets run at once as there are cores. Starts also from fuzz/seeds/TARGET, if present.
#[derive(Args)]
pub(crate) struct Options {
    /// The targets to run, as fuzz/Cargo.toml names them; all if none is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// Seconds for which each target runs.
    #[arg(long, value_name = "N", default_value_t = SECONDS)]
    seconds: u32,
}

impl Options {
    /// Returns every target, for that long each.
    pub(crate) fn all(seconds: u32) -> Self {
        Self {
            targets: Vec::new(),
            seconds,
        }
    }
}

/// Builds and runs the targets.
///
/// # Errors
///
/// If a target that was named does not exist, or something could not be started.
pub(crate) fn run(
    repository: &Repository,
    installer: &Installer,
    options: &Options,
) -> Result<Outcome> {
    // libFuzzer is C++, compiled from source with the targets.
    if let Err(reason) = installer.program(repository, &["c++", "g++", "clang++"], &["g++"]) {
        return Ok(Outcome::Skipped(reason));
    }
    let manifest = fs::read_to_string(repository.path(MANIFEST))
        .with_context(|| format!("{MANIFEST} cannot be read"))?;
    let targets = targets::select(&manifest, &options.targets)?;
    let toolchain = Toolchain::find(repository)?;
    println!("fuzzing with {}", toolchain.description());
    let built = command::stream(&mut toolchain.build(repository, &targets))?;
    if built != Outcome::PASSED {
        return Ok(built);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut crashed = Vec::new();
    for targets in targets.chunks(cores) {
        let runs: Vec<Run> = targets
            .iter()
            .map(|target| Run::start(repository, &toolchain, target, options.seconds))
            .collect::<Result<_>>()?;
        for run in runs {
            crashed.extend(run.finish(options.seconds)?);
        }
    }
    Ok(if crashed.is_empty() {
        Outcome::PASSED
    } else {
        Outcome::Failed(format!("{} crashed; see above", crashed.join(", ")))
    })
}

/// The compiler to build with.
struct Toolchain {
    /// The machine's triple. Named to cargo, it keeps the flags away from build scripts.
    host: String,
    nightly: bool,
}

impl Toolchain {
    fn find(repository: &Repository) -> Result<Self> {
        let mut nightly = repository.command("rustup");
        let nightly = command::output(nightly.args(["run", "nightly", "rustc", "--version"]));
        let version = command::output(repository.command("rustc").arg("-vV"))
            .context("could not ask rustc for its version")?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host
            .context("rustc did not say which machine it is for")?
            .to_owned();
        Ok(Self {
            host,
            nightly: nightly.is_some(),
        })
    }

    fn description(&self) -> &'static str {
        if self.nightly {
            "the nightly toolchain and its address sanitizer"
        } else {
            "the stable toolchain; with a nightly one the address sanitizer would watch as well"
        }
    }

    /// Returns the command that builds the targets.
    ///
    /// Not `--locked`: the lock file of `fuzz/` also lists what `proto` depends on, and a change
    /// there must not fail here. The versions that are locked are kept all the same.
    fn build(&self, repository: &Repository, targets: &[String]) -> Command {
        let mut cargo = repository.cargo();
        if self.nightly {
            cargo = repository.command("rustup");
            cargo.args(["run", "nightly", "cargo"]);
        }
        cargo.args([
            "build",
            "--release",
            "--manifest-path",
            MANIFEST,
            "--target",
            &self.host,
        ]);
        cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
        cargo.env("CARGO_TARGET_DIR", repository.path(TARGET_DIRECTORY));
        cargo.env("RUSTFLAGS", self.flags());
        cargo
    }

    fn flags(&self) -> String {
        let sanitizer: &[_] = if self.nightly {
            &["-Zsanitizer=address"]
        } else {
            &[]
        };
        [FLAGS, sanitizer].concat().join(" ")
    }

    fn binary(&self, repository: &Repository, target: &str) -> PathBuf {
        repository
            .path(TARGET_DIRECTORY)
            .join(&self.host)
            .join("release")
            .join(target)
    }
}

/// One target on its way.
struct Run {
    target: String,
    binary: PathBuf,
    artifacts: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Run {
    fn start(
        repository: &Repository,
        toolchain: &Toolchain,
        target: &str,
        seconds: u32,
    ) -> Result<Self> {
        let corpus = repository.path(&format!("fuzz/corpus/{target}"));
        let seeds = repository.path(&format!("fuzz/seeds/{target}"));
        let artifacts = repository.path(&format!("fuzz/artifacts/{target}"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let log = artifacts.join("log.txt");

        let binary = toolchain.binary(repository, target);
        let mut fuzzer = repository.command(&binary);
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .args(LIMITS);
        fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
        // The first directory is added to, the others are only read.
        fuzzer.arg(&corpus).args(seeds.is_dir().then_some(&seeds));
        println!("$ {}", command::command_line(&fuzzer));
        fuzzer.stdout(File::create(&log)?);
        fuzzer.stderr(Stdio::from(File::options().append(true).open(&log)?));
        let child = fuzzer
            .spawn()
            .with_context(|| format!("could not start {target}"))?;
        Ok(Self {
            target: target.to_owned(),
            binary,
            artifacts,
            log,
            child,
        })
    }

    /// Waits for the target and tells how it went; returns its name if it crashed.
    fn finish(mut self, seconds: u32) -> Result<Option<String>> {
        let limit = Duration::from_secs(seconds.into()) + GRACE;
        let Some(status) = command::wait_at_most(&mut self.child, limit)? else {
            bail!(
                "{} did not end by itself; see {}",
                self.target,
                self.log.display()
            );
        };
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if status.success() {
            println!("{}: {}", self.target, targets::closing_line(&log));
            return Ok(None);
        }
        println!("{log}\n{} crashed: {status}. To reproduce it:", self.target);
        println!("  {} {}", self.binary.display(), self.input(&log));
        Ok(Some(self.target))
    }

    /// Returns the input that crashed the target, or where to look for it.
    fn input(&self, log: &str) -> String {
        let artifacts = self.artifacts.display();
        targets::artifact(log).map_or_else(|| format!("{artifacts}/..."), str::to_owned)
    }
}

/// Manifest in which the targets are declared.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

/// A minute finds what a change broke; what lies deeper takes hours, and a person who asks for
/// them.
pub(crate) const SECONDS: u32 = 60;

const TARGET_DIRECTORY: &str = "fuzz/target";

/// Instrumentation as cargo-fuzz sets it: edge counters, a table of the code, and the operands of
/// comparisons, so that the fuzzer can find its way past magic numbers.
const FLAGS: &[&str] = &[
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// An input that takes 10 seconds or 2 GiB is as bad as a crash: a peer could send it.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];

/// Reading the corpus and the last input come on top of the time that was asked for.
const GRACE: Duration = Duration::from_secs(120);
