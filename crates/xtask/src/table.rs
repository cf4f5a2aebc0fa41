//! The table at the end of a run, and the line below it that machines read.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::outcome::Outcome;

/// The results of all steps, in the order in which they ran.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// One row a step.
    pub(crate) rows: Vec<Row>,
}

/// The result of one step.
#[derive(Debug)]
pub(crate) struct Row {
    /// The step's name on the command line.
    pub(crate) name: String,
    /// Its end.
    pub(crate) outcome: Outcome,
    /// The time that it took.
    pub(crate) elapsed: Duration,
}

impl Table {
    /// Runs a step, and prints how it begins and ends. An error fails the step and stops nothing.
    pub(crate) fn run(
        &mut self,
        name: &str,
        question: &str,
        step: impl FnOnce() -> Result<Outcome>,
    ) {
        println!("\n==> {name}: {question}");
        let started_at = now();
        let outcome = step().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let row = Row {
            name: name.to_owned(),
            outcome,
            elapsed: now() - started_at,
        };
        println!("<== {row}");
        self.rows.push(row);
    }

    /// The whole run's outcome: failed if any step was.
    pub(crate) fn outcome(&self) -> Outcome {
        let failed = |row: &&Row| matches!(row.outcome, Outcome::Failed(_));
        let failed: Vec<&str> = self
            .rows
            .iter()
            .filter(failed)
            .map(|row| &*row.name)
            .collect();
        if failed.is_empty() {
            Outcome::PASSED
        } else {
            Outcome::Failed(failed.join(", "))
        }
    }

    fn count(&self, word: &str) -> usize {
        self.rows
            .iter()
            .filter(|row| row.outcome.word() == word)
            .count()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, word) = (&self.name, self.outcome.word());
        let line = format!(
            "{name:<12} {word:<8} {:>7.1} s  ",
            self.elapsed.as_secs_f64()
        );
        write!(f, "{}", (line + &self.outcome.remark()).trim_end())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:<8} {:>9}", "step", "result", "seconds")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        // This line stands alone and last: build machines read the counts from it.
        let [passed, failed, skipped] = ["passed", "failed", "skipped"].map(|w| self.count(w));
        write!(
            f,
            "\nxtask: {passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took is all that this task times"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, outcome: Outcome) -> Row {
        Row {
            name: name.to_owned(),
            outcome,
            elapsed: Duration::from_millis(1234),
        }
    }

    #[test]
    fn the_table_has_a_row_a_step_and_ends_with_the_counts() {
        let table = Table {
            rows: vec![
                row("fmt", Outcome::PASSED),
                row("clients", Outcome::Skipped("no node".to_owned())),
                row("loom", Outcome::Failed("a deadlock".to_owned())),
            ],
        };

        assert_eq!(
            table.to_string(),
            "step         result     seconds\n\
             fmt          passed       1.2 s\n\
             clients      skipped      1.2 s  no node\n\
             loom         failed       1.2 s  a deadlock\n\
             \n\
             xtask: 1 passed, 1 failed, 1 skipped"
        );
        assert_eq!(table.outcome(), Outcome::Failed("loom".to_owned()));
    }

    #[test]
    fn a_skipped_step_does_not_fail_the_run() {
        let table = Table {
            rows: vec![row("clients", Outcome::Skipped(String::new()))],
        };

        assert_eq!(table.outcome(), Outcome::PASSED);
    }
}
