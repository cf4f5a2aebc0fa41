//! What was set, and where: flags before environment variables before the file before defaults.

use std::fmt;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, FromArgMatches as _};
use thiserror::Error;
use throng::Config;
use tracing_subscriber::filter::Targets;

use crate::classes::{ROOMS, RoomTable};
use crate::cli::{Cli, Settings, Task, command};
use crate::config_file::{ConfigFile, ConfigFileError};
use crate::environment;
use crate::keys::{Kind, Setting, quoted};

/// All that was set.
pub(crate) struct Setup {
    /// Each setting as it goes.
    cli: Cli,
    /// Values of flags, variables and defaults.
    given: ArgMatches,
    /// The file, without the settings that flags and variables say otherwise.
    file: Option<ConfigFile>,
}

/// Why nothing can be done.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    /// A bad flag or variable; also that help was asked for.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    #[error(transparent)]
    File(#[from] ConfigFileError),
    /// A value that is well written, and of no use beside the others or on this machine.
    #[error("{setting}: {reason}")]
    Unusable { setting: String, reason: String },
}

/// A setting whose value in the file is another than the server has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Only a start makes use of it.
    pub(crate) needs_restart: bool,
}

impl Setup {
    /// Reads this process's flags, its environment, and the file if one of them names it.
    pub(crate) fn load() -> Result<Self, SetupError> {
        if let Some(setting) = environment::not_text() {
            let reason = "the value is not valid UTF-8".to_owned();
            return Err(SetupError::Unusable { setting, reason });
        }
        let given = command().try_get_matches()?;
        let cli = Cli::from_arg_matches(&given)?;
        let file = cli.config.as_deref().map(ConfigFile::read).transpose();
        let file = file.map_err(|error| match error {
            ConfigFileError::Text { .. } => SetupError::File(error),
            ConfigFileError::Unreadable { .. } => SetupError::Unusable {
                setting: match said(&given, "config") {
                    Some(Source::Flag) => "--config".to_owned(),
                    _ => "THRONG_CONFIG".to_owned(),
                },
                reason: error.to_string(),
            },
        })?;
        let setup = Self::new(cli, given, file);
        setup.check()?;
        Ok(setup)
    }

    fn check(&self) -> Result<(), SetupError> {
        let checked = self.cli.settings.check(self.rooms());
        checked.map_err(|(key, reason)| SetupError::Unusable {
            setting: self.name(key),
            reason,
        })
    }

    fn new(mut cli: Cli, given: ArgMatches, mut file: Option<ConfigFile>) -> Self {
        if let Some(file) = &mut file {
            file.settings
                .retain(|setting| said(&given, &setting.key).is_none());
            for setting in &file.settings {
                setting.apply(&mut cli.settings);
            }
        }
        Self { cli, given, file }
    }

    /// Returns the task, if it is not serving.
    pub(crate) const fn task(&self) -> Option<Task> {
        self.cli.task
    }

    /// Returns the filter of the log.
    pub(crate) fn log(&self) -> Targets {
        self.cli.settings.log.clone()
    }

    /// Returns the file that was read.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Returns the classes of rooms that are not the default one.
    pub(crate) fn rooms(&self) -> &[RoomTable] {
        let of_file = self.file.as_ref().and_then(|file| file.rooms.as_ref());
        let rooms = self.cli.rooms.as_ref().or(of_file);
        rooms.map_or(&[], |rooms| &rooms.0)
    }

    /// Returns the library's configuration.
    pub(crate) fn config(&self) -> Config {
        self.cli.settings.config(self.rooms())
    }

    /// Returns the value of this setting, as a file would have it.
    pub(crate) fn written(&self, arg: &Arg) -> Option<String> {
        let key = arg.get_id().as_str();
        self.of_file(key)
            .map_or_else(|| Kind::of(arg).written(key, &self.given), Setting::written)
    }

    /// Returns the source of this key's value.
    pub(crate) fn source(&self, key: &str) -> Source {
        let in_file = || match &self.file {
            Some(file) if key == ROOMS => file.rooms.is_some(),
            _ => self.of_file(key).is_some(),
        };
        match said(&self.given, key) {
            Some(source) => source,
            None if in_file() => Source::File,
            None => Source::Default,
        }
    }

    /// Returns what to edit to change this key: the flag, the place in the file, or else the
    /// variable.
    pub(crate) fn name(&self, key: &str) -> String {
        match (self.source(key), self.file()) {
            (Source::Flag, _) => format!("--{}", key.replace('_', "-")),
            (Source::File, Some(path)) => format!("{}: {key}", path.display()),
            _ => format!("THRONG_{}", key.to_uppercase()),
        }
    }

    /// Returns what is otherwise in another setup of the same process, in the order of the
    /// settings.
    pub(crate) fn changes(&self, other: &Self) -> Vec<Change> {
        let keys = Settings::keys();
        let written = |setup: &Self, arg: &Arg| {
            let value = setup.written(arg);
            value.unwrap_or_else(|| "none".to_owned())
        };
        let values = keys.arguments().map(|arg| {
            let key = arg.get_id().as_str();
            (key, written(self, arg), written(other, arg))
        });
        let tables = (ROOMS, self.rooms_written(), other.rooms_written());
        let all = values.chain([tables]);
        let changed = all.filter(|(_, from, to)| from != to);
        changed
            .map(|(key, from, to)| {
                let with = self.with([key], other).config();
                Change {
                    needs_restart: !self.config().needs_restart(&with).is_empty(),
                    key: key.to_owned(),
                    from,
                    to,
                }
            })
            .collect()
    }

    /// Returns this setup with what the file of another one says of these keys.
    pub(crate) fn with<'k>(&self, keys: impl IntoIterator<Item = &'k str>, other: &Self) -> Self {
        let mut file = self.file.clone();
        if let (Some(file), Some(of_other)) = (&mut file, &other.file) {
            for key in keys {
                if key == ROOMS {
                    file.rooms.clone_from(&of_other.rooms);
                } else {
                    file.settings.retain(|setting| setting.key != key);
                    file.settings.extend(other.of_file(key).cloned());
                }
            }
        }
        let cli = Cli::from_arg_matches(&self.given).expect("they were read from these before");
        Self::new(cli, self.given.clone(), file)
    }

    /// Returns the classes of rooms, as the flag would have them.
    fn rooms_written(&self) -> String {
        let tables = self.rooms().iter().map(|table| {
            let written =
                |setting: &Setting| Some(format!(", {} = {}", setting.key, setting.written()?));
            let settings: String = table.settings.iter().filter_map(written).collect();
            format!("{{match = {}{settings}}}", quoted(&table.pattern))
        });
        format!("[{}]", tables.collect::<Vec<_>>().join(", "))
    }

    fn of_file(&self, key: &str) -> Option<&Setting> {
        let mut settings = self.file.iter().flat_map(|file| &file.settings);
        settings.find(|setting| setting.key == key)
    }
}

/// Returns the source of a value, if it is a flag or a variable.
fn said(given: &ArgMatches, key: &str) -> Option<Source> {
    match given.value_source(key)? {
        ValueSource::CommandLine => Some(Source::Flag),
        ValueSource::EnvVariable => Some(Source::Environment),
        _ => None,
    }
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    Environment,
    File,
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Flag => "flag",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns the setup of these flags and this file, whatever the environment of the tests is.
    fn setup(flags: &[&str], file: &str) -> Setup {
        let command = command().mut_args(|arg| arg.env(None));
        let arguments = [&["throng"], flags].concat();
        let given = command.try_get_matches_from(arguments).unwrap();
        let cli = Cli::from_arg_matches(&given).unwrap();
        let file = ConfigFile::parse(Path::new("t.toml"), file).unwrap();
        Setup::new(cli, given, Some(file))
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let setup = setup(
            &["--cores=3", "--listen=127.0.0.1:3"],
            "cores = 2\nshards = 2\nlisten = [\"127.0.0.1:2\", \"127.0.0.2:2\"]\n",
        );
        let config = setup.config();

        assert_eq!((config.cores, setup.source("cores")), (3, Source::Flag));
        assert_eq!((config.shards, setup.source("shards")), (2, Source::File));
        assert_eq!(config.listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(config.limits.fragments_max, 128);
        assert_eq!(setup.source("max_fragments"), Source::Default);
        assert_eq!(setup.name("cores"), "--cores");
        assert_eq!(setup.name("shards"), "t.toml: shards");
        assert_eq!(setup.name("max_fragments"), "THRONG_MAX_FRAGMENTS");
    }

    #[test]
    fn flags_may_stand_before_the_task_and_behind_it() {
        for flags in [
            ["--cores=3", "check-config", "--shards=2"],
            ["--shards=2", "check-config", "--cores=3"],
        ] {
            let setup = setup(&flags, "cores = 4\nshards = 4\n");
            let config = setup.config();

            assert!(matches!(setup.task(), Some(Task::CheckConfig)));
            assert_eq!((config.cores, config.shards), (3, 2));
        }
    }

    #[test]
    fn the_file_sets_what_the_library_is_given() {
        let config = setup(
            &[],
            "pin = true\nflush = \"write\"\nlisten = [\"127.0.0.1:2\", \"unix:/run/t\"]\n\
             max_connections = 18_446_744_073_709_551_615\nclose_timeout_s = 0.5\n\
             history_memory_bytes = 0x100\ndrain_spread_s = 2\ndrain_rate = 0\n",
        )
        .config();

        assert!(config.pin);
        assert_eq!(config.flush, throng::FlushMode::Write);
        let addresses = ["127.0.0.1:2", "unix:/run/t"].map(|address| address.parse().unwrap());
        assert_eq!(config.listen, addresses);
        assert_eq!(config.limits.connections_max, usize::MAX.into());
        assert_eq!(config.timeouts.close, Duration::from_millis(500));
        assert_eq!(config.history.memory_bytes_max, 256);
        assert_eq!(config.drain.spread, Duration::from_secs(2));
        assert_eq!(config.drain.rate, 0);
    }

    #[test]
    fn the_classes_of_the_flag_replace_those_of_the_file() {
        let file = "[[rooms]]\nmatch = \"a\"\n[[rooms]]\nmatch = \"b\"\n";
        let patterns = |flags: &[&str]| {
            let setup = setup(flags, file);
            let patterns = setup.rooms().iter().map(|table| table.pattern.clone());
            (patterns.collect::<Vec<_>>().join(" "), setup.source(ROOMS))
        };

        assert_eq!(patterns(&[]), ("a b".to_owned(), Source::File));
        assert_eq!(
            patterns(&["--rooms", "[{match = \"c\"}]"]),
            ("c".to_owned(), Source::Flag)
        );
        assert_eq!(patterns(&["--rooms=[]"]), (String::new(), Source::Flag));
    }

    #[test]
    fn without_anything_the_program_keeps_history_and_has_the_librarys_defaults() {
        let config = setup(&[], "").config();
        let defaults = Config::default();

        let wanted = throng::RoomClass {
            publication_bytes_max: 65_536,
            ..throng::RoomClass::default()
        };
        assert_eq!(*config.classes.of("lobby"), wanted);
        let others = |config: Config| {
            let classes = throng::Classes::default();
            format!("{:?}", Config { classes, ..config })
        };
        assert_eq!(others(config), others(defaults));
    }
}
