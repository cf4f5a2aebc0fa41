//! Values on the command line: numbers with their units and bounds, and why one is refused.

use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::value_parser;

use crate::payload::PAYLOAD_BYTES_MIN;

/// The most that a loop of microseconds per publication can be asked for.
pub(crate) const RATE_MAX: f64 = 1_000_000.0;

/// Longer than anybody waits for a report.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Payloads over this are not what rooms are for, and servers refuse them.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Reads how many there are of something, of which a machine has a million at the most.
pub(crate) fn count() -> RangedI64ValueParser<u32> {
    up_to(1_000_000)
}

/// Reads how many there are of something that is bounded.
pub(crate) fn up_to(max: i64) -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=max)
}

/// Reads how many of a hundred, of whom at least so many.
pub(crate) fn percent(min: i64) -> RangedI64ValueParser<u8> {
    value_parser!(u8).range(min..=100)
}

/// Reads a number of seconds, or a time with its units: `90`, `0.5`, `20ms`, `30m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("{error}; say 30, 0.5, 20ms, 30m or 2h"))?,
    };
    if duration > DURATION_MAX {
        return Err("longer than 30 days".to_owned());
    }
    Ok(duration)
}

/// Reads the same, and not zero.
pub(crate) fn some_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        some => Ok(some),
    }
}

/// Reads the same, with its unit: nobody knows whether a latency of `20` is in seconds.
pub(crate) fn latency(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("without a unit; say {text}ms or {text}us"));
    }
    some_duration(text)
}

/// Reads publications per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.001..=RATE_MAX).contains(&rate) {
        return Err(format!("not between 0.001 and {RATE_MAX} per second"));
    }
    Ok(rate)
}

/// Reads the length of a publication's JSON.
pub(crate) fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text
        .parse()
        .map_err(|_| "not a number of bytes".to_owned())?;
    if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "not between {PAYLOAD_BYTES_MIN} and {PAYLOAD_BYTES_MAX} bytes"
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_says_its_unit() {
        let ms = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(ms("10"), Ok(10_000));
        assert_eq!(ms("0.5"), Ok(500));
        assert_eq!(ms("20ms"), Ok(20));
        assert_eq!(ms("1h 30m"), Ok(5_400_000));
        for text in ["", "nan", "-1", "ten", "31days", "1e300", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(some_duration("0").is_err());
    }

    #[test]
    fn a_latency_without_a_unit_is_refused() {
        assert_eq!(latency("20ms"), Ok(Duration::from_millis(20)));
        assert!(latency("20").unwrap_err().contains("20ms"));
    }
}
