//! Events that have no place in a room's stream.

use smallvec::SmallVec;

use super::deliver::{Encoder, Wakes};
use super::{Overloaded, RoomTable};
use crate::kept::{Kept, Staged};
use crate::key::RoomKey;
use crate::mailbox::Delivery;
use crate::publication::{EventKind, Publication, Published};
use crate::queue::Pushed;
use crate::shard::Shard;

impl RoomTable {
    /// Sends an event to the members of a room; it has no offset and is not kept.
    ///
    /// A room that does not exist has no members, so nobody misses anything.
    pub fn emit<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        publication: impl Publication,
    ) -> Published {
        self.emit_as(EventKind::Lasting, key, publication)
    }

    /// The same, of some kind.
    pub fn emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        mut publication: impl Publication,
    ) -> Published {
        let key = key.into();
        let hash = self.hash_of(key);
        let (published, wakes) = {
            let mut shard = self.shard(hash).lock();
            shard.publication_count += 1;
            self.place_event(&mut shard, (hash, key), kind, &mut publication)
        };
        wakes.into_iter().for_each(Pushed::wake_quietly);
        published
    }

    /// The same, unless a core with members of the room has a full mailbox: for publishers that cannot
    /// be held back otherwise.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has more to do than it may keep; nobody
    /// got the event.
    pub fn try_emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        mut publication: impl Publication,
    ) -> Result<Published, Overloaded> {
        let key = key.into();
        let hash = self.hash_of(key);
        let (published, wakes) = {
            let mut shard = self.shard(hash).lock();
            if let Some(room) = shard.find(hash, key) {
                self.check_members(room)?;
            }
            shard.publication_count += 1;
            self.place_event(&mut shard, (hash, key), kind, &mut publication)
        };
        wakes.into_iter().for_each(Pushed::wake_quietly);
        Ok(published)
    }

    /// Everything about an event that the shard's lock is held for: behind what waits to be written down
    /// it waits too, so that nothing overtakes what was published before it.
    fn place_event(
        &self,
        shard: &mut Shard,
        (hash, key): (u64, RoomKey<'_>),
        kind: EventKind,
        publication: &mut dyn Publication,
    ) -> (Published, Wakes) {
        let (rooms, retention) = (&mut shard.rooms, &mut shard.retention);
        let Some(room) = rooms.find_mut(hash, |room| room.has_key(hash, key)) else {
            return (Published::default(), Wakes::new());
        };
        let mut encoder = Encoder::new(publication, None);
        let delivery = Delivery::Event(kind);
        let waits = room.kept.as_ref().is_some_and(|kept| kept.has_staged());
        if !waits || !retention.has_memory(EVENT_COST_MAX) {
            return self.deliver(room, delivery, &mut encoder);
        }
        let frames = self.wires.iter().map(|wire| (*wire, encoder.frame(*wire)));
        let staged = Staged {
            delivery,
            frames: frames.collect(),
            at_ms: 0,
            waiting: SmallVec::new(),
        };
        let class = self.classes.at(room.class);
        if staged.cost_bytes() > EVENT_COST_MAX {
            return self.deliver(room, delivery, &mut encoder);
        }
        let stage = |kept: &mut Kept| kept.stage(staged);
        retention.keep(room, class, 0, &self.house(), stage);
        let published = Published {
            member_count: room.member_count(),
            ..Published::default()
        };
        (published, Wakes::new())
    }
}

/// The most memory that an event takes while it waits behind publications; a larger one does not wait,
/// and nor does one for which there is no memory.
const EVENT_COST_MAX: usize = 16 * 1024;
