//! The configuration file: settings in TOML, each under its flag's name with underscores, and the
//! classes of rooms as tables.

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;
use toml::de::DeTable;

use crate::classes::{ROOMS, RoomTables};
use crate::cli::Settings;
use crate::keys::{Fault, Setting, in_order};

/// A file that was read, every value of it checked.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) settings: Vec<Setting>,
    pub(crate) rooms: Option<RoomTables>,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigFileError {
    #[error("{path}:{line}: {fault}")]
    Text {
        path: String,
        line: usize,
        fault: Fault,
    },
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: String, error: io::Error },
}

impl ConfigFile {
    /// Reads the file and checks every value.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| ConfigFileError::Unreadable {
            path: shown.clone(),
            error,
        })?;
        Self::parse(path, &text).map_err(|fault| ConfigFileError::Text {
            line: fault.line(&text),
            path: shown,
            fault,
        })
    }

    /// Parses the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Fault> {
        let table = DeTable::parse(text).map_err(|error| Fault::syntax(&error, text))?;
        let mut file = Self {
            path: path.to_owned(),
            settings: Vec::new(),
            rooms: None,
        };
        let keys = Settings::keys();
        for (key, value) in in_order(table.get_ref()) {
            if key.get_ref() == ROOMS {
                file.rooms = Some(RoomTables::read(value)?);
            } else {
                file.settings.push(keys.read(key, value)?);
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the line, and what is wrong there.
    fn refused(text: &str) -> (usize, String) {
        let fault = ConfigFile::parse(Path::new("t.toml"), text).unwrap_err();
        (fault.line(text), fault.to_string())
    }

    #[track_caller]
    fn assert_refused(text: &str, line: usize, wanted: &str) {
        assert_eq!(refused(text), (line, wanted.to_owned()), "{text}");
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused_with_the_nearest_that_does() {
        for (text, wanted) in [
            (
                "lisen = []",
                "unknown setting \"lisen\"; did you mean \"listen\"?",
            ),
            (
                "max-keys = 1",
                "unknown setting \"max-keys\"; did you mean \"max_keys\"?",
            ),
            ("MAX_KEYS = 1", "unknown setting \"MAX_KEYS\""),
            (
                "[[room]]",
                "unknown setting \"room\"; did you mean \"rooms\"?",
            ),
            ("config = \"a\"", "unknown setting \"config\""),
            ("help = true", "unknown setting \"help\""),
            (
                "\"cores=4\" = 1",
                "unknown setting \"cores=4\"; did you mean \"cores\"?",
            ),
            ("\"\" = 1", "unknown setting \"\""),
        ] {
            assert_refused(text, 1, wanted);
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (text, wanted) in [
            ("pin = 1", "pin: must be true or false, not an integer"),
            ("pin = \"true\"", "pin: must be true or false, not a string"),
            ("cores = \"1\"", "cores: must be an integer, not a string"),
            ("cores = 1.5", "cores: must be an integer, not a float"),
            ("shards = [1]", "shards: must be an integer, not an array"),
            ("max_keys = {}", "max_keys: must be an integer, not a table"),
            (
                "history_bytes = true",
                "history_bytes: must be an integer, not a boolean",
            ),
            (
                "key_window_s = \"5\"",
                "key_window_s: must be a number of seconds, not a string",
            ),
            (
                "key_window_s = 1979-05-27",
                "key_window_s: must be a number of seconds, not a datetime",
            ),
            ("path = 5", "path: must be a string, not an integer"),
            ("flush = true", "flush: must be a string, not a boolean"),
            (
                "slow_consumer = 1",
                "slow_consumer: must be a string, not an integer",
            ),
            (
                "listen = \"127.0.0.1:80\"",
                "listen: must be an array of strings, not a string",
            ),
            (
                "listen = [80]",
                "listen: must be an array of strings, with at least one",
            ),
        ] {
            assert_refused(text, 1, wanted);
        }
    }

    #[test]
    fn a_value_that_the_flag_would_refuse_is_refused_for_the_same_reason() {
        let address = "is not an address: use 127.0.0.1:8080, [::1]:8080 or unix:/path/to/socket";
        for (text, wanted) in [
            (
                "listen = []",
                "listen: must be an array of strings, with at least one",
            ),
            ("listen = [\"\"]", &format!("listen: \"\" {address}")),
            (
                "listen = [\"127.0.0.1:0\", \"a\"]",
                &format!("listen: \"a\" {address}"),
            ),
            (
                "origins = [\"same\", \"https://a.example/\"]",
                "origins: \"https://a.example/\" is not an origin: use same, \
                 https://chat.example.com, \
                 https://*.example.com, http://localhost:*, null, file:// or *",
            ),
            (
                "allowed_hosts = [\"http://a.example\"]",
                "allowed_hosts: \"http://a.example\" is not a host: use chat.example.com, \
                 chat.example.com:8443, *.example.com, 192.0.2.1, [2001:db8::1] or *",
            ),
            (
                "allowed_hosts = [\"\"]",
                "allowed_hosts: is empty: list hosts, or leave the setting out",
            ),
            ("path = \"\"", "path: a path begins with /"),
            ("path = \"/a b\"", "path: a path has no ' '"),
            ("cores = 257", "cores: 257 is not in 0..=256"),
            ("cores = -1", "cores: must not be negative"),
            (
                "max_connections = 0xffff_ffff_ffff_ffff_f",
                "max_connections: is too large",
            ),
            (
                "max_connections = -1",
                "max_connections: must not be negative",
            ),
            (
                "max_connections = \"10\"",
                "max_connections: must be an integer or \"auto\", not a string",
            ),
            (
                "max_keys = 4294967296",
                "max_keys: 4294967296 is not in 0..=4294967295",
            ),
            (
                "max_message_bytes = 0",
                "max_message_bytes: must be at least 1",
            ),
            ("flush = \"fast\"", "flush: use auto, uring or write"),
            (
                "slow_consumer = \"wait\"",
                "slow_consumer: write disconnect, skip or latest",
            ),
            (
                "pong_timeout_s = 0",
                "pong_timeout_s: must be more than 0 seconds",
            ),
            (
                "drain_spread_s = -0.5",
                "drain_spread_s: must be 0 to 2592000 seconds",
            ),
            (
                "drain_spread_s = nan",
                "drain_spread_s: must be 0 to 2592000 seconds",
            ),
            (
                "drain_spread_s = 2592001",
                "drain_spread_s: must be 0 to 2592000 seconds",
            ),
            (
                "log = \"warning\"",
                "log: \"warning\" is not a level: use off, error, warn, info, debug or trace, or \
                 levels for parts, such as warn,throng=debug",
            ),
            (
                "log = \"thrang=debug\"",
                "log: \"thrang\" is not a part of the program: use mio or throng, such as \
                 throng=debug",
            ),
            (
                "history_path = \" \"",
                "history_path: must name a directory",
            ),
            (
                "idle_timeout_s = 1e-12",
                "idle_timeout_s: must be 0, or at least a nanosecond: 0.000000001",
            ),
        ] {
            assert_refused(text, 1, wanted);
        }
    }

    #[test]
    fn a_class_without_rooms_or_with_a_bad_setting_is_refused() {
        let class = "[[rooms]]\nmatch = \"a\"\n";
        let tables = "rooms: must be tables [[rooms]], or an array such as \
                      [{match = \"cursor:*\", slow_consumer = \"latest\"}]";
        assert_refused("rooms = 5", 1, tables);
        assert_refused("rooms = [5]", 1, tables);
        assert_refused("[rooms]\nmatch = \"a\"", 1, tables);
        assert_refused(
            &format!("{class}[[rooms]]\nmax_keys = 1\n"),
            3,
            "match: is missing: set the pattern of room names, such as \"chat:*\"",
        );
        assert_refused("[[rooms]]\nmatch = 5", 2, "match: must be a string");
        assert_refused(
            "[[rooms]]\nmatch = \"\"",
            2,
            "match: no room has an empty name",
        );
        assert_refused(
            &format!("{class}{class}"),
            3,
            "match: \"a\" is listed twice; the first table applies",
        );
        assert_refused(
            "[[rooms]]\nmatch = \"chat:*\"\n[[rooms]]\nmatch = \"chat:vip*\"\n",
            3,
            "match: \"chat:vip*\" matches no room: the earlier pattern \"chat:*\" matches the same \
             rooms",
        );
        for (setting, wanted) in [
            ("cores = 1", "match = \"a\": unknown room setting \"cores\""),
            (
                "mach = 1",
                "match = \"a\": unknown room setting \"mach\"; did you mean \"match\"?",
            ),
            (
                "slow = \"skip\"",
                "match = \"a\": unknown room setting \"slow\"; did you mean \"slow_consumer\"?",
            ),
            ("max = 1", "match = \"a\": unknown room setting \"max\""),
            (
                "max_keys = \"1\"",
                "max_keys of \"a\": must be an integer, not a string",
            ),
            (
                "slow_consumer = \"\"",
                "slow_consumer of \"a\": write disconnect, skip or latest",
            ),
        ] {
            assert_refused(&format!("{class}{setting}"), 3, wanted);
        }
    }

    #[test]
    fn a_text_that_is_no_toml_is_refused_where_it_stops_to_be() {
        let refused = |text: &str, line: usize, begin: &str| {
            let (found, reason) = refused(text);
            assert!(
                found == line && reason.starts_with(begin),
                "{text}: {found}: {reason}"
            );
        };
        refused("cores = 1\n\ncores = 2\n", 3, "cores: duplicate key");
        refused("\npath = /ws\n", 2, "path: ");
        refused("key_window_s = 1.5.5", 1, "key_window_s: ");
        refused("cores\n", 1, "cores: ");
        refused("\n[[rooms]\n", 2, "");
        refused("é = 1", 1, "");
        refused("path = \"\"\"\n\n", 3, "");
    }

    #[test]
    fn the_first_of_several_faults_is_said() {
        assert_refused(
            "rooms = [{match = \"a\", z = 1}]\nb = 1\n",
            1,
            "match = \"a\": unknown room setting \"z\"",
        );
        assert_refused("zz = 1\naa = 1\n", 1, "unknown setting \"zz\"");
    }
}
