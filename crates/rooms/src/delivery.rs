//! The kinds of things that a room delivers to its members.

/// The kind of frame that a `Deliver` command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event, which has no place in the room's stream.
    Event(EventKind),
    /// The publication with this offset.
    Publication(u64),
}

/// How an event that has no offset is treated under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// As a publication: a member that cannot take it is a slow consumer.
    Lasting,
    /// Ephemeral: members that are behind do not get it, and nobody is told. For what is outdated
    /// in a moment, such as that somebody types.
    Passing,
}
