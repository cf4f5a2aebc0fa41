//! What an application may choose, and the defaults.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::backoff::Pauses;

/// Settings of a [`Connection`](crate::Connection). Everything has a default.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use throng_client::Options;
///
/// let options = Options {
///     connect_timeout: Duration::from_secs(5),
///     publishes_in_flight_max: 16,
///     ..Options::default()
/// };
/// assert_eq!(options.publishes_max, 1000);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The time that an attempt to connect may take, up to the server's greeting (default 15 s).
    pub connect_timeout: Duration,
    /// Opens the stream under the WebSocket. `None` is TCP to the host and port of the address.
    pub connector: Option<Connector>,
    /// The time that the server may be silent before the client asks whether it is there. `None` is
    /// as the server says: 25 s by default.
    pub keepalive: Option<Duration>,
    /// The beginning of the keys of publications: 1 to 40 bytes that no other client uses. `None`
    /// is a random text.
    pub key_prefix: Option<String>,
    /// The pauses before the client comes back.
    pub pauses: Pauses,
    /// The time that the server may take to answer whether it is there (default 10 s).
    pub pong_timeout: Duration,
    /// The time that a publication may wait for its acknowledgement, from when it was first sent
    /// (default 150 s). After that it fails with [`PublishError::Unknown`](crate::PublishError),
    /// because a server forgets a key five minutes after it first saw it, and would deliver a
    /// repeat again. Set it to half of the server's window if its operator set another.
    pub publish_timeout: Duration,
    /// The most bytes of data, as JSON, that wait for their acknowledgement (default 1 MiB). A
    /// publication beyond that fails at once.
    pub publish_bytes_max: usize,
    /// The most publications that wait for their acknowledgement, over all rooms (default 1000).
    /// One beyond that fails at once.
    pub publishes_max: usize,
    /// The most publications of one room that are under way at once (default 1).
    ///
    /// With 1, a room gets publications in the order of the calls, whatever happens, one for each
    /// round trip. With more, what the server puts off comes after what was under way with it.
    pub publishes_in_flight_max: usize,
    /// Decides the random part of the pauses, to repeat a run. `None` is a random seed.
    pub seed: Option<u64>,
    /// Is shown every message, sent or received: for logs, and for tests.
    pub tap: Option<Tap>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            connector: None,
            keepalive: None,
            key_prefix: None,
            pauses: Pauses::default(),
            pong_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(150),
            publish_bytes_max: 1 << 20,
            publishes_max: 1000,
            publishes_in_flight_max: 1,
            seed: None,
            tap: None,
        }
    }
}

/// A stream of bytes that a WebSocket can be spoken over.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens the stream under a WebSocket: over TLS, through a proxy, to a Unix socket, in memory.
///
/// # Examples
///
/// ```
/// use throng_client::{Connector, Options};
/// use tokio::net::UnixStream;
///
/// let connector = Connector::new(|| UnixStream::connect("/run/throng.sock"));
/// let options = Options { connector: Some(connector), ..Options::default() };
/// ```
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl Connector {
    /// Returns a connector that calls this for every attempt.
    pub fn new<F, R, T>(connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<T>> + Send + 'static,
        T: Transport + 'static,
    {
        Self(Arc::new(move || {
            let connecting = connect();
            Box::pin(async { Ok(Box::new(connecting.await?) as Box<dyn Transport>) })
        }))
    }

    pub(crate) fn connect(&self) -> Connecting {
        (self.0)()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server.
    Received,
    /// To the server.
    Sent,
}

type Show = dyn Fn(Direction, &str) + Send + Sync;

/// Is shown the text of every message, in order, before the client uses it.
#[derive(Clone)]
pub struct Tap(Arc<Show>);

impl Tap {
    /// Returns a tap that calls this. It must not wait: the connection stands still meanwhile.
    pub fn new(show: impl Fn(Direction, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    pub(crate) fn show(&self, direction: Direction, text: &str) {
        (self.0)(direction, text);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}
