//! Rooms that everybody leaves at once.

use std::convert::Infallible;

use super::deliver::Asked;
use super::RoomTable;
use crate::backpressure::Backpressure;
use crate::error::Overloaded;
use crate::key::{RoomKey, Space};
use crate::mailbox::Command;
use crate::shard::Room;

impl RoomTable {
    /// Ends all memberships of a room, those on their way included, whoever has them.
    ///
    /// What was published before still reaches the members; what is published after does not, nor does
    /// what waits to be written down. Who joins after this call is a member. What the room keeps is not
    /// touched: it goes on as after its last member has left.
    ///
    /// Costs one command a core that has members, however many those are. Nothing if the room does not
    /// exist.
    pub fn dissolve<'a>(&self, key: impl Into<RoomKey<'a>>) -> Backpressure {
        let Ok(backpressure) = self.dissolve_unless(key.into(), |_| Ok::<_, Infallible>(()));
        backpressure
    }

    /// The same for callers that cannot be held back.
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
        let hash = self.hash_of(key);
        let mut asked = Asked::default();
        {
            let shard = self.shard(hash).lock();
            if let Some(room) = shard.find(hash, key) {
                check(room)?;
                self.ask_to_dissolve(room, &mut asked);
            }
        }
        Ok(asked.wake())
    }

    /// Dissolves every room of a space, one shard after the other: who joins meanwhile may be a member
    /// of a room that was passed already, so callers see to it first that nobody does.
    ///
    /// Looks at every room of the table, whatever its space. While it looks at a shard nobody publishes
    /// there.
    pub fn dissolve_space(&self, space: Space) -> Backpressure {
        let Ok(backpressure) = self.dissolve_space_unless(space, |_| Ok::<_, Infallible>(()));
        backpressure
    }

    /// The same for callers that cannot be held back. What it asks of one shard's rooms may fill a
    /// mailbox beyond its bound, by a command a room; what it asks of the next is then refused.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of these rooms has a full mailbox. Rooms of earlier shards
    /// are dissolved then, the others are not; the same call goes on from there later.
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
                let of_the_space = shard.rooms.iter().filter(|room| room.handle.space == space);
                of_the_space.clone().try_for_each(&check)?;
                of_the_space.for_each(|room| self.ask_to_dissolve(room, &mut asked));
            }
            backpressure.0 = asked.wake().0.or(backpressure.0);
        }
        Ok(backpressure)
    }

    /// Asks the cores that have members of a room. Its shard is locked.
    fn ask_to_dissolve(&self, room: &Room, asked: &mut Asked) {
        for core in room.cores() {
            let room = room.handle.id;
            let pushed = self.mailbox(core).push(Command::Dissolve { room });
            asked.note(core, pushed);
        }
    }
}
