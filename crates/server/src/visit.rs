//! One HTTP connection's time, and its place among others.
//!
//! A connection begins among the handshakes, and its clock runs from the first moment: whoever says nothing,
//! or loads pages and no more, is gone when the time is up. With its first request for the application's
//! service it goes over to those that the service has to do with, for as long as it lasts. Its clock
//! stands while the service is at work, which may take as long as it likes, and starts anew with each piece of
//! an answer that the peer takes: who takes nothing is gone when the time is up, too.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::admission::{Admission, Guest, Handshake, Refused};
use crate::clock;

/// An HTTP connection while it is none of WebSocket.
#[derive(Debug)]
pub(crate) struct Visit {
    /// How long the clock runs.
    timeout: Duration,
    /// Shared with the answer under way, and touched by the connection's task alone.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    place: Place,
    /// When the connection is ended; none while the service is at work.
    deadline: Option<Instant>,
    has_asked: bool,
}

/// Held until the connection ends or becomes a WebSocket.
#[derive(Debug)]
enum Place {
    Handshake { _place: Handshake },
    Service { _place: Guest },
}

impl Visit {
    pub(crate) fn new(handshake: Handshake, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            timeout,
            state: Mutex::new(State {
                place: Place::Handshake { _place: handshake },
                deadline: Some(clock::now() + timeout),
                has_asked: false,
            }),
        })
    }

    /// A request has come.
    pub(crate) fn note_request(&self) {
        self.state.lock().has_asked = true;
    }

    /// Whether any request has come.
    pub(crate) fn has_asked(&self) -> bool {
        self.state.lock().has_asked
    }

    /// A request goes to the service: the clock stands.
    pub(crate) fn begin_service(&self, admission: &Arc<Admission>) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if matches!(state.place, Place::Handshake { .. }) {
            let guest = admission.admit_guest()?;
            state.place = Place::Service { _place: guest };
        }
        state.deadline = None;
        Ok(())
    }

    /// The application is at work.
    pub(crate) fn stop_clock(&self) {
        self.state.lock().deadline = None;
    }

    /// It is the peer's turn.
    pub(crate) fn restart_clock(&self) {
        self.state.lock().deadline = Some(clock::now() + self.timeout);
    }

    /// Brings the end near, unless the service is at work: what it has begun, the drain waits for.
    pub(crate) fn hurry(&self, within: Duration) {
        let mut state = self.state.lock();
        let soon = clock::now() + within;
        state.deadline = state.deadline.map(|deadline| deadline.min(soon));
    }

    /// Drives the connection until it ends, or its time is up: then nothing.
    ///
    /// # Cancel safety
    ///
    /// The connection is where it was, and may be driven again.
    pub(crate) async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> Option<F::Output> {
        let timer = tokio::time::sleep(self.timeout);
        tokio::pin!(timer);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // All that moves the deadline happens in that poll, so it is looked at often enough.
            let deadline = self.state.lock().deadline;
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            set(timer.as_mut(), deadline);
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

fn set(timer: Pin<&mut Sleep>, deadline: Instant) {
    let deadline = deadline.into();
    if timer.deadline() != deadline {
        timer.reset(deadline);
    }
}
