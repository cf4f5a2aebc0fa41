//! The `throng` server: a chat on golem's wire, its page, health and metrics.

use std::io::{self, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use throng::{Config, Router, Server};

use crate::cli::{HistoryTask, Task};
use crate::log::Log;
use crate::reload::Reloader;
use crate::setup::Setup;
use crate::signals::Signals;

mod check;
mod classes;
mod cli;
mod config_file;
mod environment;
mod explain;
mod keys;
mod log;
mod memory;
mod pages;
#[cfg(test)]
mod reference;
mod reload;
mod restore;
mod setup;
mod signals;
mod values;

/// The exit code for what the person who starts the server can mend; clap's too.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => {
            // Nothing to be done if standard error is closed.
            _ = writeln!(io::stderr(), "error: cannot start the log thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = run(&log);
    log.finish();
    code
}

fn run(log: &Log) -> ExitCode {
    let setup = match Setup::load() {
        Ok(setup) => setup,
        Err(error) => return explain::refused(&error, log),
    };
    if let Some(Task::CheckConfig) = setup.task() {
        for unknown in environment::unknown() {
            log.print(&format!("warning: {unknown}\n"));
        }
        check::print(&setup);
        return ExitCode::SUCCESS;
    }
    let done = match setup.task() {
        Some(Task::History(HistoryTask::Restore)) => {
            log.install(setup.log());
            restore::run(&setup)
        }
        _ => serve(setup, log),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, code }) => {
            explain::complain(&text, log);
            ExitCode::from(code)
        }
    }
}

/// Why the server ended, for the person who started it.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// Returns the failure to install signal handlers.
    fn no_signals(error: &io::Error) -> Self {
        Self {
            text: format!("cannot install signal handlers: {error}"),
            code: 1,
        }
    }
}

fn serve(setup: Setup, log: &Log) -> Result<(), Failure> {
    let filter = log.install(setup.log());
    for unknown in environment::unknown() {
        tracing::warn!("{unknown}");
    }
    // Before the histories are read, which takes time.
    let signals = Signals::catch().map_err(|error| Failure::no_signals(&error))?;
    let config = setup.config();
    let raised = raise_file_limit();
    let mut server = Server::bind(config.clone()).map_err(|error| Failure {
        text: explain::bind_error(&error, &setup),
        code: USAGE,
    })?;
    let path = config.path.as_deref().unwrap_or("/");
    pages::add_to(&mut server, path);
    server.on_idle(memory::give_back);
    let counted = log.clone();
    let help = "Log lines dropped because standard error was blocked";
    server.counter("log_lines_dropped", help, move || counted.dropped());
    let mut router = Router::new();
    router.serve_throng_v1().serve_golem();
    if let Some(file) = setup.file() {
        tracing::info!(file = %file.display(), "configuration read");
    }
    let reloader = Reloader::new(setup, server.handle(), filter);
    signals
        .obey(server.stop(), reloader, log.clone())
        .map_err(|error| Failure::no_signals(&error))?;
    // Whoever reads that it listens may stop it: the signals are caught by now.
    announce(&config, &server, raised);
    server.serve(router).map_err(|error| Failure {
        text: describe(&error),
        code: 1,
    })?;
    tracing::info!("stopped");
    Ok(())
}

/// Says what was set and what was found, once.
fn announce(config: &Config, server: &Server, open_files_max: Option<u64>) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cores = config.core_count(),
        shards = config.shard_count(),
        flush = server.flush_name(),
        pinned = config.pin,
        "starting"
    );
    let throng::Limits {
        message_bytes_max,
        fragments_max,
        rooms_per_connection_max,
        room_name_bytes_max,
        outbox_bytes_max,
        unsent_bytes_max,
        send_buffer_bytes,
        receive_buffer_bytes,
        mailbox_bytes_max,
        connections_max,
        connections_per_ip_max,
        handshakes_max,
        fallback_connections_max: _,
    } = config.limits;
    // What "auto" comes to follows from the limit of open files.
    let max_connections = connections_max;
    let connections_max = server.connections_max().unwrap_or(0);
    tracing::info!(
        message_bytes_max,
        fragments_max,
        rooms_per_connection_max,
        room_name_bytes_max,
        outbox_bytes_max,
        unsent_bytes_max,
        send_buffer_bytes,
        receive_buffer_bytes,
        mailbox_bytes_max,
        connections_max,
        %max_connections,
        connections_per_ip_max,
        handshakes_max,
        open_files_max,
        "limits (0: none)"
    );
    let throng::History {
        memory_bytes_max,
        ref disk,
    } = config.history;
    tracing::info!(
        memory_bytes_max,
        on_disk = disk.is_some(),
        "history memory for all rooms (0: no history)"
    );
    classes::announce(&config.classes);
    let throng::Drain { spread, rate } = config.drain;
    tracing::info!(?spread, rate, "drain settings (rate 0: all at once)");
    tracing::info!(origins = %config.origins, "allowed origins");
    tracing::info!(
        allowed_hosts = %config.allowed_hosts,
        "allowed hosts (empty: all, except on loopback addresses)"
    );
    for address in server.addresses() {
        match address {
            throng::ListenAddress::Tcp(address) => tracing::info!("listening on http://{address}/"),
            address @ throng::ListenAddress::Unix(_) => tracing::info!("listening on {address}"),
        }
    }
}

/// Returns an error with what caused it, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Raises the limit of open files to what the system allows; returns it where it can be read.
fn raise_file_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without the right to raise it, what there is must do.
    _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}
