//! What is wrong with the settings, in words, for the person who starts the server.

use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use throng::{BindError, ListenError};

use crate::USAGE;
use crate::cli::command;
use crate::keys::Kind;
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
    let text = variable_of(error).map(|variable| variable.complaint(error));
    match text {
        Some(text) => complain(&text, log),
        None if !error.use_stderr() => _ = error.print(),
        None if is_in_colour() => log.print(&error.render().ansi().to_string()),
        None => log.print(&error.render().to_string()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// An environment variable with a value that its setting does not take.
struct BadVariable {
    name: String,
    value: String,
    kind: Kind,
}

impl BadVariable {
    /// Returns what is wrong with the value.
    fn complaint(&self, error: &clap::Error) -> String {
        let Self { name, value, kind } = self;
        if value.is_empty() {
            return format!("{name} is empty: set a value, or unset it for the default");
        }
        let why = kind.complaint(value).map(str::to_owned);
        let why = why.or_else(|| Some(std::error::Error::source(error)?.to_string()));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        format!("{name}={value} is not valid{why}")
    }
}

/// Returns the environment variable that a bad value came from.
fn variable_of(error: &clap::Error) -> Option<BadVariable> {
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
    let name = arg.get_env()?.to_str()?.to_owned();
    let value = std::env::var_os(&name)?.to_string_lossy().into_owned();
    Some(BadVariable {
        name,
        value,
        kind: Kind::of(arg),
    })
}

/// Returns a sentence that names what to change.
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
                ": use a directory that the server can create and write to"
            } else {
                ""
            };
            return format!("{path}: {}{hint}", crate::describe(error));
        }
        BindError::Listen(error) => error,
    };
    let what = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use by another process: stop that process, or use another address"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: use another address",
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE): use another address"
        }
        io::ErrorKind::AlreadyExists => {
            "the path is a file, not a socket: remove it, or use another path"
        }
        io::ErrorKind::NotFound => "the directory does not exist: create it, or use another path",
        _ => return format!("{listen}={address}: {source}"),
    };
    format!("{listen}={address}: {what}")
}
