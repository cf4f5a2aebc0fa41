//! New sockets: accepted, counted, spoken HTTP with, and handed to the core's loop.
//!
//! Each core has listeners of its own (`SO_REUSEPORT`), so the kernel spreads the connections and
//! no socket ever moves between threads.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::admission::{Handshake, Refused};
use crate::core::NewSocket;
use crate::fallback::Fallback;
use crate::http::{self as answers, Page};
use crate::listen::Listener;
use crate::metrics::{CoreMetrics, Exposition};
use crate::opening::{Gate, Newcomer};
use crate::visit::Visit;

/// What the accepting side of one core works with.
pub(crate) struct Acceptor {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pages: Arc<[Page]>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) exposition: Arc<Exposition>,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) new_sockets: mpsc::Sender<NewSocket>,
    pub(crate) drain: watch::Receiver<bool>,
    /// Places for peers that are told why they are refused.
    pub(crate) refusals: Arc<Semaphore>,
}

/// The largest request head, in bytes: browsers send below 4 KiB, cookies included.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// How many refused peers of a core are told why at a time. Each costs a task and a socket for a
/// moment; the limit they ran into is there so that such things do not grow.
pub(crate) const REFUSALS_MAX: usize = 256;

/// How long a refused peer has to take its answer.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

/// How long a drain waits for requests that are under way.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(1);

/// How long accepting pauses when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

impl Acceptor {
    /// Accepts from one listener until the drain.
    pub(crate) async fn run(self: Arc<Self>, listener: Listener) {
        match listener {
            Listener::Tcp(listener) => self.accept(listener).await,
            Listener::Unix(listener) => self.accept(listener).await,
        }
    }

    async fn accept<L: Accept>(self: Arc<Self>, listener: L) {
        let mut drain = self.drain.clone();
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                _ = drain.wait_for(|draining| *draining) => return,
                accepted = listener.accept_one() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut is_failing) {
                        self.gate.said.accepts_again();
                    }
                    self.begin(stream, peer);
                }
                Err(error) if is_about_one_socket(&error) => {}
                Err(error) => {
                    is_failing = true;
                    self.gate.said.cannot_accept(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Begins a handshake, or refuses it at the limit without reading it.
    fn begin<S: Stream>(self: &Arc<Self>, stream: S, peer: Option<IpAddr>) {
        stream.prepare();
        match self.gate.admission.begin_handshake() {
            Ok(handshake) => {
                tokio::spawn(self.clone().serve(stream, peer, handshake));
            }
            Err(refused) => {
                self.metrics.refused.handshakes.count();
                // Beyond that many, closing is answer enough.
                if let Ok(refusal) = self.refusals.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        refuse(stream, refused).await;
                        drop(refusal);
                    });
                }
            }
        }
    }

    /// Speaks HTTP until the socket becomes a WebSocket or its time is up.
    async fn serve<S: Stream>(
        self: Arc<Self>,
        stream: S,
        peer: Option<IpAddr>,
        handshake: Handshake,
    ) {
        let timeouts = self.gate.config.get().timeouts;
        let mut drain = self.drain.clone();
        let visit = Visit::new(handshake, timeouts.handshake);
        let (acceptor, visiting) = (self.clone(), visit.clone());
        let service = service_fn(move |request| {
            answers::answer::<S>(acceptor.clone(), request, peer, visiting.clone())
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.header_read)
            .max_buf_size(HEAD_LEN_MAX)
            // A client may end its side after its request and still wants the answer. But a service may
            // take for ever, and then it is the only sign that the client is gone.
            .half_close(self.fallback.is_none())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let served = tokio::select! {
            served = visit.drive(connection.as_mut()) => Some(served),
            _ = drain.wait_for(|draining| *draining) => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                connection.as_mut().graceful_shutdown();
                // What was asked is answered; half a request is not waited for.
                visit.hurry(LAST_ANSWER_MAX);
                visit.drive(connection).await.or(Some(Ok(())))
            }
        };
        if visit.has_asked() {
            // A page's connection that is kept alive ends by a timeout too; that is its normal end.
            return;
        }
        match served {
            None => self.metrics.refused.handshake_timeout.count(),
            Some(Err(error)) if error.is_timeout() => {
                self.metrics.refused.handshake_timeout.count();
            }
            Some(Err(error)) if error.is_parse() => self.metrics.refused.bad_handshake.count(),
            // Peers that go away in the middle are no news.
            Some(_) => {}
        }
    }

    /// Takes an upgraded socket out of the runtime and gives it to the core.
    pub(crate) async fn hand_over<S: Stream>(&self, upgraded: Upgraded, newcomer: Newcomer) {
        let Ok(parts) = upgraded.downcast::<TokioIo<S>>() else {
            return;
        };
        let Ok(stream) = parts.io.into_inner().into_socket() else {
            return;
        };
        let new = newcomer.on(stream, parts.read_buf);
        // Fails only when the core has ended; then the socket closes, as it should.
        _ = self.new_sockets.send(new).await;
    }
}

/// Tells a peer that it cannot be served. Its request is read and forgotten, for unread bytes would
/// make the kernel reset the connection and destroy the answer.
async fn refuse<S: Stream>(mut stream: S, refused: Refused) {
    let answer = answers::overloaded_bytes(refused);
    let refuse = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A peer that goes, or takes too long, has had its chance.
    _ = tokio::time::timeout(REFUSAL_MAX, refuse).await;
}

/// Whether accepting failed for one socket only: its peer was gone already.
fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// A listener of some family.
trait Accept {
    type Stream: Stream;

    async fn accept_one(&self) -> io::Result<(Self::Stream, Option<IpAddr>)>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept_one(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.accept().await?;
        Ok((stream, Some(peer.ip().to_canonical())))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept_one(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, None))
    }
}

/// A stream of some family, while the runtime has it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Sets what the socket needs from its first byte on.
    fn prepare(&self);

    /// Takes it out of the runtime. It stays non-blocking.
    fn into_socket(self) -> io::Result<socket2::Socket>;
}

impl Stream for TcpStream {
    fn prepare(&self) {
        // The loop merges writes itself; waiting for more would only delay them.
        _ = self.set_nodelay(true);
    }

    fn into_socket(self) -> io::Result<socket2::Socket> {
        self.into_std().map(socket2::Socket::from)
    }
}

impl Stream for UnixStream {
    fn prepare(&self) {}

    fn into_socket(self) -> io::Result<socket2::Socket> {
        self.into_std().map(socket2::Socket::from)
    }
}
