//! The scenarios that have names: a file each, written into the program.
//!
//! A scenario is a command line with a name. `mode` says the subcommand, `stands_for` where this
//! happens in real life, and every other key is a flag of the mode without its dashes, so that there
//! is one parser, one set of bounds, and no setting that can be said in one place only.

use std::fs;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory as _, Subcommand as _};
use toml::de::{DeTable, DeValue};

use crate::cli::{Cli, Timing};
use crate::failure::Failure;
use crate::mode::Mode;

/// One scenario, its file not read further than that.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What it is asked for by.
    pub(crate) name: String,
    /// The file.
    pub(crate) text: String,
}

macro_rules! entries {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*]
    };
}

/// All that are built in, those that everybody runs first.
const ENTRIES: &[(&str, &str)] = entries![
    "big-room",
    "many-rooms",
    "duos",
    "firehose",
    "single-step",
    "large-payload",
    "latency",
    "idle",
    "churn",
    "storm",
    "storm-recovery",
    "recovery",
    "slow",
    "neighbour",
    "flood",
];

/// What is not done to the server, but said about it and about the program.
const STANDS_FOR: &str = "stands_for";
const MODE: &str = "mode";

/// What is spoken, for a scenario that only one wire can do.
const WIRE: &str = "wire";

/// A scenario's file, taken apart.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// The subcommand.
    pub(crate) mode: String,
    /// One sentence.
    pub(crate) stands_for: String,
    /// Every other key with its value, as text, and the line it stands on.
    settings: Vec<(String, String, usize)>,
}

/// Every built-in scenario.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    ENTRIES.iter().map(|(name, text)| Entry {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    })
}

/// The built-in scenario of this name, or the file at this path.
pub(crate) fn find(name: &str) -> Result<Entry, Failure> {
    if name.ends_with(".toml") || name.contains('/') {
        let text = fs::read_to_string(name).map_err(|error| Failure::ScenarioFile {
            path: name.to_owned(),
            error,
        })?;
        return Ok(Entry {
            name: name.to_owned(),
            text,
        });
    }
    all()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Failure::ScenarioUnknown {
            name: name.to_owned(),
            known: ENTRIES.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        })
}

impl Sheet {
    /// The same as somebody would type it.
    pub(crate) fn command_line(&self) -> String {
        let flags = self.settings.iter().map(|(key, value, _)| {
            let flag = key.replace('_', "-");
            format!(" --{flag} {value}")
        });
        format!("{}{}", self.mode, flags.collect::<String>())
    }

    /// The only wire that can do it, if there is one.
    pub(crate) fn wire(&self) -> Option<&str> {
        let wire = self.settings.iter().find(|(key, ..)| key == WIRE);
        wire.map(|(_, value, _)| value.as_str())
    }
}

impl Entry {
    /// Reads the file.
    pub(crate) fn sheet(&self) -> Result<Sheet, Failure> {
        let refused = |line, reason: String| Failure::Scenario {
            name: self.name.clone(),
            line,
            reason,
        };
        let line_of = |offset: usize| self.text[..offset].lines().count().max(1);
        let table = DeTable::parse(&self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            refused(line, error.message().trim().to_owned())
        })?;
        let mut sheet = Sheet {
            mode: String::new(),
            stands_for: String::new(),
            settings: Vec::new(),
        };
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start + 1);
            let key = key.get_ref().as_ref();
            let value = scalar(value.get_ref()).ok_or_else(|| {
                refused(line, format!("{key} is neither a number, a text nor a yes"))
            })?;
            match key {
                MODE => sheet.mode = value,
                STANDS_FOR => sheet.stands_for = value,
                _ => sheet.settings.push((key.to_owned(), value, line)),
            }
        }
        // The parser sorts by name.
        sheet.settings.sort_by_key(|(_, _, line)| *line);
        if sheet.mode.is_empty() || sheet.stands_for.is_empty() {
            let reason = format!("it needs `{MODE}` and `{STANDS_FOR}`");
            return Err(refused(1, reason));
        }
        Ok(sheet)
    }

    /// The command line that this scenario is, without the settings that the flags in `own` say
    /// otherwise.
    ///
    /// `prefix` is the program and what stands before the subcommand.
    pub(crate) fn expand(&self, prefix: &[String], own: &[String]) -> Result<Vec<String>, Failure> {
        let sheet = self.sheet()?;
        let refused = |line, reason| Failure::Scenario {
            name: self.name.clone(),
            line,
            reason,
        };
        let cli = Cli::command();
        let modes = Mode::augment_subcommands(Command::new("modes"));
        let Some(mode) = modes.find_subcommand(&sheet.mode) else {
            return Err(refused(1, format!("there is no mode {}", sheet.mode)));
        };
        let known = known_keys(mode);
        let mut line = prefix.to_vec();
        line.push(sheet.mode.clone());
        let given = Given::read(&cli, [&line[..], own].concat());
        for (key, value, at) in &sheet.settings {
            let id = key.replace('-', "_");
            if !known.contains(&id) {
                let known = known.join(", ");
                let mode = &sheet.mode;
                return Err(refused(
                    *at,
                    format!("{key} is not a key of {mode}; it has {known}"),
                ));
            }
            if given.displaces(mode, &id) || value == "false" {
                continue;
            }
            line.push(format!("--{}", id.replace('_', "-")));
            if value != "true" {
                line.push(value.clone());
            }
        }
        line.extend_from_slice(own);
        Ok(line)
    }
}

/// What the person at the terminal said, as opposed to the scenario.
struct Given(Option<ArgMatches>);

impl Given {
    /// Nothing, if it cannot be read: the whole line cannot either, and says why.
    fn read(cli: &Command, line: Vec<String>) -> Self {
        let matches = cli.clone().try_get_matches_from(line).ok();
        Self(matches.and_then(|mut matches| Some(matches.remove_subcommand()?.1)))
    }

    /// Whether this setting was said, or one that it does not go together with.
    fn displaces(&self, mode: &Command, id: &str) -> bool {
        let said = |id: &str| {
            self.0.as_ref().is_some_and(|given| {
                matches!(given.try_contains_id(id), Ok(true))
                    && given.value_source(id) == Some(ValueSource::CommandLine)
            })
        };
        let arg = |id: &str| mode.get_arguments().find(|arg| arg.get_id() == id);
        let conflicts = |one: &Arg, other: &str| {
            let others = mode.get_arg_conflicts_with(one);
            others.iter().any(|arg| arg.get_id() == other)
        };
        said(id)
            || mode.get_arguments().any(|other| {
                let other_id = other.get_id().as_str();
                said(other_id)
                    && (conflicts(other, id) || arg(id).is_some_and(|arg| conflicts(arg, other_id)))
            })
    }
}

/// The keys that a scenario of this mode may have: its flags, how long and how large, and the wire.
fn known_keys(mode: &Command) -> Vec<String> {
    let timing = Timing::augment_args(Command::new("timing"));
    let args = mode.get_arguments().chain(timing.get_arguments());
    let keys = args.map(|arg| arg.get_id().to_string());
    keys.chain([WIRE.to_owned()]).collect()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Float(value) => value.as_str().to_owned(),
        DeValue::Integer(value) => value.as_str().replace('_', ""),
        DeValue::String(value) => value.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, own: &str) -> Result<String, String> {
        let entry = Entry {
            name: "mine.toml".to_owned(),
            text: text.to_owned(),
        };
        let own: Vec<String> = own.split_whitespace().map(str::to_owned).collect();
        let line = entry.expand(&["loadtest".to_owned()], &own);
        line.map(|line| line.join(" "))
            .map_err(|failure| failure.to_string())
    }

    const MINE: &str = "mode = \"fanout\"\nstands_for = \"A test.\"\nrooms = 2\nwindow = 1_000\n";

    #[test]
    fn keys_become_flags_unless_they_are_given_or_contradicted() {
        assert_eq!(
            expand(MINE, "--members 5").as_deref(),
            Ok("loadtest fanout --rooms 2 --window 1000 --members 5")
        );
        assert_eq!(
            expand(MINE, "--rooms=3").as_deref(),
            Ok("loadtest fanout --window 1000 --rooms=3")
        );
        assert_eq!(
            expand(MINE, "--rate 3").as_deref(),
            Ok("loadtest fanout --rooms 2 --rate 3")
        );
        assert_eq!(
            expand(&format!("{MINE}seconds = 0.5\n"), "--warmup 1").as_deref(),
            Ok("loadtest fanout --rooms 2 --window 1000 --seconds 0.5 --warmup 1")
        );
    }

    #[test]
    fn a_scenario_may_say_what_is_spoken() {
        let throng = format!("{MINE}wire = \"throng\"\n");
        assert_eq!(
            expand(&throng, "").as_deref(),
            Ok("loadtest fanout --rooms 2 --window 1000 --wire throng")
        );
        assert_eq!(
            expand(&throng, "--wire golem").as_deref(),
            Ok("loadtest fanout --rooms 2 --window 1000 --wire golem")
        );
        let wire = |text: &str| {
            let entry = Entry {
                name: "mine.toml".to_owned(),
                text: text.to_owned(),
            };
            entry.sheet().unwrap().wire().map(str::to_owned)
        };
        assert_eq!(
            (wire(&throng).as_deref(), wire(MINE)),
            (Some("throng"), None)
        );
    }

    #[test]
    fn what_a_scenario_cannot_say_is_refused_where_it_stands() {
        let said = |extra: &str| expand(&format!("{MINE}{extra}"), "").unwrap_err();
        let unknown = said("\nmebers = 3\n");
        assert!(
            unknown.contains(
                "mine.toml, line 6: mebers is not a key of fanout; it has rooms, members"
            ),
            "{unknown}"
        );
        let elsewhere = said("url = \"ws://192.0.2.1/\"\n");
        assert!(
            elsewhere.contains("line 5: url is not a key"),
            "{elsewhere}"
        );
        assert!(said("members = [1, 2]\n").contains("line 5: members is neither"));
        assert!(said("members = \n").contains("mine.toml, line 5:"));
        assert!(expand("rooms = 1\n", "").unwrap_err().contains("`mode`"));
        let mode = expand("mode = \"run\"\nstands_for = \"x\"\n", "").unwrap_err();
        assert!(mode.contains("there is no mode run"), "{mode}");
    }
}
