//! Markdown tables, as `docs/benchmarks.md` has them.

/// A table with a row for each database.
pub struct Table {
    title: String,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// `headings`: of the columns behind the name.
    pub fn new(title: &str, headings: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            headings: headings.iter().map(|&heading| heading.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A row of figures, to three digits.
    pub fn row(&mut self, name: &str, values: &[f64]) {
        let words: Vec<String> = values.iter().map(|&value| digits(value)).collect();
        self.words(name, &words);
    }

    /// A row of words.
    pub fn words(&mut self, name: &str, words: &[String]) {
        let mut row = vec![name.to_owned()];
        row.extend_from_slice(words);
        self.rows.push(row);
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\n{}\n", self.title);
        println!("| database | {} |", self.headings.join(" | "));
        println!("|---{}|", "|---:".repeat(self.headings.len()));
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}

fn digits(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
