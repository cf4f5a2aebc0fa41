//! What is sent to a room, on its way into it.

use proto::SharedFrame;

use crate::backpressure::Backpressure;
use crate::id::{ConnectionId, Wire, WireSet};
use crate::position::StreamPosition;
use crate::time::Moment;

/// Something that can be written as a frame for any wire.
///
/// For a frame that says the same on every wire, [`SharedFrame`] implements it.
pub trait Publication {
    /// The frame for members on `wire`. `offset` is the publication's place in the room's stream;
    /// none for what has no place in it.
    ///
    /// Called under the lock of the room's shard, at most once for each wire, and only for wires that
    /// somebody needs: it must be quick, and must not call the table.
    fn encode(&mut self, wire: Wire, offset: Option<u64>) -> SharedFrame;

    /// The wires that it has a frame for, or can write one for at once. What it costs the application's code
    /// to write is not among them until it is written, for a lock should not be held for that: what needs
    /// it is refused with [`Lacks`](crate::Lacks), and nothing done; the caller writes the frame and tries
    /// again.
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

/// A publication that is given the next offset of its room, and kept if the room keeps any.
#[expect(
    missing_debug_implementations,
    reason = "what is published need not have one"
)]
pub struct Outgoing<'a> {
    /// What is published.
    pub publication: &'a mut dyn Publication,
    /// Who is not sent it though it is a member, such as who publishes. It has its offset as any other:
    /// [`RoomTable::publish`](crate::RoomTable::publish) says what else that means.
    pub except: Option<ConnectionId>,
    /// How large its payload is, in bytes, as the room's class limits it.
    pub payload_len: usize,
    /// What a repeat of it is recognised by, at most [`KEY_LEN_MAX`] bytes.
    pub key: Option<&'a str>,
    /// When: from then on it ages, and its key.
    pub at: Moment,
    /// Whom to tell what became of it, and how: its [answer](crate::Command::Answer) comes behind the
    /// publication itself, and not before it is written down if it is to be.
    pub answer: Option<(ConnectionId, &'a mut dyn Acknowledge)>,
}

/// How a publisher is told what became of its publication.
pub trait Acknowledge {
    /// The frames that say that it has this place. Called at most once, perhaps under the lock of the
    /// room's shard.
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame;

    /// The frames that say that it could not be written down, and nobody got it. Likewise.
    fn refuse(&mut self) -> SharedFrame;
}

/// The longest key of a publication, in bytes: a UUID takes 36.
pub const KEY_LEN_MAX: usize = 64;

/// What came of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// How many members the room has, on all cores; one that is excepted is among them.
    pub member_count: u32,
    /// Its place in the room's stream; none if it has none, or if there was nobody and nothing is kept.
    /// With a journal that is written ahead, nobody has seen it before it is written down.
    pub position: Option<StreamPosition>,
    /// It was published before with the same key, and was not published again.
    pub duplicate: bool,
    /// Whether to hold the publisher back.
    pub backpressure: Backpressure,
}
