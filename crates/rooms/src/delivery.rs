//! How something that is sent to a room is treated on its way.

/// What a `Deliver` brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event without a place in the room's stream.
    Event(EventKind),
    /// The publication with this offset.
    Publication(u64),
}

/// How an event that has no offset is treated under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// As a publication is: a member that cannot take it is a slow consumer.
    Lasting,
    /// It is not sent to members for whom much waits already, and nobody is told: for what is
    /// outdated in a moment, such as that somebody types.
    Passing,
}
