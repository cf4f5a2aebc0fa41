//! What is wrong with the settings, in words, for the person who starts the server.

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use throng::{BindError, ListenError};

use crate::USAGE;
use crate::cli::command;
use crate::log::{Log, is_in_colour};
use crate::setup::{Setup, SetupError};

/// Prints why nothing can be done, or the help; returns how the program ends.
pub(crate) fn refused(error: &SetupError, log: &Log) -> ExitCode {
    match error {
        SetupError::Arguments(error) => usage(error, log),
        SetupError::File(_) | SetupError::Unusable { .. } => {
            complain(&error.to_string(), log);
            ExitCode::from(USAGE)
        }
    }
}

/// Says it on standard error, whatever is logged.
pub(crate) fn complain(text: &str, log: &Log) {
    log.print(&format!("error: {text}\n"));
}

/// Prints what is wrong with the command line, or the help; names the variable if it is one.
///
/// clap knows only its flags, and says "--cores" of a bad `THRONG_CORES`.
fn usage(error: &clap::Error, log: &Log) -> ExitCode {
    let text = variable_of(error).map(|(variable, value)| {
        let why = std::error::Error::source(error).map(|why| format!(": {why}"));
        format!(
            "{variable}={value} is no valid setting{}",
            why.unwrap_or_default()
        )
    });
    match text {
        Some(text) => complain(&text, log),
        None if !error.use_stderr() => _ = error.print(),
        None if is_in_colour() => log.print(&error.render().ansi().to_string()),
        None => log.print(&error.render().to_string()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// The environment variable, and its value, that a bad value came from.
fn variable_of(error: &clap::Error) -> Option<(String, String)> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // "--cores <CORES>", "--pin[=<PIN>]".
    let flag = flag.split([' ', '[']).next()?.trim_start_matches("--");
    if std::env::args().any(|arg| arg.trim_start_matches("--").split('=').next() == Some(flag)) {
        return None;
    }
    let command = command();
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag))?;
    let variable = arg.get_env()?.to_str()?.to_owned();
    let value = std::env::var_os(&variable)?.to_string_lossy().into_owned();
    Some((variable, value))
}

/// A sentence that names what to change.
pub(crate) fn bind_error(error: &BindError, setup: &Setup) -> String {
    let flush = setup.name("flush");
    let listen = setup.name("listen");
    let ListenError { address, source } = match error {
        BindError::Flush(source) => {
            return format!(
                "{flush}=uring, but the kernel refuses io_uring ({source}): allow it, or set auto"
            );
        }
        BindError::History(error) => {
            let path = setup.name("history_path");
            let is_the_systems =
                std::error::Error::source(error).is_some_and(|why| why.is::<io::Error>());
            let hint = if is_the_systems {
                ": name a directory that this server can make, and write to"
            } else {
                ""
            };
            return format!("{path}: {}{hint}", crate::describe(error));
        }
        BindError::Listen(error) => error,
    };
    let what = match source.kind() {
        io::ErrorKind::AddrInUse => "it is in use by another server: stop that, or set another",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: set another",
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need a privilege): set another"
        }
        io::ErrorKind::AlreadyExists => {
            "there is a file that is no socket: remove it or set another"
        }
        io::ErrorKind::NotFound => "the directory does not exist: make it or set another",
        _ => return format!("{listen}={address}: {source}"),
    };
    format!("{listen}={address}: {what}")
}
