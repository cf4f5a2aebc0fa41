//! Events that have no place in a room's stream.

use proto::SharedFrame;
use smallvec::SmallVec;

use super::deliver::{Encoder, Wakes, wake_all};
use super::RoomTable;
use crate::delivery::{Delivery, EventKind};
use crate::error::{EmitError, Lacks};
use crate::id::ConnectionId;
use crate::kept::{Kept, Staged};
use crate::key::RoomKey;
use crate::publication::{Publication, Published};
use crate::shard::{Room, Shard};
use crate::time::Moment;

impl RoomTable {
    /// Sends an event to the members of a room, in a frame that is the same on every wire; it has no
    /// offset and is not kept.
    ///
    /// A room that does not exist has no members, so nobody misses anything.
    pub fn emit<'a>(&self, key: impl Into<RoomKey<'a>>, frame: SharedFrame) -> Published {
        let published = self.emit_as(EventKind::Lasting, key, None, frame);
        // A frame is its own on every wire: it lacks none.
        published.unwrap_or_default()
    }

    /// The same, of some kind, and to all members but `except`, be it one or not: it counts as one if it is.
    ///
    /// # Errors
    ///
    /// [`Lacks`] if the publication has no frame for a wire that members speak; nobody got the event. Nor
    /// did anybody if it would have to wait, behind publications that are not written down yet, and
    /// lacks the frame of any wire in use.
    pub fn emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        except: Option<ConnectionId>,
        publication: impl Publication,
    ) -> Result<Published, Lacks> {
        self.emit_unless(key.into(), (kind, except), publication, |_| Ok(()))
    }

    /// The same, unless a core with members of the room has a full mailbox: for publishers that cannot
    /// be held back otherwise.
    ///
    /// # Errors
    ///
    /// [`EmitError::Overloaded`] if a core with members of the room has more to do than it may keep, and
    /// else [`EmitError::Lacks`]; nobody got the event.
    pub fn try_emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        except: Option<ConnectionId>,
        publication: impl Publication,
    ) -> Result<Published, EmitError> {
        let check = |room: &Room| Ok(self.check_members(room)?);
        self.emit_unless(key.into(), (kind, except), publication, check)
    }

    fn emit_unless<E: From<Lacks>>(
        &self,
        key: RoomKey<'_>,
        event: (EventKind, Option<ConnectionId>),
        mut publication: impl Publication,
        check: impl Fn(&Room) -> Result<(), E>,
    ) -> Result<Published, E> {
        let hash = self.hash_of(key);
        // Handed down and not back up with the rest: it is large to move.
        let mut wakes = Wakes::new();
        let published = {
            let mut shard = self.shard(hash).lock();
            let (named, publication) = ((hash, key), &mut publication);
            let published =
                self.place_event(&mut shard, named, event, publication, check, &mut wakes)?;
            shard.publication_count += 1;
            published
        };
        wake_all(&mut wakes);
        Ok(published)
    }

    /// Everything about an event that the shard's lock is held for: behind what waits to be written down
    /// it waits too, so that nothing overtakes what was published before it.
    fn place_event<E: From<Lacks>>(
        &self,
        shard: &mut Shard,
        (hash, key): (u64, RoomKey<'_>),
        (kind, except): (EventKind, Option<ConnectionId>),
        publication: &mut impl Publication,
        check: impl Fn(&Room) -> Result<(), E>,
        wakes: &mut Wakes,
    ) -> Result<Published, E> {
        let (rooms, retention) = (&mut shard.rooms, &mut shard.retention);
        let Some(room) = rooms.find_mut(hash, |room| room.has_key(hash, key)) else {
            return Ok(Published::default());
        };
        check(room)?;
        let waits = room.kept.as_ref().is_some_and(|kept| kept.has_staged());
        let lacking = self.wires().without(publication.wires());
        if !lacking.is_empty() {
            let needed = if waits { self.wires() } else { room.wires() };
            Lacks::check(lacking.intersection(needed))?;
        }
        let mut encoder = Encoder::new(publication, None);
        let delivery = Delivery::Event(kind);
        if !waits || !retention.has_memory(EVENT_COST_MAX) {
            return Ok(self.deliver(room, (delivery, except), &mut encoder, wakes));
        }
        let frames = self.wires().iter().map(|wire| (wire, encoder.frame(wire)));
        let staged = Staged {
            delivery,
            except,
            frames: frames.collect(),
            at: Moment::default(),
            waiting: SmallVec::new(),
        };
        let class = room.class;
        if staged.cost_bytes() > EVENT_COST_MAX {
            return Ok(self.deliver(room, (delivery, except), &mut encoder, wakes));
        }
        let stage = |kept: &mut Kept| kept.stage(staged);
        retention.keep(room, class, Moment::default(), &self.house(), stage);
        Ok(Published {
            member_count: room.member_count(),
            ..Published::default()
        })
    }
}

/// The most memory that an event takes while it waits behind publications; a larger one does not wait,
/// and nor does one for which there is no memory.
const EVENT_COST_MAX: usize = 16 * 1024;
