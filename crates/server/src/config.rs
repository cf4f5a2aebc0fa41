//! What an operator can set, with the defaults and what happens at each limit.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, net::SocketAddr, str::FromStr};

use rooms::Classes;
use thiserror::Error;

use crate::accept::hosts::Hosts;
use crate::accept::origin::Origins;

#[cfg(feature = "disk")]
mod disk;

#[cfg(feature = "disk")]
pub use disk::{Disk, Fsync, FsyncError, OnFailure, OnFailureError};

/// Histories on disk, where nobody can have them: `None` is all that can be said.
#[cfg(not(feature = "disk"))]
pub(crate) type Disk = std::convert::Infallible;

/// Everything that can be set about a server.
///
/// # Examples
///
/// ```
/// let config = throng::Config { cores: 1, ..throng::Config::default() };
/// assert_eq!(config.limits.message_bytes_max, 64 * 1024);
/// ```
///
/// Rooms keep no history unless the application says so:
///
/// ```
/// use throng::{Classes, Config, RoomClass, SlowConsumer};
///
/// let ticker = RoomClass { slow_consumer: SlowConsumer::Latest, ..RoomClass::default() };
/// let classes = Classes::new(vec![("ticker:*".into(), ticker)], RoomClass::default());
/// let config = Config { classes, ..Config::default() };
/// assert!(config.classes.of("lobby").history.is_on());
/// assert!(!Config::default().classes.of("lobby").history.is_on());
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; all of them. None for a server that is only
    /// [mounted](crate::Server::mount).
    pub listen: Vec<ListenAddress>,
    /// The path of the WebSocket; none accepts one on every path that is no page.
    pub path: Option<String>,
    /// Which pages may open a WebSocket, by the request's `Origin`. Others: HTTP 403. Requests
    /// without one, which are not a page's, are not looked at.
    pub origins: Origins,
    /// Which hosts are served, by the request's `Host`. Others: HTTP 403. Without a rule, a
    /// listener on a loopback address serves the loopback's names alone, and every other listener
    /// serves all. What is [mounted](crate::Server::mount) has no listener, and serves all unless
    /// there is a rule.
    pub allowed_hosts: Hosts,
    /// Number of cores; 0 is as many as this process may run on.
    pub cores: usize,
    /// True if each core's thread stays on one CPU.
    pub pin: bool,
    /// Number of shards in the table of rooms; 0 is four times the cores. Rounded up to a power of
    /// two.
    pub shards: usize,
    /// Way of writing frames to sockets.
    pub flush: FlushMode,
    /// Limits of what peers may use.
    pub limits: Limits,
    /// Maximum times.
    pub timeouts: Timeouts,
    /// Per-room settings, by the room's name: how much of its history is retained, and what happens
    /// to slow members. [`RoomClass`](crate::RoomClass) says what happens at each of its limits.
    pub classes: Classes,
    /// Limits of the histories of all rooms together.
    pub history: History,
    /// Pace at which clients leave when the server stops.
    pub drain: Drain,
}

impl Default for Config {
    /// Returns the defaults: `127.0.0.1:8080`, `/ws` for pages of the same origin, all CPUs,
    /// io_uring where the kernel allows it; rooms keep no history.
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            path: Some("/ws".to_owned()),
            origins: Origins::same(),
            allowed_hosts: Hosts::default(),
            cores: 0,
            pin: false,
            shards: 0,
            flush: FlushMode::Auto,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            classes: Classes::default(),
            history: History::default(),
            drain: Drain::default(),
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `127.0.0.1:8080`, `[::1]:8080`; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// `unix:/run/throng.sock`, for a reverse proxy on the same machine.
    Unix(PathBuf),
}

/// Text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{text}\" is not an address: use 127.0.0.1:8080, [::1]:8080 or unix:/path/to/socket")]
pub struct ListenAddressError {
    text: String,
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ListenAddressError {
                text: text.to_owned(),
            }),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenAddressError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Way of writing frames to sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// io_uring if the kernel allows it and the crate has its feature `uring`, else one `send` a
    /// member.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    Uring,
    /// One `send` or `writev` a member.
    Write,
}

/// Text that names no flush mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use auto, uring or write")]
pub struct FlushModeError;

impl FromStr for FlushMode {
    type Err = FlushModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "write" => Ok(Self::Write),
            _ => Err(FlushModeError),
        }
    }
}

impl fmt::Display for FlushMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Write => "write",
        })
    }
}

/// Limits of what peers may use. At each limit the answer is a clear refusal, and a counter moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes. Larger: closed with 1009.
    pub message_bytes_max: usize,
    /// The most frames a message may be cut into. More: closed with 1009.
    pub fragments_max: u32,
    /// The most rooms one connection may be a member of. More: an `error` event.
    pub rooms_per_connection_max: usize,
    /// The longest room name, in bytes. Longer: an `error` event.
    pub room_name_bytes_max: usize,
    /// The most bytes that wait for one connection's socket. More: what the room's class says of
    /// [slow consumers](crate::SlowConsumer); without a word of it, closed with 4102.
    pub outbox_bytes_max: u32,
    /// The most bytes that the kernel holds unsent for one TCP connection that is slow; 0 is the
    /// kernel's own bound. More waits in the outbox, where it can still be replaced by what is
    /// newer. A connection is slow from the first time on that its socket takes less than it is
    /// offered; that once, up to 64 KiB more may lie there.
    pub unsent_bytes_max: u32,
    /// The most memory that the kernel takes for what one connection was sent and has not
    /// acknowledged, in bytes; 0 lets the kernel choose, on most machines up to 4 MiB. More waits
    /// in the outbox. The kernel has a ceiling of its own: twice `net.core.wmem_max`. Bounds what a
    /// distant connection is sent in one round trip.
    pub send_buffer_bytes: u32,
    /// The most memory that the kernel takes for what one connection has sent and was not read, in
    /// bytes; 0 lets the kernel choose, on most machines up to 6 MiB. More waits at the peer. The
    /// kernel's ceiling is twice `net.core.rmem_max`.
    pub receive_buffer_bytes: u32,
    /// The bytes of undone work from which on a core holds publishers back: they are not read from
    /// until it has caught up.
    pub mailbox_bytes_max: usize,
    /// The most connections in all. More: HTTP 503 with Retry-After; health and metrics are still
    /// answered.
    pub connections_max: ConnectionsMax,
    /// The most connections from one IP address; 0 is no limit. More: HTTP 503 with Retry-After.
    pub connections_per_ip_max: usize,
    /// The most connections that have not become WebSockets. More: those that the server waits for
    /// make way, the oldest first; if all wait for the server, HTTP 503 with Retry-After.
    pub handshakes_max: usize,
    /// The most HTTP connections that the service of [`Server::fallback`](crate::Server::fallback)
    /// has to do with; 0 is no limit. A connection is one of them from its first request for the
    /// service to its end. More: those whose next request is waited for make way, the oldest first;
    /// if there are none, HTTP 503 with Retry-After.
    pub fallback_connections_max: usize,
}

impl Limits {
    /// Returns the bytes at which a mailbox is full: at 0 it would be for ever.
    pub(crate) const fn mailbox_bytes_full(&self) -> usize {
        if self.mailbox_bytes_max == 0 {
            1
        } else {
            self.mailbox_bytes_max
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            fragments_max: 128,
            rooms_per_connection_max: 128,
            room_name_bytes_max: 255,
            outbox_bytes_max: 1024 * 1024,
            unsent_bytes_max: 16 * 1024,
            send_buffer_bytes: 512 * 1024,
            receive_buffer_bytes: 256 * 1024,
            mailbox_bytes_max: 16 * 1024 * 1024,
            connections_max: ConnectionsMax::Auto,
            connections_per_ip_max: 0,
            handshakes_max: 4096,
            fallback_connections_max: 1024,
        }
    }
}

/// Maximum number of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionsMax {
    /// As many as the process's limit of open files has room for, beside listeners, cores,
    /// histories and requests that are no WebSocket's. Read when the server starts; no limit where
    /// there is no such limit.
    #[default]
    Auto,
    /// This many.
    Count(usize),
    /// No limit. At the process's limit of open files nobody is let in any more: HTTP 503 with
    /// Retry-After.
    Unlimited,
}

impl From<usize> for ConnectionsMax {
    /// Converts a number, of which 0 is no limit.
    fn from(count: usize) -> Self {
        if count == 0 {
            Self::Unlimited
        } else {
            Self::Count(count)
        }
    }
}

/// Text that says no number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use auto or a whole number")]
pub struct ConnectionsMaxError;

impl FromStr for ConnectionsMax {
    type Err = ConnectionsMaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            number => {
                let count: usize = number.parse().map_err(|_| ConnectionsMaxError)?;
                Ok(count.into())
            }
        }
    }
}

impl fmt::Display for ConnectionsMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Unlimited => f.write_str("0"),
        }
    }
}

/// Maximum times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// After how long without a byte from a peer it is sent a ping; zero never pings.
    pub ping_interval: Duration,
    /// Time after a ping within which the peer must respond; otherwise it is closed.
    pub pong_timeout: Duration,
    /// Time without a message after which a peer is closed; zero is for ever.
    pub idle: Duration,
    /// Time that an HTTP connection may last without an upgrade to WebSocket. With
    /// [`Server::fallback`](crate::Server::fallback) the time stands while that is at work, and
    /// starts anew with each 64 KiB of its answers that the peer takes.
    pub handshake: Duration,
    /// Time within which a request's head must arrive; also how long a connection may wait for its
    /// next.
    pub header_read: Duration,
    /// Time within which a peer must end the connection after a close frame.
    pub close: Duration,
    /// Maximum time for a drain, from the signal to the end.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            idle: Duration::ZERO,
            handshake: Duration::from_secs(30),
            header_read: Duration::from_secs(10),
            close: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// Limits of the histories of all rooms together. What one room keeps is its class's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Memory for all histories, in bytes; 0 keeps none. More: the oldest publications that are
    /// held are dropped, though the limits of their rooms would keep them. Who asks for them is
    /// told that they are missing.
    pub memory_bytes_max: usize,
    /// Directory for histories that survive a restart; none keeps them in memory only. Needs the
    /// crate's feature `disk`, without which there is no `Disk` to say it with.
    pub disk: Option<Disk>,
}

impl Default for History {
    /// Returns the default: 256 MiB, in memory only.
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            disk: None,
        }
    }
}

/// Pace at which clients leave when the server stops. [`Timeouts::drain`] bounds how long all of it
/// takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The time over which clients are told to come back, each at a moment of its own, so that they
    /// do not come all at once; zero tells all of them to come at once.
    pub spread: Duration,
    /// Connections that are closed per second; 0 closes all at once.
    pub rate: u32,
}

impl Default for Drain {
    /// Returns the default: 5 seconds; 5,000 connections a second.
    fn default() -> Self {
        Self {
            spread: Duration::from_secs(5),
            rate: 5000,
        }
    }
}

impl Config {
    /// Returns the names of the fields that are otherwise in `new` and that a running server cannot
    /// [take over](crate::Handle::reload).
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        // All of them, so that whoever adds one says here whether it can be changed.
        let Self {
            listen,
            path,
            origins: _,
            allowed_hosts: _,
            cores,
            pin,
            shards,
            flush,
            limits: _,
            timeouts,
            classes: _,
            history,
            drain: _,
        } = new;
        let is_same = [
            ("listen", *listen == self.listen),
            ("path", *path == self.path),
            ("cores", *cores == self.cores),
            ("pin", *pin == self.pin),
            ("shards", *shards == self.shards),
            ("flush", *flush == self.flush),
            ("timeouts", *timeouts == self.timeouts),
            ("history", *history == self.history),
        ];
        let others = is_same.into_iter().filter(|(_, is_same)| !is_same);
        others.map(|(name, _)| name).collect()
    }

    /// Returns this with what a running server can take over from `new`.
    pub(crate) fn with_live_part_of(&self, new: &Self) -> Self {
        Self {
            origins: new.origins.clone(),
            allowed_hosts: new.allowed_hosts.clone(),
            limits: new.limits,
            classes: new.classes.clone(),
            drain: new.drain,
            ..self.clone()
        }
    }

    /// Returns the number of cores that will be used: at most 256, and as many as asked for or
    /// allowed.
    pub fn core_count(&self) -> usize {
        let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.cores == 0 {
            allowed().min(256)
        } else {
            self.cores.min(256)
        }
    }

    /// Returns the number of shards that there will be.
    pub fn shard_count(&self) -> usize {
        let shards = if self.shards == 0 {
            4 * self.core_count()
        } else {
            self.shards
        };
        shards.min(rooms::SHARD_COUNT_MAX).next_power_of_two()
    }
}
