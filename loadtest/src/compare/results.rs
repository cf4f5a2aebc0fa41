//! What the runs brought: by scenario and server, medians, extremes, ratios, failures. As JSON for
//! programs, and the same as Markdown for people.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::figures::{self, Figure};
use super::peers::Peer;
use super::scenarios::Scenario;
use super::{Cpus, Options};
use crate::machine::Machine;
use crate::report::text;

/// The report of a clean run, or what was wrong with it.
pub(super) type RunResult = Result<Value, String>;

/// Everything so far.
#[derive(Debug)]
pub(super) struct Results {
    baseline: String,
    pub(super) is_interrupted: bool,
    scenarios: Vec<ScenarioResults>,
    /// Servers that were not to be had, and why.
    given_up: BTreeMap<String, String>,
}

/// One scenario's.
#[derive(Debug)]
struct ScenarioResults {
    scenario: Scenario,
    /// What is compared, the headline first.
    figures: Vec<Figure>,
    servers: Vec<ServerResults>,
}

/// One server's in one scenario.
#[derive(Debug)]
struct ServerResults {
    name: String,
    /// The server to which it has a ratio beside that to the baseline.
    against: Option<String>,
    /// Clean runs.
    reports: Vec<Value>,
    /// What was wrong with the others.
    failures: Vec<String>,
}

/// What several runs say of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

impl Results {
    /// Makes a place for each run.
    pub(super) fn new(scenarios: &[Scenario], servers: &[&Peer], baseline: String) -> Self {
        let server = |peer: &&Peer| ServerResults {
            name: peer.name.clone(),
            against: peer.against.clone(),
            reports: Vec::new(),
            failures: Vec::new(),
        };
        let scenario = |scenario: &Scenario| {
            let servers = servers.iter().filter(|peer| scenario.is_for(peer));
            ScenarioResults {
                scenario: scenario.clone(),
                figures: figures::of(&scenario.sheet.mode),
                servers: servers.map(server).collect(),
            }
        };
        Self {
            baseline,
            is_interrupted: false,
            scenarios: scenarios.iter().map(scenario).collect(),
            given_up: BTreeMap::new(),
        }
    }

    /// Takes over one run.
    pub(super) fn add(&mut self, scenario: &str, server: &str, result: RunResult) {
        let scenarios = self.scenarios.iter_mut();
        let scenario = scenarios.filter(|known| known.scenario.name == scenario);
        let mut servers = scenario.flat_map(|known| &mut known.servers);
        let results = servers.find(|known| known.name == server);
        let results = results.expect("there is a place for each run");
        match result {
            Ok(report) => results.reports.push(report),
            Err(reason) => results.failures.push(reason),
        }
    }

    /// Gives up a server that is not to be had; each of its cells says so.
    pub(super) fn give_up(&mut self, server: &str, reason: &str) {
        self.given_up.insert(server.to_owned(), reason.to_owned());
        let scenarios = self.scenarios.iter_mut();
        let servers = scenarios.flat_map(|scenario| &mut scenario.servers);
        for results in servers.filter(|known| known.name == server) {
            results.failures.push(reason.to_owned());
        }
    }

    /// Returns whether a server is not to be had.
    pub(super) fn is_given_up(&self, server: &str) -> bool {
        self.given_up.contains_key(server)
    }

    /// Returns whether nothing was wrong with any run.
    pub(super) fn is_clean(&self) -> bool {
        let mut servers = self.scenarios.iter().flat_map(|scenario| &scenario.servers);
        servers.all(|server| server.failures.is_empty())
    }

    /// Returns everything, with every report.
    pub(super) fn json(&self, options: &Options, cpus: Option<Cpus>) -> Value {
        let scenarios = self.scenarios.iter().map(|it| it.json(&self.baseline));
        json!({
            "baseline": self.baseline,
            "rounds": options.rounds(),
            "seconds": options.seconds,
            "server_cpu": cpus.map(|cpus| cpus.server),
            "driver_cpu": cpus.map(|cpus| cpus.driver),
            "machine": Machine::this(),
            "interrupted": self.is_interrupted,
            "scenarios": scenarios.collect::<Value>(),
        })
    }
}

/// Writes a table for each scenario, and how they came about.
pub(super) fn document(results: &Value) -> String {
    text::render(include_str!("../../assets/compare.md"), results)
}

impl ScenarioResults {
    fn json(&self, baseline: &str) -> Value {
        let servers = self.servers.iter().map(|server| {
            let figures = self.figures.iter();
            let figures = figures.map(|it| (it.1.clone(), json!(server.summary(it))));
            let against = server.against.as_deref();
            json!({
                "name": server.name,
                "ratio": self.ratio(server, baseline),
                "against": against,
                "ratio_against": against.and_then(|other| self.ratio(server, other)),
                "generator_bound": server.is_generator_bound(),
                "figures": figures.collect::<serde_json::Map<_, _>>(),
                "failure": server.failure(),
                "failures": server.failures,
                "reports": server.reports,
            })
        });
        json!({
            "name": self.scenario.name,
            "stands_for": self.scenario.sheet.stands_for,
            "command_line": self.scenario.sheet.command_line(),
            "headline": self.figures[0].1,
            "titles": self.figures.iter().map(|figure| &*figure.1).collect::<Vec<_>>(),
            "servers": servers.collect::<Value>(),
        })
    }

    /// Returns how a server's headline relates to another's; none if either is missing.
    fn ratio(&self, server: &ServerResults, other: &str) -> Option<f64> {
        let other = self.servers.iter().find(|known| known.name == other)?;
        let divisor = other.summary(&self.figures[0])?.median;
        let dividend = server.summary(&self.figures[0])?.median;
        (divisor > 0.0).then(|| dividend / divisor)
    }
}

impl ServerResults {
    /// Returns what the clean runs say of a figure.
    fn summary(&self, figure: &Figure) -> Option<Summary> {
        let figures = self.reports.iter().filter_map(|report| figure.read(report));
        Summary::of(figures.collect())
    }

    /// Returns whether the load generator, and not the server, kept a run's rates from being
    /// higher.
    fn is_generator_bound(&self) -> bool {
        let is_bound = |report: &Value| report["verdict"] == "generator_bottleneck";
        self.reports.iter().any(is_bound)
    }

    /// Returns what went wrong first, and how often anything did.
    fn failure(&self) -> Option<String> {
        let first = self.failures.first()?;
        let (failed, runs) = (
            self.failures.len(),
            self.failures.len() + self.reports.len(),
        );
        Some(match self.reports.len() {
            0 => first.clone(),
            _ => format!("{failed} of {runs} runs failed: {first}"),
        })
    }
}

impl Summary {
    /// Sums up any number of figures; none of none.
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let (below, above) = ((figures.len() - 1) / 2, figures.len() / 2);
        let median = f64::midpoint(figures[below], figures[above]);
        Some(Self {
            median,
            least,
            most,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::scenarios;
    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    const CPUS: Option<Cpus> = Some(Cpus {
        server: 0,
        driver: 1,
    });

    fn options(flags: &str) -> Options {
        let flags = format!("compare {flags}");
        Flags::parse_from(flags.split_whitespace()).options
    }

    fn peer(name: &str) -> Peer {
        let against = if name == "b" { "\nagainst = 'c'" } else { "" };
        toml::from_str(&format!("name = '{name}'\ncommand = ['{name}']{against}")).unwrap()
    }

    /// The baseline `a` and the servers `b`, which is set against `c`, to `d`, in the scenario
    /// `big-room`.
    fn results() -> Results {
        let scenarios = scenarios::chosen(&["big-room".to_owned()], 3).unwrap();
        let peers = ["a", "b", "c", "d"].map(peer);
        let peers: Vec<&Peer> = peers.iter().collect();
        Results::new(&scenarios, &peers, "a".to_owned())
    }

    fn report(cpu_us: f64) -> Value {
        json!({ "server_cpu_us_per_delivery": cpu_us, "deliveries_per_second": 1_500_000.0 })
    }

    /// One server that is clean, one that lost something once, one that always did, one not run.
    fn mixed() -> Results {
        let mut results = results();
        for cpu_us in [0.2, 0.25, 0.21] {
            results.add("big-room", "a", Ok(report(cpu_us)));
        }
        let mut bound = report(0.105);
        bound["verdict"] = "generator_bottleneck".into();
        results.add("big-room", "b", Ok(bound));
        results.add("big-room", "b", Err("7 lost".to_owned()));
        results.add("big-room", "c", Err("timed | out".to_owned()));
        results
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let summary = |figures: &[f64]| Summary::of(figures.to_vec());
        let expected = |median, least, most| {
            Some(Summary {
                median,
                least,
                most,
            })
        };
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[2.0]), expected(2.0, 2.0, 2.0));
        assert_eq!(summary(&[9.0, 1.0, 2.0]), expected(2.0, 1.0, 9.0));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 9.0]), expected(3.0, 1.0, 9.0));
    }

    #[test]
    fn what_failed_does_not_count_and_is_said() {
        let mut results = results();
        assert!(results.is_clean());
        results.add("big-room", "a", Ok(report(2.0)));
        results.add("big-room", "a", Err("7 lost".to_owned()));
        results.give_up("b", "would not start");
        let servers = &results.scenarios[0].servers;
        let failures: Vec<_> = servers.iter().map(ServerResults::failure).collect();
        assert_eq!(failures[0].as_deref(), Some("1 of 2 runs failed: 7 lost"));
        assert_eq!(failures[1].as_deref(), Some("would not start"));
        assert_eq!(failures[2], None);
        assert!(results.is_given_up("b") && !results.is_given_up("a"));
        assert!(!results.is_clean());
    }

    #[test]
    fn what_is_set_against_another_has_its_ratio_below_the_table() {
        let mut results = mixed();
        let json = results.json(&options("--rounds 5"), CPUS);
        let server = &json["scenarios"][0]["servers"][1];
        assert_eq!(
            server["ratio_against"],
            Value::Null,
            "the other has no clean run"
        );
        results.add("big-room", "c", Ok(report(0.1)));
        let json = results.json(&options("--rounds 5"), CPUS);
        let text = document(&json);
        assert!(
            text.contains("its own.\n\nb : c = 1.05.\n\nMedians"),
            "{text}"
        );
        let server = &json["scenarios"][0]["servers"][1];
        let ratio = server["ratio_against"].as_f64().unwrap();
        assert!(
            (ratio - 1.05).abs() < 1e-9 && server["against"] == "c",
            "{server}"
        );
    }

    #[test]
    fn figures_ratios_and_failures_stand_in_their_cells() {
        let expected = "
### big-room

A live event: a thousand people in one room, and somebody is always talking.
`fanout --rooms 1 --members 1000 --window 16`

| server | µs of server CPU per delivery | least | most | ratio | deliveries/s | p99, µs | \
server PSS, MiB |
|---|---:|---:|---:|---:|---:|---:|---:|
| a | 0.2100 | 0.2000 | 0.2500 | 1.00 | 1,500,000 |  |  |
| b † | 0.1050 (1 of 2 runs failed: 7 lost) | 0.1050 | 0.1050 | 0.50 | 1,500,000 |  |  |
| c | timed \\| out |  |  |  |  |  |  |
| d | not run |  |  |  |  |  |  |

† The load generator was the bottleneck: these rates are its own.

Medians of 5 rounds with the least and the most; the ratio is to a; the servers on CPU 0, \
the load generator on CPU 1.
";
        assert_eq!(
            document(&mixed().json(&options("--rounds 5"), CPUS)),
            expected
        );
    }

    #[test]
    fn an_interrupted_comparison_on_one_cpu_says_so() {
        let mut results = results();
        results.is_interrupted = true;
        let text = document(&results.json(&options("--rounds 1"), None));
        let end = "One round; the ratio is to a; servers and load generator on the same CPU. \
                   Interrupted: these are the runs so far.\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_json_has_the_same_and_every_report() {
        let json = mixed().json(&options("--rounds 5 --seconds 4"), CPUS);
        assert_eq!((&json["rounds"], &json["seconds"]), (&5.into(), &4.into()));
        let servers = &json["scenarios"][0]["servers"];
        let cpu = &servers[0]["figures"]["µs of server CPU per delivery"];
        assert_eq!((&cpu["median"], &cpu["most"]), (&0.21.into(), &0.25.into()));
        assert_eq!(servers[0]["reports"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&servers[0]["ratio"], &servers[1]["ratio"]),
            (&1.0.into(), &0.5.into())
        );
        assert_eq!(servers[2]["failures"][0], "timed | out");
        assert_eq!(servers[2]["figures"]["p99, µs"], Value::Null);
    }
}
