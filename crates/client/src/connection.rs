//! A connection that comes back, as an application uses it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::http::Uri;

use crate::backoff::Backoff;
use crate::driver::Driver;
use crate::feed::feed;
use crate::options::Options;
use crate::refused::Closed;
use crate::room::Room;
use crate::session::Session;
use crate::shared::{Inner, Shared};
use crate::status::{State, Status};
use crate::streams::NoticeStream;
use crate::wire::Hello;

/// The reason why a connection was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// [`Options::key_prefix`] is empty or too long.
    #[error("a key prefix is 1 to {max} bytes long, not {bytes}")]
    KeyPrefix {
        /// Its length, in bytes.
        bytes: usize,
        /// The most that it may be.
        max: usize,
    },
    /// A `wss` address needs a [`Connector`](crate::Connector) that speaks TLS.
    #[error("a wss address needs a connector that speaks TLS")]
    Tls,
    /// The text is no address of a WebSocket, such as `ws://localhost:8080/ws`.
    #[error("{url:?} is no address of a WebSocket, such as ws://localhost:8080/ws")]
    Url {
        /// The text.
        url: String,
    },
    /// An option that must be above zero is zero.
    #[error("{option} must be above zero")]
    Zero {
        /// Its name.
        option: &'static str,
    },
}

/// The connection was lost before an answer came, or there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no connection to ping on, or it was lost before the answer")]
pub struct PingError;

/// A connection to a Throng server that comes back by itself.
///
/// It is a handle: clones are the same connection. It lives until [`close`](Self::close), or until
/// its last handle is gone: clones, [`Room`]s, streams, and publications that are waited for.
///
/// # Examples
///
/// ```no_run
/// use futures_util::StreamExt as _;
/// use throng_client::{Connection, Options, Start};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::open("ws://localhost:8080/ws", Options::default())?;
/// let room = connection.room("lobby");
/// // Made before `join`, so that it has what is replayed.
/// let mut publications = room.publications(1000);
/// room.join(Start::Last(10)).await?;
/// room.publish(&"hello").await?;
/// while let Some(publication) = publications.next().await {
///     let publication = publication?;
///     if let Some(gap) = &publication.gap {
///         println!("missing: {gap:?}");
///     }
///     println!("{}", publication.data.as_str());
/// }
/// # Ok(())
/// # }
/// ```
///
/// An address that is none fails at once; a server that is not there does not:
///
/// ```
/// use throng_client::{Connection, OpenError, Options};
///
/// let error = Connection::open("lobby", Options::default()).unwrap_err();
/// assert_eq!(error, OpenError::Url { url: "lobby".to_owned() });
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

impl Connection {
    /// Opens a connection, on a task of its own.
    ///
    /// # Errors
    ///
    /// If the address or an option cannot be used. That the server cannot be reached is no error:
    /// the connection tries again, and its [`status`](Self::status) says so.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        check(url, &options)?;
        let random = RandomState::new();
        let key_prefix = options
            .key_prefix
            .clone()
            .unwrap_or_else(|| random_text(&random));
        let seed = options.seed.unwrap_or_else(|| random.hash_one("pauses"));
        let (status, receiver) = watch::channel(Status {
            state: State::Connecting,
            end: None,
        });
        let shared = Arc::new(Shared {
            session: Mutex::new(Session::new(options.clone(), key_prefix)),
            wake: Notify::new(),
            reconnect: Notify::new(),
            over: Notify::new(),
        });
        let driver = Driver {
            url: url.to_owned(),
            backoff: Backoff::new(options.pauses, seed),
            options,
            shared: shared.clone(),
            status,
        };
        tokio::spawn(driver.run());
        let inner = Arc::new(Inner {
            shared,
            status: receiver,
        });
        Ok(Self { inner })
    }

    /// Returns the room of this name. It costs nothing until it is used.
    pub fn room(&self, name: &str) -> Room {
        Room {
            name: name.into(),
            inner: self.inner.clone(),
        }
    }

    /// Returns what the connection is doing, and how the one before ended.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Returns the server's greeting; `None` while the connection is not open.
    pub fn hello(&self) -> Option<Hello> {
        self.inner.session.lock().hello().cloned()
    }

    /// Returns the names of the rooms that are wanted: joined, or to be joined when that is
    /// possible.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.inner.session.lock().wanted()
    }

    /// Returns how many publications are not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.inner.session.lock().unacknowledged()
    }

    /// Waits until the connection is open.
    ///
    /// # Errors
    ///
    /// If it is closed and does not come back by itself.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn opened(&self) -> Result<(), Closed> {
        let mut status = self.inner.status.clone();
        let is_decided = |status: &Status| matches!(status.state, State::Closed | State::Open);
        match status
            .wait_for(is_decided)
            .await
            .map(|status| status.clone())
        {
            Ok(Status {
                state: State::Open, ..
            }) => Ok(()),
            Ok(Status { end: Some(end), .. }) => Err(end.as_closed()),
            _ => Err(Closed::by_application()),
        }
    }

    /// Returns what the connection tells from now on: states, refusals, what the server should not
    /// say. The stream holds at most `buffer_max` notices that are not read yet.
    pub fn notices(&self, buffer_max: usize) -> NoticeStream {
        let (feed, reader) = feed(buffer_max);
        self.inner.session.lock().add_notices(feed);
        NoticeStream {
            reader,
            _inner: self.inner.clone(),
        }
    }

    /// Asks the server for an answer, and returns how long that took.
    ///
    /// The connection finds out by itself when the server is silent; this is for people who want
    /// to know how far it is.
    ///
    /// # Errors
    ///
    /// If there is no connection, if it is lost before the answer, or if 16 pings wait already.
    ///
    /// # Cancel safety
    ///
    /// Safe: the ping may have been sent.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        let asked_at = Instant::now();
        let answer = self.inner.session.lock().ping().ok_or(PingError)?;
        self.inner.wake.notify_one();
        answer.await.map_err(|_| PingError)?;
        Ok(asked_at.elapsed())
    }

    /// Connects at once, instead of waiting, or of staying closed as the server wished. Rooms that
    /// are wanted are joined again. Does nothing in the other states, nor after
    /// [`close`](Self::close).
    pub fn reconnect(&self) {
        if matches!(self.status().state, State::Closed | State::Waiting { .. }) {
            self.inner.reconnect.notify_one();
        }
    }

    /// Closes for good, and waits until the socket is closed too, which takes a second at most.
    ///
    /// Everything that waits is settled at once: what was asked fails, streams end. Whether
    /// publications that were under way have arrived is unknown, and they say so; to have them
    /// acknowledged first, wait for them.
    ///
    /// # Cancel safety
    ///
    /// The connection is closed once this was polled, whether it is awaited to the end or not.
    pub async fn close(&self) {
        self.inner.end();
        let mut status = self.inner.status.clone();
        // An error is what is waited for: the task is gone.
        _ = status.wait_for(|_| false).await;
    }
}

fn check(url: &str, options: &Options) -> Result<(), OpenError> {
    let uri: Option<Uri> = url.parse().ok();
    let uri = uri.filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("ws") => {}
        Some("wss") if options.connector.is_some() => {}
        Some("wss") => return Err(OpenError::Tls),
        _ => {
            return Err(OpenError::Url {
                url: url.to_owned(),
            });
        }
    }
    let bytes = options.key_prefix.as_ref().map_or(1, String::len);
    if bytes == 0 || bytes > KEY_PREFIX_MAX {
        let max = KEY_PREFIX_MAX;
        return Err(OpenError::KeyPrefix { bytes, max });
    }
    let zeros = [
        (options.publishes_max, "publishes_max"),
        (options.publishes_in_flight_max, "publishes_in_flight_max"),
    ];
    match zeros.into_iter().find(|(value, _)| *value == 0) {
        Some((_, option)) => Err(OpenError::Zero { option }),
        None => Ok(()),
    }
}

/// A key is at most 64 bytes, and the rest is a hyphen and a number of up to 20 digits.
const KEY_PREFIX_MAX: usize = 40;

/// 128 bits that nobody meets by chance, and nobody guesses to publish in our place: a keyed hash
/// whose key the standard library draws from the system.
fn random_text(random: &RandomState) -> String {
    let (high, low) = (random.hash_one("high"), random.hash_one("low"));
    format!("{high:016x}{low:016x}")
}
