//! Flags and environment variables: each setting has both.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use throng::{
    BindError, Classes, Config, FlushMode, Limits, ListenAddress, ListenError, RoomClass, Timeouts,
};

/// Throng: one message in, the same bytes out to every member of a room.
///
/// Serves a chat page at /, its WebSocket at /ws, /healthz and /metrics.
/// SIGTERM or SIGINT closes every connection with 1001 and stops; a second one stops at once.
#[derive(Debug, Parser)]
#[command(name = "throng", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where to listen, separated by commas: 127.0.0.1:8080, [::1]:8080, unix:/run/throng.sock
    #[arg(
        long,
        env = "THRONG_LISTEN",
        default_value = "127.0.0.1:8080",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,

    /// The path of the WebSocket
    #[arg(long, env = "THRONG_PATH", default_value = "/ws", value_parser = path)]
    path: String,

    /// How many cores to use, 1 to 256; 0 for all the CPUs that this process may use
    #[arg(long, env = "THRONG_CORES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    cores: u16,

    /// Keep each core's thread on one CPU
    #[arg(long, env = "THRONG_PIN", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pin: bool,

    /// How many shards the table of rooms has, rounded up to a power of two; 0 for 4 a core
    #[arg(long, env = "THRONG_SHARDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    shards: u32,

    /// How to write to sockets: auto, uring (or fail to start) or write
    #[arg(long, env = "THRONG_FLUSH", default_value_t = FlushMode::Auto)]
    flush: FlushMode,

    /// The largest message, in bytes; larger ones close the connection with 1009
    #[arg(long, env = "THRONG_MAX_MESSAGE_BYTES", default_value_t = 65_536, value_parser = positive_usize)]
    max_message_bytes: usize,

    /// The most fragments of one message; more close the connection with 1009
    #[arg(long, env = "THRONG_MAX_FRAGMENTS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_fragments: u32,

    /// The most rooms a connection may be in; more are answered with an error event
    #[arg(long, env = "THRONG_MAX_ROOMS_PER_CONNECTION", default_value_t = 128, value_parser = positive_usize)]
    max_rooms_per_connection: usize,

    /// The longest room name, in bytes; longer ones are answered with an error event
    #[arg(long, env = "THRONG_MAX_ROOM_NAME_BYTES", default_value_t = 255, value_parser = positive_usize)]
    max_room_name_bytes: usize,

    /// The most bytes that wait for one connection; a slower one is closed with 4102
    #[arg(long, env = "THRONG_MAX_OUTBOX_BYTES", default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    max_outbox_bytes: u32,

    /// The bytes of undone work of a core from which on publishers are held back
    #[arg(long, env = "THRONG_MAX_MAILBOX_BYTES", default_value_t = 16_777_216, value_parser = positive_usize)]
    max_mailbox_bytes: usize,

    /// The most connections; more get HTTP 503 with Retry-After; 0 for no limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS", default_value_t = 0)]
    max_connections: usize,

    /// The most connections from one IP address, likewise; proxies share one; 0 for no limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS_PER_IP", default_value_t = 0)]
    max_connections_per_ip: usize,

    /// The most HTTP connections that have not become WebSockets, likewise; 0 for no limit
    #[arg(long, env = "THRONG_MAX_HANDSHAKES", default_value_t = 4096)]
    max_handshakes: usize,

    /// Seconds without a byte from a peer after which it is pinged; 0 for never
    #[arg(long, env = "THRONG_PING_INTERVAL_S", default_value = "25", value_parser = seconds)]
    ping_interval_s: Duration,

    /// Seconds after a ping in which the peer must be heard, or it is closed
    #[arg(long, env = "THRONG_PONG_TIMEOUT_S", default_value = "10", value_parser = positive_seconds)]
    pong_timeout_s: Duration,

    /// Seconds without a message from a peer after which it is closed; 0 for never
    #[arg(long, env = "THRONG_IDLE_TIMEOUT_S", default_value = "0", value_parser = seconds)]
    idle_timeout_s: Duration,

    /// Seconds that an HTTP connection may last without becoming a WebSocket
    #[arg(long, env = "THRONG_HANDSHAKE_TIMEOUT_S", default_value = "30", value_parser = positive_seconds)]
    handshake_timeout_s: Duration,

    /// Seconds in which the head of a request must arrive
    #[arg(long, env = "THRONG_HEADER_TIMEOUT_S", default_value = "10", value_parser = positive_seconds)]
    header_timeout_s: Duration,

    /// Seconds that a peer may take to end the connection after a close frame
    #[arg(long, env = "THRONG_CLOSE_TIMEOUT_S", default_value = "5", value_parser = positive_seconds)]
    close_timeout_s: Duration,

    /// Seconds that stopping may take, from the signal to the end
    #[arg(long, env = "THRONG_DRAIN_TIMEOUT_S", default_value = "10", value_parser = positive_seconds)]
    drain_timeout_s: Duration,

    /// What to log: error, warn, info, debug, or a filter of the tracing-subscriber crate
    #[arg(long, env = "THRONG_LOG", default_value = "info", value_parser = log_filter)]
    pub(crate) log: String,
}

impl Cli {
    /// The library's configuration.
    pub(crate) fn into_config(self) -> Config {
        Config {
            listen: self.listen,
            path: Some(self.path),
            cores: self.cores.into(),
            pin: self.pin,
            shards: self.shards as usize,
            flush: self.flush,
            limits: Limits {
                message_bytes_max: self.max_message_bytes,
                fragments_max: self.max_fragments,
                rooms_per_connection_max: self.max_rooms_per_connection,
                room_name_bytes_max: self.max_room_name_bytes,
                outbox_bytes_max: self.max_outbox_bytes,
                mailbox_bytes_max: self.max_mailbox_bytes,
                connections_max: self.max_connections,
                connections_per_ip_max: self.max_connections_per_ip,
                handshakes_max: self.max_handshakes,
            },
            timeouts: Timeouts {
                ping_interval: self.ping_interval_s,
                pong_timeout: self.pong_timeout_s,
                idle: self.idle_timeout_s,
                handshake: self.handshake_timeout_s,
                header_read: self.header_timeout_s,
                close: self.close_timeout_s,
                drain: self.drain_timeout_s,
            },
            classes: Classes::new(Vec::new(), RoomClass::default()),
            ..Config::default()
        }
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path begins with /".to_owned());
    }
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "/-._~!$'()*+,;=:@%".contains(c);
    match text.chars().find(|c| !of_a_path(*c)) {
        None => Ok(text.to_owned()),
        Some(other) => Err(format!("a path has no {other:?}")),
    }
}

fn positive_usize(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| *time <= DURATION_MAX)
        .ok_or_else(|| format!("must be 0 to {} seconds", DURATION_MAX.as_secs()))
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("must be over 0 seconds".to_owned()),
        time => Ok(time),
    }
}

/// The longest time that can be set: 30 days.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Prints what is wrong with the command line, or the help; names the variable if it is one.
///
/// clap knows only its flags, and says "--cores" of a bad `THRONG_CORES`.
pub(crate) fn explain_usage(error: clap::Error) -> ExitCode {
    let text = variable_of(&error).map(|(variable, value)| {
        let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
        format!(
            "error: {variable}={value} is no valid setting{}\n",
            why.unwrap_or_default()
        )
    });
    match text {
        // Nothing to be done if standard error is closed.
        Some(text) => _ = io::stderr().write_all(text.as_bytes()),
        None => _ = error.print(),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(crate::USAGE))
}

/// The environment variable, and its value, that a bad value came from.
fn variable_of(error: &clap::Error) -> Option<(String, String)> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = flag.split(' ').next()?.trim_start_matches("--");
    if std::env::args().any(|arg| arg.trim_start_matches("--").split('=').next() == Some(flag)) {
        return None;
    }
    let command = Cli::command();
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag))?;
    let variable = arg.get_env()?.to_str()?.to_owned();
    let value = std::env::var_os(&variable)?.to_string_lossy().into_owned();
    Some((variable, value))
}

/// A sentence that names the variable to change.
pub(crate) fn explain(error: &BindError) -> String {
    let ListenError { address, source } = match error {
        BindError::Flush(source) => {
            return format!(
                "THRONG_FLUSH=uring, but the kernel refuses io_uring ({source}): \
                 allow it, or set THRONG_FLUSH=auto"
            );
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
        _ => return format!("THRONG_LISTEN={address}: {source}"),
    };
    format!("THRONG_LISTEN={address}: {what}")
}

/// Raises the limit of open files to what the system allows; returns it where it can be read.
pub(crate) fn raise_file_limit() -> Option<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
        .ok()
        .filter(|_| Path::new("/proc").exists())
}
