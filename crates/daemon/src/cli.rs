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
use crate::values::{
    directory, hosts, log_filter, path, positive_seconds, positive_usize, seconds,
};

/// Throng, a WebSocket broadcast server.
///
/// Serves the WebSocket at /ws, a chat page at /, /healthz and /metrics. SIGTERM or SIGINT drains:
/// every client is told when to reconnect, then its connection is closed. A second signal stops at
/// once. SIGHUP reloads the configuration file.
#[derive(Debug, Parser)]
#[command(
    name = "throng",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// TOML file with settings; each key is a flag's name with underscores. Flags and environment
    /// variables override it
    #[arg(long, env = "THRONG_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Per-pattern overrides of room settings, replacing the file's; the first match applies:
    /// [{match = "cursor:*", slow_consumer = "latest"}]
    #[arg(long, env = "THRONG_ROOMS", value_name = "TOML")]
    pub(crate) rooms: Option<RoomTables>,

    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

/// Builds the command line. Every flag may also stand behind the task.
pub(crate) fn command() -> Command {
    Cli::command().mut_args(|arg| arg.global(true))
}

/// A task other than serving.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Task {
    /// Print every setting with its value and source, as a configuration file, and exit
    CheckConfig,
    /// Work on the histories on disk, and exit; no server may have them open
    #[command(subcommand)]
    History(HistoryTask),
}

/// A task on the histories on disk.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum HistoryTask {
    /// Give every room a new epoch. Run this after you restore --history-path from a copy, before
    /// you start the server
    Restore,
}

/// Settings that may also be in the configuration file, under the field's name.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Addresses to listen on, separated by commas: 127.0.0.1:8080, [::1]:8080,
    /// unix:/run/throng.sock
    #[arg(
        long,
        env = "THRONG_LISTEN",
        default_value = "127.0.0.1:8080",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,

    /// Path of the WebSocket
    #[arg(long, env = "THRONG_PATH", default_value = "/ws", value_parser = path)]
    path: String,

    /// Pages that may open a WebSocket, separated by commas: same (the host that they connect to),
    /// https://chat.example.com, https://*.example.com, http://localhost:*, null, file://, or * for
    /// all
    #[arg(
        long,
        env = "THRONG_ORIGINS",
        default_value = "same",
        value_delimiter = ','
    )]
    origins: Vec<Origins>,

    /// Hosts to serve, by the Host header, separated by commas: chat.example.com, *.example.com, *
    /// for all. Loopback names are always served. Without a list, listeners on loopback addresses
    /// serve nothing else, and other listeners serve every host
    #[arg(
        long,
        env = "THRONG_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_parser = hosts
    )]
    allowed_hosts: Vec<Hosts>,

    /// Number of cores, 1 to 256; 0 uses all CPUs that the process may use
    #[arg(
        long,
        env = "THRONG_CORES",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    cores: u16,

    /// Pin the thread of each core to one CPU
    #[arg(
        long,
        env = "THRONG_PIN",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pin: bool,

    /// Number of shards in the table of rooms, rounded up to a power of two; 0 is 4 per core
    #[arg(
        long,
        env = "THRONG_SHARDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=1_048_576)
    )]
    shards: u32,

    /// Way of writing to sockets: auto, uring (fails to start without io_uring) or write (one
    /// system call per socket)
    #[arg(long, env = "THRONG_FLUSH", default_value_t = FlushMode::Auto)]
    flush: FlushMode,

    /// Largest message, in bytes; a larger one closes the connection with 1009
    #[arg(
        long,
        env = "THRONG_MAX_MESSAGE_BYTES",
        default_value_t = 65_536,
        value_parser = positive_usize
    )]
    max_message_bytes: usize,

    /// Maximum fragments of one message; more close the connection with 1009
    #[arg(
        long,
        env = "THRONG_MAX_FRAGMENTS",
        default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_fragments: u32,

    /// Maximum rooms per connection; joining more is answered with an error, too_many_rooms
    #[arg(
        long,
        env = "THRONG_MAX_ROOMS_PER_CONNECTION",
        default_value_t = 128,
        value_parser = positive_usize
    )]
    max_rooms_per_connection: usize,

    /// Longest room name, in bytes; a longer one is answered with an error, bad_room
    #[arg(
        long,
        env = "THRONG_MAX_ROOM_NAME_BYTES",
        default_value_t = 255,
        value_parser = positive_usize
    )]
    max_room_name_bytes: usize,

    /// Maximum bytes queued for one connection; --slow-consumer says what happens at the limit
    #[arg(
        long,
        env = "THRONG_MAX_OUTBOX_BYTES",
        default_value_t = 1_048_576,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30)
    )]
    max_outbox_bytes: u32,

    /// Maximum bytes that the kernel holds unsent for a slow connection; 0 for the kernel's own
    /// limit
    #[arg(
        long,
        env = "THRONG_MAX_UNSENT_BYTES",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(..=1 << 30)
    )]
    max_unsent_bytes: u32,

    /// Maximum kernel memory for sent, unacknowledged data of one connection, in bytes; 0 lets the
    /// kernel choose
    #[arg(
        long,
        env = "THRONG_SEND_BUFFER_BYTES",
        default_value_t = 524_288,
        value_parser = clap::value_parser!(u32).range(..=1 << 30)
    )]
    send_buffer_bytes: u32,

    /// Maximum kernel memory for received, unread data of one connection, in bytes; 0 lets the
    /// kernel choose
    #[arg(
        long,
        env = "THRONG_RECEIVE_BUFFER_BYTES",
        default_value_t = 262_144,
        value_parser = clap::value_parser!(u32).range(..=1 << 30)
    )]
    receive_buffer_bytes: u32,

    /// Bytes of pending work on a core at which the server stops reading from publishers
    #[arg(
        long,
        env = "THRONG_MAX_MAILBOX_BYTES",
        default_value_t = 16_777_216,
        value_parser = positive_usize
    )]
    max_mailbox_bytes: usize,

    /// Maximum connections; others get HTTP 503 with Retry-After. auto is what the limit of open
    /// files allows, 0 is no limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS", default_value_t = ConnectionsMax::Auto)]
    max_connections: ConnectionsMax,

    /// Maximum connections from one IP address; others get HTTP 503. Clients behind a TCP proxy
    /// share its address. 0 is no limit
    #[arg(long, env = "THRONG_MAX_CONNECTIONS_PER_IP", default_value_t = 0)]
    max_connections_per_ip: usize,

    /// Maximum HTTP connections that are not upgraded to WebSocket; at the limit, the oldest
    /// without a request is closed. 0 is no limit
    #[arg(long, env = "THRONG_MAX_HANDSHAKES", default_value_t = 4096)]
    max_handshakes: usize,

    /// Seconds of silence after which a peer is pinged; 0 is never
    #[arg(long, env = "THRONG_PING_INTERVAL_S", default_value = "25", value_parser = seconds)]
    ping_interval_s: Duration,

    /// Seconds after a ping within which the peer must show that it is alive, by a byte or by
    /// taking data from a full socket; otherwise it is closed with 1011
    #[arg(
        long,
        env = "THRONG_PONG_TIMEOUT_S",
        default_value = "10",
        value_parser = positive_seconds
    )]
    pong_timeout_s: Duration,

    /// Seconds without a message from a peer after which it is closed with 1001; 0 is never
    #[arg(long, env = "THRONG_IDLE_TIMEOUT_S", default_value = "0", value_parser = seconds)]
    idle_timeout_s: Duration,

    /// Seconds that an HTTP connection may last without an upgrade to WebSocket
    #[arg(
        long,
        env = "THRONG_HANDSHAKE_TIMEOUT_S",
        default_value = "30",
        value_parser = positive_seconds
    )]
    handshake_timeout_s: Duration,

    /// Seconds within which the head of a request must arrive
    #[arg(
        long,
        env = "THRONG_HEADER_TIMEOUT_S",
        default_value = "10",
        value_parser = positive_seconds
    )]
    header_timeout_s: Duration,

    /// Seconds within which a peer must end the connection after a close frame
    #[arg(
        long,
        env = "THRONG_CLOSE_TIMEOUT_S",
        default_value = "5",
        value_parser = positive_seconds
    )]
    close_timeout_s: Duration,

    /// Maximum seconds for a drain, from the signal to the end of the process
    #[arg(
        long,
        env = "THRONG_DRAIN_TIMEOUT_S",
        default_value = "10",
        value_parser = positive_seconds
    )]
    drain_timeout_s: Duration,

    /// Seconds over which the clients of a stopping server are told to reconnect
    #[arg(long, env = "THRONG_DRAIN_SPREAD_S", default_value = "5", value_parser = seconds)]
    drain_spread_s: Duration,

    /// Connections that a stopping server closes per second; 0 is all at once. It is raised if the
    /// others would wait longer than --drain-timeout-s
    #[arg(long, env = "THRONG_DRAIN_RATE", default_value_t = 5000)]
    drain_rate: u32,

    #[command(flatten)]
    class: ClassSettings,

    /// Memory for the histories and keys of all rooms, in bytes; above it, the oldest are evicted.
    /// 0 turns history off
    #[arg(
        long,
        env = "THRONG_HISTORY_MEMORY_BYTES",
        default_value_t = 268_435_456
    )]
    history_memory_bytes: usize,

    /// Directory for histories that survive a restart; without it, they are in memory only
    #[arg(long, env = "THRONG_HISTORY_PATH", value_parser = directory)]
    history_path: Option<String>,

    /// When to fsync histories: always (before delivery), interval, or never (the kernel decides)
    #[arg(long, env = "THRONG_HISTORY_FSYNC", default_value_t = Fsync::Interval)]
    history_fsync: Fsync,

    /// Seconds between fsyncs (with --history-fsync=interval)
    #[arg(
        long,
        env = "THRONG_HISTORY_FSYNC_INTERVAL_S",
        default_value = "1",
        value_parser = positive_seconds
    )]
    history_fsync_interval_s: Duration,

    /// While the disk fails: refuse publications, or serve them from memory [default: refuse with
    /// --history-fsync=always, else serve]
    #[arg(long, env = "THRONG_HISTORY_ON_FAILURE")]
    history_on_failure: Option<OnFailure>,

    /// Log level: off, error, warn, info, debug or trace. Parts of the program can have their own:
    /// warn,throng::accept=debug
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
                return Err(("listen", format!("{address} is listed twice")));
            }
        }
        if self.history_path.is_none() {
            let needs = "needs history_path: without a directory, histories are in memory only";
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

    /// Returns the keys of the settings in the file.
    pub(crate) fn keys() -> Keys {
        Keys::new::<Self>(ROOMS, "setting")
    }

    /// Returns the library's configuration.
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
