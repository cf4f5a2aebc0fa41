//! From a room to the mailboxes of its members' cores.

use proto::SharedFrame;
use smallvec::SmallVec;

use super::RoomTable;
use crate::backpressure::{Backpressure, Full};
use crate::delivery::Delivery;
use crate::id::{Audience, ConnectionId, CoreId, Wire};
use crate::mailbox::Command;
use crate::publication::{Publication, Published};
use crate::queue::Pushed;
use crate::room::Room;

/// Something that a room delivers.
#[derive(Clone, Copy)]
pub(super) struct Cast {
    pub(super) delivery: Delivery,
    /// The connection that does not receive it.
    pub(super) except: Option<ConnectionId>,
}

impl RoomTable {
    /// Pushes one copy to each core for each wire that has members. Only the core of the excepted
    /// connection hears of the exception. The shard is locked.
    pub(super) fn deliver(
        &self,
        room: &Room,
        cast: Cast,
        encoder: &mut Encoder<'_>,
        wakes: &mut Wakes,
    ) -> Published {
        let mut published = Published {
            member_count: room.members.total(),
            ..Published::default()
        };
        for members in room.members.iter() {
            let frame = encoder.frame(members.wire);
            if frame.is_empty() {
                // It was staged before the wire was in use.
                continue;
            }
            let pushed = self.mailbox(members.core).push(Command::Deliver {
                room: room.stream.handle.id,
                to: Audience::new(members.core, members.wire, cast.except),
                frame,
                delivery: cast.delivery,
            });
            if pushed.full {
                published.backpressure = Backpressure(Some(Full::Core(members.core)));
            }
            wakes.push(pushed);
        }
        published
    }
}

/// The owners of mailboxes to wake when no lock is held.
pub(super) type Wakes = SmallVec<[Pushed; 2]>;

/// Wakes all of them; no lock is held.
#[inline]
pub(super) fn wake_all(wakes: &mut Wakes) {
    for pushed in wakes {
        pushed.wake_owner();
    }
}

/// The outcome of pushing commands to many cores.
#[derive(Default)]
pub(super) struct Asked {
    /// The cores to wake when no lock is held. Of many commands to one core, mostly the first
    /// wakes it.
    wakes: Wakes,
    full: Option<Full>,
}

impl Asked {
    pub(super) fn note(&mut self, core: CoreId, pushed: Pushed) {
        if pushed.full {
            self.full = Some(Full::Core(core));
        }
        if pushed.wakes() {
            self.wakes.push(pushed);
        }
    }

    /// Wakes the cores that wait, when no lock is held; returns whether a mailbox is full.
    pub(super) fn wake(mut self) -> Backpressure {
        wake_all(&mut self.wakes);
        Backpressure(self.full)
    }
}

/// The frames of a publication, each encoded when it is first needed.
pub(super) struct Encoder<'a> {
    publication: &'a mut dyn Publication,
    offset: Option<u64>,
    frames: SmallVec<[(Wire, SharedFrame); 2]>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(publication: &'a mut dyn Publication, offset: Option<u64>) -> Self {
        Self {
            publication,
            offset,
            frames: SmallVec::new(),
        }
    }

    /// Returns the frame for members on a wire.
    pub(super) fn frame(&mut self, wire: Wire) -> SharedFrame {
        if let Some((_, frame)) = self.frames.iter().find(|(encoded, _)| *encoded == wire) {
            return frame.clone();
        }
        let frame = self.publication.encode(wire, self.offset);
        self.frames.push((wire, frame.clone()));
        frame
    }
}
