//! A server that runs: what stops it, and how it ends.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;

use rooms::RoomTable;
use thiserror::Error;
use tokio::sync::watch;

/// A server that ended otherwise than by [`Stop::drain`].
#[derive(Debug, Error)]
pub enum ServeError {
    /// The operating system refused what a core cannot do without.
    #[error("core {core} ended")]
    Core {
        /// Which core.
        core: usize,
        /// The reason for the refusal.
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
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) table: Arc<RoomTable>,
}

impl Stop {
    /// Stops accepting, sends what is queued, closes every connection as [`Drain`](crate::Drain)
    /// says, with 1001 or on throng.v1 with 4100, and lets
    /// [`Server::serve`](crate::Server::serve) return: when all are closed, or after the drain
    /// timeout. Does not wait.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.table.drain();
    }
}

/// A server that runs mounted in another; see [`Server::mount`](crate::Server::mount).
///
/// Dropping it ends nothing: the server goes on until it is [stopped](Self::stop).
#[derive(Debug)]
pub struct Running {
    ended: JoinHandle<Result<(), ServeError>>,
    stop: Stop,
}

impl Running {
    pub(crate) const fn new(ended: JoinHandle<Result<(), ServeError>>, stop: Stop) -> Self {
        Self { ended, stop }
    }

    /// Returns the handle that stops the server. The other server's own end is its own: stop this
    /// one first, so that clients are told when to come back.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until the server has ended. Blocks this thread: on a runtime's, use its
    /// `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if a core ended by itself; the others have been stopped.
    ///
    /// # Panics
    ///
    /// If the thread that waits for the cores has panicked, which it does not.
    pub fn join(self) -> Result<(), ServeError> {
        self.ended
            .join()
            .unwrap_or_else(|payload| resume_unwind(payload))
    }
}
