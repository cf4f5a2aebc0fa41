//! Panics of the application's functions, which must not end the core that calls them.
//!
//! A core has thousands of connections, and one message that a handler did not expect is no reason
//! to end them all. What the engine itself does wrong still ends the process: nobody knows then
//! what it left behind.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::task::Poll;

use parking_lot::Mutex;
use rooms::ConnectionId;

use crate::clock;
use crate::log_limit::LogLimits;

/// Limits of the log lines about the functions that panic: a peer may make them do so as often as
/// it likes.
static SAID: LazyLock<Mutex<LogLimits>> = LazyLock::new(Mutex::default);

/// A function of the application has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Calls a function of the application; logs it if it panics.
///
/// `what` is which function, for the log. What the function left half done in the application's own
/// state is the application's concern; the engine's is only touched through calls that are whole.
pub(crate) fn catch<R>(
    what: &str,
    connection: Option<ConnectionId>,
    call: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let times = SAID.lock().happened(what, clock::now());
        if let Some(times) = times {
            let connection = connection.map(ConnectionId::as_u64);
            tracing::error!(
                what,
                connection,
                message = text(&*payload),
                times,
                "panicked"
            );
        }
        forget(payload);
        Panicked
    })
}

/// Polls a future of the application to its end; logs it if it panics.
pub(crate) async fn catch_in<F: Future>(what: &str, future: F) -> Result<F::Output, Panicked> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match catch(what, None, || future.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// Returns the text that `panic!` was given, if it was one.
fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(owned)
        .unwrap_or("not a text")
}

/// Drops the payload, whose destructor may panic as well.
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // And so may this one's.
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn whatever_is_thrown_is_caught() {
        assert_eq!(catch("a test", None, || 1), Ok(1));
        assert_eq!(
            catch("a test", None, || panic!("text")),
            Err::<(), _>(Panicked)
        );
        let bomb = || std::panic::panic_any(Bomb);
        assert_eq!(catch("a test", None, bomb), Err::<(), _>(Panicked));
    }

    #[test]
    fn the_text_of_a_panic_is_found() {
        assert_eq!(text(&"borrowed"), "borrowed");
        assert_eq!(text(&"owned".to_owned()), "owned");
        assert_eq!(text(&1), "not a text");
    }
}
