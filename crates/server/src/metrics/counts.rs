//! The counters.
//!
//! Each core writes its own counters and nobody else does, so a count is a plain load and store:
//! no locked instruction on the hot path. Readers see each counter whole, and the sum a moment old.

use std::sync::atomic::{AtomicU64, Ordering};

use super::survey::Asked;
use crate::app::refusal::RefusalCode;
use crate::code::Code;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds to the number. Only the owning core calls this.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    /// Adds one, from any thread: for what is rare, as it costs a locked instruction.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number. Only the owning core calls this.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the number.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one core.
#[derive(Debug, Default)]
pub(crate) struct CoreMetrics {
    pub(crate) connections: Count,
    pub(crate) connections_opened: Count,
    pub(crate) memberships: Count,
    pub(crate) deliveries: Count,
    pub(crate) skipped: Count,
    pub(crate) ephemeral_dropped: Count,
    pub(crate) replayed: Count,
    pub(crate) messages_in: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    pub(crate) flushes: Count,
    pub(crate) turns: Count,
    /// Turns that have left commands or fan-outs to the next one.
    pub(crate) late_turns: Count,
    /// Times that a connection has used up what it may take of a turn.
    pub(crate) slices_used_up: Count,
    pub(crate) handlers: Count,
    pub(crate) pings: Count,
    pub(crate) stalls: Count,
    pub(crate) closed: Closed,
    pub(crate) refused: RefusedCounts,
    pub(crate) errors: ErrorCounts,
    pub(crate) system_calls: SystemCalls,
    /// The scrapers that want to know what is queued for the core's connections.
    pub(crate) asked: Asked,
}

/// Declares a struct of counters with a label for each.
macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: Count,)+
        }

        impl $name {
            pub(super) fn labels() -> &'static [&'static str] {
                &[$(stringify!($field)),+]
            }

            pub(super) fn values(&self) -> Vec<u64> {
                vec![$(self.$field.get()),+]
            }
        }
    };
}

labelled! {
    /// Connections that ended, by why.
    Closed {
        by_peer,
        by_application,
        drained,
        idle,
        keepalive,
        lost,
        panicked,
        protocol_error,
        slow_consumer,
    }
}

labelled! {
    /// Requests that were refused at a limit.
    RefusedCounts {
        application,
        bad_handshake,
        connections,
        connections_per_ip,
        evicted,
        fallback_connections,
        handshake_timeout,
        handshakes,
        host,
        open_files,
        origin,
        stopping,
        undeliverable,
    }
}

/// `error` events sent, by their code; the last counts all codes of the application's own.
#[derive(Debug, Default)]
pub(crate) struct ErrorCounts([Count; Code::ALL.len() + 1]);

impl ErrorCounts {
    /// Returns the counter for a code.
    pub(crate) fn of(&self, code: RefusalCode) -> &Count {
        let index = code.engine().map_or(Code::ALL.len(), |code| code as usize);
        &self.0[index]
    }

    pub(super) const fn labels() -> &'static [&'static str] {
        const LABELS: [&str; Code::ALL.len() + 1] = {
            let mut labels = ["refused"; Code::ALL.len() + 1];
            let mut index = 0;
            while index < Code::ALL.len() {
                labels[index] = Code::ALL[index].as_str();
                index += 1;
            }
            labels
        };
        &LABELS
    }

    pub(super) fn values(&self) -> Vec<u64> {
        self.0.iter().map(Count::get).collect()
    }
}

labelled! {
    /// System calls of the core loop.
    SystemCalls { epoll_wait, io_uring_enter, recv, send }
}
