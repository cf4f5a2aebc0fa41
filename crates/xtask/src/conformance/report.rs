//! What the testsuite found, and what we expected it to find.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// A case's number, such as 7.1.5, in numeric order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CaseId(Vec<u32>);

/// Autobahn's two words on one case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    behavior: String,
    close: String,
}

/// Which cases were asked for.
#[derive(Debug)]
pub(super) struct Selection(Vec<String>);

/// The testsuite's results.
#[derive(Debug)]
pub(super) struct Report(BTreeMap<CaseId, Verdict>);

/// The results that are checked in: each case with its behaviour.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expectation(BTreeMap<CaseId, String>);

impl Selection {
    /// Cases and sections, as on the command line.
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    /// Returns the patterns for the testsuite's specification.
    pub(super) fn patterns(&self) -> &[String] {
        &self.0
    }

    fn includes(&self, case: &CaseId) -> bool {
        let case = case.to_string();
        self.0
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(section) => case.starts_with(section),
                None => case == *pattern,
            })
    }
}

impl Report {
    /// Reads the testsuite's `index.json`.
    ///
    /// # Errors
    ///
    /// If it is not what Autobahn writes, or has results for more than one server.
    pub(super) fn parse(index: &str) -> Result<Self> {
        let index: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(index)
            .context("the testsuite's report is not what was expected of it")?;
        let cases = index.into_values().next().unwrap_or_default();
        let word = |result: &Value, key: &str| result[key].as_str().unwrap_or("absent").to_owned();
        let verdict = |result: &Value| Verdict {
            behavior: word(result, "behavior"),
            close: word(result, "behaviorClose"),
        };
        cases
            .iter()
            .map(|(case, result)| Ok((CaseId::parse(case)?, verdict(result))))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Returns one line: how many cases ran, and how they ended.
    pub(super) fn summary(&self) -> String {
        let mut counts = BTreeMap::new();
        for verdict in self.0.values() {
            *counts.entry(verdict.behavior.as_str()).or_insert(0) += 1;
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(word, n)| format!("{n} {word}"))
            .collect();
        format!("{} cases ran: {}", self.0.len(), counts.join(", "))
    }

    /// Returns what is wrong whatever was expected, a line each.
    pub(super) fn violations(&self) -> Vec<String> {
        let nothing = self.0.is_empty().then(|| "no case ran".to_owned());
        let wrong = self.0.iter().filter(|(_, verdict)| !verdict.is_good()).map(
            |(case, Verdict { behavior, close })| {
                let number = case.to_string().replace('.', "_");
                let page = format!("{AGENT}_case_{number}.html");
                format!("case {case}: behaviour {behavior}, close {close}; see {page}")
            },
        );
        nothing.into_iter().chain(wrong).collect()
    }
}

impl Expectation {
    /// Reads the checked-in file.
    ///
    /// # Errors
    ///
    /// If it is not a JSON object from case numbers to words.
    pub(super) fn parse(file: &str) -> Result<Self> {
        let cases: BTreeMap<String, String> = serde_json::from_str(file)?;
        cases
            .into_iter()
            .map(|(case, behavior)| Ok((CaseId::parse(&case)?, behavior)))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Returns the differences between the report and this, among the cases that were asked for, a
    /// line each.
    pub(super) fn differences(&self, report: &Report, selection: &Selection) -> Vec<String> {
        let expected = self.0.iter().filter(|(case, _)| selection.includes(case));
        let changed = expected.filter_map(|(case, expected)| match report.0.get(case) {
            Some(Verdict { behavior, .. }) if behavior == expected => None,
            Some(Verdict { behavior, .. }) => Some(format!(
                "case {case}: {behavior}, and {expected} was expected"
            )),
            None => Some(format!(
                "case {case}: did not run, and {expected} was expected"
            )),
        });
        let unknown = report
            .0
            .iter()
            .filter(|(case, _)| !self.0.contains_key(case))
            .map(|(case, verdict)| {
                format!(
                    "case {case}: {}, and the expectation does not know it",
                    verdict.behavior
                )
            });
        changed.chain(unknown).collect()
    }
}

impl From<&Report> for Expectation {
    fn from(report: &Report) -> Self {
        let behavior = |verdict: &Verdict| verdict.behavior.clone();
        Self(
            report
                .0
                .iter()
                .map(|(case, verdict)| (case.clone(), behavior(verdict)))
                .collect(),
        )
    }
}

/// As it is checked in: one line a case, in numeric order, so that a change reads well.
impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(case, behavior): (&CaseId, &String)| format!("  \"{case}\": \"{behavior}\"");
        let lines: Vec<String> = self.0.iter().map(line).collect();
        writeln!(f, "{{\n{}\n}}", lines.join(",\n"))
    }
}

impl Verdict {
    fn is_good(&self) -> bool {
        [&self.behavior, &self.close]
            .iter()
            .all(|word| GOOD.contains(&word.as_str()))
    }
}

impl CaseId {
    fn parse(text: &str) -> Result<Self> {
        let parts = text.split('.').map(str::parse).collect::<Result<_, _>>();
        parts
            .map(Self)
            .with_context(|| format!("`{text}` is not the number of a case"))
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        write!(f, "{}", parts.join("."))
    }
}

/// Under which name the testsuite's reports list us.
pub(super) const AGENT: &str = "throng";

/// INFORMATIONAL is for cases in which the RFC leaves the choice.
const GOOD: [&str; 2] = ["OK", "INFORMATIONAL"];

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cases: &[(&str, &str, &str)]) -> Report {
        let case = |(case, behavior, close): &(&str, &str, &str)| {
            format!(r#""{case}": {{"behavior": "{behavior}", "behaviorClose": "{close}"}}"#)
        };
        let cases: Vec<String> = cases.iter().map(case).collect();
        Report::parse(&format!(r#"{{"throng": {{{}}}}}"#, cases.join(","))).unwrap()
    }

    fn selection(pattern: &str) -> Selection {
        Selection::new(&[pattern.to_owned()])
    }

    #[test]
    fn ok_and_informational_pass_and_are_counted() {
        let report = report(&[
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
            ("1.1.1", "OK", "OK"),
        ]);

        assert_eq!(report.violations(), Vec::<String>::new());
        assert_eq!(report.summary(), "2 cases ran: 1 INFORMATIONAL, 1 OK");
    }

    #[test]
    fn non_strict_fails_and_so_does_a_bad_close() {
        let report = report(&[
            ("6.4.1", "NON-STRICT", "OK"),
            ("7.1.1", "OK", "UNCLEAN"),
            ("9.1.1", "OK", "OK"),
        ]);

        assert_eq!(
            report.violations(),
            [
                "case 6.4.1: behaviour NON-STRICT, close OK; see throng_case_6_4_1.html",
                "case 7.1.1: behaviour OK, close UNCLEAN; see throng_case_7_1_1.html",
            ]
        );
    }

    #[test]
    fn a_run_without_cases_fails() {
        assert_eq!(report(&[]).violations(), ["no case ran"]);
    }

    #[test]
    fn changed_missing_and_unknown_cases_differ() {
        let expectation =
            Expectation::parse(r#"{"1.1.1": "OK", "1.1.2": "OK", "2.1": "OK"}"#).unwrap();
        let report = report(&[("1.1.1", "INFORMATIONAL", "OK"), ("1.1.3", "OK", "OK")]);

        assert_eq!(
            expectation.differences(&report, &selection("1.*")),
            [
                "case 1.1.1: INFORMATIONAL, and OK was expected",
                "case 1.1.2: did not run, and OK was expected",
                "case 1.1.3: OK, and the expectation does not know it",
            ]
        );
    }

    #[test]
    fn section_1_is_not_section_10() {
        let ten = CaseId::parse("10.1.1").unwrap();

        assert!(!selection("1.*").includes(&ten));
        assert!(selection("10.*").includes(&ten) && selection("10.1.1").includes(&ten));
    }

    #[test]
    fn an_expectation_is_written_in_numeric_order_and_read_back() {
        let report = report(&[("10.1.1", "OK", "OK"), ("9.8.6", "OK", "OK")]);
        let expectation = Expectation::from(&report);
        let written = expectation.to_string();

        assert_eq!(
            written,
            "{\n  \"9.8.6\": \"OK\",\n  \"10.1.1\": \"OK\"\n}\n"
        );
        assert_eq!(Expectation::parse(&written).unwrap(), expectation);
    }
}
