//! What was counted beside what the baseline says, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;

use super::Counts;

/// One row a path, in the order of their names.
#[derive(Debug)]
pub(super) struct Table(BTreeMap<String, Row>);

/// The counts of the two for one path; none if one does not name it.
#[derive(Debug, Default)]
struct Row {
    baseline: Option<u64>,
    now: Option<u64>,
}

impl Table {
    /// Puts the two side by side.
    pub(super) fn new(baseline: &Counts, now: &Counts) -> Self {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for (name, count) in baseline {
            rows.entry(name.clone()).or_default().baseline = Some(*count);
        }
        for (name, count) in now {
            rows.entry(name.clone()).or_default().now = Some(*count);
        }
        Self(rows)
    }

    /// Returns what is wrong, a clause each; empty if nothing is.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.0
            .iter()
            .filter_map(|(name, row)| row.complaint(name))
            .collect()
    }
}

impl Row {
    fn complaint(&self, name: &str) -> Option<String> {
        match self.change_percent() {
            Some(change) if change > GROWTH_MAX_PERCENT => {
                Some(format!("{name} grew by {change:.1} %"))
            }
            Some(_) => None,
            None if self.now.is_none() => Some(format!("{name} was not counted")),
            None => Some(format!("{name} is not in the baseline")),
        }
    }

    fn change_percent(&self) -> Option<f64> {
        let (baseline, now) = (self.baseline? as f64, self.now? as f64);
        Some((now - baseline) / baseline * 100.0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.keys().map(String::len).max().unwrap_or(0);
        writeln!(
            f,
            "{:<width$} {:>10} {:>10} {:>9}",
            "path", "baseline", "now", "change"
        )?;
        for (name, row) in &self.0 {
            let count =
                |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let (baseline, now) = (count(row.baseline), count(row.now));
            let change = row.change_percent();
            let change = change.map_or_else(String::new, |change| format!("{change:+.2} %"));
            let line = format!("{name:<width$} {baseline:>10} {now:>10} {change:>9}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Growth that the compiler's mood may cost before somebody has to look: counts are exact, but a
/// change elsewhere can move an inlining decision.
const GROWTH_MAX_PERCENT: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        let owned = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        counts.iter().map(owned).collect()
    }

    #[test]
    fn growth_beyond_the_limit_and_unknown_paths_are_complaints() {
        let table = Table::new(
            &counts(&[("a", 100), ("b", 100), ("c", 100), ("gone", 1)]),
            &counts(&[("a", 103), ("b", 104), ("c", 50), ("new", 1)]),
        );

        assert_eq!(
            table.complaints(),
            [
                "b grew by 4.0 %",
                "gone was not counted",
                "new is not in the baseline"
            ]
        );
    }

    #[test]
    fn the_table_has_a_row_a_path() {
        let table = Table::new(
            &counts(&[("unmask.b64", 100)]),
            &counts(&[("unmask.b64", 94)]),
        );

        assert_eq!(
            table.to_string(),
            "path         baseline        now    change\n\
             unmask.b64        100         94   -6.00 %\n"
        );
    }
}
