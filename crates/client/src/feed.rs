//! Streams of what happens, bounded: from the connection's task to whoever reads.

use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::position::Position;
use crate::refused::{Closed, Refused};

/// The reason why a stream has ended early.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The connection was closed by the server and does not come back by itself.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The stream was read too slowly: its buffer was full, and it took no more. Everything up to
    /// `position` was handed out. The room's history may have what came after.
    #[error("the reader is more than {buffer_max} events behind")]
    Lagged {
        /// Of the last publication that the stream handed out; `None` if there was none.
        position: Option<Position>,
        /// The number of events that the buffer held.
        buffer_max: usize,
    },
    /// The server did not take us into the room, or not again.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// The end of a stream. It is written once, before the sending side goes.
type End = Arc<Mutex<Option<StreamError>>>;

/// The sending side of a stream.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    sender: mpsc::Sender<T>,
    end: End,
    /// Of the last publication that the buffer was given.
    position: Option<Position>,
}

/// The reading side of a stream.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    receiver: mpsc::Receiver<T>,
    end: End,
}

/// Makes a stream that holds at most so many events that are not read yet.
pub(crate) fn feed<T>(buffer_max: usize) -> (Feed<T>, Reader<T>) {
    let (sender, receiver) = mpsc::channel(buffer_max.max(1));
    let end = End::default();
    let feed = Feed {
        sender,
        end: end.clone(),
        position: None,
    };
    (feed, Reader { receiver, end })
}

impl<T> Feed<T> {
    /// Returns whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Gives the stream an event; false if the stream has ended. A full one ends, unless the event
    /// may be left out.
    pub(crate) fn push(&mut self, event: T, position: Option<&Position>, may_skip: bool) -> bool {
        match self.sender.try_send(event) {
            Ok(()) => {
                if let Some(position) = position {
                    self.position = Some(position.clone());
                }
                true
            }
            Err(TrySendError::Full(_)) if may_skip => true,
            Err(TrySendError::Full(_)) => {
                self.end(StreamError::Lagged {
                    position: self.position.clone(),
                    buffer_max: self.sender.max_capacity(),
                });
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Ends the stream: the reader gets what is held, then this error. Drop the feed then.
    pub(crate) fn end(&self, error: StreamError) {
        *self.end.lock() = Some(error);
    }
}

impl<T> Reader<T> {
    /// Takes no more events.
    pub(crate) fn close(&mut self) {
        self.receiver.close();
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, StreamError>>> {
        self.receiver.poll_recv(context).map(|event| match event {
            Some(event) => Some(Ok(event)),
            None => self.end.lock().take().map(Err),
        })
    }
}
