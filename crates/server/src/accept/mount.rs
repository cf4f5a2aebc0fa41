//! The WebSocket as a route of somebody else's HTTP server: hyper's, or axum's.
//!
//! That server accepts, speaks HTTP and answers 101; then the socket is taken out of it and out of
//! its runtime, and belongs to a core, as if it had come by a listener of ours. So it must be a
//! socket.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tower_service::Service;

use crate::accept::admission::Limit;
use crate::accept::answer::Answer;
use crate::accept::crowd::Seat;
use crate::accept::hosts::Reach;
use crate::accept::opening::{Gate, Newcomer, Visitor, refuse};
use crate::accept::stream::Stream;
use crate::config::Limits;
use crate::core::NewSocket;
use crate::metrics::{CoreMetrics, RefusedCounts};

/// The WebSocket as a service for a route of another HTTP server in this process. Cheap to clone.
///
/// Made by [`Server::mount`](crate::Server::mount). To axum it is a service for `route_service`, to
/// hyper [`upgrade`](Self::upgrade) is what to answer with. Handshake, host, origin, limits and the
/// router's hook are looked at as for the server's own path; which hosts are served is the other
/// server's to say, unless [`allowed_hosts`](crate::Config::allowed_hosts) has a rule; the path is
/// the other server's to choose. Connections go to the core that has the fewest.
///
/// What it needs of the other server:
///
/// - **HTTP/1.1 with upgrades**: `axum::serve` has them, hyper's connections need
///   `with_upgrades()`.
/// - **TCP or a Unix socket of tokio's, without TLS of its own.** The socket is taken out of that
///   server once it has answered 101, and a stream that is encrypted in this process is no socket.
///   Such a connection ends at once; it is logged as an error, once, and counted in
///   `throng_handshakes_refused_total` as `undeliverable`. End TLS in a proxy.
/// - **The peer's address**, if [`connections_per_ip_max`](crate::Limits::connections_per_ip_max)
///   is to count and [`Request::peer`](crate::Request::peer) is to know it: an [`IpAddr`] in the
///   request's extensions.
///
/// What it refuses, it answers as the server's own path does; while the server stops, with 503.
///
/// # Examples
///
/// ```
/// use axum::routing::get;
/// use throng::{Config, Router, Server};
///
/// let server = Server::bind(Config { listen: Vec::new(), cores: 1, ..Config::default() })?;
/// let (mount, running) = server.mount(Router::new());
/// let app = axum::Router::<()>::new()
///     .route("/", get(|| async { "hello" }))
///     .route_service("/ws", mount);
/// // axum::serve(listener, app).await?;
/// # drop(app);
/// running.stop().drain();
/// running.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Mount(Arc<Entrance>);

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").finish_non_exhaustive()
    }
}

struct Entrance {
    gate: Arc<Gate>,
    doors: Vec<Door>,
    /// Place at which the search for a door begins: of several that are equal, not always the
    /// first.
    turn: AtomicUsize,
    /// Counted on any thread.
    metrics: Arc<CoreMetrics>,
    has_complained: AtomicBool,
}

/// The way to one core.
pub(crate) struct Door {
    runtime: Handle,
    /// Weak, for it closes when the server stops, whoever has a [`Mount`].
    new_sockets: mpsc::WeakSender<NewSocket>,
    metrics: Arc<CoreMetrics>,
    /// Number of connections on their way in.
    under_way: Arc<AtomicUsize>,
}

impl Door {
    pub(crate) fn new(
        runtime: Handle,
        new_sockets: mpsc::WeakSender<NewSocket>,
        metrics: Arc<CoreMetrics>,
    ) -> Self {
        Self {
            runtime,
            new_sockets,
            metrics,
            under_way: Arc::default(),
        }
    }

    /// Returns the number of connections that the core has, or will have.
    fn load(&self) -> u64 {
        self.metrics.connections.get() + self.under_way.load(Ordering::Relaxed) as u64
    }

    /// Lets one in, unless the server stops.
    fn enter(&self, handshake: Seat) -> Option<Way> {
        let new_sockets = self.new_sockets.upgrade()?;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Way {
            runtime: self.runtime.clone(),
            new_sockets,
            under_way: self.under_way.clone(),
            _handshake: handshake,
        })
    }
}

/// A place on the way to a core. While there is one, a drain waits.
struct Way {
    runtime: Handle,
    new_sockets: mpsc::Sender<NewSocket>,
    under_way: Arc<AtomicUsize>,
    _handshake: Seat,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mount {
    pub(crate) fn new(gate: Arc<Gate>, doors: Vec<Door>, metrics: Arc<CoreMetrics>) -> Self {
        Self(Arc::new(Entrance {
            gate,
            doors,
            turn: AtomicUsize::new(0),
            metrics,
            has_complained: AtomicBool::new(false),
        }))
    }

    /// Answers a request for a WebSocket: 101, and its socket goes to a core when that is sent; or
    /// why not.
    ///
    /// # Cancel safety
    ///
    /// Nothing comes of the request; the router's hook may have seen it.
    pub fn upgrade<B>(
        &self,
        mut request: http::Request<B>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + use<B> {
        let upgrade = hyper::upgrade::on(&mut request);
        let entrance = self.0.clone();
        // The body goes no further: it need not be one that other threads may have.
        let looked_at = entrance.look_at(&request);
        async move {
            match looked_at {
                Ok((visitor, way)) => entrance.admit(visitor, way, upgrade).await,
                Err(answer) => *answer,
            }
        }
    }
}

impl Entrance {
    fn refused(&self) -> &RefusedCounts {
        &self.metrics.refused
    }

    /// Looks at a request, and finds it a way in.
    fn look_at<B>(&self, request: &http::Request<B>) -> Result<(Visitor, Way), Box<Answer>> {
        let peer = request.extensions().get().map(IpAddr::to_canonical);
        self.gate
            .check_host(request, Reach::Network, self.refused())?;
        let visitor = self.gate.look_at(request, peer, self.refused())?;
        let handshake = self.gate.admission.begin_handshake();
        let way = handshake.and_then(|handshake| self.way(handshake));
        match way {
            Ok(way) => Ok((visitor, way)),
            Err(limit) => Err(Box::new(refuse(limit, self.refused()))),
        }
    }

    /// Returns the way to the core with the fewest connections.
    fn way(&self, handshake: Seat) -> Result<Way, Limit> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.doors.len().max(1);
        let (before, from) = self.doors.split_at(turn);
        let doors = from.iter().chain(before);
        let door = doors.min_by_key(|door| door.load());
        door.and_then(|door| door.enter(handshake))
            .ok_or(Limit::Stopping)
    }

    /// Goes on at the core's runtime, where the router's hooks are called, and timers run.
    async fn admit(self: Arc<Self>, visitor: Visitor, way: Way, upgrade: OnUpgrade) -> Answer {
        let (answer, answered) = oneshot::channel();
        let entrance = self.clone();
        let runtime = way.runtime.clone();
        runtime.spawn(async move {
            match entrance.gate.admit(visitor, entrance.refused()).await {
                Ok((switching, newcomer)) => {
                    // Who does not wait any more is gone.
                    if answer.send(switching).is_ok() {
                        entrance.take_over(upgrade, newcomer, way).await;
                    }
                }
                Err(refusal) => _ = answer.send(*refusal),
            }
        });
        // Without an answer the runtime is gone.
        let answered = answered.await;
        answered.unwrap_or_else(|_| refuse(Limit::Stopping, self.refused()))
    }

    /// Waits until the answer is sent, and gives the socket to the core.
    async fn take_over(&self, upgrade: OnUpgrade, newcomer: Newcomer, way: Way) {
        // A server that never upgrades must not keep the place for ever.
        let timeout = self.gate.config.get().timeouts.handshake;
        let Ok(Ok(upgraded)) = tokio::time::timeout(timeout, upgrade).await else {
            return;
        };
        match socket_of(upgraded, &self.gate.config.get().limits) {
            Some((stream, leftover)) => {
                // Fails only when the core has ended; then the socket closes, as it should.
                _ = way.new_sockets.send(newcomer.on(stream, leftover)).await;
            }
            None => self.complain(),
        }
    }

    fn complain(&self) {
        self.refused().undeliverable.count();
        // It is so of all connections, or of none.
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "cannot take over the connection: its stream is not a tokio TCP or Unix socket. \
                 Terminate TLS in a proxy instead"
            );
        }
    }
}

/// Takes the socket out of the other server and its runtime, with what the peer sent behind its
/// request.
fn socket_of(upgraded: Upgraded, limits: &Limits) -> Option<(socket2::Socket, Bytes)> {
    let upgraded = match plain::<TcpStream>(upgraded, limits) {
        Ok(taken) => return taken,
        Err(upgraded) => upgraded,
    };
    let upgraded = match plain::<UnixStream>(upgraded, limits) {
        Ok(taken) => return taken,
        Err(upgraded) => upgraded,
    };
    let upgraded = match auto::<TcpStream>(upgraded, limits) {
        Ok(taken) => return taken,
        Err(upgraded) => upgraded,
    };
    auto::<UnixStream>(upgraded, limits).ok().flatten()
}

type Taken = Option<(socket2::Socket, Bytes)>;

/// Takes the socket of a connection of hyper's own.
fn plain<S: Stream>(upgraded: Upgraded, limits: &Limits) -> Result<Taken, Upgraded> {
    let parts = upgraded.downcast::<TokioIo<S>>()?;
    Ok(taken(parts.io, parts.read_buf, limits))
}

/// Takes the socket of a connection that detects the version of HTTP, as axum's do.
fn auto<S: Stream>(upgraded: Upgraded, limits: &Limits) -> Result<Taken, Upgraded> {
    let parts = downcast::<TokioIo<S>>(upgraded)?;
    Ok(taken(parts.io, parts.read_buf, limits))
}

fn taken<S: Stream>(io: TokioIo<S>, leftover: Bytes, limits: &Limits) -> Taken {
    let stream = io.into_inner();
    stream.prepare(limits);
    Some((stream.into_socket().ok()?, leftover))
}

impl<B: 'static> Service<http::Request<B>> for Mount {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let upgrading = self.upgrade(request);
        Box::pin(async move { Ok(upgrading.await) })
    }
}
