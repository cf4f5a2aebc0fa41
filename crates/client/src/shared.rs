//! What the handles of a connection share with its task.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::session::Session;
use crate::status::Status;

/// The state that handles and the task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) session: Mutex<Session>,
    /// There may be something to send.
    pub(crate) wake: Notify,
    /// The application does not want to wait.
    pub(crate) reconnect: Notify,
    /// The application has closed the connection.
    pub(crate) over: Notify,
}

impl Shared {
    /// Waits until the application has closed the connection.
    ///
    /// # Cancel safety
    ///
    /// Safe. Only one may wait.
    pub(crate) async fn over(&self) {
        while !self.session.lock().is_over() {
            self.over.notified().await;
        }
    }

    pub(crate) fn end(&self) {
        self.session.lock().end();
        self.over.notify_one();
        self.wake.notify_one();
    }
}

/// The inside of every handle. The connection ends with the last of them.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: watch::Receiver<Status>,
}

impl std::ops::Deref for Inner {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.end();
    }
}
