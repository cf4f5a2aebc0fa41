//! Throng against its peers on this machine: the tables of `docs/benchmarks.md`.
//!
//! Servers run one at a time, in an order that rotates from round to round, pinned to one CPU with
//! the load generator on another. What counts is the server's CPU per delivery and its ratio to the
//! baseline in the same run: wall-clock rates of a shared machine say little.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::command;
use crate::outcome::Outcome;
use crate::repository::Repository;
use crate::serving::Serving;

/// Measure Throng against Bun and npm `ws` on this machine
///
/// Needs two CPUs, npm, and quiet. Installs the peers' npm packages in benches/peers.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How often each server runs each scenario; the table has medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// How long each run counts deliveries, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u32,

    /// The scenarios, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,

    /// The servers, separated by commas; the first is the baseline of the ratios
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "bun,ws,throng-uring,throng-write"
    )]
    servers: Vec<String>,
}

/// What the load generator is asked for.
struct Scenario {
    name: &'static str,
    stands_for: &'static str,
    arguments: &'static [&'static str],
    /// The figure of the report, by its place in the JSON, and its unit.
    figure: &'static str,
    unit: &'static str,
}

/// CPU of the server for each delivered frame.
const CPU: (&str, &str) = (
    "/server_cpu_us_per_delivery",
    "µs of server CPU per delivery",
);

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "single-step",
        stands_for: "1 room × 1000 members, one publication under way",
        arguments: &["fanout", "--members", "1000", "--window", "1"],
        figure: CPU.0,
        unit: CPU.1,
    },
    Scenario {
        name: "big-room",
        stands_for: "1 room × 1000 members, 16 under way",
        arguments: &["fanout", "--members", "1000", "--window", "16"],
        figure: CPU.0,
        unit: CPU.1,
    },
    Scenario {
        name: "firehose",
        stands_for: "1 room × 100 members, 256 under way",
        arguments: &["fanout", "--members", "100", "--window", "256"],
        figure: CPU.0,
        unit: CPU.1,
    },
    Scenario {
        name: "many-rooms",
        stands_for: "200 rooms × 10 members, 50 publishers",
        arguments: &[
            "fanout",
            "--rooms",
            "200",
            "--members",
            "10",
            "--publishers",
            "50",
        ],
        figure: CPU.0,
        unit: CPU.1,
    },
    Scenario {
        name: "idle",
        stands_for: "15,000 connections that joined one room and do nothing",
        arguments: &["idle", "--members", "15000"],
        figure: "/bytes_per_connection",
        unit: "bytes of the server (PSS) per connection",
    },
    Scenario {
        name: "neighbour",
        stands_for: "a room of 10 members, 20 messages a second, beside a room of 5000 that is flooded",
        arguments: &["neighbour", "--members", "5000", "--window", "16"],
        figure: "/neighbour/flooded/p99",
        unit: "µs of latency, 99th percentile",
    },
];

/// One run: the figure, or what went wrong.
type Run = Result<f64, String>;

/// Runs the comparison and prints a table for each scenario.
///
/// # Errors
///
/// If something could not be built, installed or started.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<Outcome> {
    prepare(repository, options)?;
    let scenarios = chosen(options)?;
    let mut runs: BTreeMap<(&str, &str), Vec<Run>> = BTreeMap::new();
    for round in 0..options.rounds {
        for scenario in &scenarios {
            for turn in 0..options.servers.len() {
                let server = &options.servers[(turn + round) % options.servers.len()];
                let run = measure(repository, server, scenario, options.seconds)?;
                println!("round {}: {} {server}: {run:?}", round + 1, scenario.name);
                runs.entry((scenario.name, server.as_str()))
                    .or_default()
                    .push(run);
            }
        }
    }
    let failures = scenarios
        .iter()
        .map(|scenario| print_table(scenario, options, &runs))
        .sum();
    Ok(match failures {
        0 => Outcome::PASSED,
        count => Outcome::Failed(format!("{count} runs failed, see above")),
    })
}

fn prepare(repository: &Repository, options: &Options) -> Result<()> {
    let mut build = repository.release_build();
    if command::stream(&mut build)? != Outcome::PASSED {
        bail!("the build failed");
    }
    if options
        .servers
        .iter()
        .any(|server| ["bun", "ws"].contains(&server.as_str()))
    {
        let mut install = repository.command("npm");
        install.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--prefix",
            "benches/peers",
        ]);
        if command::stream(&mut install)? != Outcome::PASSED {
            bail!("npm install failed; run with --servers throng-uring,throng-write to do without");
        }
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<&'static Scenario>> {
    if options.scenarios.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.with_context(|| format!("there is no scenario {name}"))
    };
    options.scenarios.iter().map(find).collect()
}

/// Starts one server, loads it, and returns the figure.
fn measure(repo: &Repository, server: &str, scenario: &Scenario, seconds: u32) -> Result<Run> {
    let log = repo.target("bench.log");
    let serving = Serving::start(&mut server_command(repo, server)?, &log)?;
    let seconds = seconds.to_string();
    let mut load = repo.command(repo.target("release/loadtest"));
    load.args([
        "--url",
        &format!("ws://{}/ws", serving.address()),
        "--json",
        "--pin",
        "1",
    ]);
    load.args([
        "--seconds",
        &seconds,
        "--server-pid",
        &serving.pid().to_string(),
    ]);
    load.args(scenario.arguments).stderr(Stdio::piped());
    let output = load
        .output()
        .context("could not start the load generator")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let text = if text.is_empty() {
            faults(&output.stdout)
        } else {
            text
        };
        return Ok(Err(text));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let figure = report.pointer(scenario.figure).and_then(Value::as_f64);
    Ok(figure.ok_or_else(|| format!("no {} in the report", scenario.figure)))
}

/// What a report says was not delivered as it should.
fn faults(report: &[u8]) -> String {
    let Ok(report) = serde_json::from_slice::<Value>(report) else {
        return "no report".to_owned();
    };
    let count = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{} lost, {} repeated, {} reordered, {} disconnected",
        count("lost"),
        count("repeated"),
        count("reordered"),
        count("disconnected")
    )
}

/// A server on CPU 0, on a free port.
fn server_command(repo: &Repository, server: &str) -> Result<Command> {
    let mut command = repo.command("taskset");
    command.args(["-c", "0"]).env("PORT", "0");
    let peers = |path: &str| -> PathBuf { repo.path("benches/peers").join(path) };
    match server {
        "bun" => command
            .arg(peers("node_modules/.bin/bun"))
            .arg(peers("bun/chat.js")),
        "ws" => command.arg("node").arg(peers("ws/chat.js")),
        "throng-uring" | "throng-write" => {
            let flush = server.trim_start_matches("throng-");
            command.arg(repo.target("release/throng"));
            command.args(["--listen", "127.0.0.1:0", "--cores", "1", "--flush", flush])
        }
        other => bail!("there is no server {other}: bun, ws, throng-uring or throng-write"),
    };
    Ok(command)
}

/// Prints medians, extremes and ratios as a Markdown table; returns how many runs failed.
fn print_table(
    scenario: &Scenario,
    options: &Options,
    runs: &BTreeMap<(&str, &str), Vec<Run>>,
) -> usize {
    println!("\n### {}: {}\n", scenario.name, scenario.stands_for);
    println!("| server | {} | least | most | ratio |", scenario.unit);
    println!("|---|---:|---:|---:|---:|");
    let mut baseline = None;
    let mut failures = 0;
    for server in &options.servers {
        let runs = runs
            .get(&(scenario.name, server.as_str()))
            .map_or(&[][..], Vec::as_slice);
        let mut figures: Vec<f64> = runs.iter().filter_map(|run| run.clone().ok()).collect();
        figures.sort_by(f64::total_cmp);
        failures += runs.len() - figures.len();
        let failure = runs.iter().find_map(|run| run.clone().err());
        let (Some(least), Some(most)) = (figures.first(), figures.last()) else {
            println!("| {server} | {} | | | |", failure.unwrap_or_default());
            continue;
        };
        let median = figures[figures.len() / 2];
        let ratio = median / *baseline.get_or_insert(median);
        let remark = failure.map_or_else(String::new, |text| format!(" ({text})"));
        let [median, least, most] = [median, *least, *most].map(short);
        println!("| {server} | {median}{remark} | {least} | {most} | {ratio:.2} |");
    }
    failures
}

/// Three digits that matter.
fn short(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        assert_eq!(
            ["533.7", "2.841", "0.02153"].map(|t| short(t.parse().unwrap())),
            ["534", "2.84", "0.0215"]
        );
    }

    #[test]
    fn a_run_that_lost_deliveries_says_how_many() {
        let report = br#"{"lost":3,"repeated":1,"reordered":0,"disconnected":2}"#;
        assert_eq!(
            faults(report),
            "3 lost, 1 repeated, 0 reordered, 2 disconnected"
        );
        assert_eq!(faults(b"nonsense"), "no report");
    }
}
