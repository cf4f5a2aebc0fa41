//! In which format `/metrics` is written: Prometheus's plain text, or OpenMetrics for who asks for
//! it.
//!
//! The metrics are encoded as OpenMetrics. The plain text is the same lines but for three things: a
//! counter's family is named as its samples are, units are not said, and nothing says that it ends.

use http::{HeaderMap, header};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, which everybody reads.
    Plain,
}

impl Format {
    /// Returns the format that the `Accept` headers prefer (RFC 9110 section 12.5.1). Plain text if
    /// they like both as much, or none: a scrape that is answered is worth more than one that is
    /// refused.
    pub(crate) fn asked_for(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = values
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        if quality(&ranges, Self::OpenMetrics) > quality(&ranges, Self::Plain) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes what was encoded as OpenMetrics.
    pub(crate) fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Plain => plain(&open_metrics),
        }
    }

    const fn media_type(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
            Self::Plain => ("text", "plain", "0.0.4"),
        }
    }
}

/// Returns the weight of a format, in thousandths: that of the most exact range that it is in.
fn quality(ranges: &[Range<'_>], format: Format) -> u16 {
    let matching = ranges.iter().filter_map(|range| range.matches(format));
    let most_exact = matching.max_by_key(|(exactness, quality)| (*exactness, *quality));
    most_exact.map_or(0, |(_, quality)| quality)
}

/// A range of media types, and how much they are wanted.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self {
            kind,
            subtype,
            version: None,
            quality: 1000,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            } else if name.eq_ignore_ascii_case("q") {
                range.quality = thousandths(value)?;
            }
        }
        Some(range)
    }

    /// Returns how exactly it names this format, and how much it wants it; nothing if it is
    /// another's.
    fn matches(&self, format: Format) -> Option<(u8, u16)> {
        let (kind, subtype, version) = format.media_type();
        let is = |found: &str, wanted: &str| found.eq_ignore_ascii_case(wanted);
        let exactness = match (self.kind, self.subtype, self.version) {
            ("*", "*", None) => 0,
            (found, "*", None) if is(found, kind) => 1,
            (found, sub, None) if is(found, kind) && is(sub, subtype) => 2,
            (found, sub, Some(v)) if is(found, kind) && is(sub, subtype) && v == version => 3,
            _ => return None,
        };
        Some((exactness, self.quality))
    }
}

/// Reads a quality: 0 to 1, with up to three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = (whole.bytes().chain(decimals.bytes())).all(|byte| byte.is_ascii_digit());
    if !is_number || whole.len() != 1 || decimals.len() > 3 {
        return None;
    }
    let thousandths = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

/// Writes OpenMetrics as Prometheus's text format 0.0.4.
fn plain(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    // Help comes before the type, and has the name that the type decides.
    let mut help = "";
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), _, _) => {
                help = line;
                continue;
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                let text = help.splitn(4, ' ').nth(3).unwrap_or_default();
                plain.push_str(&format!(
                    "# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}"
                ));
            }
            (Some("#"), ..) => continue,
            _ => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_format_is_the_same_but_for_names_of_counters_units_and_the_end() {
        let open = "# HELP a_bytes Says \"a b\".\n# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n\
                    a_bytes 1\n# HELP b B.\n# TYPE b counter\nb_total{c=\"# d\"} 2\n# EOF\n";
        let wanted = "# HELP a_bytes Says \"a b\".\n# TYPE a_bytes gauge\na_bytes 1\n\
                      # HELP b_total B.\n# TYPE b_total counter\nb_total{c=\"# d\"} 2\n";
        assert_eq!(Format::Plain.write(open.to_owned()), wanted);
        assert_eq!(Format::OpenMetrics.write(open.to_owned()), open);
    }

    #[test]
    fn a_quality_has_up_to_three_decimals() {
        for (text, wanted) in [
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("0.001", Some(1)),
            ("0.999", Some(999)),
            ("0.5000", None),
            (".5", None),
            ("+1", None),
            ("1.1", None),
            ("-1", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
    }
}
