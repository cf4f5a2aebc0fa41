//! The configuration of a server that runs, and changing it.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rooms::CoreId;

use crate::accept::admission::Admission;
use crate::accept::descriptors;
use crate::app::question::Question;
use crate::config::Config;
use crate::engine::Engine;

/// The configuration in force. Read once for a handshake; each core has a copy of its own, and
/// reads nothing shared for a message.
#[derive(Debug)]
pub(crate) struct Live(RwLock<Arc<Config>>);

impl Live {
    pub(crate) fn new(config: Config) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    /// Returns the configuration in force now.
    pub(crate) fn get(&self) -> Arc<Config> {
        self.0.read().clone()
    }
}

/// Changes the configuration of a server, from any thread, while it serves. Cheap to clone.
///
/// Made by [`Server::handle`](crate::Server::handle).
///
/// # Examples
///
/// ```
/// use throng::{Config, Limits, Server};
///
/// let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
/// let server = Server::bind(config.clone())?;
/// let handle = server.handle();
/// // In a thread of its own: server.serve(router)?;
///
/// let limits = Limits { connections_max: 1000.into(), ..config.limits };
/// let changed = Config { limits, cores: 2, ..config };
/// assert_eq!(handle.reload(&changed), ["cores"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    live: Arc<Live>,
    engine: Arc<Engine>,
    admission: Arc<Admission>,
    core_count: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) const fn new(
        live: Arc<Live>,
        engine: Arc<Engine>,
        admission: Arc<Admission>,
        core_count: usize,
    ) -> Self {
        Self {
            live,
            engine,
            admission,
            core_count,
        }
    }

    /// Takes over what a running server can change: [`origins`](Config::origins),
    /// [`limits`](Config::limits), [`drain`](Config::drain), and [`classes`](Config::classes) for
    /// rooms that are made from now on. Returns the names of the fields that are otherwise and
    /// need a restart, as [`Config::needs_restart`] does; they stay as they are.
    ///
    /// Nobody is closed for a lower limit: connections that are open, rooms that they are in and
    /// what is queued for them stay. What clients were told of limits when they connected stays as
    /// well. Where [`connections_per_ip_max`](crate::Limits::connections_per_ip_max) was 0,
    /// connections from before are not counted. Rooms keep the class that they were made with
    /// until they end.
    ///
    /// Does not wait. Each core changes over between two of its turns.
    pub fn reload(&self, config: &Config) -> Vec<&'static str> {
        // Whoever reloads at the same time waits, so that all have the same in the end.
        let mut current = self.live.0.write();
        let needs_restart = current.needs_restart(config);
        let new = Arc::new(current.with_live_part_of(config));
        let connections_max = descriptors::connections_max(&new.limits, self.core_count);
        self.admission.set_limits(&new.limits, connections_max);
        let table = &self.engine.table;
        table.set_name_len_max(new.limits.room_name_bytes_max);
        table.set_mailbox_bytes_max(new.limits.mailbox_bytes_full());
        table.set_classes(new.classes.clone());
        for core in (0..=u8::MAX).map(CoreId).take(self.core_count) {
            // One command; whether the mailbox is full by now is nothing to this thread.
            _ = table.ask(core, Box::new(Question::Reload(new.clone())));
        }
        *current = new;
        needs_restart
    }
}
