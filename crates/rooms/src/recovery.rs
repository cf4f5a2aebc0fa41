//! Recovery of a room's publications from the place where somebody left.

use crate::position::StreamPosition;

/// The place from which somebody wants a room's publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// The last so many publications.
    Last(u32),
    /// No earlier publications.
    #[default]
    Now,
    /// The publications after this position.
    Position(StreamPosition),
}

/// The reach of a history back to the place where somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The offset of the first publication that is replayed; one past the position if none is.
    pub first: u64,
    /// True if no publication is missing before the first. None if it was not asked from a
    /// position.
    pub recovered: Option<bool>,
}
