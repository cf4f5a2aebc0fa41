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
use crate::shard::Room;

impl RoomTable {
    /// Pushes one copy to each core for each wire that has members; only the core of who is excepted
    /// hears of that. The shard is locked.
    pub(super) fn deliver(
        &self,
        room: &Room,
        (delivery, except): (Delivery, Option<ConnectionId>),
        encoder: &mut Encoder<'_>,
        wakes: &mut Wakes,
    ) -> Published {
        let mut published = Published {
            member_count: room.member_count(),
            ..Published::default()
        };
        for members in &room.members {
            let frame = encoder.frame(members.wire);
            if frame.is_empty() {
                // It was staged before the wire was in use.
                continue;
            }
            let pushed = self.mailbox(members.core).push(Command::Deliver {
                room: room.handle.id,
                to: Audience::new(members.core, members.wire, except),
                frame,
                delivery,
            });
            if pushed.full {
                published.backpressure = Backpressure(Some(Full::Core(members.core)));
            }
            wakes.push(pushed);
        }
        published
    }
}

/// Whom to wake when no lock is held.
pub(super) type Wakes = SmallVec<[Pushed; 2]>;

/// Wakes all of them; no lock is held.
#[inline]
pub(super) fn wake_all(wakes: &mut Wakes) {
    for pushed in wakes {
        pushed.wake_owner();
    }
}

/// What came of asking many cores something.
#[derive(Default)]
pub(super) struct Asked {
    /// Whom to wake when no lock is held: of many commands to one core mostly the first does.
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

    /// Wakes whoever waits, when no lock is held; says whether a mailbox is full.
    pub(super) fn wake(mut self) -> Backpressure {
        wake_all(&mut self.wakes);
        Backpressure(self.full)
    }
}

/// A publication's frames, each encoded when it is first needed.
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

    pub(super) fn frame(&mut self, wire: Wire) -> SharedFrame {
        if let Some((_, frame)) = self.frames.iter().find(|(encoded, _)| *encoded == wire) {
            return frame.clone();
        }
        let frame = self.publication.encode(wire, self.offset);
        self.frames.push((wire, frame.clone()));
        frame
    }
}
