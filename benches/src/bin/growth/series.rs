//! What was measured: lines over a common axis, which are a table and a plot.

use std::fmt;

use anyhow::{Result, ensure};

/// Some costs that change with one size.
#[derive(Debug)]
pub(crate) struct Chart {
    /// The heading.
    pub(crate) title: String,
    /// The size that grows: the first column, and the horizontal axis.
    pub(crate) size: &'static str,
    /// Unit of the lines: the vertical axis.
    pub(crate) unit: &'static str,
    /// A column each.
    pub(crate) lines: Vec<Line>,
    /// The sizes that have a row; lines may have more.
    pub(crate) rows: Vec<usize>,
    /// A sentence below the table, or none.
    pub(crate) note: String,
}

/// One cost.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The column's heading.
    pub(crate) name: String,
    /// Sizes and costs, by size.
    pub(crate) points: Vec<(usize, f64)>,
    /// True if the line is in the plot too.
    pub(crate) plotted: bool,
}

impl Line {
    /// Returns a line without points.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            points: Vec::new(),
            plotted: true,
        }
    }

    /// Returns a column that is in the table alone.
    pub(crate) fn column(name: impl Into<String>) -> Self {
        Self {
            plotted: false,
            ..Self::new(name)
        }
    }

    fn cell(&self, size: usize) -> String {
        let point = self.points.iter().find(|(found, _)| *found == size);
        point.map_or_else(String::new, |(_, cost)| format!("{cost:.0}"))
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings: Vec<&str> = self.lines.iter().map(|line| &*line.name).collect();
        writeln!(f, "### {} ({})\n", self.title, self.unit)?;
        writeln!(f, "| {} | {} |", self.size, headings.join(" | "))?;
        writeln!(f, "|---:|{}", "---:|".repeat(self.lines.len()))?;
        for size in &self.rows {
            let cells: Vec<String> = self.lines.iter().map(|line| line.cell(*size)).collect();
            writeln!(f, "| {} | {} |", grouped(*size), cells.join(" | "))?;
        }
        if !self.note.is_empty() {
            writeln!(f, "\n{}", self.note)?;
        }
        Ok(())
    }
}

/// Formats a number as people read it: `1,000,000`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The sizes that are measured.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// Powers of ten from a thousand on: the rows of the tables.
    pub(crate) rows: Vec<usize>,
}

impl Sizes {
    /// Returns the sizes up to `max`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn up_to(max: usize) -> Result<Self> {
        ensure!(
            max >= SIZE_MIN,
            "--max is at least {SIZE_MIN}, where the tables begin"
        );
        let rows = std::iter::successors(Some(SIZE_MIN), |size| size.checked_mul(10));
        Ok(Self {
            rows: rows.take_while(|size| *size <= max).collect(),
        })
    }

    /// Returns the largest size.
    pub(crate) fn max(&self) -> usize {
        self.rows.last().copied().unwrap_or(SIZE_MIN)
    }

    /// Returns whether memory is measured with so many: at the rows, and eight times while tables
    /// double, before the step and after it, for that is where they do.
    pub(crate) fn has_sample(&self, count: usize) -> bool {
        let step = (count / 16).next_power_of_two();
        let is_step = count.is_multiple_of(step) || (count - 1).is_multiple_of(step);
        self.rows.contains(&count) || count > SIZE_MIN && is_step
    }
}

const SIZE_MIN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_a_table_with_a_row_a_size() {
        let mut bytes = Line::new("bytes");
        bytes.points = vec![(1000, 12.4), (1500, 13.0), (10_000, 11.0)];
        let mut allocations = Line::column("allocations");
        allocations.points = vec![(10_000, 4.0)];
        let chart = Chart {
            title: "Memory".to_owned(),
            size: "rooms",
            unit: "bytes",
            lines: vec![bytes, allocations],
            rows: Sizes::up_to(99_999).unwrap().rows,
            note: "No more.".to_owned(),
        };

        assert_eq!(
            chart.to_string(),
            "### Memory (bytes)\n\n\
             | rooms | bytes | allocations |\n\
             |---:|---:|---:|\n\
             | 1,000 | 12 |  |\n\
             | 10,000 | 11 | 4 |\n\
             \nNo more.\n"
        );
    }

    #[test]
    fn sizes_are_sampled_around_eight_steps_a_doubling() {
        let sizes = Sizes::up_to(1_000_000).unwrap();
        let samples = (16_385..=32_768)
            .filter(|count| sizes.has_sample(*count))
            .count();
        assert_eq!(samples, 16);
        assert!(sizes.has_sample(1000) && sizes.has_sample(1_000_000));
        assert!(Sizes::up_to(999).is_err());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [999, 1000, 1_234_567].map(grouped),
            ["999", "1,000", "1,234,567"]
        );
    }
}
