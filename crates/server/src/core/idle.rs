//! The hook for quiet times: called once after each time in which there was something to do.
//!
//! Nothing wakes a core for it while it works: the timer is set for one moment, and what happened
//! meanwhile only moves the next look. Without a hook nothing is set at all.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::panics;

/// A function that is called when a core has nothing to do.
pub(crate) type IdleHook = Arc<dyn Fn() + Send + Sync>;

/// Time for which nothing must have come: longer than the second after which allocators let go of
/// what was freed, so that the hook finds it due.
const QUIET: Duration = Duration::from_millis(1500);

/// Says that HTTP connections have ended beside the core's loop, on its thread.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    is_new: AtomicBool,
    /// The loop's, which is one task from its first turn to its last.
    core: OnceLock<Waker>,
}

impl Visited {
    /// Notes that an HTTP connection has ended.
    pub(crate) fn note(&self) {
        if !self.is_new.swap(true, Ordering::Relaxed)
            && let Some(core) = self.core.get()
        {
            core.wake_by_ref();
        }
    }

    /// Returns whether one has since the last call; if not, `core` is woken by the next.
    pub(super) fn poll(&self, core: &Waker) -> bool {
        if self.is_new.load(Ordering::Relaxed) {
            self.is_new.store(false, Ordering::Relaxed);
            return true;
        }
        self.core.get_or_init(|| core.clone());
        false
    }
}

/// The detector of a core that has been idle for long enough.
pub(super) struct Idle {
    hook: Option<IdleHook>,
    /// Something came since the last look.
    worked: bool,
    /// When to look next; nothing while the hook has been called for this quiet time.
    look_at: Option<Instant>,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle")
            .field("look_at", &self.look_at)
            .finish_non_exhaustive()
    }
}

impl Idle {
    pub(super) const fn new(hook: Option<IdleHook>) -> Self {
        Self {
            hook,
            worked: false,
            look_at: None,
        }
    }

    /// Notes that something came.
    pub(super) const fn note_work(&mut self) {
        self.worked = true;
    }

    /// Returns the time at which the core must be awake to look, if it must.
    pub(super) fn next_look(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.worked && self.hook.is_some() && self.look_at.is_none() {
            self.look_at = Some(now() + QUIET);
        }
        self.look_at
    }

    /// Calls the hook if its time has come.
    pub(super) fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        self.look_at = None;
        if std::mem::take(&mut self.worked) {
            self.look_at = Some(now + QUIET);
        } else if let Some(hook) = &self.hook {
            // It is called again after the next quiet time.
            _ = panics::catch("the hook for quiet times", None, || hook());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn the_hook_is_called_once_for_each_quiet_time() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let mut idle = Idle::new(Some(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })));
        let start = crate::clock::now();
        let at = |quarters: u32| start + QUIET / 4 * quarters;
        let called = || calls.load(Ordering::Relaxed);

        assert_eq!(idle.next_look(|| at(0)), None, "nothing was done yet");
        idle.note_work();
        assert_eq!(idle.next_look(|| at(0)), Some(at(4)));
        idle.note_work();
        assert_eq!(idle.next_look(|| at(3)), Some(at(4)), "set once");
        idle.look(at(3));
        idle.look(at(4));
        assert_eq!(called(), 0, "it worked in between");
        assert_eq!(idle.next_look(|| at(4)), Some(at(8)));
        idle.look(at(8));
        assert_eq!((called(), idle.next_look(|| at(8))), (1, None));
        idle.look(at(100));
        assert_eq!(called(), 1, "not again in the same quiet time");
        idle.note_work();
        assert_eq!(idle.next_look(|| at(100)), Some(at(104)));
    }

    #[test]
    fn without_a_hook_nothing_is_waited_for() {
        let mut idle = Idle::new(None);
        idle.note_work();
        assert_eq!(idle.next_look(crate::clock::now), None);
    }
}
