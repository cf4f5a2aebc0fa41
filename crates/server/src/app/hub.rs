//! All connections.

use std::sync::Arc;

use rooms::Overloaded;
use serde::Serialize;

use crate::app::connection::Connection;
use crate::app::error::EmitError;
use crate::app::question;
use crate::engine::Engine;
use crate::metrics::CoreMetrics;

/// All connections of a server, whatever rooms they are in. Cheap to clone, usable from any thread.
/// Made by [`Server::hub`](crate::Server::hub).
#[derive(Clone, Debug)]
pub struct Hub {
    engine: Arc<Engine>,
    cores: Arc<[Arc<CoreMetrics>]>,
}

impl Hub {
    pub(crate) const fn new(engine: Arc<Engine>, cores: Arc<[Arc<CoreMetrics>]>) -> Self {
        Self { engine, cores }
    }

    /// Sends an event to every connection. Does not wait.
    ///
    /// What one thread broadcasts arrives in its order, and in its place among what the thread
    /// sends to rooms and to single connections. Two threads' broadcasts may come in one order here
    /// and in the other there. Costs one encoding for each protocol that is served.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn broadcast<T>(&self, event: &str, data: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.engine.check_event(event)?;
        self.engine.broadcast(event, data)
    }

    /// Returns the number of connections, as of each core's last turn.
    pub fn connection_count(&self) -> u64 {
        self.cores.iter().map(|core| core.connections.get()).sum()
    }

    /// Returns every connection, with what the application keeps for it. Asks all cores, and takes
    /// memory for all of them.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers.
    ///
    /// # Panics
    ///
    /// If `S` is not what the [router](crate::Router) keeps for each connection.
    ///
    /// # Cancel safety
    ///
    /// What the cores answer then goes nowhere.
    pub async fn connections<S>(&self) -> Result<Vec<Connection<S>>, Overloaded>
    where
        S: Send + Sync + 'static,
    {
        let answers = question::all(&self.engine, self.cores.len())?;
        Ok(question::connections(&self.engine, answers).await)
    }
}
