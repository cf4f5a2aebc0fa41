//! What the application wants to know of connections, which only their cores do.
//!
//! Each core answers as of the place of the question in its mailbox. A question that cannot be answered is
//! dropped, so who asks should put the end of a channel into it that says so.

use std::any::Any;

use smallvec::SmallVec;

use super::deliver::Asked;
use super::RoomTable;
use crate::backpressure::Backpressure;
use crate::error::Overloaded;
use crate::id::CoreId;
use crate::key::RoomKey;
use crate::mailbox::Command;
use crate::shard::Room;

impl RoomTable {
    /// Asks a core something about its connections: it gets an [`Effect::Ask`](crate::Effect::Ask), behind
    /// all that it was asked before.
    pub fn ask(&self, core: CoreId, question: Box<dyn Any + Send>) -> Backpressure {
        let room = None;
        let pushed = self.mailbox(core).push(Command::Ask { room, question });
        pushed.wake(core)
    }

    /// The same for callers that cannot be held back.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the core has more to do than it may keep; the question is dropped.
    pub fn try_ask(&self, core: CoreId, question: Box<dyn Any + Send>) -> Result<(), Overloaded> {
        self.check_pressure(core)?;
        self.ask(core, question);
        Ok(())
    }

    /// Asks each core that has members of a room about them; returns how many it asked. Whoever joined before
    /// this is a member as its core is asked, unless it has left or is refused; whoever joins after
    /// is none yet, on all cores alike. So the answers together are the members at one moment of the table.
    ///
    /// `make` is called once for each of the cores under the lock of the room's shard: it must be quick, and
    /// must not call the table.
    pub fn ask_members<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        make: impl FnMut(CoreId) -> Box<dyn Any + Send>,
    ) -> (usize, Backpressure) {
        let asked = self.ask_unless(key.into(), make, |_| Ok::<_, std::convert::Infallible>(()));
        let Ok(asked) = asked;
        asked
    }

    /// The same for callers that cannot be held back.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has more to do than it may keep; nobody is asked, and
    /// `make` was not called.
    pub fn try_ask_members<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        make: impl FnMut(CoreId) -> Box<dyn Any + Send>,
    ) -> Result<usize, Overloaded> {
        let (core_count, _) = self.ask_unless(key.into(), make, |room| self.check_members(room))?;
        Ok(core_count)
    }

    fn ask_unless<E>(
        &self,
        key: RoomKey<'_>,
        mut make: impl FnMut(CoreId) -> Box<dyn Any + Send>,
        check: impl Fn(&Room) -> Result<(), E>,
    ) -> Result<(usize, Backpressure), E> {
        let hash = self.hash_of(key);
        let mut asked = Asked::default();
        let core_count = {
            let shard = self.shard(hash).lock();
            let Some(room) = shard.find(hash, key) else {
                return Ok((0, Backpressure::default()));
            };
            check(room)?;
            let room_id = Some(room.handle.id);
            let cores = room.cores().into_iter();
            // All of them first: what is pushed must be followed by its wake, whatever `make` does.
            let questions: SmallVec<[_; 2]> = cores.map(|core| (core, make(core))).collect();
            let core_count = questions.len();
            for (core, question) in questions {
                let room = room_id;
                let pushed = self.mailbox(core).push(Command::Ask { room, question });
                asked.note(core, pushed);
            }
            core_count
        };
        Ok((core_count, asked.wake()))
    }
}
