//! Events that have no place in a room's stream.

use proto::SharedFrame;
use smallvec::SmallVec;

use super::RoomTable;
use super::deliver::{Cast, Encoder, Wakes, wake_all};
use crate::delivery::{Delivery, EventKind};
use crate::error::{EmitError, Lacks};
use crate::history::Staged;
use crate::id::ConnectionId;
use crate::key::{Named, RoomKey};
use crate::publication::{Publication, Published};
use crate::room::Room;
use crate::shard::Shard;
use crate::time::Moment;

impl RoomTable {
    /// Sends an event to the members of a room, in a frame that all wires share. It has no offset
    /// and is not retained.
    ///
    /// A room that does not exist has no members, so nobody misses anything.
    pub fn emit<'a>(&self, key: impl Into<RoomKey<'a>>, frame: SharedFrame) -> Published {
        let published = self.emit_as(EventKind::Lasting, key, None, frame);
        // A frame is its own on every wire: it lacks none.
        published.unwrap_or_default()
    }

    /// Sends an event of a kind to all members but `except`, who counts as a member if it is one.
    ///
    /// # Errors
    ///
    /// [`Lacks`] if the event has no frame for a wire that members speak. Also returned, with no
    /// effect, if the event must queue behind publications that wait for the journal and lacks a
    /// frame for a wire in use.
    pub fn emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        except: Option<ConnectionId>,
        publication: impl Publication,
    ) -> Result<Published, Lacks> {
        let cast = Cast::event(kind, except);
        self.emit_unless(key.into(), cast, publication, |_| Ok(()))
    }

    /// Sends an event for a publisher that cannot pause: not if a core with members of the room has
    /// a full mailbox.
    ///
    /// # Errors
    ///
    /// [`EmitError::Overloaded`] if a core with members of the room has too much to do, and else
    /// [`EmitError::Lacks`]; nobody received the event.
    pub fn try_emit_as<'a>(
        &self,
        kind: EventKind,
        key: impl Into<RoomKey<'a>>,
        except: Option<ConnectionId>,
        publication: impl Publication,
    ) -> Result<Published, EmitError> {
        let check = |room: &Room| Ok(self.check_members(room)?);
        let cast = Cast::event(kind, except);
        self.emit_unless(key.into(), cast, publication, check)
    }

    fn emit_unless<E: From<Lacks>>(
        &self,
        key: RoomKey<'_>,
        cast: Cast,
        mut publication: impl Publication,
        check: impl Fn(&Room) -> Result<(), E>,
    ) -> Result<Published, E> {
        let named = self.named(key);
        // Handed down and not returned with the rest: it is large to move.
        let mut wakes = Wakes::new();
        let published = {
            let mut shard = self.shard(named.hash).lock();
            let placed =
                self.place_event(&mut shard, named, cast, &mut publication, check, &mut wakes)?;
            shard.publication_count += 1;
            placed
        };
        wake_all(&mut wakes);
        Ok(published)
    }

    /// Does everything about an event that needs the shard's lock. Behind publications that wait
    /// for the journal the event waits too, so that it overtakes nothing.
    fn place_event<E: From<Lacks>>(
        &self,
        shard: &mut Shard,
        named: Named<'_>,
        cast: Cast,
        publication: &mut impl Publication,
        check: impl Fn(&Room) -> Result<(), E>,
        wakes: &mut Wakes,
    ) -> Result<Published, E> {
        let (rooms, histories) = (&mut shard.rooms, &mut shard.histories);
        let Some(room) = rooms.find_mut(named.hash, |room| room.is_named(named)) else {
            return Ok(Published::default());
        };
        check(room)?;
        let waits = room.stream.has_staged();
        let lacking = self.wires().without(publication.wires());
        if !lacking.is_empty() {
            let needed = if waits {
                self.wires()
            } else {
                room.members.wires()
            };
            Lacks::check(lacking.intersection(needed))?;
        }
        let mut encoder = Encoder::new(publication, None);
        if waits && histories.has_memory_for_event() {
            let frames = self.wires().iter().map(|wire| (wire, encoder.frame(wire)));
            let staged = Staged {
                delivery: cast.delivery,
                except: cast.except,
                frames: frames.collect(),
                at: Moment::default(),
                waiting: SmallVec::new(),
            };
            if histories.stage_event(&mut room.stream, staged) {
                return Ok(Published {
                    member_count: room.members.total(),
                    ..Published::default()
                });
            }
        }
        Ok(self.deliver(room, cast, &mut encoder, wakes))
    }
}

impl Cast {
    const fn event(kind: EventKind, except: Option<ConnectionId>) -> Self {
        Self {
            delivery: Delivery::Event(kind),
            except,
        }
    }
}
