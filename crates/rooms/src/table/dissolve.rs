//! Rooms that all members leave at once.

use std::convert::Infallible;

use super::RoomTable;
use super::deliver::Asked;
use crate::backpressure::Backpressure;
use crate::error::Overloaded;
use crate::key::{RoomKey, Space};
use crate::mailbox::Command;
use crate::room::Room;

impl RoomTable {
    /// Ends all memberships of a room, those on their way included.
    ///
    /// What was published before still reaches the members. What is published after does not, nor
    /// does what waits for the journal. Whoever joins after this call is a member. The room's
    /// history goes on as after the last member has left.
    ///
    /// Costs one command for each core that has members. Does nothing if the room does not exist.
    pub fn dissolve<'a>(&self, key: impl Into<RoomKey<'a>>) -> Backpressure {
        let Ok(backpressure) = self.dissolve_unless(key.into(), |_| Ok::<_, Infallible>(()));
        backpressure
    }

    /// [Dissolves](Self::dissolve) a room for a caller that cannot pause.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has a full mailbox; nobody left.
    pub fn try_dissolve<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
    ) -> Result<Backpressure, Overloaded> {
        self.dissolve_unless(key.into(), |room| self.check_members(room))
    }

    fn dissolve_unless<E>(
        &self,
        key: RoomKey<'_>,
        check: impl Fn(&Room) -> Result<(), E>,
    ) -> Result<Backpressure, E> {
        let named = self.named(key);
        let mut asked = Asked::default();
        {
            let shard = self.shard(named.hash).lock();
            if let Some(room) = shard.find(named) {
                check(room)?;
                self.ask_to_dissolve(room, &mut asked);
            }
        }
        Ok(asked.wake())
    }

    /// Dissolves every room of a space, one shard after the other. A connection that joins
    /// meanwhile may become a member of a room that was passed already, so callers must first
    /// prevent that.
    ///
    /// Looks at every room of the table, whatever its space. While it looks at a shard, nobody
    /// publishes there.
    pub fn dissolve_space(&self, space: Space) -> Backpressure {
        let Ok(backpressure) = self.dissolve_space_unless(space, |_| Ok::<_, Infallible>(()));
        backpressure
    }

    /// [Dissolves](Self::dissolve_space) a space for a caller that cannot pause.
    ///
    /// The commands for one shard's rooms may fill a mailbox beyond its bound, by a command for
    /// each room; those for the next shard are then rejected.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of these rooms has a full mailbox. The rooms of
    /// earlier shards are dissolved then, the others are not; call it again later to go on from
    /// there.
    pub fn try_dissolve_space(&self, space: Space) -> Result<Backpressure, Overloaded> {
        self.dissolve_space_unless(space, |room| self.check_members(room))
    }

    fn dissolve_space_unless<E>(
        &self,
        space: Space,
        check: impl Fn(&Room) -> Result<(), E>,
    ) -> Result<Backpressure, E> {
        let mut backpressure = Backpressure::default();
        for shard in &self.shards {
            let mut asked = Asked::default();
            {
                let shard = shard.lock();
                let is_in_space = |room: &&Room| room.stream.handle.space == space;
                let of_the_space = shard.rooms.iter().filter(is_in_space);
                of_the_space.clone().try_for_each(&check)?;
                of_the_space.for_each(|room| self.ask_to_dissolve(room, &mut asked));
            }
            backpressure.0 = asked.wake().0.or(backpressure.0);
        }
        Ok(backpressure)
    }

    /// Asks the cores that have members of a room. Its shard is locked.
    fn ask_to_dissolve(&self, room: &Room, asked: &mut Asked) {
        for core in room.members.cores() {
            let room = room.stream.handle.id;
            let pushed = self.mailbox(core).push(Command::Dissolve { room });
            asked.note(core, pushed);
        }
    }
}
