//! What the threads of one run know of each other: how much was published on each stream, what a
//! thread has settled of another's publications, and whether all are to stop.
//!
//! Nothing here is on the way of a delivery: a thread looks at the count of a stream when it
//! receives a number that it has not heard of, and at its mailbox once a turn. In a run of one
//! thread there are no counts, and nobody posts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use mio::{Registry, Token, Waker};
use parking_lot::Mutex;

use crate::plan::{Plan, StreamId};

/// What is common to all threads.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    interrupted: &'a AtomicBool,
    failed: AtomicBool,
    counts: Arc<[StreamCount]>,
    mailboxes: Box<[Mailbox]>,
    connections: u64,
    disconnected: AtomicU64,
    /// When a delivery was last seen by any thread, in nanoseconds of the run.
    progress_ns: AtomicU64,
    /// How many threads still wait for what is theirs.
    waiting: AtomicUsize,
}

/// How far a stream is, for the threads that have members of its room and not its publisher.
#[derive(Debug, Default)]
pub(crate) struct StreamCount {
    published: AtomicU32,
    /// Publications with lower numbers are not waited for any more.
    given_up_before: AtomicU32,
}

/// What a thread tells the one that publishes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All its members have settled everything from this number on, for there are none any more.
    All { stream: StreamId, from: u32 },
    /// All its members have settled this publication.
    One {
        stream: StreamId,
        number: u32,
        /// None if one of them did not receive it in order.
        reached: Option<Reached>,
    },
}

/// A publication that all members of a thread received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// When it should have gone out.
    pub(crate) due_ns: u64,
    /// When the last of them had it.
    pub(crate) last_ns: u64,
}

/// What other threads have told one.
///
/// It holds at most what is under way, once for each thread that has members: nobody settles a
/// publication twice.
#[derive(Debug, Default)]
struct Mailbox {
    settled: Mutex<Vec<Settled>>,
    waker: Mutex<Option<Waker>>,
}

impl StreamCount {
    /// Says that there is one more publication.
    pub(crate) fn publish(&self, published: u32) {
        self.published.store(published, Ordering::Release);
    }

    /// Returns how many publications there are, of which some may not have gone out yet.
    pub(crate) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// Says that nothing published so far is waited for any longer.
    pub(crate) fn give_up_before(&self, number: u32) {
        self.given_up_before.store(number, Ordering::Release);
    }

    /// Returns the number below which nothing is waited for.
    pub(crate) fn given_up_before(&self) -> u32 {
        self.given_up_before.load(Ordering::Acquire)
    }
}

impl<'a> Shared<'a> {
    /// Makes what a run of these parts has in common.
    pub(crate) fn new(parts: &[Plan], interrupted: &'a AtomicBool) -> Self {
        let streams = match parts {
            [_] | [] => 0,
            [part, ..] => part.streams.len(),
        };
        Self {
            interrupted,
            failed: AtomicBool::new(false),
            counts: (0..streams).map(|_| StreamCount::default()).collect(),
            mailboxes: parts.iter().map(|_| Mailbox::default()).collect(),
            connections: parts.iter().map(|part| u64::from(part.connections())).sum(),
            disconnected: AtomicU64::new(0),
            progress_ns: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Forgets everything but Ctrl-C, for drivers that begin anew. None of the old may be there.
    pub(crate) fn begin_anew(&self) {
        for count in self.counts.iter() {
            count.publish(0);
            count.give_up_before(0);
        }
        for mailbox in &self.mailboxes {
            mailbox.settled.lock().clear();
            *mailbox.waker.lock() = None;
        }
        self.disconnected.store(0, Ordering::Relaxed);
    }

    /// Returns how many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.mailboxes.len()
    }

    /// Returns the streams' counts; none with one thread.
    pub(crate) fn counts(&self) -> Arc<[StreamCount]> {
        Arc::clone(&self.counts)
    }

    /// Returns whether Ctrl-C was pressed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Returns whether no thread needs to go on.
    pub(crate) fn must_stop(&self) -> bool {
        self.is_interrupted() || self.has_failed()
    }

    /// Returns whether a thread cannot go on.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes that a thread cannot go on, so that the others need not.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Gives a thread a mailbox; this token says that something is in it.
    pub(crate) fn open_mailbox(
        &self,
        thread: usize,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        if self.threads() > 1 {
            let waker = Waker::new(registry, token)?;
            *self.mailboxes[thread].waker.lock() = Some(waker);
        }
        Ok(())
    }

    /// Tells another thread what was settled, in the order in which it was.
    pub(crate) fn post(&self, thread: usize, settled: &mut Vec<Settled>) -> io::Result<()> {
        let mailbox = &self.mailboxes[thread];
        mailbox.settled.lock().append(settled);
        let waker = mailbox.waker.lock();
        waker.as_ref().map_or(Ok(()), Waker::wake)
    }

    /// Takes what others told this thread, in exchange for an empty list.
    pub(crate) fn receive(&self, thread: usize, into: &mut Vec<Settled>) {
        std::mem::swap(&mut *self.mailboxes[thread].settled.lock(), into);
    }

    /// Notes that some thread had a delivery.
    pub(crate) fn note_progress(&self, now_ns: u64) {
        self.progress_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// Returns when any thread last had a delivery.
    pub(crate) fn progress_ns(&self) -> u64 {
        self.progress_ns.load(Ordering::Relaxed)
    }

    /// Notes that the server has ended one more connection.
    pub(crate) fn note_disconnect(&self) {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many connections the server has ended, if that is all of them.
    pub(crate) fn all_disconnected(&self) -> Option<u64> {
        let disconnected = self.disconnected.load(Ordering::Relaxed);
        (disconnected >= self.connections).then_some(disconnected)
    }

    /// Lets all threads wait, each for what is its own.
    pub(crate) fn begin_waiting(&self) {
        self.waiting.store(self.threads(), Ordering::Release);
    }

    /// Notes that a thread has what it waited for; it goes on for the others.
    pub(crate) fn note_done(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns whether no thread waits any more.
    pub(crate) fn are_all_done(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }
}
