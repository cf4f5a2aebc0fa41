//! The results for people, as Markdown, and for programs, as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::{self, Figure};
use super::results::{Results, ScenarioResults, ServerResults};
use super::{Cpus, Options};
use crate::machine::Machine;

/// A table for each scenario, and how they came about.
pub(super) fn document(results: &Results, options: &Options, cpus: Option<Cpus>) -> String {
    let mut text = String::new();
    for scenario in &results.scenarios {
        text += &format!("\n### {}\n\n{}\n", scenario.name, scenario.stands_for);
        text += &format!("`{}`\n\n", scenario.command_line);
        text += &table(scenario, &results.baseline);
    }
    text += &format!("\n{}\n", circumstances(results, options, cpus));
    text
}

/// The same, with every report.
pub(super) fn json(results: &Results, options: &Options, cpus: Option<Cpus>) -> String {
    let scenarios = results.scenarios.iter().map(|scenario| {
        let servers = scenario.servers.iter();
        let servers = servers.map(|server| server_json(scenario, server, &results.baseline));
        json!({
            "name": scenario.name,
            "stands_for": scenario.stands_for,
            "command_line": scenario.command_line,
            "headline": scenario.headline().title,
            "servers": servers.collect::<Value>(),
        })
    });
    let json = json!({
        "baseline": results.baseline,
        "rounds": options.rounds(),
        "seconds": options.seconds,
        "server_cpu": cpus.map(|cpus| cpus.server),
        "driver_cpu": cpus.map(|cpus| cpus.driver),
        "machine": Machine::this(),
        "interrupted": results.is_interrupted,
        "scenarios": scenarios.collect::<Value>(),
    });
    serde_json::to_string_pretty(&json).expect("numbers and strings are JSON")
}

fn server_json(scenario: &ScenarioResults, server: &ServerResults, baseline: &str) -> Value {
    let figures = scenario.figures.iter().map(|figure| {
        let summary = server.summary(figure);
        let summary = summary.map(|summary| {
            json!({ "median": summary.median, "least": summary.least, "most": summary.most })
        });
        (figure.title.to_owned(), summary.unwrap_or_default())
    });
    json!({
        "name": server.name,
        "ratio": scenario.ratio(server, baseline),
        "against": server.against,
        "ratio_against": server.against.as_ref().and_then(|other| scenario.ratio(server, other)),
        "figures": figures.collect::<serde_json::Map<_, _>>(),
        "failures": server.failures,
        "reports": server.reports,
    })
}

fn table(scenario: &ScenarioResults, baseline: &str) -> String {
    let (headline, others) = (scenario.headline(), &scenario.figures[1..]);
    let mut text = format!("| server | {} | least | most | ratio |", headline.title);
    for other in others {
        text += &format!(" {} |", other.title);
    }
    text += &format!(
        "\n|---|---:|---:|---:|---:|{}\n",
        "---:|".repeat(others.len())
    );
    for server in &scenario.servers {
        text += &row(scenario, server, baseline, others);
    }
    if scenario
        .servers
        .iter()
        .any(ServerResults::is_generator_bound)
    {
        text += "\n† The load generator was the bottleneck: these rates are its own.\n";
    }
    let against = scenario.ratios_against();
    let against = against.map(|(server, other, ratio)| format!("{server} : {other} = {ratio:.2}"));
    let against: Vec<String> = against.collect();
    if !against.is_empty() {
        text += &format!("\n{}.\n", against.join(", "));
    }
    text
}

fn row(
    scenario: &ScenarioResults,
    server: &ServerResults,
    baseline: &str,
    others: &[Figure],
) -> String {
    let mark = if server.is_generator_bound() {
        " †"
    } else {
        ""
    };
    let mut row = format!("| {}{mark} |", server.name);
    let summary = server.summary(scenario.headline());
    let failure = server.failure().map(|failure| failure.replace('|', "\\|"));
    let headline = match (summary, failure) {
        (Some(summary), Some(failure)) => format!("{} ({failure})", figures::short(summary.median)),
        (Some(summary), None) => figures::short(summary.median),
        (None, Some(failure)) => failure,
        (None, None) => "not run".to_owned(),
    };
    let figure = |figure: Option<f64>| figure.map_or_else(String::new, figures::short);
    let (least, most) = (
        figure(summary.map(|summary| summary.least)),
        figure(summary.map(|summary| summary.most)),
    );
    let ratio = scenario.ratio(server, baseline);
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let others = others.iter().map(|other| {
        let summary = server.summary(other);
        figure(summary.map(|summary| summary.median))
    });
    for cell in [headline, least, most, ratio].into_iter().chain(others) {
        write!(row, " {cell} |").expect("a string takes everything");
    }
    row + "\n"
}

/// What a reader must know to read the tables.
fn circumstances(results: &Results, options: &Options, cpus: Option<Cpus>) -> String {
    let rounds = match options.rounds() {
        1 => "One round".to_owned(),
        rounds => format!("Medians of {rounds} rounds with the least and the most"),
    };
    let cpus = match cpus {
        Some(Cpus { server, driver }) => {
            format!("the servers on CPU {server}, the load generator on CPU {driver}")
        }
        None => "servers and load generator on the same CPU".to_owned(),
    };
    let interrupted = if results.is_interrupted {
        " Interrupted: these are the runs so far."
    } else {
        ""
    };
    let baseline = &results.baseline;
    format!("{rounds}; the ratio is to {baseline}; {cpus}.{interrupted}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::results::tests::{report, results};
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
    fn what_is_set_against_another_has_its_ratio_below_the_table() {
        let mut results = mixed();
        results.add("big-room", "c", Ok(report(0.1)));
        let text = document(&results, &options("--rounds 5"), CPUS);
        assert!(
            text.contains("its own.\n\nb : c = 1.05.\n\nMedians"),
            "{text}"
        );
        let json: Value =
            serde_json::from_str(&json(&results, &options("--rounds 5"), CPUS)).unwrap();
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

| server | µs of server CPU per delivery | least | most | ratio | deliveries/s | p99, µs | server PSS, MiB |
|---|---:|---:|---:|---:|---:|---:|---:|
| a | 0.2100 | 0.2000 | 0.2500 | 1.00 | 1,500,000 |  |  |
| b † | 0.1050 (1 of 2 runs failed: 7 lost) | 0.1050 | 0.1050 | 0.50 | 1,500,000 |  |  |
| c | timed \\| out |  |  |  |  |  |  |
| d | not run |  |  |  |  |  |  |

† The load generator was the bottleneck: these rates are its own.

Medians of 5 rounds with the least and the most; the ratio is to a; the servers on CPU 0, the load generator on CPU 1.
";
        assert_eq!(document(&mixed(), &options("--rounds 5"), CPUS), expected);
    }

    #[test]
    fn an_interrupted_comparison_on_one_cpu_says_so() {
        let mut results = results();
        results.is_interrupted = true;
        let text = document(&results, &options("--rounds 1"), None);
        assert!(
            text.ends_with(
                "One round; the ratio is to a; servers and load generator on the same CPU. \
                 Interrupted: these are the runs so far.\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_json_has_the_same_and_every_report() {
        let text = json(&mixed(), &options("--rounds 5 --seconds 4"), CPUS);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["rounds"], &json["seconds"]), (&5.into(), &4.into()));
        let servers = &json["scenarios"][0]["servers"];
        let cpu = &servers[0]["figures"]["µs of server CPU per delivery"];
        assert_eq!((&cpu["median"], &cpu["most"]), (&0.21.into(), &0.25.into()));
        assert_eq!(servers[0]["reports"].as_array().unwrap().len(), 3);
        assert_eq!(servers[1]["ratio"], 0.5);
        assert_eq!(servers[2]["failures"][0], "timed | out");
        assert_eq!(servers[2]["figures"]["p99, µs"], Value::Null);
    }
}
