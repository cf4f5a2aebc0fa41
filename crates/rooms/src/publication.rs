//! Publications and events on their way into a room.

use proto::SharedFrame;

use crate::backpressure::Backpressure;
use crate::id::{ConnectionId, Wire, WireSet};
use crate::position::StreamPosition;
use crate::time::Moment;

/// Something that can be encoded as a frame for any wire.
///
/// [`SharedFrame`] implements it for a frame that is the same on every wire.
pub trait Publication {
    /// Encodes the frame for members on `wire`. `offset` is the publication's place in the room's
    /// stream; none for an event.
    ///
    /// Called under the lock of the room's shard, at most once for each wire, and only for wires
    /// that members need: it must be quick, and must not call the table.
    fn encode(&mut self, wire: Wire, offset: Option<u64>) -> SharedFrame;

    /// Returns the wires that it has a frame for, or can encode one for at once.
    ///
    /// A frame that needs the application's code is not among them until it is encoded, because no
    /// lock should be held for that. If a member needs such a frame, the publication is rejected
    /// with [`Lacks`](crate::Lacks); the caller encodes the frame and tries again.
    ///
    /// Called under the lock too, before anything is encoded.
    fn wires(&self) -> WireSet {
        WireSet::ALL
    }
}

impl<P: Publication + ?Sized> Publication for &mut P {
    fn encode(&mut self, wire: Wire, offset: Option<u64>) -> SharedFrame {
        (**self).encode(wire, offset)
    }

    fn wires(&self) -> WireSet {
        (**self).wires()
    }
}

impl Publication for SharedFrame {
    fn encode(&mut self, _: Wire, _: Option<u64>) -> SharedFrame {
        self.clone()
    }
}

/// A publication that gets the next offset of its room, and is retained if the room keeps a
/// history.
#[expect(
    missing_debug_implementations,
    reason = "a publication need not implement it"
)]
pub struct Outgoing<'a> {
    /// The publication.
    pub publication: &'a mut dyn Publication,
    /// A connection that does not receive it though it is a member, such as the publisher.
    /// [`RoomTable::publish`](crate::RoomTable::publish) says what that means.
    pub except: Option<ConnectionId>,
    /// The size of its payload in bytes, which the room's class limits.
    pub payload_len: usize,
    /// The key that a repeat of it is recognized by, at most [`KEY_LEN_MAX`] bytes.
    pub key: Option<&'a str>,
    /// The time of the publication: from then on it ages, and its key.
    pub at: Moment,
    /// The connection to tell the outcome, and how. The [answer](crate::Command::Answer) comes
    /// behind the publication itself, and waits for the journal if the publication does.
    pub answer: Option<(ConnectionId, &'a mut dyn Acknowledge)>,
}

/// Encodes the answers to a publisher.
pub trait Acknowledge {
    /// Encodes the answer that the publication has this position. Called at most once, perhaps
    /// under the lock of the room's shard.
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame;

    /// Encodes the answer that the publication could not be written, and that nobody received it.
    /// Called at most once, perhaps under the lock of the room's shard.
    fn refuse(&mut self) -> SharedFrame;
}

/// The longest key of a publication, in bytes: a UUID takes 36.
pub const KEY_LEN_MAX: usize = 64;

/// The outcome of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The members that the room has, on all cores; an excepted member is among them.
    pub member_count: u32,
    /// Its place in the room's stream. None for an event, and if the room has neither members nor a
    /// history. If the journal is written ahead, nobody sees the publication before it was written.
    pub position: Option<StreamPosition>,
    /// True if it was published before with the same key, and was not published again.
    pub duplicate: bool,
    /// The full queue for which the publisher should pause, if there is one.
    pub backpressure: Backpressure,
}
