//! Classes of rooms: the settings of the default class, and the tables that say otherwise.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use throng::{Classes, HistoryLimits, RoomClass, SlowConsumer};
use toml::Spanned;
use toml::de::DeValue;

use crate::keys::{Fault, Keys, Setting, in_order};
use crate::values::seconds;

/// Settings of the rooms of one class. As flags, the default class.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClassSettings {
    /// Publications that a room retains; 0 turns history off
    #[arg(long, env = "THRONG_HISTORY_PUBLICATIONS", default_value_t = 1000)]
    history_publications: u32,

    /// Bytes of publications that a room retains; 0 turns history off
    #[arg(long, env = "THRONG_HISTORY_BYTES", default_value_t = 1_048_576)]
    history_bytes: usize,

    /// Seconds for which a room retains a publication; 0 turns history off
    #[arg(long, env = "THRONG_HISTORY_AGE_S", default_value = "600", value_parser = seconds)]
    history_age_s: Duration,

    /// Treatment of a slow member: disconnect (close with 4102), skip (drop the oldest queued
    /// publications) or latest (queue only the newest). What is dropped is announced by a gap event
    #[arg(long, env = "THRONG_SLOW_CONSUMER", default_value_t = SlowConsumer::Disconnect)]
    slow_consumer: SlowConsumer,

    /// Seconds for which a room remembers a publication's key, so that a repeat is not published
    /// again; 0 is never
    #[arg(long, env = "THRONG_KEY_WINDOW_S", default_value = "300", value_parser = seconds)]
    key_window_s: Duration,

    /// Keys that a room remembers; above it, the oldest are forgotten
    #[arg(long, env = "THRONG_MAX_KEYS", default_value_t = 10_000)]
    max_keys: u32,

    /// Largest publication, in bytes; a larger one is answered with an error, too_large; 0 is the
    /// same as --max-message-bytes
    #[arg(long, env = "THRONG_MAX_PUBLICATION_BYTES", default_value_t = 0)]
    max_publication_bytes: u32,
}

impl ClassSettings {
    /// Returns the classes of the tables, each with this one's settings where its table sets
    /// nothing, and this one for all other rooms.
    pub(crate) fn classes(&self, rooms: &[RoomTable], message_bytes_max: usize) -> Classes {
        let patterns = rooms.iter().map(|table| {
            let mut settings = self.clone();
            for setting in &table.settings {
                setting.apply(&mut settings);
            }
            (
                table.pattern.as_str().into(),
                settings.class(message_bytes_max),
            )
        });
        Classes::new(patterns.collect(), self.class(message_bytes_max))
    }

    fn class(&self, message_bytes_max: usize) -> RoomClass {
        RoomClass {
            history: HistoryLimits {
                publications_max: self.history_publications,
                bytes_max: self.history_bytes,
                age_max_ms: milliseconds(self.history_age_s),
            },
            slow_consumer: self.slow_consumer,
            key_window_ms: milliseconds(self.key_window_s),
            keys_max: self.max_keys,
            publication_bytes_max: match self.max_publication_bytes {
                0 => u32::try_from(message_bytes_max).unwrap_or(u32::MAX),
                bytes => bytes,
            },
        }
    }
}

/// Returns the time in milliseconds, rounded up: more than 0 stays so, because 0 turns things off.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// The tables `[[rooms]]` of a file, or the inline array of a flag, in their order.
#[derive(Clone, Debug)]
pub(crate) struct RoomTables(pub(crate) Vec<RoomTable>);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct RoomTable {
    pub(crate) pattern: String,
    pub(crate) settings: Vec<Setting>,
}

/// The key of the tables in the file.
pub(crate) const ROOMS: &str = "rooms";

/// The key of the pattern in a table.
pub(crate) const MATCH: &str = "match";

impl RoomTables {
    /// Reads the array of tables.
    pub(crate) fn read(array: &Spanned<DeValue<'_>>) -> Result<Self, Fault> {
        let DeValue::Array(values) = array.get_ref() else {
            return Err(not_tables(array));
        };
        let mut tables: Vec<RoomTable> = Vec::new();
        for value in values {
            let table = RoomTable::read(value)?;
            let pattern = &table.pattern;
            // What matches a pattern's own text matches all that the pattern does.
            if let Some(first) = matching(&tables).pattern_of(pattern) {
                let reason = if first == pattern {
                    format!("{pattern:?} is listed twice; the first table applies")
                } else {
                    format!(
                        "{pattern:?} matches no room: the earlier pattern {first:?} matches the \
                         same rooms"
                    )
                };
                return Err(Fault::at(value, MATCH, reason));
            }
            tables.push(table);
        }
        Ok(Self(tables))
    }
}

impl FromStr for RoomTables {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let array = DeValue::parse(text).map_err(|error| Fault::syntax(&error, text));
        let tables = array.and_then(|array| Self::read(&array));
        tables.map_err(|fault| fault.to_string())
    }
}

impl RoomTable {
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Fault> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(not_tables(value));
        };
        let pattern = match table.get(MATCH) {
            None => {
                let reason = "is missing: set the pattern of room names, such as \"chat:*\"";
                return Err(Fault::at(value, MATCH, reason));
            }
            Some(pattern) => pattern_of(pattern)?,
        };
        let keys = Keys::new::<ClassSettings>(MATCH, "room setting");
        let settings = in_order(table)
            .into_iter()
            .filter(|(key, _)| key.get_ref() != MATCH)
            .map(|(key, value)| keys.read(key, value))
            .collect::<Result<_, _>>()
            .map_err(|fault| fault.of(&pattern))?;
        Ok(Self { pattern, settings })
    }
}

/// Returns classes that tell which table matches a room, and nothing else.
fn matching(tables: &[RoomTable]) -> Classes {
    let patterns = tables.iter().map(|table| table.pattern.as_str().into());
    let patterns = patterns
        .map(|pattern| (pattern, RoomClass::PLAIN))
        .collect();
    Classes::new(patterns, RoomClass::PLAIN)
}

fn pattern_of(value: &Spanned<DeValue<'_>>) -> Result<String, Fault> {
    match value.get_ref().as_str() {
        Some("") => Err(Fault::at(value, MATCH, "no room has an empty name")),
        Some(pattern) => Ok(pattern.to_owned()),
        None => Err(Fault::at(value, MATCH, "must be a string")),
    }
}

fn not_tables(value: &Spanned<DeValue<'_>>) -> Fault {
    let reason = "must be tables [[rooms]], or an array such as \
                  [{match = \"cursor:*\", slow_consumer = \"latest\"}]";
    Fault::at(value, ROOMS, reason)
}

/// Says what is so of which rooms.
pub(crate) fn announce(classes: &Classes) {
    let every = [("*", classes.other())];
    for (rooms, class) in classes.patterns().chain(every) {
        let RoomClass {
            history,
            slow_consumer,
            key_window_ms,
            keys_max,
            publication_bytes_max,
        } = class;
        let HistoryLimits {
            publications_max,
            bytes_max,
            age_max_ms,
        } = history;
        tracing::info!(
            rooms,
            history_publications_max = publications_max,
            history_bytes_max = bytes_max,
            history_age_max_ms = age_max_ms,
            %slow_consumer,
            key_window_ms,
            keys_max,
            publication_bytes_max,
            "room class (the first match applies)"
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    /// Returns the classes that these flags and this array make.
    fn classes(flags: &[&str], rooms: &str) -> Classes {
        let command = ClassSettings::augment_args(Command::new("t").no_binary_name(true));
        let given = command
            .mut_args(|arg| arg.env(None))
            .get_matches_from(flags);
        let settings = ClassSettings::from_arg_matches(&given).unwrap();
        let rooms: RoomTables = rooms.parse().unwrap();
        settings.classes(&rooms.0, 65_536)
    }

    #[test]
    fn a_table_overrides_the_default_class_and_has_the_rest_from_it() {
        let classes = classes(
            &["--max-keys=7", "--history-bytes=5", "--slow-consumer=skip"],
            r#"[{match = "a*", max_keys = 8, slow_consumer = "latest"},
                {match = "*", history_age_s = 1.5}]"#,
        );

        let other = RoomClass {
            history: HistoryLimits {
                bytes_max: 5,
                ..HistoryLimits::default()
            },
            slow_consumer: SlowConsumer::Skip,
            keys_max: 7,
            publication_bytes_max: 65_536,
            ..RoomClass::default()
        };
        assert_eq!(*classes.other(), other);
        let a = RoomClass {
            slow_consumer: SlowConsumer::Latest,
            keys_max: 8,
            ..other
        };
        assert_eq!(*classes.of("ab"), a);
        assert_eq!(classes.of("b").history.age_max_ms, 1500);
        assert_eq!(classes.of("b").keys_max, 7);
    }

    #[test]
    fn a_zero_in_any_of_three_turns_history_off() {
        assert!(classes(&[], "[]").of("a").history.is_on());
        for setting in ["history_publications", "history_bytes", "history_age_s"] {
            let rooms = format!("[{{match = \"a\", {setting} = 0}}]");
            let classes = classes(&[], &rooms);

            assert!(!classes.of("a").history.is_on(), "{setting}");
            assert!(classes.of("b").history.is_on(), "{setting}");
        }
    }

    #[test]
    fn the_largest_publication_is_what_a_message_may_be_unless_it_is_set() {
        let classes = classes(
            &["--max-publication-bytes=5"],
            r#"[{match = "a", max_publication_bytes = 0},
                {match = "b", max_publication_bytes = 6}]"#,
        );

        let bytes_max = |name| classes.of(name).publication_bytes_max;
        assert_eq!(
            [bytes_max("a"), bytes_max("b"), bytes_max("c")],
            [65_536, 6, 5]
        );
    }

    #[test]
    fn a_time_below_a_millisecond_is_not_none() {
        let classes = classes(&["--key-window-s=0.000001", "--history-age-s=0"], "[]");

        assert_eq!(classes.other().key_window_ms, 1);
        assert_eq!(classes.other().history.age_max_ms, 0);
    }
}
