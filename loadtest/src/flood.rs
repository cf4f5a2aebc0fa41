//! Clients that send as fast as the socket takes it, whatever the server makes of that.
//!
//! Each is a thread of its own with a blocking socket, beside the driver, whose members measure
//! what the flood does to others. Flooders have the least priority: on a CPU that they share with
//! the driver they take what it leaves.
//!
//! A connection that the server ends is opened again at once: how often, and how it ended, are
//! figures.

mod flooder;
mod kind;
pub(crate) mod visitor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use self::flooder::Flooder;
pub(crate) use self::kind::Kind;
use crate::tally::Counts;
use crate::target::Target;

/// What one flooder did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Bytes that left this end and, as far as its kernel says, were read by the server.
    pub(crate) taken_bytes: u64,
    /// How often it was connected.
    pub(crate) connections: u64,
    /// Connections that did not open or that the server ended, by how.
    pub(crate) ended: Counts,
}

/// Starts so many flooders of a kind; none if the wire has no words for that kind.
pub(crate) fn start(
    target: &Target,
    kind: Kind,
    flooders: u32,
    reads: bool,
) -> Option<Vec<Background<Tally>>> {
    let run = fastrand::u32(..);
    let flooder = |number| {
        let room = format!("flood-{run:08x}-{number}");
        let join = target.wire.join.message(&room);
        let flooder = Flooder {
            join: join.filter(|_| kind == Kind::Room),
            bytes: kind.bytes(&target.wire, &room)?,
            target: target.clone(),
            reads,
        };
        Some(Background::start(move |stop| flooder.run(stop)))
    };
    (0..flooders).map(flooder).collect()
}

/// A thread that works until it is told to end, or dropped.
#[derive(Debug)]
pub(crate) struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Background<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || work(&stopped)));
        Self { stop, thread }
    }

    /// Tells it to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end; returns what it did.
    pub(crate) fn end(mut self) -> T {
        self.stop();
        let thread = self.thread.take().expect("only the end takes it");
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        // After a failure nobody asks for the figures; each looks at this ten times a second.
        self.stop.store(true, Ordering::Relaxed);
    }
}
