//! Texts for people, from the same structures that programs get as JSON: a template in `assets` has
//! the words, and here is how numbers are written.

use std::fmt::{self, Display, Formatter};

use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

/// Fills a template with the figures of a report, or of a comparison.
///
/// # Panics
///
/// If the template is broken, which tests would have shown.
pub(crate) fn render(template: &str, figures: &impl Serialize) -> String {
    let mut environment = Environment::new();
    // A section that a mode does not have is as absent as its figures.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.add_filter("bytes", |size: f64| Bytes(size).to_string());
    environment.add_filter("fixed", |value: f64, decimals: usize| {
        format!("{value:.decimals$}")
    });
    environment.add_filter("grouped", |value: f64| Grouped(value).to_string());
    environment.add_filter("left", |text: String, width: usize| {
        format!("{text:<width$}")
    });
    environment.add_filter("number", |value: f64| value.to_string());
    environment.add_filter("right", |text: String, width: usize| {
        format!("{text:>width$}")
    });
    environment.add_filter("short", short);
    environment.add_filter("signed", |value: f64| format!("{value:+.1}"));
    environment.add_filter("us", |us: f64| Micros(us).to_string());
    let figures = Value::from_serialize(figures);
    let rendered = environment.render_str(template, figures);
    rendered.unwrap_or_else(|error| panic!("a template of this program is broken: {error:#}"))
}

/// A number without decimals and with commas at the thousands.
pub(crate) struct Grouped(pub(crate) f64);

impl Display for Grouped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0.abs());
        f.write_str(if self.0 < 0.0 { "-" } else { "" })?;
        for (index, digit) in digits.char_indices() {
            let comma = index > 0 && (digits.len() - index).is_multiple_of(3);
            write!(f, "{}{digit}", if comma { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Bytes in the unit that leaves one to four digits.
pub(crate) struct Bytes(pub(crate) f64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mut size, mut unit) = (self.0, "B");
        for larger in ["KiB", "MiB", "GiB"] {
            if size.abs() >= 1024.0 {
                (size, unit) = (size / 1024.0, larger);
            }
        }
        let decimals = usize::from(size.abs() < 100.0 && unit != "B");
        write!(f, "{size:.decimals$} {unit}")
    }
}

/// A latency in microseconds, in the unit that leaves one to four digits.
pub(crate) struct Micros(pub(crate) f64);

impl Display for Micros {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ ..1_000.0 => write!(f, "{us:.0} us"),
            us @ ..100_000.0 => write!(f, "{:.1} ms", us / 1e3),
            us @ ..1_000_000.0 => write!(f, "{:.0} ms", us / 1e3),
            us => write!(f, "{:.1} s", us / 1e6),
        }
    }
}

/// Writes the digits that matter, with commas from five of them on.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        10_000.0.. => Grouped(figure).to_string(),
        100.0.. => format!("{figure:.0}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let text = |number| Grouped(number).to_string();
        assert_eq!(text(0.4), "0");
        assert_eq!(text(999.0), "999");
        assert_eq!(text(1_234_567.0), "1,234,567");
        assert_eq!(text(-123_456.0), "-123,456");
    }

    #[test]
    fn sizes_and_times_have_the_unit_that_fits() {
        assert_eq!(
            [0.0, 1023.0, 1536.0, 3.3e6, 5e9].map(|bytes| Bytes(bytes).to_string()),
            ["0 B", "1023 B", "1.5 KiB", "3.1 MiB", "4.7 GiB"]
        );
        assert_eq!(
            [0.4, 999.0, 1_500.0, 123_000.0, 2_500_000.0].map(|us| Micros(us).to_string()),
            ["0 us", "999 us", "1.5 ms", "123 ms", "2.5 s"]
        );
    }

    #[test]
    fn figures_keep_the_digits_that_matter() {
        let figures = [
            0.02153,
            2.841,
            533.7,
            9999.4,
            21250.0,
            1_234_567.0,
            -45678.0,
        ];
        let texts = [
            "0.0215",
            "2.84",
            "534",
            "9999",
            "21,250",
            "1,234,567",
            "-45,678",
        ];
        assert_eq!(figures.map(short), texts);
    }
}
