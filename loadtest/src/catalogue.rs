//! The scenarios that have names: a file each, written into the program.
//!
//! A scenario is a command line with a name. `mode` says the subcommand, `stands_for` where this
//! happens in real life, and every other key is a flag of the mode without its dashes, so that
//! there is one parser, one set of bounds, and no setting that can be said in one place only.

use std::fs;

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory as _, Subcommand as _};
use toml::de::{DeTable, DeValue};

use crate::cli::{Cli, Timing};
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    /// The subcommand.
    pub(crate) mode: String,
    /// One sentence.
    pub(crate) stands_for: String,
    /// Every other key with its value, as text, and the line it stands on.
    settings: Vec<(String, String, usize)>,
}

/// Returns every built-in scenario.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    ENTRIES.iter().map(|(name, text)| Entry {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    })
}

/// Finds the built-in scenario of this name, or the file at this path.
pub(crate) fn find(name: &str) -> Result<Entry> {
    if name.ends_with(".toml") || name.contains('/') {
        let text = fs::read_to_string(name).map_err(|error| {
            anyhow!(
                "the scenario {name} cannot be read ({error}); a name without .toml is one of \
                 `loadtest scenarios`"
            )
        })?;
        return Ok(Entry {
            name: name.to_owned(),
            text,
        });
    }
    all().find(|entry| entry.name == name).with_context(|| {
        let known: Vec<_> = ENTRIES.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        format!("there is no scenario {name}; there are {known}, and files that end in .toml")
    })
}

/// Lists every built-in scenario: its name, what it stands for, and its command line.
pub(crate) fn listed() -> Result<String> {
    let listed = all().map(|entry| {
        let sheet = entry.sheet()?;
        Ok(format!(
            "{}: {}\n    {}\n",
            entry.name,
            sheet.stands_for,
            sheet.command_line()
        ))
    });
    listed.collect()
}

impl Sheet {
    /// Writes it as somebody would type it.
    pub(crate) fn command_line(&self) -> String {
        let flags = self.settings.iter();
        let flags = flags.map(|(key, value, _)| format!(" --{} {value}", key.replace('_', "-")));
        format!("{}{}", self.mode, flags.collect::<String>())
    }

    /// Returns the only wire that can do it, if there is one.
    pub(crate) fn wire(&self) -> Option<&str> {
        let wire = self.settings.iter().find(|(key, ..)| key == WIRE);
        wire.map(|(_, value, _)| value.as_str())
    }
}

impl Entry {
    fn refused(&self, line: usize, reason: &str) -> Error {
        let name = &self.name;
        anyhow!(
            "scenario {name}, line {line}: {reason}; `loadtest scenarios NAME` prints one that \
             works"
        )
    }

    /// Reads the file.
    pub(crate) fn sheet(&self) -> Result<Sheet> {
        let line_of = |offset: usize| self.text[..offset].lines().count().max(1);
        let table = DeTable::parse(&self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            self.refused(line, error.message().trim())
        })?;
        let mut sheet = Sheet::default();
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start + 1);
            let key = key.get_ref().as_ref();
            let value = scalar(value.get_ref()).ok_or_else(|| {
                self.refused(
                    line,
                    &format!("{key} is neither a number, a text nor a yes"),
                )
            })?;
            match key {
                MODE => sheet.mode = value,
                STANDS_FOR => sheet.stands_for = value,
                _ => sheet.settings.push((key.to_owned(), value, line)),
            }
        }
        // The parser sorts by name.
        sheet.settings.sort_by_key(|(_, _, line)| *line);
        let is_whole = !sheet.mode.is_empty() && !sheet.stands_for.is_empty();
        ensure!(
            is_whole,
            self.refused(1, &format!("it needs `{MODE}` and `{STANDS_FOR}`"))
        );
        Ok(sheet)
    }

    /// Returns the command line that this scenario is, without the settings that the flags in `own`
    /// say otherwise.
    ///
    /// `prefix` is the program and what stands before the subcommand.
    pub(crate) fn expand(&self, prefix: &[String], own: &[String]) -> Result<Vec<String>> {
        let sheet = self.sheet()?;
        let name = &sheet.mode;
        let modes = Mode::augment_subcommands(Command::new("modes"));
        let mode = modes.find_subcommand(name);
        let mode = mode.ok_or_else(|| self.refused(1, &format!("there is no mode {name}")))?;
        let known = known_keys(mode);
        let mut line = prefix.to_vec();
        line.push(name.clone());
        let given = given(&[&line[..], own].concat());
        for (key, value, at) in &sheet.settings {
            let id = key.replace('-', "_");
            ensure!(known.contains(&id), {
                let known = known.join(", ");
                self.refused(
                    *at,
                    &format!("{key} is not a key of {name}; it has {known}"),
                )
            });
            if is_displaced(given.as_ref(), mode, &id) || value == "false" {
                continue;
            }
            line.push(format!("--{}", id.replace('_', "-")));
            line.extend(Some(value.clone()).filter(|value| value != "true"));
        }
        line.extend_from_slice(own);
        Ok(line)
    }
}

/// Parses what the person at the terminal said, as opposed to the scenario; nothing if it cannot be
/// read: the whole line cannot either, and says why.
fn given(line: &[String]) -> Option<ArgMatches> {
    let mut matches = Cli::command().try_get_matches_from(line).ok()?;
    Some(matches.remove_subcommand()?.1)
}

/// Returns whether the person said this setting, or one that it does not go together with.
fn is_displaced(given: Option<&ArgMatches>, mode: &Command, id: &str) -> bool {
    let is_said = |id: &str| {
        given.is_some_and(|given| {
            matches!(given.try_contains_id(id), Ok(true))
                && given.value_source(id) == Some(ValueSource::CommandLine)
        })
    };
    let conflict = |one: &Arg, other: &Arg| {
        mode.get_arg_conflicts_with(one)
            .iter()
            .any(|arg| arg.get_id() == other.get_id())
    };
    let own = mode.get_arguments().find(|arg| arg.get_id() == id);
    let conflicts =
        |other: &Arg| own.is_some_and(|own| conflict(other, own) || conflict(own, other));
    let mut others = mode.get_arguments();
    is_said(id) || others.any(|other| is_said(other.get_id().as_str()) && conflicts(other))
}

/// Returns the keys that a scenario of this mode may have: its flags, how long and how large, and
/// the wire.
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
