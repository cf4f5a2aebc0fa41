//! Environment variables that look like settings and are none.

use std::ffi::OsStr;

use crate::cli::command;
use crate::keys::nearest;

/// Begins the name of every variable of ours.
const PREFIX: &str = "THRONG_";

/// Returns the first variable of a setting whose value is no text, which clap says of none by
/// name. The configuration file may have any name that the system allows.
pub(crate) fn not_text() -> Option<String> {
    let command = command();
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    let is_not_text =
        |name: &&OsStr| std::env::var_os(name).is_some_and(|value| value.to_str().is_none());
    let mut names = variables
        .filter(|name| *name != "THRONG_CONFIG")
        .filter(is_not_text);
    names.next().map(|name| name.to_string_lossy().into_owned())
}

/// Returns a sentence for each variable of this process that no setting has, and never its value.
///
/// That is no error: others name variables after a server too. Kubernetes sets
/// `THRONG_SERVICE_HOST` for a service that is called throng.
pub(crate) fn unknown() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    sentences(names)
}

fn sentences(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = command();
    let known: Vec<&str> = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str()?.strip_prefix(PREFIX))
        .collect();
    let sentence = |name: String| {
        let rest = name.strip_prefix(PREFIX)?;
        if known.contains(&rest) {
            return None;
        }
        let known = known.iter().copied();
        Some(match nearest(rest, known) {
            Some(meant) => format!("unknown variable {name:?}; did you mean {PREFIX}{meant}?"),
            None => format!("unknown variable {name:?}"),
        })
    };
    let mut sentences: Vec<_> = names.filter_map(sentence).collect();
    sentences.sort();
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_no_setting_has_is_named_with_the_nearest_that_one_has() {
        let names = [
            "THRONG_MAX_CONECTIONS",
            "THRONG_LISTEN",
            "THRONG_XYZ",
            "PATH",
            "THRONG_",
        ];
        let names = names.map(str::to_owned).into_iter();
        assert_eq!(
            sentences(names),
            [
                "unknown variable \"THRONG_\"",
                "unknown variable \"THRONG_MAX_CONECTIONS\"; did you mean THRONG_MAX_CONNECTIONS?",
                "unknown variable \"THRONG_XYZ\"",
            ]
        );
    }
}
