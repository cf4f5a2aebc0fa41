//! Queues over their bound, and the producers that should pause for them.

use crate::id::CoreId;

/// A queue that is over its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The mailbox of a core.
    Core(CoreId),
    /// The journal's queue.
    Journal,
}

/// The full queue that an operation met, if it met one.
///
/// Whoever caused the operation should not be read from until that queue has been drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure(pub Option<Full>);
