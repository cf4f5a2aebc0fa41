//! The documents that list every setting, written from the flags: each default and each sentence
//! stands in one place.
//!
//! `THRONG_BLESS=1 cargo test -p throng-server reference` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Arg;

use crate::cli::{Settings, command};
use crate::keys::Kind;

/// The sections of the example file, each with its first setting.
const SECTIONS: [(&str, &str); 7] = [
    ("listen", "Listening, and the use of the machine."),
    ("max_message_bytes", "Limits of one client."),
    ("max_connections", "Limits of all clients. 0 is no limit."),
    (
        "ping_interval_s",
        "Timeouts in seconds; fractions are allowed.",
    ),
    ("drain_timeout_s", "Stopping the server."),
    (
        "history_publications",
        "The default class: settings of each room that no table below matches. A 0 in any of the \
         limits of histories turns them off.",
    ),
    (
        "history_memory_bytes",
        "Histories of all rooms, in memory and on disk.",
    ),
];

/// Values for settings that have no default.
const EXAMPLES: [(&str, &str); 3] = [
    ("allowed_hosts", "[\"chat.example.com\"]"),
    ("history_on_failure", "\"serve\""),
    ("history_path", "\"/var/lib/throng\""),
];

/// The part of the example file that no flag says: its head, and classes of rooms.
const HEAD: &str = include_str!("reference/head.toml");
const CLASSES: &str = include_str!("reference/classes.toml");

#[test]
fn the_table_of_all_settings_is_what_help_says() {
    let path = "docs/operations.md";
    let page = read(path);
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the page says where the table begins");
    let (_, after) = rest
        .split_once(END)
        .expect("the page says where the table ends");
    expect(path, &format!("{before}{BEGIN}{}{END}{after}", table()));
}

#[test]
fn the_example_file_is_what_help_says() {
    expect("docs/throng.toml", &example());
}

const BEGIN: &str = "<!-- written from --help: begin -->\n";
const END: &str = "<!-- written from --help: end -->\n";

fn table() -> String {
    let mut table = "| variable | default | meaning |\n|---|---|---|\n".to_owned();
    for arg in command().get_arguments() {
        let Some(variable) = arg.get_env().and_then(|name| name.to_str()) else {
            continue;
        };
        let defaults: Vec<_> = arg.get_default_values().iter().collect();
        let default = match defaults.first() {
            Some(default) => format!("`{}`", default.to_string_lossy()),
            None => "none".to_owned(),
        };
        let meaning = naming(&help(arg), |flag| {
            format!("`THRONG_{}`", flag.to_uppercase())
        });
        let meaning = meaning.replace('|', "\\|").replace("*", "\\*");
        _ = writeln!(table, "| `{variable}` | {default} | {meaning} |");
    }
    table
}

fn example() -> String {
    let given = command().get_matches_from(["throng"]);
    let mut text = HEAD.to_owned();
    for arg in Settings::keys().arguments() {
        let key = arg.get_id().as_str();
        if let Some((_, title)) = SECTIONS.iter().find(|(first, _)| *first == key) {
            _ = write!(text, "\n{}\n", wrapped(title, "## "));
        }
        let meaning = naming(&help(arg), |flag| flag.to_owned());
        text.push_str(&wrapped(&meaning, "# "));
        let example = EXAMPLES.iter().find(|(of, _)| *of == key);
        let value = match example {
            Some((_, value)) => Some((*value).to_owned()),
            None => Kind::of(arg).written(key, &given),
        };
        _ = writeln!(
            text,
            "#{key} = {}",
            value.expect("it has a default or an example")
        );
    }
    text + "\n" + CLASSES
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

/// Names settings in a text otherwise than by their flags.
fn naming(text: &str, name: impl Fn(&str) -> String) -> String {
    let mut parts = text.split("--");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        let (flag, rest) = part.split_at(end.unwrap_or(part.len()));
        named.push_str(&name(&flag.replace('-', "_")));
        named.push_str(rest);
    }
    named
}

/// Breaks a text into lines of at most 100 columns, each behind a prefix.
fn wrapped(text: &str, prefix: &str) -> String {
    let mut lines = vec![prefix.trim_end().to_owned()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is one from the beginning");
        if last.len() + 1 + word.len() > 100 {
            lines.push(format!("{prefix}{word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

fn expect(path: &str, text: &str) {
    if std::env::var_os("THRONG_BLESS").is_some() {
        fs::write(at(path), text).expect("the file can be written");
    }
    let is_stale = read(path) != text;
    assert!(
        !is_stale,
        "{path} is stale: THRONG_BLESS=1 cargo test -p throng-server reference writes it anew"
    );
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).expect("the file is in the repository")
}

fn at(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
