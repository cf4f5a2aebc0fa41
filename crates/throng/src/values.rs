//! What a setting may be, where its type alone does not say.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub(crate) fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path begins with /".to_owned());
    }
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "/-._~!$'()*+,;=:@%".contains(c);
    match text.chars().find(|c| !of_a_path(*c)) {
        None => Ok(text.to_owned()),
        Some(other) => Err(format!("a path has no {other:?}")),
    }
}

pub(crate) fn positive_usize(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| *time <= DURATION_MAX)
        .ok_or_else(|| format!("must be 0 to {} seconds", DURATION_MAX.as_secs()))
}

pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("must be over 0 seconds".to_owned()),
        time => Ok(time),
    }
}

/// The longest time that can be set: 30 days.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
