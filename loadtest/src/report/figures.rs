//! Numbers as people read them.

use std::fmt::{self, Display, Formatter};

/// A number without decimals and with commas at the thousands.
pub(crate) struct Grouped(pub(crate) f64);

impl Display for Grouped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0.abs());
        let mut text = String::from(if self.0 < 0.0 { "-" } else { "" });
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// Bytes in the unit that leaves one to four digits.
pub(crate) struct Bytes(pub(crate) f64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut size = self.0;
        let mut units = ["B", "KiB", "MiB", "GiB"].into_iter().peekable();
        let mut unit = units.next().unwrap_or_default();
        while size.abs() >= 1024.0
            && let Some(next) = units.next()
        {
            size /= 1024.0;
            unit = next;
        }
        let decimals = usize::from(size.abs() < 100.0 && unit != "B");
        f.pad(&format!("{size:.decimals$} {unit}"))
    }
}

/// A latency in microseconds, in the unit that leaves one to four digits.
pub(crate) struct Micros(pub(crate) f64);

impl Display for Micros {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(&match self.0 {
            us @ ..1_000.0 => format!("{us:.0} us"),
            us @ ..100_000.0 => format!("{:.1} ms", us / 1e3),
            us @ ..1_000_000.0 => format!("{:.0} ms", us / 1e3),
            us => format!("{:.1} s", us / 1e6),
        })
    }
}

/// A quotient; none if there is nothing to divide by.
pub(crate) fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
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
}
