//! Flags and environment variables: each setting has both, and a key of the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, CommandFactory as _, Parser, Subcommand};
use throng::{
    Config, ConnectionsMax, Disk, Drain, FlushMode, Fsync, History, Hosts, Limits, ListenAddress,
    OnFailure, Origins, Timeouts,
};
use tracing_subscriber::filter::Targets;

use crate::classes::{ClassSettings, ROOMS, RoomTable, RoomTables};
use crate::keys::Keys;
use crate::values::{directory, log_filter, path, positive_seconds, positive_usize, seconds};

/// Throng: one message in, the same bytes out to every member of a room.
///
/// Serves a chat page at /, its WebSocket at /ws, /healthz and /metrics. SIGTERM or SIGINT tells
/// every client to come back, closes its connection and stops; a second one stops at once. SIGHUP
/// reads the configuration file again.
#[derive(Debug, Parser)]
#[command(
    name = "throng",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// A file of settings in TOML, each under its flag's name with underscores; flags and variables
    /// go before it
    #[arg(long, env = "THRONG_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Classes of rooms, instead of the file's; the first that matches: [{match = "cursor:*",
    /// slow_consumer = "latest"}]
    #[arg(long, env = "THRONG_ROOMS", value_name = "TOML")]
    pub(crate) rooms: Option<RoomTables>,

    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

/// Builds the command line. Every flag may also stand behind the task.
pub(crate) fn command() -> Command {
    Cli::command().mut_args(|arg| arg.global(true))
}

/// What to do but serve.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Task {
    /// Prints every setting as a configuration file would say it, with where it came from, and ends
    CheckConfig,
    /// Works on the histories on disk, and ends; no server may have them open
    #[command(subcommand)]
    History(HistoryTask),
}

/// What to do with the histories on disk.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum HistoryTask {
    /// Gives every room a new epoch: to be run when --history-path was put back from a copy, before the server
    /// starts
    Restore,
}

/// What may also stand in the configuration file, under the field's name.
#[derive(Debug, Args)]
pub(crate) struct Settings {
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

    /// Which pages may open a WebSocket, separated by commas: same (from the host they connect to),
    /// https://chat.example.com, https://*.example.com, http://localhost:*, null, file://, or * for
    /// all
    #[arg(
        long,
        env = "THRONG_ORIGINS",
        default_value = "same",
        value_delimiter = ','
    )]
    origins: Vec<Origins>,

    /// Which hosts are served, separated by commas: chat.example.com, *.example.com, or * for all.
    /// localhost always is; without a list a loopback address serves nothing else, other addresses
    /// serve all
    #[arg(long, env = "THRONG_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<Hosts>,

    /// How many cores to use, 1 to 256; 0 for all the CPUs that this process may use
    #[arg(long, env = "THRONG_CORES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    cores: u16,

    /// Keep each core's thread on one CPU
    #[arg(long, env = "THRONG_PIN", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
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

    /// The most bytes that wait for one connection; --slow-consumer says what happens to a slower one
    #[arg(long, env = "THRONG_MAX_OUTBOX_BYTES", default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    max_outbox_bytes: u32,

    /// The most bytes that the kernel holds unsent for a slow connection; 0 for the kernel's own bound
    #[arg(long, env = "THRONG_MAX_UNSENT_BYTES", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    max_unsent_bytes: u32,

    /// The most memory of the kernel for what a connection has not acknowledged, in bytes; 0 lets the kernel choose
    #[arg(long, env = "THRONG_SEND_BUFFER_BYTES", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    send_buffer_bytes: u32,

    /// The most memory of the kernel for what a connection sent and was not read, in bytes; 0 lets the kernel choose
    #[arg(long, env = "THRONG_RECEIVE_BUFFER_BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    receive_buffer_bytes: u32,

    /// The bytes of undone work of a core from which on publishers are held back
    #[arg(long, env = "THRONG_MAX_MAILBOX_BYTES", default_value_t = 16_777_216, value_parser = positive_usize)]
    max_mailbox_bytes: usize,

    /// The most connections; more get HTTP 503 with Retry-After; auto for what the limit of open
    /// files has room for, 0 for no limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS", default_value_t = ConnectionsMax::Auto)]
    max_connections: ConnectionsMax,

    /// The most connections from one IP address; more get HTTP 503; proxies share one; 0 for no
    /// limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS_PER_IP", default_value_t = 0)]
    max_connections_per_ip: usize,

    /// The most HTTP connections that have not become WebSockets; for more, the oldest that has not
    /// asked makes way; 0 for no limit
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

    /// The seconds over which clients are told to come back when the server stops
    #[arg(long, env = "THRONG_DRAIN_SPREAD_S", default_value = "5", value_parser = seconds)]
    drain_spread_s: Duration,

    /// How many connections are closed in a second while the server stops; 0 for all at once
    #[arg(long, env = "THRONG_DRAIN_RATE", default_value_t = 5000)]
    drain_rate: u32,

    #[command(flatten)]
    class: ClassSettings,

    /// The bytes that the histories of all rooms take; more drop the oldest; 0 for no history
    #[arg(
        long,
        env = "THRONG_HISTORY_MEMORY_BYTES",
        default_value_t = 268_435_456
    )]
    history_memory_bytes: usize,

    /// A directory to keep histories in over a restart; without one they are in memory only
    #[arg(long, env = "THRONG_HISTORY_PATH", value_parser = directory)]
    history_path: Option<String>,

    /// When histories are brought to the disk: always (before anybody gets a publication), interval or
    /// never (the kernel decides)
    #[arg(long, env = "THRONG_HISTORY_FSYNC", default_value_t = Fsync::Interval)]
    history_fsync: Fsync,

    /// Seconds between bringing histories to the disk, if that is every so often
    #[arg(long, env = "THRONG_HISTORY_FSYNC_INTERVAL_S", default_value = "1", value_parser = positive_seconds)]
    history_fsync_interval_s: Duration,

    /// While the disk fails: refuse publications, or serve them from memory; refuse by default if histories are
    /// always brought to the disk, serve otherwise
    #[arg(long, env = "THRONG_HISTORY_ON_FAILURE")]
    history_on_failure: Option<OnFailure>,

    /// What to log: off, error, warn, info, debug or trace; a part of the program may have a level
    /// of its own: warn,throng::accept=debug
    #[arg(long, env = "THRONG_LOG", default_value = "info", value_parser = log_filter)]
    pub(crate) log: Targets,
}

impl Settings {
    /// Says what is wrong with a setting because of another one: its key, and why.
    pub(crate) fn check(&self, rooms: &[RoomTable]) -> Result<(), (&'static str, String)> {
        let is_chosen =
            |address: &ListenAddress| matches!(address, ListenAddress::Tcp(it) if it.port() == 0);
        for (index, address) in self.listen.iter().enumerate() {
            if self.listen[..index].contains(address) && !is_chosen(address) {
                return Err(("listen", format!("{address} is there twice")));
            }
        }
        if self.history_path.is_none() {
            let needs = "needs a directory, history_path: without one histories are in memory only";
            if self.history_fsync == Fsync::Always {
                return Err(("history_fsync", format!("always {needs}")));
            }
            if let Some(on_failure) = self.history_on_failure {
                return Err(("history_on_failure", format!("{on_failure} {needs}")));
            }
        }
        let name_len_max = self.max_room_name_bytes;
        let is_too_long = |table: &&RoomTable| table.pattern.replace('*', "").len() > name_len_max;
        match rooms.iter().find(is_too_long) {
            Some(RoomTable { pattern, .. }) => {
                let reason = format!(
                    "match = {pattern:?} is longer than the name of any room, which has at most \
                     {name_len_max} bytes: max_room_name_bytes"
                );
                Err((ROOMS, reason))
            }
            None => Ok(()),
        }
    }

    /// Their keys in the file.
    pub(crate) fn keys() -> Keys {
        Keys::new::<Self>(ROOMS, "the server")
    }

    /// The library's configuration.
    pub(crate) fn config(&self, rooms: &[RoomTable]) -> Config {
        Config {
            listen: self.listen.clone(),
            path: Some(self.path.clone()),
            origins: self.origins.iter().cloned().collect(),
            allowed_hosts: self.allowed_hosts.iter().cloned().collect(),
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
                unsent_bytes_max: self.max_unsent_bytes,
                send_buffer_bytes: self.send_buffer_bytes,
                receive_buffer_bytes: self.receive_buffer_bytes,
                mailbox_bytes_max: self.max_mailbox_bytes,
                connections_max: self.max_connections,
                connections_per_ip_max: self.max_connections_per_ip,
                handshakes_max: self.max_handshakes,
                // The program has no service that it would bound.
                fallback_connections_max: Limits::default().fallback_connections_max,
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
            classes: self.class.classes(rooms, self.max_message_bytes),
            history: History {
                memory_bytes_max: self.history_memory_bytes,
                disk: self.history_path.as_ref().map(|path| Disk {
                    // Whoever reads it in the log need not know where the server was started.
                    path: std::path::absolute(path).unwrap_or_else(|_| path.into()),
                    fsync: self.history_fsync,
                    fsync_interval: self.history_fsync_interval_s,
                    on_failure: self.history_on_failure,
                }),
            },
            drain: Drain {
                spread: self.drain_spread_s,
                rate: self.drain_rate,
            },
        }
    }
}
