//! What a setting may be, where its type alone does not say.

use std::time::Duration;

use throng::Hosts;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The crates that log anything, by the first part of their targets.
const LOGGING: [&str; 2] = ["mio", "throng"];

/// Reads a level, and levels for parts of the program: `warn,throng=debug`.
///
/// Stricter than the filters of tracing-subscriber, to which `warning` is a part of the program
/// that has not said anything yet.
pub(crate) fn log_filter(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    let mut level = None;
    for directive in text.split(',').map(str::trim) {
        match directive.split_once('=') {
            None if level.is_some() => {
                return Err(format!("{directive:?} sets the global level twice"));
            }
            None => level = Some(log_level(directive)?),
            Some((target, level)) => {
                targets = targets.with_target(log_target(target)?, log_level(level)?);
            }
        }
    }
    Ok(targets.with_default(level.unwrap_or(LevelFilter::ERROR)))
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    let level = match text.trim().to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => {
            return Err(format!(
                "{text:?} is not a level: use off, error, warn, info, debug or trace, or levels \
                 for parts, such as warn,throng=debug"
            ));
        }
    };
    Ok(level)
}

fn log_target(text: &str) -> Result<&str, String> {
    let target = text.trim();
    let part = target.split("::").next().unwrap_or(target);
    if LOGGING.contains(&part) {
        return Ok(target);
    }
    let parts = LOGGING.join(" or ");
    Err(format!(
        "{text:?} is not a part of the program: use {parts}, such as throng=debug"
    ))
}

/// Accepts a text that is neither empty nor blank.
pub(crate) fn directory(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must name a directory".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Reads hosts. An empty text could mean none or all, and is refused.
pub(crate) fn hosts(text: &str) -> Result<Hosts, String> {
    match text.trim() {
        "" => Err("is empty: list hosts, or leave the setting out".to_owned()),
        _ => text.parse::<Hosts>().map_err(|error| error.to_string()),
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
        Err(_) => Err("must be a whole number".to_owned()),
    }
}

/// Seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "must be a number of seconds".to_owned())?;
    let time = Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| *time <= DURATION_MAX)
        .ok_or_else(|| format!("must be 0 to {} seconds", DURATION_MAX.as_secs()))?;
    if time.is_zero() && number > 0.0 {
        // 0 turns things off, and this was meant to be short.
        return Err("must be 0, or at least a nanosecond: 0.000000001".to_owned());
    }
    Ok(time)
}

pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("must be more than 0 seconds".to_owned()),
        time => Ok(time),
    }
}

/// The longest time that can be set: 30 days.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_a_level_and_levels_for_parts() {
        let targets = log_filter("warn, throng::accept=DEBUG,mio=off").unwrap();
        let enables = |target, level: Level| targets.would_enable(target, &level);

        assert!(enables("throng", Level::WARN) && !enables("throng", Level::INFO));
        assert!(enables("throng::accept", Level::DEBUG));
        assert!(!enables("mio::poll", Level::ERROR));
        let of_a_part = log_filter("throng=info").unwrap();
        assert!(of_a_part.would_enable("mio", &Level::ERROR));
    }

    #[test]
    fn a_filter_that_would_say_nothing_of_what_was_meant_is_refused() {
        for text in [
            "",
            " ",
            "warning",
            "warn,",
            "verbose",
            "3",
            "throng",
            "info,debug",
            "thrang=debug",
            "throng=loud",
            "throng[span]=info",
            "=info",
            "throng=",
            "==",
        ] {
            assert!(log_filter(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_is_not_rounded_to_none() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("-0.0"), Ok(Duration::ZERO));
        assert_eq!(seconds("1e-9"), Ok(Duration::from_nanos(1)));
        for text in ["1e-10", "1e-300", "inf", "NaN", "-1", "", " 1", "1s"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
