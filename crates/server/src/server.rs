//! The server as a whole: its sockets, its cores' threads, its end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rooms::{CoreId, RoomTable, TableConfig};
use socket2::Socket;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tower_service::Service;

use crate::accept::acceptor::{Acceptor, REFUSALS_MAX};
use crate::accept::admission::Admission;
use crate::accept::answer::Page;
use crate::accept::crowd::Crowd;
use crate::accept::descriptors::{self, Reserve};
use crate::accept::fallback::{AnyError, Fallback};
use crate::accept::http::Site;
use crate::accept::listen::{Bound, ListenError, Listener};
use crate::accept::mount::{Door, Mount};
use crate::accept::opening::Gate;
use crate::affinity;
use crate::app::application::Application as _;
use crate::app::hub::Hub;
use crate::app::manager::RoomManager;
use crate::app::room::Room;
use crate::app::router::Router;
use crate::clock::AgeClock;
use crate::config::{Config, FlushMode, ListenAddress};
use crate::core::flush::Flusher;
use crate::core::{Core, CoreParts, IdleHook, NewSocket, Visited};
use crate::engine::Engine;
use crate::journal::{Histories, JournalMetrics, OpenError, Writing};
use crate::live::{Handle, Live};
use crate::metrics::{CoreMetrics, Exposition, OwnCounter};
use crate::running::{Running, ServeError, Stop};
use crate::said::Said;
use crate::wire;

/// A server that is bound to its addresses and not yet serving.
///
/// # Examples
///
/// See the [crate's first page](crate).
pub struct Server {
    config: Arc<Live>,
    admission: Arc<Admission>,
    engine: Arc<Engine>,
    counters: Vec<OwnCounter>,
    bound: Vec<Bound>,
    pages: Vec<Page>,
    fallback: Option<Fallback>,
    cores: Vec<Arc<CoreMetrics>>,
    flush: FlushMode,
    idle_hook: Option<IdleHook>,
    histories: Option<Histories>,
    stop: Stop,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// A server that cannot start.
#[derive(Debug, Error)]
pub enum BindError {
    /// io_uring was demanded, and the kernel does not give it, or the crate was built without
    /// `uring`.
    #[error("io_uring is required but not available: {0}")]
    Flush(io::Error),
    /// The histories on disk cannot be had. Never without the crate's feature `disk`.
    #[error("cannot open the histories")]
    History(#[source] OpenError),
    /// An address is taken, forbidden, or not this machine's.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Server {
    /// Binds the addresses and probes the kernel; serves nobody yet.
    ///
    /// # Errors
    ///
    /// [`BindError`]; nothing is left bound.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let flush = match Flusher::new(config.flush).map_err(BindError::Flush)? {
            Flusher::Write => FlushMode::Write,
            Flusher::Uring(_) => FlushMode::Uring,
        };
        let core_count = config.core_count();
        let bound = config
            .listen
            .iter()
            .map(|address| Bound::new(address, core_count));
        let bound = bound.collect::<Result<_, _>>()?;
        let disk = config.history.disk.as_ref();
        let histories = disk.map(Histories::open).transpose();
        let histories = histories.map_err(BindError::History)?;
        let table = Arc::new(RoomTable::new(TableConfig {
            core_count,
            shard_count: config.shard_count(),
            name_len_max: config.limits.room_name_bytes_max,
            mailbox_bytes_max: config.limits.mailbox_bytes_full(),
            watch_rooms: false,
            classes: config.classes.clone(),
            history_wire: wire::THRONG,
            history_bytes_max: config.history.memory_bytes_max,
            wires: wire::OWN.to_vec(),
            journal: histories.as_ref().map(Histories::journal),
        }));
        let (draining, _) = watch::channel(false);
        let clock = histories
            .as_ref()
            .map_or_else(AgeClock::new, Histories::clock);
        Ok(Self {
            admission: Arc::new(Admission::new(&config.limits, None)),
            config: Arc::new(Live::new(config)),
            counters: Vec::new(),
            engine: Arc::new(Engine::new(table.clone(), clock)),
            bound,
            pages: Vec::new(),
            fallback: None,
            cores: (0..core_count).map(|_| Arc::default()).collect(),
            flush,
            idle_hook: None,
            histories,
            stop: Stop { draining, table },
        })
    }

    /// Returns the addresses, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.bound
            .iter()
            .map(|bound| bound.address.clone())
            .collect()
    }

    /// Returns how many connections are let in if the server is started now; none is no limit. The
    /// limit of open files is read for [`ConnectionsMax::Auto`](crate::ConnectionsMax::Auto).
    pub fn connections_max(&self) -> Option<usize> {
        let config = self.config.get();
        descriptors::connections_max(&config.limits, config.core_count())
    }

    /// Returns the way of writing frames: `io_uring` or `write`.
    pub const fn flush_name(&self) -> &'static str {
        match self.flush {
            FlushMode::Write => "write",
            FlushMode::Auto | FlushMode::Uring => "io_uring",
        }
    }

    /// Returns the rooms of this server: those that clients of throng.v1 join by themselves, and
    /// that may have histories. All managers that this returns are one.
    pub fn rooms(&self) -> RoomManager {
        RoomManager::default_of(self.engine.clone())
    }

    /// Returns a manager with rooms of its own: another one each time.
    ///
    /// Clients of throng.v1 see the names of rooms and not whose they are: to such clients, give
    /// rooms of this manager names that rooms of the default one do not have.
    pub fn room_manager(&self) -> RoomManager {
        RoomManager::new(self.engine.clone())
    }

    /// Returns a room of its own, without a name: another one each time.
    pub fn room(&self) -> Room {
        Room::new(self.engine.clone())
    }

    /// Returns all connections of this server.
    pub fn hub(&self) -> Hub {
        Hub::new(self.engine.clone(), self.cores.clone().into())
    }

    /// Returns the handle that changes the configuration while the server runs. Take it before
    /// [`serve`](Self::serve).
    pub fn handle(&self) -> Handle {
        Handle::new(
            self.config.clone(),
            self.engine.clone(),
            self.admission.clone(),
            self.cores.len(),
        )
    }

    /// Shows a counter of the application's own in `/metrics`, as `throng_<name>_total`. `count`
    /// is called for each answer, on a core's thread, and must not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use throng::{Config, Server};
    ///
    /// let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
    /// let mut server = Server::bind(config)?;
    /// let orders = Arc::new(AtomicU64::new(0));
    /// let counted = orders.clone();
    /// server.counter("orders", "Orders taken", move || counted.load(Ordering::Relaxed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        count: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> &mut Self {
        let count = Box::new(count);
        self.counters.push(OwnCounter { name, help, count });
        self
    }

    /// Serves a page as it is.
    pub fn page(&mut self, page: Page) -> &mut Self {
        self.pages.push(page);
        self
    }

    /// Answers all requests with a service that are not for the WebSocket's path, a
    /// [page](Self::page), `/healthz` or `/metrics`. It replaces an earlier service, and may be any
    /// of hyper's and tower's, such as an `axum::Router`. If [`Config::path`] is none, requests
    /// that ask for a WebSocket are not the service's either.
    ///
    /// It runs on the cores' threads beside their loops, and must not block. It may take its time:
    /// no timeout bounds how long it works, nor how large a request's body may be; that is the
    /// service's to say. [`Timeouts::handshake`](crate::Timeouts::handshake) bounds how long a peer
    /// may take for 64 KiB of an answer, [`Timeouts::header_read`](crate::Timeouts::header_read)
    /// how long a connection may wait for its next request,
    /// [`Limits::fallback_connections_max`](crate::Limits::fallback_connections_max) how many
    /// connections there are. A request whose client is gone, or has ended its side, is dropped.
    ///
    /// An error of the service, and a panic, is answered with 500 and logged; a body that panics
    /// ends its connection. When the server is [stopped](Stop::drain), requests under way are
    /// waited for until [`Timeouts::drain`](crate::Timeouts::drain).
    ///
    /// The request's extensions have the peer's [`IpAddr`](std::net::IpAddr), unless it came by a
    /// Unix socket.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::routing::get;
    /// use throng::{Config, Server};
    ///
    /// let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
    /// let mut server = Server::bind(config)?;
    /// let rooms = server.rooms();
    /// let members = move || async move { rooms.member_count("lobby").to_string() };
    /// server.fallback(axum::Router::new().route("/lobby/members", get(members)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallback<S, B>(&mut self, service: S) -> &mut Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<AnyError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnyError>,
    {
        self.fallback = Some(Fallback::new(service));
        self
    }

    /// Calls `hook` on a core's thread when that core has had nothing to do for one and a half
    /// seconds, once for each such time, in place of an earlier hook. It must not block.
    ///
    /// For what is better done then, such as giving freed memory back to the kernel, which many
    /// allocators only do while they are used.
    pub fn on_idle(&mut self, hook: impl Fn() + Send + Sync + 'static) -> &mut Self {
        self.idle_hook = Some(Arc::new(hook));
        self
    }

    /// Returns the handle that stops the server. Take it before [`serve`](Self::serve).
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped. Blocks this thread; the work is done on a thread for each core.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if a core ended by itself; the others have been stopped.
    pub fn serve<S>(self, router: Router<S>) -> Result<(), ServeError>
    where
        S: Send + Sync + 'static,
    {
        let (_, started) = self.start(router);
        started.wait()
    }

    /// Starts the cores for WebSockets that come by way of another HTTP server of this process,
    /// hyper's or axum's: [`Mount`] is the service for its route, and [`Running`] waits for the
    /// end. Does not block.
    ///
    /// The server's own addresses are served too: [`Config::listen`] may be empty, or an address
    /// for `/metrics` inside. What goes wrong when cores start is said by [`Running::join`].
    ///
    /// # Panics
    ///
    /// If the system has no thread left.
    pub fn mount<S>(self, router: Router<S>) -> (Mount, Running)
    where
        S: Send + Sync + 'static,
    {
        let stop = self.stop();
        let (mount, started) = self.start(router);
        // Somebody must stop the other cores if one ends, whether anybody waits or not.
        let ended = thread::spawn(move || started.wait());
        (mount, Running::new(ended, stop))
    }

    fn start<S>(mut self, router: Router<S>) -> (Mount, Started)
    where
        S: Send + Sync + 'static,
    {
        let (writing, journal) = match self.histories.take() {
            Some(histories) => {
                let (writing, metrics) = histories.start(self.engine.table.clone());
                (writing, Some(metrics))
            }
            None => (Writing::nothing(), None),
        };
        let config = self.config.get();
        descriptors::warn_if_short(&config.limits, config.core_count());
        self.admission
            .set_limits(&config.limits, self.connections_max());
        router.warn_of_shadowed();
        let languages = Arc::new(router.languages());
        self.engine.speak(languages.clone());
        let gate = Arc::new(Gate {
            config: self.config.clone(),
            application: Arc::new(router),
            languages,
            admission: self.admission.clone(),
            said: Said::default(),
        });
        let outside = Arc::<CoreMetrics>::default();
        let seats = self.seats(&gate, &outside, journal);
        let (threads, doors): (Vec<_>, Vec<_>) = seats.into_iter().map(Seat::spawn).unzip();
        let mount = Mount::new(gate, doors.into_iter().flatten().collect(), outside);
        let started = Started {
            threads,
            writing,
            stop: self.stop,
            _bound: self.bound,
        };
        (mount, started)
    }

    /// Returns what each core's thread is given.
    fn seats(
        &mut self,
        gate: &Arc<Gate>,
        outside: &Arc<CoreMetrics>,
        journal: Option<Arc<JournalMetrics>>,
    ) -> Vec<Seat> {
        let exposition = Exposition {
            table: self.engine.table.clone(),
            cores: self.cores.clone(),
            outside: outside.clone(),
            journal,
            own: std::mem::take(&mut self.counters),
        };
        let exposition = Arc::new(exposition);
        let pages: Arc<[Page]> = std::mem::take(&mut self.pages).into();
        let pin = self.config.get().pin;
        let cpus = if pin { affinity::cpus() } else { Vec::new() };
        if pin && cpus.is_empty() {
            tracing::warn!("cannot pin threads: the CPUs are unknown");
        }
        let cores = (0..=u8::MAX).zip(self.cores.clone());
        cores
            .map(|(index, metrics)| Seat {
                id: CoreId(index),
                cpu: cpus.iter().copied().cycle().nth(index.into()),
                flush: self.flush,
                sockets: self.bound.iter_mut().filter_map(Bound::take).collect(),
                engine: self.engine.clone(),
                gate: gate.clone(),
                metrics,
                exposition: exposition.clone(),
                pages: pages.clone(),
                fallback: self.fallback.clone(),
                drain: self.stop.draining.subscribe(),
                idle_hook: self.idle_hook.clone(),
            })
            .collect()
    }
}

/// A server whose cores run.
struct Started {
    threads: Vec<Thread>,
    writing: Writing,
    stop: Stop,
    /// The files of Unix sockets go when all is over.
    _bound: Vec<Bound>,
}

/// A core's thread, if there is one.
type Thread = io::Result<JoinHandle<io::Result<()>>>;

impl Started {
    fn wait(self) -> Result<(), ServeError> {
        let served = wait_for_all(self.threads, &self.stop);
        // Behind the last core: what was published last is written too.
        self.writing.finish();
        served
    }
}

/// One core's thread before it runs.
struct Seat {
    id: CoreId,
    cpu: Option<usize>,
    flush: FlushMode,
    sockets: Vec<Socket>,
    engine: Arc<Engine>,
    gate: Arc<Gate>,
    metrics: Arc<CoreMetrics>,
    exposition: Arc<Exposition>,
    pages: Arc<[Page]>,
    fallback: Option<Fallback>,
    drain: watch::Receiver<bool>,
    idle_hook: Option<IdleHook>,
}

impl Seat {
    /// Starts the thread; also returns how sockets come to it from elsewhere.
    fn spawn(self) -> (Thread, Option<Door>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return (Err(error), None),
        };
        // As many as may be in a handshake fit, so that handing over never waits long.
        let (sender, receiver) = mpsc::channel(NEW_SOCKETS_MAX);
        let door = Door::new(
            runtime.handle().clone(),
            sender.downgrade(),
            self.metrics.clone(),
        );
        let thread = thread::Builder::new()
            .name(format!("throng-core-{}", self.id.0))
            .spawn(move || self.run(&runtime, sender, receiver));
        (thread, Some(door))
    }

    fn run(
        self,
        runtime: &Runtime,
        sender: mpsc::Sender<NewSocket>,
        receiver: mpsc::Receiver<NewSocket>,
    ) -> io::Result<()> {
        if let Some(cpu) = self.cpu
            && !affinity::pin(cpu)
        {
            tracing::warn!(core = self.id.0, cpu, "cannot pin core to CPU");
        }
        let visited = Arc::<Visited>::default();
        runtime.block_on(async {
            let core = Core::new(
                CoreParts {
                    id: self.id,
                    engine: self.engine,
                    application: self.gate.application.clone(),
                    config: self.gate.config.get(),
                    metrics: self.metrics.clone(),
                    new_sockets: receiver,
                    idle_hook: self.idle_hook,
                    visited: visited.clone(),
                },
                // The ring belongs to the thread that makes it; the probe's is gone.
                Flusher::new(self.flush)?,
            )?;
            tokio::spawn(keep_open(sender.clone(), self.drain.clone()));
            let site = Site {
                gate: self.gate,
                pages: self.pages,
                fallback: self.fallback,
                exposition: self.exposition,
                metrics: self.metrics,
                new_sockets: sender,
            };
            let acceptor = Arc::new(Acceptor {
                site: Arc::new(site),
                drain: self.drain,
                refusals: Crowd::new(REFUSALS_MAX),
                reserve: Reserve::new(),
                visited,
            });
            for socket in self.sockets {
                let listener = Listener::new(socket)?;
                let reach = listener.reach()?;
                tokio::spawn(acceptor.clone().run(listener, reach));
            }
            drop(acceptor);
            core.run().await
        })
    }
}

/// Lets sockets come until the drain, though nobody listens.
async fn keep_open(sender: mpsc::Sender<NewSocket>, mut drain: watch::Receiver<bool>) {
    // An end of the other side is a drain too.
    _ = drain.wait_for(|draining| *draining).await;
    drop(sender);
}

/// Maximum sockets that wait for the loop. It takes them all in every turn.
const NEW_SOCKETS_MAX: usize = 1024;

/// Waits for every core; the first that ends by itself stops the others.
fn wait_for_all(threads: Vec<Thread>, stop: &Stop) -> Result<(), ServeError> {
    let (sender, ends) = std::sync::mpsc::channel();
    for (core, thread) in threads.into_iter().enumerate() {
        let sender = sender.clone();
        // A thread that only waits, because std joins in one order only.
        thread::spawn(move || _ = sender.send(join(core, thread)));
    }
    drop(sender);
    let mut result = Ok(());
    for ended in ends {
        if ended.is_err() {
            stop.drain();
        }
        result = result.and(ended);
    }
    result
}

/// Waits for one core.
fn join(core: usize, thread: Thread) -> Result<(), ServeError> {
    let thread = thread.map_err(|source| ServeError::Core { core, source })?;
    let ended = thread.join().map_err(|_| ServeError::Panicked { core })?;
    ended.map_err(|source| ServeError::Core { core, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_panics_is_an_error_that_names_it() {
        let thread = || Ok(thread::spawn(|| panic!("as the test wants it")));
        let ended = join(3, thread()).unwrap_err();
        assert!(matches!(ended, ServeError::Panicked { core: 3 }), "{ended}");
    }
}
