//! A room, as an application uses it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::feed::feed;
use crate::histories::{History, HistoryError};
use crate::membership::{JoinError, Membership, Start};
use crate::outcome::{Outcome, PublishError};
use crate::position::Position;
use crate::publication::Joined;
use crate::refused::{Closed, Refused};
use crate::session::EmitFailed;
use crate::shared::Inner;
use crate::streams::{Publications, RoomEvents};
use crate::wire::{EVENT_BYTES_MAX, is_reserved};

/// A room of a connection, from [`Connection::room`](crate::Connection::room).
///
/// It is a handle: two of the same name and connection are the same room.
#[derive(Clone, Debug)]
pub struct Room {
    pub(crate) name: Arc<str>,
    pub(crate) inner: Arc<Inner>,
}

impl Room {
    /// Returns what it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns whether the server counts us as a member now; false while the connection is away.
    pub fn is_joined(&self) -> bool {
        let session = self.inner.session.lock();
        session.find(&self.name).is_some_and(Membership::is_joined)
    }

    /// Returns up to where publications have come; `None` while the room is not wanted, or was
    /// never joined. To go on there later, keep it and join with [`Start::Since`].
    pub fn position(&self) -> Option<Position> {
        let session = self.inner.session.lock();
        session.find(&self.name)?.position().cloned()
    }

    /// Returns what happens in the room from now on, in order. Make the stream before
    /// [`join`](Self::join), and it has the replay too.
    ///
    /// The stream holds at most `buffer_max` events that are not read yet: see [`RoomEvents`].
    pub fn events(&self, buffer_max: usize) -> RoomEvents {
        let (feed, reader) = feed(buffer_max);
        self.inner.session.lock().add_feed(&self.name, feed);
        RoomEvents {
            reader,
            room: self.name.clone(),
            inner: self.inner.clone(),
        }
    }

    /// Returns the publications of the room from now on, in order, each once. Otherwise as
    /// [`events`](Self::events).
    ///
    /// # Examples
    ///
    /// A reader that fell behind goes on from where it was, with the history:
    ///
    /// ```no_run
    /// use futures_util::StreamExt as _;
    /// use throng_client::{Room, Start, StreamError};
    ///
    /// async fn follow(room: &Room) -> Result<(), Box<dyn std::error::Error>> {
    ///     let mut publications = room.publications(1000);
    ///     while let Some(publication) = publications.next().await {
    ///         match publication {
    ///             Ok(publication) => println!("{}", publication.data.as_str()),
    ///             Err(StreamError::Lagged { position: Some(position), .. }) => {
    ///                 publications = room.publications(1000);
    ///                 let missed = room.history(Start::Since(position), None).await?;
    ///                 println!("{} read late", missed.publications.len());
    ///             }
    ///             Err(error) => return Err(error.into()),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn publications(&self, buffer_max: usize) -> Publications {
        Publications(self.events(buffer_max))
    }

    /// Joins the room now, and again on every new connection. Returns when the membership has
    /// begun; publications follow. Of a room that is wanted already, `start` is ignored.
    ///
    /// # Errors
    ///
    /// [`JoinError`] says whether the room is still wanted.
    ///
    /// # Cancel safety
    ///
    /// The room is wanted once this was polled, whether it is awaited to the end or not.
    pub async fn join(&self, start: Start) -> Result<Joined, JoinError> {
        let answer = self.inner.session.lock().join(&self.name, start);
        self.inner.wake.notify_one();
        answer
            .await
            .unwrap_or_else(|_| Err(Closed::by_application().into()))
    }

    /// Leaves the room and forgets its position. Nothing of it is seen afterwards, and its streams
    /// end. Returns when the server has seen it, or the connection is lost, which comes to the
    /// same.
    ///
    /// # Cancel safety
    ///
    /// The room is left once this was polled, whether it is awaited to the end or not.
    pub async fn leave(&self) {
        let answer = self.inner.session.lock().leave(&self.name);
        self.inner.wake.notify_one();
        if let Some(answer) = answer {
            // An error is that there is nothing to wait for.
            _ = answer.await;
        }
    }

    /// Publishes to the room, also if it was not joined.
    ///
    /// The publication is taken at once, and the future says what becomes of it. It waits for a
    /// connection, and is sent again after a lost one until it is acknowledged: members get it
    /// once. Publications of a room are sent in the order of the calls.
    ///
    /// Bounded by [`Options::publishes_max`](crate::Options::publishes_max) and
    /// [`Options::publish_bytes_max`](crate::Options::publish_bytes_max): one beyond them fails at
    /// once.
    pub fn publish(&self, data: &(impl Serialize + ?Sized)) -> Publishing {
        self.publish_as(None, data)
    }

    /// Publishes with a key of the application's own: 1 to 64 bytes that make it one publication
    /// however often it is sent, unique in the room for as long as the server remembers keys.
    ///
    /// For publishing the same again after [`PublishError::Unknown`], or after a restart of the
    /// application. Otherwise as [`publish`](Self::publish).
    pub fn publish_with_key(&self, key: &str, data: &(impl Serialize + ?Sized)) -> Publishing {
        self.publish_as(Some(key), data)
    }

    fn publish_as(&self, key: Option<&str>, data: &(impl Serialize + ?Sized)) -> Publishing {
        let (outcome, answer) = oneshot::channel();
        let number = match to_raw_value(data) {
            Ok(data) => {
                let mut session = self.inner.session.lock();
                session.publish(&self.name, key, data, outcome, Instant::now())
            }
            Err(error) => {
                let message = error.to_string();
                // The receiver is here.
                _ = outcome.send(Err(PublishError::Data { message }));
                None
            }
        };
        self.inner.wake.notify_one();
        let room = self.clone();
        Publishing {
            answer,
            room,
            number,
        }
    }

    /// Emits an ephemeral event to the members, now or not at all: for what is worthless later,
    /// such as that somebody types. It has no offset, is not kept, not sent again and not
    /// acknowledged; what the server has against it comes as
    /// [`Notice::Refused`](crate::Notice::Refused).
    ///
    /// # Errors
    ///
    /// If it cannot go out now, or its name or its data cannot be used.
    pub fn emit(&self, event: &str, data: &(impl Serialize + ?Sized)) -> Result<(), EmitError> {
        let has_space = event.contains(char::is_whitespace);
        if event.is_empty() || event.len() > EVENT_BYTES_MAX || has_space || is_reserved(event) {
            return Err(EmitError::Name {
                event: event.to_owned(),
            });
        }
        let data: Box<RawValue> = to_raw_value(data).map_err(|error| EmitError::Data {
            message: error.to_string(),
        })?;
        self.inner.session.lock().emit(&self.name, event, &data)?;
        self.inner.wake.notify_one();
        Ok(())
    }

    /// Reads a part of the room's history, also if it was not joined: what was published after a
    /// position, the oldest first, or so many of the last. `limit` is the most publications of the
    /// answer (the server's default is 100, and it has a limit of its own).
    ///
    /// The question waits for a connection, and is asked again after a lost one; at most 128 wait
    /// at a time, over all rooms.
    ///
    /// # Errors
    ///
    /// See [`HistoryError`]. Nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Safe: the question may still be asked, and the answer is dropped.
    ///
    /// # Examples
    ///
    /// Reads all that the server has:
    ///
    /// ```no_run
    /// use throng_client::{HistoryError, Position, Publication, Room, Start};
    ///
    /// async fn read_all(room: &Room) -> Result<Vec<Publication>, HistoryError> {
    ///     let mut all = Vec::new();
    ///     // An epoch that is not the room's: from the beginning of what is held.
    ///     let mut since = Position::new("0", 0);
    ///     loop {
    ///         let part = room.history(Start::Since(since), Some(1000)).await?;
    ///         all.extend(part.publications);
    ///         match part.position.filter(|_| part.has_more) {
    ///             Some(position) => since = position,
    ///             None => return Ok(all),
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn history(&self, start: Start, limit: Option<u64>) -> Result<History, HistoryError> {
        let answer = self
            .inner
            .session
            .lock()
            .history(&self.name, start, limit)?;
        self.inner.wake.notify_one();
        answer
            .await
            .unwrap_or_else(|_| Err(Closed::by_application().into()))
    }
}

/// The reason why an event was not emitted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmitError {
    /// There is no connection now.
    #[error("there is no connection now")]
    Away,
    /// More than 1 MiB waits for the socket already.
    #[error("too much waits for the socket already")]
    Busy,
    /// The data cannot be written as JSON.
    #[error("the data cannot be written as JSON: {message}")]
    Data {
        /// The message of serde_json.
        message: String,
    },
    /// The name is empty, over 64 bytes, has white space, or is the protocol's own.
    #[error("{event:?} is no name of an event")]
    Name {
        /// The name.
        event: String,
    },
    /// It is larger than the server's messages may be.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<EmitFailed> for EmitError {
    fn from(failed: EmitFailed) -> Self {
        match failed {
            EmitFailed::Away => Self::Away,
            EmitFailed::Busy => Self::Busy,
            EmitFailed::Refused(refused) => Self::Refused(refused),
        }
    }
}

/// The outcome of a publication, to be awaited, from [`Room::publish`].
///
/// Resolves when the server has taken it, or it is known to have failed. Dropping it withdraws
/// nothing: the publication is sent all the same, and if it fails later,
/// [`Notice::Unpublished`](crate::Notice::Unpublished) says so. That it failed at once, as at a
/// bound, only the future says.
#[derive(Debug)]
pub struct Publishing {
    answer: oneshot::Receiver<Outcome>,
    room: Room,
    /// `None` if it has failed already.
    number: Option<u64>,
}

impl Publishing {
    /// Withdraws the publication. If it was not sent yet, it never is, and the future says
    /// [`PublishError::Withdrawn`]; otherwise it says [`PublishError::Unknown`], unless the outcome
    /// was known before.
    #[must_use = "it says whether the publication was sent"]
    pub fn withdraw(self) -> Self {
        if let Some(number) = self.number {
            let mut session = self.room.inner.session.lock();
            session.withdraw(&self.room.name, number, Instant::now());
        }
        self.room.inner.wake.notify_one();
        self
    }
}

impl Future for Publishing {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(Closed::by_application().into())))
    }
}
