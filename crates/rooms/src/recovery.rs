//! Where somebody who comes back left a room, and how far the history reaches back to it.

use crate::position::StreamPosition;

/// From where on somebody wants a room's publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// The last so many.
    Last(u32),
    /// None from before.
    #[default]
    Now,
    /// Those after this position.
    Position(StreamPosition),
}

/// How far a history reaches back to where somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The offset of the first publication that is replayed; one past the position if none is.
    pub first: u64,
    /// Whether nothing is missing before it. None if it was not asked from a position on.
    pub recovered: Option<bool>,
}
