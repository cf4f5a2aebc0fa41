//! A connection's bytes while the runtime has it: tells the visit when some come, and outlives
//! HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::accept::stream::Stream;
use crate::accept::visit::Visit;

/// A stream that hyper is given. Whatever becomes of HTTP, it comes back when hyper lets go of it:
/// for the end of a connection is more than closing it.
#[derive(Debug)]
pub(crate) struct Line<S> {
    /// There until it is taken.
    stream: Option<S>,
    visit: Arc<Visit>,
    back: Option<oneshot::Sender<S>>,
}

impl<S: Stream> Line<S> {
    /// Returns the line, and where the stream comes back.
    pub(crate) fn new(stream: S, visit: Arc<Visit>) -> (Self, oneshot::Receiver<S>) {
        let (back, returned) = oneshot::channel();
        let line = Self {
            stream: Some(stream),
            visit,
            back: Some(back),
        };
        (line, returned)
    }

    /// Takes the stream for good.
    pub(crate) fn into_stream(mut self) -> Option<S> {
        self.stream.take()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // If nobody waits for it, it is closed.
            _ = back.send(stream);
        }
    }
}

impl<S: Stream> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.stream()?.poll_read(cx, buf);
        if buf.filled().len() > before {
            self.visit.note_bytes();
        }
        polled
    }
}

impl<S: Stream> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(S::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
