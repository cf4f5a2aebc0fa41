//! What a client of throng.v1 does on a network that fails, written from docs/protocol.md alone.
//!
//! It comes back with full jitter, joins its rooms again from where it was, sends again what was not
//! acknowledged, and gives up connections on which nothing is heard. What it was given it
//! [records](crate::record).
//!
//! [`Session`] is all of that but the sockets, and [`Client`] is the task that has them.

mod backoff;
mod connection;
mod membership;
mod outbox;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use backoff::{Backoff, Pauses, Return, after_close};
pub use outbox::PUBLICATIONS_MAX;
pub use session::{Session, Task};

pub(crate) use connection::{Ended, connect, heard, say_goodbye};

use crate::record::{Record, SharedRecord};

/// How a client connects, and how patient it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to connect: to the server, or to the network before it.
    pub address: SocketAddr,
    /// How long it waits before it comes back.
    pub pauses: Pauses,
    /// After how much silence it asks whether anybody is there.
    pub keepalive: Duration,
    /// How long that may take to be answered, and an attempt to connect up to the greeting.
    pub patience: Duration,
    /// Decides its pauses.
    pub seed: u64,
    /// Is notified of everything that the client hears.
    pub progress: Arc<Notify>,
}

/// A client on its own task. It ends when dropped.
#[derive(Debug)]
pub struct Client {
    session: Arc<Mutex<Session>>,
    record: SharedRecord,
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts a client.
    pub fn start(task: Task, options: Options) -> Self {
        let record = Arc::new(Mutex::new(Record::of(&task.rooms)));
        let session = Arc::new(Mutex::new(Session::new(task, record.clone())));
        let wake = Arc::new(Notify::new());
        let life = connection::Life::new(options, session.clone(), record.clone(), wake.clone());
        Self {
            session,
            record,
            wake,
            task: tokio::spawn(life.run()),
        }
    }

    /// Publishes to a room that it is in; false if too much waits to be acknowledged.
    pub fn publish(&self, room: u32) -> bool {
        let is_taken = self.session.lock().publish(room);
        self.wake.notify_one();
        is_taken
    }

    /// What it was given and told so far.
    pub const fn record(&self) -> &SharedRecord {
        &self.record
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
