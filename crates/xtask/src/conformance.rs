//! The Autobahn testsuite against our echo server, once per flush backend, strictly.
//!
//! Strictly means: a case passes if Autobahn calls its behaviour and its close OK or INFORMATIONAL;
//! NON-STRICT, which most servers put up with, fails. Beyond that, every case must end as the
//! checked-in expectation says, so that a case that stops running is noticed as well.

mod python;
mod report;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use serving::Serving;

use crate::command;
use crate::install::Installer;
use crate::outcome::Outcome;
use crate::repository::Repository;

use report::{AGENT, Expectation, Report, Selection};

/// Run the Autobahn WebSocket testsuite against the echo server
///
/// Runs it once with each way of flushing (THRONG_FLUSH=auto and write) and compares every case
/// with crates/server/tests/autobahn-expected.json. HTML reports are left in target/autobahn.
///
/// The testsuite runs only on CPython 2.7. If there is one (on PATH, or from pyenv), a virtualenv
/// with pinned packages is made in target/tools/autobahn the first time; if not, the task is
/// skipped and says how to get one.
#[derive(Args)]
pub(crate) struct Options {
    /// The cases to run, as Autobahn numbers them: 1.* for a section, 7.1.5 for one.
    ///
    /// All but compression (12 and 13, an extension we do not offer) if none is named.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_values = SECTIONS)]
    cases: Vec<String>,

    /// Take the results of this run for the expectation, if every case passed.
    #[arg(long, conflicts_with = "cases")]
    bless: bool,

    /// Another echo server, started as `PATH 127.0.0.1:0`; for working on this task itself.
    #[arg(long, value_name = "PATH", hide = true)]
    server: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let cases = SECTIONS.map(str::to_owned).to_vec();
        Self {
            cases,
            bless: false,
            server: None,
        }
    }
}

/// Runs the testsuite with both flush backends.
///
/// # Errors
///
/// If the echo server or the testsuite could not be run to its end.
pub(crate) fn run(
    repository: &Repository,
    installer: &Installer,
    options: &Options,
) -> Result<Outcome> {
    let wstest = match python::wstest(repository, installer)? {
        Ok(wstest) => wstest,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let server = match &options.server {
        Some(server) => std::path::absolute(server)?,
        None => {
            let built = command::stream(&mut repository.optimized_build())?;
            if built != Outcome::PASSED {
                return Ok(built);
            }
            repository.optimized("examples/echo")
        }
    };
    let suite = Suite {
        repository,
        wstest,
        server,
        selection: Selection::new(&options.cases),
    };
    let mut faults = Vec::new();
    for (position, flush) in FLUSH_BACKENDS.into_iter().enumerate() {
        // The first run is taken for the expectation, and the second must then meet it.
        faults.extend(suite.run(flush, options.bless && position == 0)?);
    }
    Ok(verdict(&faults))
}

/// The testsuite, ready to run.
struct Suite<'a> {
    repository: &'a Repository,
    wstest: PathBuf,
    server: PathBuf,
    selection: Selection,
}

impl Suite<'_> {
    /// Runs the selected cases with one flush backend and returns what is wrong, a line each.
    fn run(&self, flush: &str, bless: bool) -> Result<Vec<String>> {
        let directory = self.repository.target("autobahn").join(flush);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        println!(
            "Autobahn with THRONG_FLUSH={flush}; reports in {}",
            directory.display()
        );

        let mut command = self.repository.command(&self.server);
        command.env("THRONG_FLUSH", flush);
        let server = Serving::start(command.arg("127.0.0.1:0"), &directory.join("server.log"))?;
        self.run_cases(&server.address().to_string(), &directory)?;
        drop(server);

        let index = directory.join("index.json");
        let index = fs::read_to_string(&index)
            .with_context(|| format!("the testsuite left no {}", index.display()))?;
        let report = Report::parse(&index)?;
        println!("{}", report.summary());
        self.judge(&report, flush, bless)
    }

    fn run_cases(&self, address: &str, directory: &std::path::Path) -> Result<()> {
        let specification = directory.join("specification.json");
        let content = json!({
            "outdir": directory,
            "servers": [{ "agent": AGENT, "url": format!("ws://{address}") }],
            "cases": self.selection.patterns(),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        });
        fs::write(&specification, content.to_string())?;
        let log = directory.join("wstest.log");
        let mut wstest = self.repository.command(&self.wstest);
        wstest
            .args(["-m", "fuzzingclient", "-s"])
            .arg(&specification);
        println!("$ {}", command::command_line(&wstest));
        // Its log is a line for every case begun: of interest only when it does not end well.
        wstest
            .stdout(File::create(&log)?)
            .stderr(Stdio::from(File::options().append(true).open(&log)?));
        let mut child = wstest.spawn().context("could not start wstest")?;
        match command::wait_at_most(&mut child, TIME_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("wstest ended with {status}; see {}", log.display()),
            None => bail!(
                "wstest did not end within {TIME_MAX:?}; see {}",
                log.display()
            ),
        }
    }

    fn judge(&self, report: &Report, flush: &str, bless: bool) -> Result<Vec<String>> {
        let path = self.repository.path(EXPECTATION);
        let mut faults = report.violations();
        if faults.is_empty() && bless {
            fs::write(&path, Expectation::from(report).to_string())?;
            println!("wrote {EXPECTATION}");
        }
        match fs::read_to_string(&path) {
            Ok(expectation) => {
                let expectation = Expectation::parse(&expectation)
                    .with_context(|| format!("{EXPECTATION} cannot be read"))?;
                faults.extend(expectation.differences(report, &self.selection));
            }
            Err(_) => faults.push(format!(
                "there is no {EXPECTATION}: make it with `cargo xtask conformance --bless`"
            )),
        }
        Ok(faults
            .into_iter()
            .map(|fault| format!("THRONG_FLUSH={flush}: {fault}"))
            .collect())
    }
}

fn verdict(faults: &[String]) -> Outcome {
    if faults.is_empty() {
        return Outcome::PASSED;
    }
    for fault in faults {
        println!("{fault}");
    }
    Outcome::Failed(format!("{} faults, listed above", faults.len()))
}

/// Everything but 12 and 13, which test an extension; there is no section 8 nor 11.
const SECTIONS: [&str; 9] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*",
];

/// The values of `THRONG_FLUSH` to run with: io_uring where the kernel permits it, and without.
const FLUSH_BACKENDS: [&str; 2] = ["auto", "write"];

const EXPECTATION: &str = "crates/server/tests/autobahn-expected.json";

/// A run takes about 20 seconds; a case that hangs has its own limits inside the testsuite, of
/// which several may add up.
const TIME_MAX: Duration = Duration::from_secs(300);
