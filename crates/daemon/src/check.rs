//! The task `check-config`: every setting as a configuration file would say it.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::classes::{MATCH, ROOMS};
use crate::cli::Settings;
use crate::keys::quoted;
use crate::setup::{Setup, Source};

/// Prints it. Nothing is listened on, so that this can be done beside a server that runs.
pub(crate) fn print(setup: &Setup) {
    // Nothing to be done if nobody reads.
    _ = io::stdout().write_all(effective(setup).as_bytes());
}

/// Says the same as the file, the variables and the flags together, as a file.
fn effective(setup: &Setup) -> String {
    let mut text = String::new();
    for arg in Settings::keys().arguments() {
        let key = arg.get_id().as_str();
        add(&mut text, key, setup.written(arg), setup.source(key));
    }
    let source = setup.source(ROOMS);
    if setup.rooms().is_empty() {
        add(&mut text, ROOMS, Some("[]".to_owned()), source);
    }
    for table in setup.rooms() {
        _ = writeln!(text, "\n[[{ROOMS}]]");
        add(&mut text, MATCH, Some(quoted(&table.pattern)), source);
        for setting in &table.settings {
            add(&mut text, &setting.key, setting.written(), source);
        }
    }
    text
}

fn add(text: &mut String, key: &str, value: Option<String>, source: Source) {
    _ = match value {
        Some(value) => writeln!(text, "{key} = {value}  # {source}"),
        None => writeln!(text, "# {key} is not set"),
    };
}
