//! The server as a whole: its sockets, its cores' threads, its end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rooms::{CoreId, RoomTable, TableConfig};
use socket2::Socket;
use store::OpenError;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::accept::{Acceptor, REFUSALS_MAX};
use crate::admission::Admission;
use crate::application::Application;
use crate::config::{Config, FlushMode, ListenAddress};
use crate::core::{Core, CoreParts, IdleHook};
use crate::engine::Engine;
use crate::flush::Flusher;
use crate::http::Page;
use crate::hub::Hub;
use crate::journal::{Histories, Writing};
use crate::listen::{Bound, ListenError, Listener};
use crate::manager::RoomManager;
use crate::metrics::{CoreMetrics, Exposition, JournalMetrics};
use crate::protocol::Languages;
use crate::room::Room;
use crate::router::Router;
use crate::wire;

/// A server that is bound to its addresses and not yet serving.
///
/// # Examples
///
/// See the [crate's first page](crate).
pub struct Server {
    config: Arc<Config>,
    engine: Arc<Engine>,
    bound: Vec<Bound>,
    pages: Vec<Page>,
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
    /// io_uring was demanded and the kernel does not give it.
    #[error("the kernel refuses io_uring: {0}")]
    Flush(io::Error),
    /// The histories on disk cannot be had.
    #[error("cannot open the histories")]
    History(#[from] OpenError),
    /// An address is taken, forbidden, or not this machine's.
    #[error("cannot listen on {0}")]
    Listen(#[from] ListenError),
}

/// A server that ended otherwise than by [`Stop::drain`].
#[derive(Debug, Error)]
pub enum ServeError {
    /// The operating system refused what a core cannot do without.
    #[error("core {core} ended: {source}")]
    Core {
        /// Which core.
        core: usize,
        /// What was refused.
        source: io::Error,
    },
    /// The engine panicked. The rest of the server has been stopped.
    #[error("core {core} panicked")]
    Panicked {
        /// Which core.
        core: usize,
    },
}

/// Stops a server, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    draining: watch::Sender<bool>,
    table: Arc<RoomTable>,
}

impl Stop {
    /// Stops accepting, sends what is queued, closes every connection as [`Drain`](crate::Drain) says, with
    /// 1001 or on throng.v1 with 4100, and lets [`Server::serve`] return: when all are closed, or after the
    /// drain timeout. Does not wait.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.table.drain();
    }
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
            #[cfg(target_os = "linux")]
            Flusher::Uring(_) => FlushMode::Uring,
        };
        let core_count = config.core_count();
        let bound = config
            .listen
            .iter()
            .map(|address| Bound::new(address, core_count));
        let bound = bound.collect::<Result<_, _>>()?;
        let disk = config.history.disk.as_ref();
        let histories = disk.map(Histories::open).transpose()?;
        let table = Arc::new(RoomTable::new(TableConfig {
            core_count,
            shard_count: config.shard_count(),
            name_len_max: config.limits.room_name_bytes_max,
            // Full at 0 bytes would be full for ever.
            mailbox_bytes_max: config.limits.mailbox_bytes_max.max(1),
            watch_rooms: false,
            classes: config.classes.clone(),
            history_wire: wire::THRONG,
            history_bytes_max: config.history.memory_bytes_max,
            wires: wire::OWN.to_vec(),
            journal: histories
                .as_ref()
                .map(|histories| histories.journal.clone()),
        }));
        let (draining, _) = watch::channel(false);
        Ok(Self {
            config: Arc::new(config),
            engine: Arc::new(Engine::new(table.clone())),
            bound,
            pages: Vec::new(),
            cores: (0..core_count).map(|_| Arc::default()).collect(),
            flush,
            idle_hook: None,
            histories,
            stop: Stop { draining, table },
        })
    }

    /// The addresses, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.bound
            .iter()
            .map(|bound| bound.address.clone())
            .collect()
    }

    /// How frames will be written: `io_uring` or `write`.
    pub const fn flush_name(&self) -> &'static str {
        match self.flush {
            FlushMode::Write => "write",
            FlushMode::Auto | FlushMode::Uring => "io_uring",
        }
    }

    /// The rooms of this server: those that clients of throng.v1 join by themselves, and that may have
    /// histories. All managers that this returns are one.
    pub fn rooms(&self) -> RoomManager {
        RoomManager::default_of(self.engine.clone())
    }

    /// Rooms of their own: another manager each time.
    pub fn room_manager(&self) -> RoomManager {
        RoomManager::new(self.engine.clone())
    }

    /// A room of its own, without a name: another one each time.
    pub fn room(&self) -> Room {
        Room::new(self.engine.clone())
    }

    /// All connections of this server.
    pub fn hub(&self) -> Hub {
        Hub::new(self.engine.clone(), self.cores.clone().into())
    }

    /// Serves a page as it is.
    pub fn page(&mut self, page: Page) -> &mut Self {
        self.pages.push(page);
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

    /// What stops the server. Take it before [`serve`](Self::serve).
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped. Blocks this thread; the work is done on a thread for each core.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if a core ended by itself; the others have been stopped.
    pub fn serve<S>(mut self, router: Router<S>) -> Result<(), ServeError>
    where
        S: Send + Sync + 'static,
    {
        let metrics = self
            .histories
            .is_some()
            .then(Arc::<JournalMetrics>::default);
        let table = self.engine.table.clone();
        let writing = match (self.histories.take(), metrics.clone()) {
            (Some(histories), Some(metrics)) => histories.start(table, metrics),
            _ => Writing::nothing(),
        };
        let languages = Arc::new(router.languages());
        self.engine.speak(languages.clone());
        let seats = self.seats((Arc::new(router), languages), metrics);
        let threads: Vec<_> = seats.into_iter().map(Seat::spawn).collect();
        let served = wait_for_all(threads, &self.stop);
        // Behind the last core: what was published last is written too.
        writing.finish();
        served
    }

    /// What each core's thread is given.
    fn seats(
        &mut self,
        (application, languages): (Arc<dyn Application>, Arc<Languages>),
        journal: Option<Arc<JournalMetrics>>,
    ) -> Vec<Seat> {
        let exposition = Exposition {
            table: self.engine.table.clone(),
            cores: self.cores.clone(),
            journal,
        };
        let exposition = Arc::new(exposition);
        let admission = Arc::new(Admission::new(&self.config.limits));
        let pages: Arc<[Page]> = std::mem::take(&mut self.pages).into();
        let cpus = if self.config.pin {
            core_affinity::get_core_ids().unwrap_or_default()
        } else {
            Vec::new()
        };
        if self.config.pin && cpus.is_empty() {
            tracing::warn!("not pinned: the system does not tell its CPUs");
        }
        let cores = (0..=u8::MAX).zip(self.cores.clone());
        cores
            .map(|(index, metrics)| Seat {
                id: CoreId(index),
                cpu: cpus.iter().copied().cycle().nth(index.into()),
                flush: self.flush,
                sockets: self.bound.iter_mut().filter_map(Bound::take).collect(),
                engine: self.engine.clone(),
                application: application.clone(),
                languages: languages.clone(),
                config: self.config.clone(),
                metrics,
                exposition: exposition.clone(),
                admission: admission.clone(),
                pages: pages.clone(),
                drain: self.stop.draining.subscribe(),
                idle_hook: self.idle_hook.clone(),
            })
            .collect()
    }
}

/// One core's thread before it runs.
struct Seat {
    id: CoreId,
    cpu: Option<core_affinity::CoreId>,
    flush: FlushMode,
    sockets: Vec<Socket>,
    engine: Arc<Engine>,
    application: Arc<dyn Application>,
    languages: Arc<Languages>,
    config: Arc<Config>,
    metrics: Arc<CoreMetrics>,
    exposition: Arc<Exposition>,
    admission: Arc<Admission>,
    pages: Arc<[Page]>,
    drain: watch::Receiver<bool>,
    idle_hook: Option<IdleHook>,
}

impl Seat {
    fn spawn(self) -> io::Result<JoinHandle<io::Result<()>>> {
        thread::Builder::new()
            .name(format!("throng-core-{}", self.id.0))
            .spawn(move || self.run())
    }

    fn run(self) -> io::Result<()> {
        if let Some(cpu) = self.cpu
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(core = self.id.0, cpu = cpu.id, "not pinned: refused");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            // As many as may be in a handshake fit, so that handing over never waits long.
            let (sender, receiver) = mpsc::channel(NEW_SOCKETS_MAX);
            let core = Core::new(
                CoreParts {
                    id: self.id,
                    engine: self.engine,
                    application: self.application.clone(),
                    config: self.config.clone(),
                    metrics: self.metrics.clone(),
                    new_sockets: receiver,
                    idle_hook: self.idle_hook,
                },
                // The ring belongs to the thread that makes it; the probe's is gone.
                Flusher::new(self.flush)?,
            )?;
            let acceptor = Arc::new(Acceptor {
                config: self.config,
                application: self.application,
                languages: self.languages,
                pages: self.pages,
                exposition: self.exposition,
                admission: self.admission,
                metrics: self.metrics,
                new_sockets: sender,
                drain: self.drain,
                refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            });
            for socket in self.sockets {
                tokio::spawn(acceptor.clone().run(Listener::new(socket)?));
            }
            drop(acceptor);
            core.run().await
        })
    }
}

/// How many sockets may wait for the loop. It takes them all in every turn.
const NEW_SOCKETS_MAX: usize = 1024;

/// Waits for every core; the first that ends by itself stops the others.
fn wait_for_all(
    threads: Vec<io::Result<JoinHandle<io::Result<()>>>>,
    stop: &Stop,
) -> Result<(), ServeError> {
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
fn join(core: usize, thread: io::Result<JoinHandle<io::Result<()>>>) -> Result<(), ServeError> {
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
