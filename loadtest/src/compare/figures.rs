//! Which figures of a report are compared in each mode, and which of its counts are faults: the
//! tables of `figures.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::report::text::short;

/// One figure of a report: its place, its title, and how many of the report's units are one of the
/// title's.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Figure(String, pub(super) String, #[serde(default = "one")] f64);

fn one() -> f64 {
    1.0
}

/// One count of a report: its place, what to call it, and where the first one is described.
#[derive(Deserialize)]
struct Fault(String, String, #[serde(default)] String);

#[derive(Deserialize)]
struct Tables {
    faults: Vec<Fault>,
    #[serde(flatten)]
    modes: BTreeMap<String, Vec<Figure>>,
}

fn tables() -> Tables {
    toml::from_str(include_str!("figures.toml")).expect("a test reads the file too")
}

/// Returns what is compared in a mode, by its name; the first figure is the headline.
pub(super) fn of(mode: &str) -> Vec<Figure> {
    let mut modes = tables().modes;
    let figures = modes.remove(mode).or_else(|| modes.remove("rest"));
    figures.expect("the table has a rest")
}

impl Figure {
    /// Returns the figure in a report, if it is there.
    pub(super) fn read(&self, report: &Value) -> Option<f64> {
        let Self(pointer, _, units) = self;
        let figure = match pointer.split_once("/*") {
            None => report.pointer(pointer)?.as_f64(),
            // The largest of a list or of an object.
            Some((list, place)) => {
                let all: Vec<&Value> = match report.pointer(list)? {
                    Value::Array(list) => list.iter().collect(),
                    Value::Object(object) => object.values().collect(),
                    _ => return None,
                };
                let figures = all.iter().filter_map(|one| one.pointer(place)?.as_f64());
                figures.max_by(f64::total_cmp)
            }
        };
        Some(figure? / units)
    }

    /// Returns the figure with its name.
    pub(super) fn said(&self, report: &Value) -> String {
        let figure = self.read(report).map_or_else(|| "no".to_owned(), short);
        format!("{figure} {}", self.1)
    }
}

/// Returns what a report says was not as it should be.
pub(super) fn faults(report: &Value) -> String {
    let count = |place: &str| report.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let first = |place: &str| {
        let text = report
            .pointer(place)
            .filter(|_| !place.is_empty())
            .and_then(Value::as_str);
        text.map_or_else(String::new, |text| format!(" ({text})"))
    };
    let faults = tables()
        .faults
        .into_iter()
        .filter(|Fault(place, ..)| count(place) > 0);
    let said = faults
        .map(|Fault(place, word, example)| format!("{} {word}{}", count(&place), first(&example)));
    let said: Vec<String> = said.collect();
    match said.len() {
        0 => "not clean, and the report does not say why".to_owned(),
        _ => said.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mode: &str, place: usize, report: &Value) -> Option<f64> {
        of(mode)[place].read(report)
    }

    #[test]
    fn a_figure_is_read_in_the_unit_of_its_title() {
        let report = json!({ "server_pss_bytes": { "after": 3_145_728 } });
        assert_eq!(read("fanout", 3, &report), Some(3.0));
        assert_eq!(of("fanout")[3].said(&report), "3.00 server PSS, MiB");
        assert_eq!(read("latency", 0, &report), None);
        let storms = |list| json!({ "storm": { "storms": list } });
        let all_served = |seconds| json!({ "all_served_seconds": seconds });
        let report = storms([all_served(0.5), all_served(2.0), all_served(1.0)]);
        assert_eq!(read("storm", 0, &report), Some(2.0));
        assert_eq!(
            read("storm", 0, &storms([json!({}), json!({}), json!({})])),
            None
        );
        let report = json!({ "flood": { "p99_us_by_kind": { "msg": 3.0, "ping": 7.0 } } });
        assert_eq!(read("flood", 0, &report), Some(7.0));
        assert_eq!(read("flood", 5, &report), None);
    }

    #[test]
    fn faults_are_counted_and_the_first_is_described() {
        let report = json!({ "lost": 3, "repeated": 1, "reordered": 0, "disconnected": 2,
            "first_disconnect": "it said 4102" });
        assert_eq!(
            faults(&report),
            "3 lost, 1 repeated, 2 disconnected (it said 4102)"
        );
        let positions = json!({ "lost": 0, "positions": { "offsets_missing": 2,
            "wrong_senders": 0, "first_fault": "offset 5 where 3 was due" } });
        assert_eq!(
            faults(&positions),
            "2 offsets missing (offset 5 where 3 was due)"
        );
        assert!(faults(&json!({})).contains("does not say why"));
    }
}
