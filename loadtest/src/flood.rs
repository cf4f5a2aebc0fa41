//! Clients that send as fast as the socket takes it, whatever the server makes of that.
//!
//! Each is a thread of its own with a blocking socket, beside the driver, whose members measure what the
//! flood does to others. Flooders have the least priority: on a CPU that they share with the driver they
//! take what it leaves.
//!
//! A connection that the server ends is opened again at once: how often, and how it ended, are figures.

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

/// Flooders that run until they are told to end, or dropped.
#[derive(Debug)]
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Flood {
    /// Starts so many flooders of a kind; none if the wire has no words for that kind.
    pub(crate) fn start(target: &Target, kind: Kind, flooders: u32, reads: bool) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let run = fastrand::u32(..);
        let flooder = |number| {
            let room = format!("flood-{run:08x}-{number}");
            Some(Flooder {
                join: (kind == Kind::Room)
                    .then(|| target.wire.join.message(&room))
                    .flatten(),
                bytes: kind.bytes(&target.wire, &room)?,
                target: target.clone(),
                reads,
                stop: Arc::clone(&stop),
            })
        };
        let flooders: Option<Vec<Flooder>> = (0..flooders).map(flooder).collect();
        let start = |flooder: Flooder| thread::spawn(move || flooder.run());
        Some(Self {
            threads: flooders?.into_iter().map(start).collect(),
            stop,
        })
    }

    /// Ends all flooders; returns what each of them did.
    pub(crate) fn end(mut self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads).into_iter();
        let joined = threads.map(JoinHandle::join);
        joined
            .map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // After a failure nobody asks for the figures; each looks at this ten times a second.
        self.stop.store(true, Ordering::Relaxed);
    }
}
