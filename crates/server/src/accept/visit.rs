//! One HTTP connection's time, and its place among others.
//!
//! A connection begins among the handshakes, and its clock runs from the first moment: whoever says
//! nothing, or loads pages and no more, is gone when the time is up, or earlier if others need its
//! [place](crate::accept::crowd). With its first request for the application's service it goes over
//! to those that the service has to do with, for as long as it lasts. Its clock stands while the
//! service is at work, which may take as long as it likes, and starts anew with each piece of an
//! answer that the peer takes: who takes nothing is gone when the time is up, too.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::accept::admission::{Admission, Limit};
use crate::accept::crowd::{Crowd, Seat};
use crate::clock;

/// An HTTP connection that has not been upgraded to WebSocket.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Time after which the clock runs out.
    timeout: Duration,
    /// Says that the connection must make way.
    make_way: Arc<Notify>,
    /// Shared with the answer under way, and touched by the connection's task alone.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Held until the connection ends or becomes a WebSocket.
    place: Seat,
    /// True if the place is one of the service's.
    is_guest: bool,
    /// When the connection is ended; none while the service is at work.
    deadline: Option<Instant>,
    has_asked: bool,
}

/// The end of a connection.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// By itself.
    Served(T),
    /// Its time was up.
    TimedOut,
    /// Others needed its place.
    MadeWay,
}

impl Visit {
    /// Takes a place for a connection that has sent nothing yet; nothing if there is none.
    pub(crate) fn begin(crowd: &Crowd, timeout: Duration) -> Option<Arc<Self>> {
        let make_way = Arc::default();
        let place = crowd.enter(&make_way)?;
        Some(Arc::new(Self {
            timeout,
            make_way,
            state: Mutex::new(State {
                place,
                is_guest: false,
                deadline: Some(clock::now() + timeout),
                has_asked: false,
            }),
        }))
    }

    /// Notes that bytes have come.
    pub(crate) fn note_bytes(&self) {
        self.state.lock().place.note_bytes();
    }

    /// Notes that a request has come.
    pub(crate) fn note_request(&self) {
        let mut state = self.state.lock();
        state.has_asked = true;
        state.place.note_request();
    }

    /// Notes that a request has been answered, and the next may come.
    pub(crate) fn note_answer(&self) {
        self.state.lock().place.note_answer();
    }

    /// Returns whether any request has come.
    pub(crate) fn has_asked(&self) -> bool {
        self.state.lock().has_asked
    }

    /// Stops the clock while a request goes to the service.
    pub(crate) fn begin_service(&self, admission: &Admission) -> Result<(), Limit> {
        let mut state = self.state.lock();
        if !state.is_guest {
            state.place = admission.admit_guest(&self.make_way)?;
            state.is_guest = true;
        }
        state.deadline = None;
        Ok(())
    }

    /// Stops the clock: the application is at work.
    pub(crate) fn stop_clock(&self) {
        self.state.lock().deadline = None;
    }

    /// Restarts the clock: it is the peer's turn.
    pub(crate) fn restart_clock(&self) {
        self.state.lock().deadline = Some(clock::now() + self.timeout);
    }

    /// Brings the end near, unless the service is at work: what it has begun, the drain waits for.
    pub(crate) fn hurry(&self, within: Duration) {
        let mut state = self.state.lock();
        let soon = clock::now() + within;
        state.deadline = state.deadline.map(|deadline| deadline.min(soon));
    }

    /// Drives the connection until it ends, its time is up, or it must make way.
    ///
    /// # Cancel safety
    ///
    /// The connection is where it was, and may be driven again.
    pub(crate) async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> Ended<F::Output> {
        let timer = tokio::time::sleep(self.timeout);
        tokio::pin!(timer);
        let made_way = self.make_way.notified();
        tokio::pin!(made_way);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::Served(ended));
            }
            // After that: what has come by now is answered.
            if made_way.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::MadeWay);
            }
            // All that moves the deadline happens in that poll, so it is looked at often enough.
            let deadline = self.state.lock().deadline;
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            set(timer.as_mut(), deadline);
            timer.as_mut().poll(cx).map(|()| Ended::TimedOut)
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
