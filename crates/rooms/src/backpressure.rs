//! Queues over their bound, and who should be held back for it.

use crate::id::CoreId;

/// A queue that is over its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The mailbox of a core.
    Core(CoreId),
    /// What is to be written to disk.
    Journal,
}

/// A queue that is over its bound, if what was just done found one: whoever caused it should not be
/// read from until that queue has been drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure(pub Option<Full>);
