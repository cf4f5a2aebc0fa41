//! New sockets: accepted, counted, spoken HTTP with, and handed to the core's loop.
//!
//! Each core has listeners of its own (`SO_REUSEPORT`), so the kernel spreads the connections and
//! no socket ever moves between threads.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::admission::Limit;
use super::crowd::Crowd;
use super::descriptors::{self, Reserve};
use super::hosts::Reach;
use super::http::{Caller, Site, answer};
use super::line::Line;
use super::listen::Listener;
use super::stream::{Accept, Stream};
use super::visit::{Ended, Visit};
use crate::core::Visited;
use crate::core::turns::between_turns;

/// The state of the accepting side of one core.
pub(crate) struct Acceptor {
    pub(crate) site: Arc<Site>,
    pub(crate) drain: watch::Receiver<bool>,
    /// Places for peers that are told why they are refused.
    pub(crate) refusals: Crowd,
    pub(crate) reserve: Reserve,
    /// Told when a connection has ended.
    pub(crate) visited: Arc<Visited>,
}

/// The largest request head, in bytes: browsers send below 4 KiB, cookies included.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// Maximum refused peers of a core that are read and told why at a time. Each costs a task and a
/// socket for a moment; the limit they ran into is there so that such things do not grow. More: the
/// oldest that has not asked is closed without a word.
pub(crate) const REFUSALS_MAX: usize = 256;

/// Maximum time for a refused peer to ask and to take its answer.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

/// Maximum time for which the server reads and discards what a peer still sends behind its last
/// answer: unread bytes would make the kernel reset the connection and destroy the answer (RFC 9112
/// section 9.6).
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Maximum time for which a drain waits for requests in progress.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(1);

/// Pause of accepting when the process has no file descriptor left, and none in reserve.
const PAUSE: Duration = Duration::from_millis(10);

impl Acceptor {
    /// Accepts from one listener until the drain.
    pub(crate) async fn run(self: Arc<Self>, listener: Listener, reach: Reach) {
        match listener {
            Listener::Tcp(listener) => self.accept(listener, reach).await,
            Listener::Unix(listener) => self.accept(listener, reach).await,
        }
    }

    async fn accept<L: Accept>(self: Arc<Self>, listener: L, reach: Reach) {
        let mut drain = self.drain.clone();
        let mut is_failing = false;
        loop {
            self.reserve.refill();
            let accepted = tokio::select! {
                _ = drain.wait_for(|draining| *draining) => return,
                accepted = listener.accept_one() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if self.site.gate.admission.handshakes.is_full() {
                        // Those that were accepted before are heard before they may have to go.
                        tokio::task::yield_now().await;
                    }
                    if std::mem::take(&mut is_failing) {
                        self.site.gate.said.accepts_again();
                    }
                    self.begin(stream, peer, reach);
                }
                Err(error) if is_about_one_socket(&error) => {}
                Err(error) if descriptors::are_used_up(&error) => {
                    is_failing = true;
                    self.site.gate.said.cannot_accept(&error);
                    self.accept_last(&listener, reach).await;
                }
                Err(error) => {
                    is_failing = true;
                    self.site.gate.said.cannot_accept(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Begins a handshake. At the limit, a peer is heard only as far as it must be to be refused.
    fn begin<S: Stream>(self: &Arc<Self>, stream: S, peer: Option<IpAddr>, reach: Reach) {
        let timeouts = self.site.gate.config.get().timeouts;
        let handshakes = &self.site.gate.admission.handshakes;
        let (visit, refused) = match Visit::begin(handshakes, timeouts.handshake) {
            Some(visit) => (Some(visit), None),
            None => {
                let visit = Visit::begin(&self.refusals, REFUSAL_MAX);
                (visit, Some(Limit::Handshakes))
            }
        };
        let Some(visit) = visit else {
            // Beyond that many, closing is answer enough.
            self.site.metrics.refused.handshakes.count();
            return;
        };
        let caller = Caller {
            peer,
            reach,
            refused,
            visit,
        };
        let acceptor = self.clone();
        tokio::spawn(async move { drop(acceptor.serve(stream, caller).await) });
    }

    /// Accepts one connection with a descriptor that was kept back, and gives it only what must be
    /// had even now.
    async fn accept_last<L: Accept>(self: &Arc<Self>, listener: &L, reach: Reach) {
        // Those that were accepted before are heard before they may have to go.
        tokio::task::yield_now().await;
        // Who says nothing has a descriptor that others need.
        self.site.gate.admission.free_a_descriptor();
        if !self.reserve.give_up() {
            self.reserve.crowd.make_way();
            tokio::time::sleep(PAUSE).await;
            return;
        }
        let mut accepting = pin!(listener.accept_one());
        let accepted = poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx))).await;
        let Poll::Ready(Ok((stream, peer))) = accepted else {
            // There was nobody after all, or another core was faster.
            return;
        };
        let Some(visit) = Visit::begin(&self.reserve.crowd, REFUSAL_MAX) else {
            // There are as many places as spares, so one of them was lost; this is another.
            _ = stream
                .into_socket()
                .map(|socket| self.reserve.take_back(socket));
            return;
        };
        let caller = Caller {
            peer,
            reach,
            refused: Some(Limit::OpenFiles),
            visit,
        };
        let acceptor = self.clone();
        tokio::spawn(async move {
            let stream = acceptor.clone().serve(stream, caller).await;
            if let Some(Ok(socket)) = stream.map(L::Stream::into_socket) {
                acceptor.reserve.take_back(socket);
            }
        });
    }

    /// Speaks HTTP until the socket becomes a WebSocket, ends, its time is up or it must make way.
    /// Returns the stream unless it became a WebSocket.
    async fn serve<S: Stream>(self: Arc<Self>, stream: S, caller: Caller) -> Option<S> {
        stream.prepare(&self.site.gate.config.get().limits);
        let visit = caller.visit.clone();
        let (line, mut returned) = Line::new(stream, visit.clone());
        let ended = between_turns(self.clone().speak_http(line, caller)).await;
        self.count(&ended, visit.has_asked());
        // Taken by an upgrade, it does not come back.
        let mut stream = returned.try_recv().ok();
        let is_answered = match &ended {
            Ended::Served(Ok(())) => true,
            Ended::Served(Err(error)) => error.is_parse(),
            Ended::TimedOut | Ended::MadeWay => false,
        };
        let is_draining = *self.drain.borrow();
        if let Some(stream) = stream.as_mut().filter(|_| is_answered && !is_draining) {
            visit.restart_clock();
            visit.hurry(LINGER_MAX);
            visit.drive(pin!(linger(stream))).await;
        }
        self.visited.note();
        stream
    }

    async fn speak_http<S: Stream>(
        self: Arc<Self>,
        line: Line<S>,
        caller: Caller,
    ) -> Ended<hyper::Result<()>> {
        let timeouts = self.site.gate.config.get().timeouts;
        let mut drain = self.drain.clone();
        let (site, visit) = (self.site.clone(), caller.visit.clone());
        let is_last = caller.refused.is_some();
        let service = service_fn(move |request| answer::<S>(site.clone(), request, caller.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.header_read)
            .max_buf_size(HEAD_LEN_MAX)
            .keep_alive(!is_last)
            // A client may end its side after its request and still wants the answer. But a service
            // may take for ever, and then it is the only sign that the client is gone.
            .half_close(self.site.fallback.is_none())
            .serve_connection(TokioIo::new(line), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = visit.drive(connection.as_mut()) => Some(ended),
            _ = drain.wait_for(|draining| *draining) => None,
        };
        if let Some(ended) = ended {
            return ended;
        }
        connection.as_mut().graceful_shutdown();
        // What was asked is answered; half a request is not waited for.
        visit.hurry(LAST_ANSWER_MAX);
        match visit.drive(connection).await {
            Ended::TimedOut => Ended::Served(Ok(())),
            ended => ended,
        }
    }

    /// Counts who was ended without an answer.
    fn count(&self, ended: &Ended<hyper::Result<()>>, has_asked: bool) {
        let refused = &self.site.metrics.refused;
        match ended {
            Ended::MadeWay => refused.evicted.count(),
            // A page's connection that is kept alive ends by a timeout too; that is its normal end.
            _ if has_asked => {}
            Ended::TimedOut => refused.handshake_timeout.count(),
            Ended::Served(Err(error)) if error.is_timeout() => refused.handshake_timeout.count(),
            Ended::Served(Err(error)) if error.is_parse() => refused.bad_handshake.count(),
            // Peers that go away in the middle are no news.
            Ended::Served(_) => {}
        }
    }
}

/// Ends our side, and reads and forgets what the peer still sends until it has ended its own.
async fn linger<S: Stream>(stream: &mut S) {
    if stream.shutdown().await.is_ok() {
        // A peer that breaks the connection has had its answer or does not want it.
        _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    }
}

/// Returns whether accepting failed for one socket only: its peer was gone already.
fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
