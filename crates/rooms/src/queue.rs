//! A queue from many threads to one, bounded by backpressure on its producers.

use std::task::Waker;

use smallvec::SmallVec;

use crate::backpressure::{Backpressure, Full};
use crate::id::CoreId;
use crate::sync::Mutex;

/// Something that counts against the bound of a queue.
pub trait Weigh {
    /// Returns the bytes that it keeps alive.
    fn cost(&self) -> usize;
}

/// Items from many threads to one, in the order they were pushed.
///
/// Bounded in bytes and in time by *backpressure*, not by rejection. [`push`](Self::push) takes
/// every item and says whether the queue is full: it is over its bound of bytes, or its owner is
/// [late](Self::set_late) with what it has taken. The server then stops reading from the connection
/// that caused the push until the queue has been drained, so the queue exceeds its bound by at most
/// one message for each connection. Callers without a socket to stop reading from ask first
/// ([`RoomTable::check_pressure`](crate::RoomTable::check_pressure)) and are rejected.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    pending_bytes: usize,
    pending_bytes_max: usize,
    /// The bytes from which on it is full: the bound, or none while the owner is late.
    full_bytes: usize,
    /// The owner, while it waits for something.
    owner: Option<Waker>,
    /// The producers that wait for the queue to be drained.
    stalled: SmallVec<[Waker; 2]>,
}

impl<T> Inner<T> {
    const fn is_over_bound(&self) -> bool {
        self.pending_bytes >= self.pending_bytes_max
    }

    const fn is_full(&self) -> bool {
        self.pending_bytes >= self.full_bytes
    }

    /// Returns whether the owner is late. A bound of nothing is full for ever all the same.
    const fn is_late(&self) -> bool {
        self.full_bytes != self.pending_bytes_max
    }

    const fn set_bound(&mut self, pending_bytes_max: usize, late: bool) {
        self.pending_bytes_max = pending_bytes_max;
        self.full_bytes = if late { 0 } else { pending_bytes_max };
    }

    /// Takes the producers that wait, unless they must go on waiting.
    fn take_stalled(&mut self) -> SmallVec<[Waker; 2]> {
        if self.is_full() {
            return SmallVec::new();
        }
        std::mem::take(&mut self.stalled)
    }
}

/// The outcome of a push. Wake the owner when no lock is held.
#[derive(Debug)]
#[must_use = "the owner sleeps until it is woken"]
pub struct Pushed {
    owner: Option<Waker>,
    /// True if the queue is full: stop reading from whoever caused this.
    pub full: bool,
}

impl Pushed {
    /// Wakes the owner, if it waits; returns the backpressure of `core`, the owner.
    pub fn wake(self, core: CoreId) -> Backpressure {
        let full = self.full;
        self.wake_quietly();
        Backpressure(full.then_some(Full::Core(core)))
    }

    /// Returns whether the owner waits.
    pub(crate) const fn wakes(&self) -> bool {
        self.owner.is_some()
    }

    /// Wakes the owner, if it waits.
    pub fn wake_quietly(self) {
        if let Some(owner) = self.owner {
            owner.wake();
        }
    }

    /// Wakes the owner, if it waits, where many are woken.
    #[inline]
    pub(crate) fn wake_owner(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }
}

impl<T: Weigh> Queue<T> {
    /// Creates an empty queue that is full from `pending_bytes_max` bytes on.
    pub fn new(pending_bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: Vec::new(),
                pending_bytes: 0,
                pending_bytes_max,
                full_bytes: pending_bytes_max,
                owner: None,
                stalled: SmallVec::new(),
            }),
        }
    }

    /// Sets the bytes from which on it is full. Producers that wait go on when it is drained, as
    /// before.
    pub(crate) fn set_pending_bytes_max(&self, pending_bytes_max: usize) {
        let mut inner = self.inner.lock();
        let late = inner.is_late();
        inner.set_bound(pending_bytes_max, late);
    }

    /// Appends an item.
    pub fn push(&self, item: T) -> Pushed {
        let mut inner = self.inner.lock();
        inner.pending_bytes += item.cost();
        inner.items.push(item);
        Pushed {
            owner: inner.owner.take(),
            full: inner.is_full(),
        }
    }

    /// Moves all items into `into`, which must be empty and whose memory is used for the next
    /// items. Only the owner calls this.
    pub fn drain(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        let stalled = {
            let mut inner = self.inner.lock();
            std::mem::swap(&mut inner.items, into);
            inner.pending_bytes = 0;
            inner.take_stalled()
        };
        stalled.into_iter().for_each(Waker::wake);
    }

    /// Sets whether the owner is late: it has not done in time what it has taken. Bytes say little
    /// about time, because one command may mean work for thousands of members. Only the owner calls
    /// this.
    pub fn set_late(&self, late: bool) {
        let stalled = {
            let mut inner = self.inner.lock();
            let pending_bytes_max = inner.pending_bytes_max;
            inner.set_bound(pending_bytes_max, late);
            inner.take_stalled()
        };
        stalled.into_iter().for_each(Waker::wake);
    }

    /// Returns whether the queue has items; if not, the next push wakes `owner`.
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

    /// Returns whether the queue is over its bound of bytes.
    pub fn is_over_bound(&self) -> bool {
        self.inner.lock().is_over_bound()
    }

    /// Returns whether the queue is full.
    pub fn is_full(&self) -> bool {
        self.inner.lock().is_full()
    }

    /// Returns whether the queue is full; if so, `stalled` is woken when it has been drained.
    pub fn poll_full(&self, stalled: &Waker) -> bool {
        let mut inner = self.inner.lock();
        let full = inner.is_full();
        if full && !inner.stalled.iter().any(|waker| waker.will_wake(stalled)) {
            inner.stalled.push(stalled.clone());
        }
        full
    }

    /// Returns the bytes of all items that were not taken.
    pub fn pending_bytes(&self) -> usize {
        self.inner.lock().pending_bytes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    impl Weigh for () {
        fn cost(&self) -> usize {
            1
        }
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_queue_is_full_while_its_owner_is_late_and_says_so_when_that_ends() {
        let queue = Queue::new(100);
        let counter = Arc::new(Counter::default());
        let stalled = Waker::from(counter.clone());
        let woken = || counter.0.load(Ordering::Relaxed);
        assert!(!queue.push(()).full);

        queue.set_late(true);
        assert!(queue.push(()).full && queue.is_full() && !queue.is_over_bound());
        assert!(queue.poll_full(&stalled));
        queue.drain(&mut Vec::new());
        assert!(
            queue.is_full() && woken() == 0,
            "it was taken, and is not done"
        );

        queue.set_late(false);
        assert!(!queue.is_full() && woken() == 1);
        assert!(!queue.push(()).full);
    }
}
