//! What HTTP may take of a core's time between two turns of its loop.
//!
//! Handshakes, pages and the application's service are tasks of the core's runtime, which runs all
//! that are ready before the loop has its next turn. However many those are, they share a
//! millisecond.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;

use crate::clock;

/// Time that all tasks of a core may take between two turns, in whole steps.
const SHARE: Duration = Duration::from_millis(1);

thread_local! {
    static USED: Cell<Used> = const { Cell::new(Used { turn: 0, time: Duration::ZERO }) };
}

/// The time that was used since a turn.
#[derive(Clone, Copy)]
struct Used {
    turn: u64,
    time: Duration,
}

impl Used {
    fn is_all(self) -> bool {
        self.time >= SHARE
    }
}

/// A task that waits for the loop to have a turn, and the turn that it had when the wait began.
type Pause = (u64, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Takes note that the loop of this thread's core has had a turn.
pub(crate) fn note_turn() {
    let used = USED.get();
    if used.time > Duration::ZERO {
        begin(used.turn.wrapping_add(1));
    }
}

fn begin(turn: u64) {
    let time = Duration::ZERO;
    USED.set(Used { turn, time });
}

/// Does some work of a task, and lets the core's loop have a turn whenever the share is used up.
///
/// # Cancel safety
///
/// As that of the work.
pub(crate) async fn between_turns<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let mut pause = None::<Pause>;
    poll_fn(|cx| {
        while pause.is_some() || USED.get().is_all() {
            let turn = USED.get().turn;
            let (since, yielded) = pause.get_or_insert_with(|| (turn, Box::pin(yield_now())));
            if yielded.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if *since == turn {
                // Everybody who was ready has run since, and the loop was not: it has nothing to
                // do.
                begin(turn.wrapping_add(1));
            }
            pause = None;
        }
        let began = clock::now();
        let polled = work.as_mut().poll(cx);
        let Used { turn, time } = USED.get();
        let time = time + clock::now().saturating_duration_since(began);
        USED.set(Used { turn, time });
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[test]
    fn however_many_tasks_are_ready_the_loop_has_its_turns_between_their_shares() {
        let in_a_row = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime can be had").block_on(async {
            for _ in 0..100 {
                let (in_a_row, most) = (in_a_row.clone(), most.clone());
                tokio::spawn(between_turns(async move {
                    loop {
                        use_up_a_share();
                        most.fetch_max(in_a_row.fetch_add(1, Relaxed) + 1, Relaxed);
                        yield_now().await;
                    }
                }));
            }
            for _ in 0..100 {
                note_turn();
                in_a_row.store(0, Relaxed);
                yield_now().await;
            }
        });
        let most = most.load(Relaxed);
        assert!((1..=2).contains(&most), "{most} shares in a row");
    }

    #[test]
    fn while_the_loop_has_nothing_to_do_tasks_go_on_without_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let work = between_turns(async {
            for _ in 0..5 {
                use_up_a_share();
                yield_now().await;
            }
        });
        runtime.expect("a runtime can be had").block_on(work);
    }

    fn use_up_a_share() {
        let end = clock::now() + SHARE;
        while clock::now() < end {
            std::hint::spin_loop();
        }
    }
}
