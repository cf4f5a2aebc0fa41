//! The kinds of things that a room delivers to its members.

/// The kind of frame that a `Deliver` command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event, which has no place in the room's stream.
    Event(EventKind),
    /// The publication with this offset.
    Publication(u64),
}

/// The treatment under pressure of an event, which has no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Members that are behind do not receive it, and nobody is told. For what is outdated in a
    /// moment, such as that somebody types.
    Ephemeral,
    /// As a publication: a member that cannot take it is a slow consumer.
    Lasting,
}
