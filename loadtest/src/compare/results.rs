//! What the runs brought: by scenario and server, medians, extremes, ratios, failures.

use std::collections::BTreeMap;

use serde_json::Value;

use super::figures::{self, Figure};
use super::peers::Peer;
use super::scenarios::Scenario;

/// The report of a clean run, or what was wrong with it.
pub(super) type RunResult = Result<Value, String>;

/// Everything so far.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) baseline: String,
    pub(super) is_interrupted: bool,
    pub(super) scenarios: Vec<ScenarioResults>,
    /// Servers that were not to be had, and why.
    given_up: BTreeMap<String, String>,
}

/// One scenario's.
#[derive(Debug)]
pub(super) struct ScenarioResults {
    pub(super) name: String,
    pub(super) stands_for: String,
    pub(super) command_line: String,
    /// What is compared, the headline first.
    pub(super) figures: &'static [Figure],
    pub(super) servers: Vec<ServerResults>,
}

/// One server's in one scenario.
#[derive(Debug)]
pub(super) struct ServerResults {
    pub(super) name: String,
    /// The server to which it has a ratio beside that to the baseline.
    pub(super) against: Option<String>,
    /// Clean runs.
    pub(super) reports: Vec<Value>,
    /// What was wrong with the others.
    pub(super) failures: Vec<String>,
}

/// What several runs say of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Results {
    /// A place for each run.
    pub(super) fn new(scenarios: &[Scenario], servers: &[&Peer], baseline: String) -> Self {
        let server = |peer: &&Peer| ServerResults {
            name: peer.name.clone(),
            against: peer.against.clone(),
            reports: Vec::new(),
            failures: Vec::new(),
        };
        let scenario = |scenario: &Scenario| ScenarioResults {
            name: scenario.name.clone(),
            stands_for: scenario.stands_for.clone(),
            command_line: scenario.command_line.clone(),
            figures: figures::of(&scenario.mode),
            servers: servers
                .iter()
                .filter(|peer| scenario.is_for(peer))
                .map(server)
                .collect(),
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
        let servers = scenarios
            .filter(|known| known.name == scenario)
            .flat_map(|known| &mut known.servers);
        for results in servers.filter(|known| known.name == server) {
            match &result {
                Ok(report) => results.reports.push(report.clone()),
                Err(reason) => results.failures.push(reason.clone()),
            }
        }
    }

    /// A server is not to be had; each of its cells says so.
    pub(super) fn give_up(&mut self, server: &str, reason: &str) {
        self.given_up.insert(server.to_owned(), reason.to_owned());
        let scenarios = self.scenarios.iter_mut();
        let servers = scenarios.flat_map(|scenario| &mut scenario.servers);
        for results in servers.filter(|known| known.name == server) {
            results.failures.push(reason.to_owned());
        }
    }

    /// Whether a server is not to be had.
    pub(super) fn is_given_up(&self, server: &str) -> bool {
        self.given_up.contains_key(server)
    }

    /// Whether nothing was wrong with any run.
    pub(super) fn is_clean(&self) -> bool {
        let servers = self.scenarios.iter().flat_map(|scenario| &scenario.servers);
        servers.into_iter().all(|server| server.failures.is_empty())
    }
}

impl ScenarioResults {
    /// By which figure the ratio goes.
    pub(super) fn headline(&self) -> &Figure {
        &self.figures[0]
    }

    /// How the headlines of those servers that are set against another relate to it: their name, the
    /// other's, and the ratio.
    pub(super) fn ratios_against(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.servers.iter().filter_map(|server| {
            let other = server.against.as_deref()?;
            Some((&*server.name, other, self.ratio(server, other)?))
        })
    }

    /// How a server's headline relates to another's; none if either is missing.
    pub(super) fn ratio(&self, server: &ServerResults, other: &str) -> Option<f64> {
        let other = self.servers.iter().find(|known| known.name == other)?;
        let divisor = other.summary(self.headline())?.median;
        let dividend = server.summary(self.headline())?.median;
        (divisor > 0.0).then(|| dividend / divisor)
    }
}

impl ServerResults {
    /// What the clean runs say of a figure.
    pub(super) fn summary(&self, figure: &Figure) -> Option<Summary> {
        let figures = self.reports.iter().filter_map(|report| figure.read(report));
        Summary::of(figures.collect())
    }

    /// Whether the load generator, and not the server, kept a run's rates from being higher.
    pub(super) fn is_generator_bound(&self) -> bool {
        let verdict = |report: &Value| report["verdict"] == "generator_bottleneck";
        self.reports.iter().any(verdict)
    }

    /// What went wrong, each thing once.
    pub(super) fn failure(&self) -> Option<String> {
        let first = self.failures.first()?;
        let runs = self.failures.len() + self.reports.len();
        Some(if self.reports.is_empty() {
            first.clone()
        } else {
            format!("{} of {runs} runs failed: {first}", self.failures.len())
        })
    }
}

impl Summary {
    /// Of any number of figures; none of none.
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let (below, above) = ((figures.len() - 1) / 2, figures.len() / 2);
        Some(Self {
            median: f64::midpoint(figures[below], figures[above]),
            least,
            most,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::scenarios;
    use super::*;

    fn peer(name: &str) -> Peer {
        let against = if name == "b" { "\nagainst = 'c'" } else { "" };
        toml::from_str(&format!("name = '{name}'\ncommand = ['{name}']{against}")).unwrap()
    }

    /// The baseline `a` and the servers `b`, which is set against `c`, to `d`, in the scenario `big-room`.
    pub(in super::super) fn results() -> Results {
        let scenarios = scenarios::chosen(&["big-room".to_owned()], 3).unwrap();
        let peers = ["a", "b", "c", "d"].map(peer);
        let peers: Vec<&Peer> = peers.iter().collect();
        Results::new(&scenarios, &peers, "a".to_owned())
    }

    pub(in super::super) fn report(cpu_us: f64) -> Value {
        json!({ "server_cpu_us_per_delivery": cpu_us, "deliveries_per_second": 1_500_000.0 })
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
    fn a_ratio_is_of_medians_to_the_baselines() {
        let mut results = results();
        for (a, b) in [(2.0, 1.0), (4.0, 5.0), (3.0, 1.5)] {
            results.add("big-room", "a", Ok(report(a)));
            results.add("big-room", "b", Ok(report(b)));
        }
        let scenario = &results.scenarios[0];
        let ratio = |index: usize| scenario.ratio(&scenario.servers[index], "a");
        assert_eq!([ratio(0), ratio(1), ratio(2)], [Some(1.0), Some(0.5), None]);
        assert_eq!(scenario.ratio(&scenario.servers[0], "c"), None);
        assert_eq!(scenario.ratios_against().count(), 0, "c was not run");
        results.add("big-room", "c", Ok(report(6.0)));
        let against: Vec<_> = results.scenarios[0].ratios_against().collect();
        assert_eq!(against, [("b", "c", 0.25)]);
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
}
