//! The streams that an application reads. Each keeps its connection alive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use crate::feed::{Reader, StreamError};
use crate::notice::Notice;
use crate::publication::{Publication, RoomEvent};
use crate::shared::Inner;

/// The events of a room, in order, from [`Room::events`](crate::Room::events).
///
/// The stream holds a bounded number of events. At the bound it leaves out emissions; anything else
/// ends it: the reader gets what is held, then [`StreamError::Lagged`]. It ends without an error
/// when the application leaves the room or closes the connection.
#[derive(Debug)]
pub struct RoomEvents {
    pub(crate) reader: Reader<RoomEvent>,
    pub(crate) room: Arc<str>,
    pub(crate) inner: Arc<Inner>,
}

impl Stream for RoomEvents {
    type Item = Result<RoomEvent, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll(context)
    }
}

impl Drop for RoomEvents {
    fn drop(&mut self) {
        self.reader.close();
        self.inner.session.lock().release(&self.room);
    }
}

/// The publications of a room, in order, each once, from
/// [`Room::publications`](crate::Room::publications).
///
/// What is missing before a publication is its [`gap`](Publication::gap). Bounded and ended as
/// [`RoomEvents`].
#[derive(Debug)]
pub struct Publications(pub(crate) RoomEvents);

impl Stream for Publications {
    type Item = Result<Publication, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.0.reader.poll(context) {
                Poll::Ready(Some(Ok(RoomEvent::Publication(publication)))) => {
                    return Poll::Ready(Some(Ok(publication)));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The notices of a connection, from [`Connection::notices`](crate::Connection::notices).
///
/// Bounded: at the bound it takes no more, and the reader gets what is held, then
/// [`StreamError::Lagged`]. It ends when the application closes the connection.
#[derive(Debug)]
pub struct NoticeStream {
    pub(crate) reader: Reader<Notice>,
    /// Keeps the connection alive.
    pub(crate) _inner: Arc<Inner>,
}

impl Stream for NoticeStream {
    type Item = Result<Notice, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll(context)
    }
}
