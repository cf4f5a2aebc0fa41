//! A queue from many threads to one, bounded by holding back whoever pushes too much.

use std::task::Waker;

use smallvec::SmallVec;

use crate::id::CoreId;
use crate::sync::Mutex;
use crate::table::{Backpressure, Full};

/// What counts against the bound of a queue.
pub trait Weigh {
    /// What it counts for, in bytes: what it keeps alive.
    fn cost(&self) -> usize;
}

/// What many threads ask of one, in the order it was pushed.
///
/// Bounded in bytes by *backpressure*, not by refusal: [`push`](Self::push) always takes what is
/// pushed and says whether the queue is now over its bound. A connection that got this answer
/// is not read from until the queue has been drained, so what lies above the bound is at most
/// one message a connection. Callers that have no socket to stop reading from ask first
/// ([`RoomTable::check_pressure`](crate::RoomTable::check_pressure)) and are refused.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    pending_bytes: usize,
    pending_bytes_max: usize,
    /// The owner, while it waits for something.
    owner: Option<Waker>,
    /// Those who wait for the queue to be drained.
    stalled: SmallVec<[Waker; 2]>,
}

impl<T> Inner<T> {
    const fn is_full(&self) -> bool {
        self.pending_bytes >= self.pending_bytes_max
    }
}

/// What came of a push. Wake when no lock is held.
#[derive(Debug)]
#[must_use = "the owner sleeps until it is woken"]
pub struct Pushed {
    owner: Option<Waker>,
    /// The queue is over its bound: stop reading from whoever caused this.
    pub full: bool,
}

impl Pushed {
    /// Wakes the owner, if it waits, and says whether `core`, the owner, has too much to do.
    pub fn wake(self, core: CoreId) -> Backpressure {
        let full = self.full;
        self.wake_quietly();
        Backpressure(full.then_some(Full::Core(core)))
    }

    /// Whether the owner waits.
    pub(crate) const fn wakes(&self) -> bool {
        self.owner.is_some()
    }

    /// Wakes the owner, if it waits.
    pub fn wake_quietly(self) {
        if let Some(owner) = self.owner {
            owner.wake();
        }
    }

    /// The same, where many are woken.
    #[inline]
    pub(crate) fn wake_owner(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }
}

impl<T: Weigh> Queue<T> {
    /// An empty queue that is full from `pending_bytes_max` bytes on.
    pub fn new(pending_bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: Vec::new(),
                pending_bytes: 0,
                pending_bytes_max,
                owner: None,
                stalled: SmallVec::new(),
            }),
        }
    }

    /// Sets from how many bytes on it is full. Whoever is held back goes on when it is drained, as
    /// before.
    pub(crate) fn set_pending_bytes_max(&self, pending_bytes_max: usize) {
        self.inner.lock().pending_bytes_max = pending_bytes_max;
    }

    /// Appends something.
    pub fn push(&self, item: T) -> Pushed {
        let mut inner = self.inner.lock();
        inner.pending_bytes += item.cost();
        inner.items.push(item);
        Pushed {
            owner: inner.owner.take(),
            full: inner.is_full(),
        }
    }

    /// Moves all of it into `into`, which must be empty and whose memory is used for the next
    /// ones. Only the owner calls this.
    pub fn drain(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        let stalled = {
            let mut inner = self.inner.lock();
            std::mem::swap(&mut inner.items, into);
            inner.pending_bytes = 0;
            std::mem::take(&mut inner.stalled)
        };
        for waker in stalled {
            waker.wake();
        }
    }

    /// Whether something is there; if not, `owner` is woken by the next push.
    pub fn poll_ready(&self, owner: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if !inner.items.is_empty() {
            return true;
        }
        inner.owner = Some(owner.clone());
        false
    }

    /// Forgets the waker of [`poll_ready`](Self::poll_ready): the owner is up and will drain the
    /// queue anyway, so waking it for what it asks of itself would be a turn for nothing.
    pub fn awake(&self) {
        self.inner.lock().owner = None;
    }

    /// Whether the queue is over its bound.
    pub fn is_full(&self) -> bool {
        self.inner.lock().is_full()
    }

    /// Whether the queue is over its bound; if so, `stalled` is woken when it has been drained.
    pub fn poll_full(&self, stalled: &Waker) -> bool {
        let mut inner = self.inner.lock();
        let full = inner.is_full();
        if full && !inner.stalled.iter().any(|waker| waker.will_wake(stalled)) {
            inner.stalled.push(stalled.clone());
        }
        full
    }

    /// What was not taken counts for, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.inner.lock().pending_bytes
    }
}
