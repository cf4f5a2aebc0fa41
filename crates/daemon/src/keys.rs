//! Keys of the configuration file: each is the name of an argument, and what stands behind it is
//! read as that argument's text. So there is one parser and one set of bounds for all settings.

use std::any::TypeId;
use std::error::Error as _;
use std::fmt;
use std::num::IntErrorKind;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use throng::ConnectionsMax;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The keys that a table may have.
pub(crate) struct Keys {
    /// Has an argument for each, without a default and without a variable.
    command: Command,
    /// The one that is no argument.
    other: &'static str,
    /// The word for one in an error.
    of: &'static str,
}

/// A key with a value that its argument takes.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    kind: Kind,
    value: ArgMatches,
}

impl Keys {
    /// Returns a key for each of these arguments, and `other`, which the caller reads.
    pub(crate) fn new<T: Args>(other: &'static str, of: &'static str) -> Self {
        let command = T::augment_args(Command::new("table"))
            .no_binary_name(true)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .mut_args(|arg| arg.env(None).default_value(None));
        Self { command, other, of }
    }

    /// Returns the arguments, in the order they are declared.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments()
    }

    /// Reads one key.
    pub(crate) fn read(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Setting, Fault> {
        let name = key.get_ref().as_ref();
        let Some(arg) = self.arguments().find(|arg| arg.get_id() == name) else {
            return Err(self.unknown(key));
        };
        let kind = Kind::of(arg);
        let text = kind
            .text(value.get_ref())
            .map_err(|reason| Fault::at(value, name, reason))?;
        let flag = format!("--{}={text}", arg.get_long().unwrap_or(name));
        match self.command.clone().try_get_matches_from([flag]) {
            Ok(value) => Ok(Setting {
                key: name.to_owned(),
                kind,
                value,
            }),
            Err(error) => Err(Fault::at(value, name, reason_of(&error))),
        }
    }

    /// Returns that there is no such key, and what may have been meant.
    fn unknown(&self, key: &Spanned<DeString<'_>>) -> Fault {
        let name = key.get_ref().as_ref();
        let known = self.arguments().map(|arg| arg.get_id().as_str());
        let hint = nearest(name, known.chain([self.other]))
            .map(|nearest| format!("; did you mean {nearest:?}?"))
            .unwrap_or_default();
        Fault {
            offset: key.span().start,
            key: None,
            reason: format!("unknown {} {name:?}{hint}", self.of),
        }
    }
}

/// Returns the name that was probably meant: a similar one, or the only one that begins so.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let known: Vec<&str> = known.collect();
    let similar = known
        .iter()
        .map(|known| (likeness(known), *known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, nearest)| nearest);
    similar.or_else(|| {
        let begins_so = |known: &&&str| name.len() >= BEGINNING_LEN_MIN && known.starts_with(name);
        let mut beginning = known.iter().filter(begins_so);
        beginning
            .next()
            .filter(|_| beginning.next().is_none())
            .copied()
    })
}

/// The likeness from which on a name is taken for a misspelt one: half of its letters.
const LIKENESS_MIN: f64 = 0.5;

/// The length, in bytes, from which on a name is taken for the beginning of one: `max`.
const BEGINNING_LEN_MIN: usize = 3;

impl Setting {
    /// Sets the field of this name.
    pub(crate) fn apply<T: FromArgMatches>(&self, settings: &mut T) {
        settings
            .update_from_arg_matches(&self.value)
            .expect("the argument took the value when it was read");
    }

    /// Returns its value as a file would have it.
    pub(crate) fn written(&self) -> Option<String> {
        self.kind.written(&self.key, &self.value)
    }
}

/// The kind of value that a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    Integer,
    IntegerOrAuto,
    Seconds,
    String,
    Strings,
}

impl Kind {
    /// Returns the kind by the type that the argument is parsed to.
    pub(crate) fn of(arg: &Arg) -> Self {
        let type_id = arg.get_value_parser().type_id();
        let integers = [
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
        ];
        if arg.get_value_delimiter().is_some() {
            Self::Strings
        } else if type_id == TypeId::of::<bool>() {
            Self::Boolean
        } else if type_id == TypeId::of::<Duration>() {
            Self::Seconds
        } else if type_id == TypeId::of::<ConnectionsMax>() {
            Self::IntegerOrAuto
        } else if integers.iter().any(|integer| type_id == *integer) {
            Self::Integer
        } else {
            Self::String
        }
    }

    /// Returns the text that one would type behind the flag.
    fn text(self, value: &DeValue<'_>) -> Result<String, String> {
        match (self, value) {
            (Self::Boolean, DeValue::Boolean(value)) => Ok(value.to_string()),
            (Self::Integer | Self::IntegerOrAuto | Self::Seconds, DeValue::Integer(value)) => {
                match u64::from_str_radix(value.as_str(), value.radix()) {
                    Ok(number) => Ok(number.to_string()),
                    Err(_) if value.as_str().starts_with('-') => {
                        Err("must not be negative".to_owned())
                    }
                    Err(_) => Err("is too large".to_owned()),
                }
            }
            (Self::Seconds, DeValue::Float(value)) => Ok(value.as_str().to_owned()),
            (Self::String, DeValue::String(value)) => Ok(value.to_string()),
            (Self::IntegerOrAuto, DeValue::String(value)) if value == "auto" => {
                Ok(value.to_string())
            }
            (Self::Strings, DeValue::Array(values)) => {
                let texts = values.iter().map(|value| value.get_ref().as_str());
                let texts: Option<Vec<&str>> = texts.collect();
                texts
                    .filter(|texts| !texts.is_empty())
                    .map(|texts| texts.join(","))
                    .ok_or_else(|| format!("must be {self}, with at least one"))
            }
            (_, other) => Err(format!("must be {self}, not {}", a(other.type_str()))),
        }
    }

    /// Returns what is wrong with a text that the argument's parser refused, if that is its kind.
    pub(crate) fn complaint(self, text: &str) -> Option<&'static str> {
        match self {
            Self::Boolean => Some("use true or false"),
            Self::Integer => match text.parse::<u64>() {
                Ok(_) => None,
                Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
                    Some("the number is too large")
                }
                Err(_) if text.parse::<i64>().is_ok() => Some("must not be negative"),
                Err(_) => Some("use a whole number"),
            },
            Self::IntegerOrAuto | Self::Seconds | Self::String | Self::Strings => None,
        }
    }

    /// Returns the value of an argument as a file would have it; none if it has none.
    pub(crate) fn written(self, id: &str, given: &ArgMatches) -> Option<String> {
        let values = given
            .get_raw(id)?
            .map(|text| self.written_text(&text.to_string_lossy()));
        let values: Vec<String> = values.collect();
        Some(match self {
            Self::Strings => format!("[{}]", values.join(", ")),
            _ => values.concat(),
        })
    }

    /// Returns the value as TOML, which the text itself may not be: 007, .5.
    fn written_text(self, text: &str) -> String {
        let number = match self {
            Self::Boolean => Some(text.to_owned()),
            Self::Integer | Self::IntegerOrAuto => {
                text.parse().ok().map(|number: u64| number.to_string())
            }
            // Adding 0 turns -0 into 0.
            Self::Seconds => text
                .parse()
                .ok()
                .map(|number: f64| (number + 0.0).to_string()),
            Self::String | Self::Strings => None,
        };
        number.unwrap_or_else(|| quoted(text))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "true or false",
            Self::Integer => "an integer",
            Self::IntegerOrAuto => "an integer or \"auto\"",
            Self::Seconds => "a number of seconds",
            Self::String => "a string",
            Self::Strings => "an array of strings",
        })
    }
}

/// Returns a type of TOML's with its article.
pub(crate) fn a(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {type_name}")
}

/// Returns a text as TOML has it between quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Returns the reason that the argument's parser gives.
fn reason_of(error: &clap::Error) -> String {
    error
        .source()
        .map_or_else(|| error.kind().to_string(), |reason| reason.to_string())
}

/// Returns whether TOML takes it for a key without quotation marks.
fn is_bare_key(text: &str) -> bool {
    let is_of_a_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.chars().all(is_of_a_key)
}

/// Returns the keys of a table in the order they are written; the parser sorts them by name.
pub(crate) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    keys
}

/// A fault in a text.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Place in the text, in bytes.
    offset: usize,
    /// Of what; none where it is no TOML.
    key: Option<String>,
    reason: String,
}

impl Fault {
    pub(crate) fn at<T>(place: &Spanned<T>, key: &str, reason: impl Into<String>) -> Self {
        Self {
            offset: place.span().start,
            key: Some(key.to_owned()),
            reason: reason.into(),
        }
    }

    /// Returns the fault of a text that is not TOML.
    pub(crate) fn syntax(error: &toml::de::Error, text: &str) -> Self {
        let mut fault = Self {
            offset: error.span().map_or(0, |span| span.start),
            key: None,
            reason: error.message().trim().to_owned(),
        };
        let line = text.lines().nth(fault.line(text) - 1);
        let key = line.and_then(|line| line.split('=').next()).map(str::trim);
        fault.key = key.filter(|key| is_bare_key(key)).map(str::to_owned);
        fault
    }

    /// Names the table, of several that have such a key.
    pub(crate) fn of(mut self, table: &str) -> Self {
        self.key = Some(match self.key {
            Some(key) => format!("{key} of {table:?}"),
            None => format!("match = {table:?}"),
        });
        self
    }

    /// Returns the line that the fault is in, from 1.
    pub(crate) fn line(&self, text: &str) -> usize {
        let before = text.bytes().take(self.offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    #[test]
    fn a_setting_is_a_number_if_its_default_is_one_and_a_time_if_its_name_ends_so() {
        let command = crate::cli::Settings::augment_args(Command::new("t"));
        for arg in command.get_arguments() {
            let key = arg.get_id().as_str();
            // What has no default is a text.
            let default = arg.get_default_values().first();
            let default = default.map_or("", |default| default.to_str().unwrap());
            let kind = Kind::of(arg);
            let is_a_number = matches!(kind, Kind::Integer | Kind::Seconds);

            assert_eq!(is_a_number, default.parse::<f64>().is_ok(), "{key}");
            assert_eq!(matches!(kind, Kind::Seconds), key.ends_with("_s"), "{key}");
        }
    }

    #[test]
    fn what_was_typed_is_written_as_toml() {
        for (kind, typed, written) in [
            (Kind::Integer, "007", "7"),
            (Kind::Integer, "+7", "7"),
            (
                Kind::Integer,
                "18446744073709551615",
                "18446744073709551615",
            ),
            (Kind::IntegerOrAuto, "007", "7"),
            (Kind::IntegerOrAuto, "auto", "\"auto\""),
            (Kind::Seconds, ".5", "0.5"),
            (Kind::Seconds, "1e3", "1000"),
            (Kind::Seconds, "25.0", "25"),
            (Kind::Seconds, "-0", "0"),
            (Kind::Boolean, "true", "true"),
            (Kind::String, "a\"b\\c\td", "'a\"b\\c\td'"),
            (Kind::String, "'\u{1b}\"", "\"'\\u001B\\\"\""),
        ] {
            assert_eq!(kind.written_text(typed), written);
            let table = format!("a = {written}");
            assert!(DeTable::parse(&table).is_ok(), "{table}");
        }
    }

    #[test]
    fn an_argument_that_was_not_given_has_no_value() {
        let given = Command::new("t")
            .arg(Arg::new("a").long("a").action(ArgAction::Set))
            .get_matches_from(["t"]);

        assert_eq!(Kind::String.written("a", &given), None);
    }
}
