//! Holding up a core, to decide what it finds when it goes on.

use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use throng::{Connection, Router};

use super::client::Client;
use super::time::TIMEOUT;

/// Holds up a core in the handler of an event, which a handler must never do outside tests.
pub struct Gate {
    /// A core is held up.
    held: Receiver<()>,
    release: Sender<()>,
}

impl Gate {
    /// Adds the event.
    pub fn add_to(router: &mut Router) -> Self {
        let (is_held, held) = channel();
        let (release, released) = channel();
        let released = Mutex::new(released);
        router.on("hold", move |_: &Connection| {
            _ = is_held.send(());
            _ = released.lock().recv_timeout(TIMEOUT);
        });
        Self { held, release }
    }

    /// Holds up the core of this client; returns when it stands still.
    pub fn hold_core_of(&self, client: &mut Client) {
        client.send("hold");
        self.held.recv_timeout(TIMEOUT).unwrap();
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.release.send(()).unwrap();
    }
}
