//! Questions of the application about connections, which only their cores can answer.
//!
//! Each core answers as of the question's place in its mailbox. A question that cannot be answered
//! is dropped, so it should hold the end of a channel that notices that.

use std::any::Any;
use std::convert::Infallible;

use smallvec::SmallVec;

use super::RoomTable;
use super::deliver::Asked;
use crate::backpressure::Backpressure;
use crate::error::Overloaded;
use crate::id::CoreId;
use crate::key::RoomKey;
use crate::mailbox::Command;
use crate::room::Room;

impl RoomTable {
    /// Asks a core something about its connections: it gets an [`Effect::Ask`](crate::Effect::Ask),
    /// behind everything that it was asked before.
    pub fn ask(&self, core: CoreId, question: Box<dyn Any + Send>) -> Backpressure {
        let room = None;
        let pushed = self.mailbox(core).push(Command::Ask { room, question });
        pushed.wake(core)
    }

    /// [Asks](Self::ask) for a caller that cannot pause.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the core has too much to do; the question is dropped.
    pub fn try_ask(&self, core: CoreId, question: Box<dyn Any + Send>) -> Result<(), Overloaded> {
        self.check_pressure(core)?;
        self.ask(core, question);
        Ok(())
    }

    /// Asks each core that has members of a room about them; returns how many cores it asked.
    ///
    /// A connection that joined before this call is a member when its core is asked, unless it has
    /// left or was rejected. One that joins later is not, on all cores alike. So the answers
    /// together are the members at one moment of the table.
    ///
    /// `make` is called once for each of the cores under the lock of the room's shard: it must be
    /// quick, and must not call the table.
    pub fn ask_members<'a>(
        &self,
        key: impl Into<RoomKey<'a>>,
        make: impl FnMut(CoreId) -> Box<dyn Any + Send>,
    ) -> (usize, Backpressure) {
        let Ok(asked) = self.ask_unless(key.into(), make, |_| Ok::<_, Infallible>(()));
        asked
    }

    /// [Asks about members](Self::ask_members) for a caller that cannot pause.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if a core with members of the room has too much to do; nobody is asked, and
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
        let named = self.named(key);
        let mut asked = Asked::default();
        let core_count = {
            let shard = self.shard(named.hash).lock();
            let Some(room) = shard.find(named) else {
                return Ok((0, Backpressure::default()));
            };
            check(room)?;
            let cores = room.members.cores().into_iter();
            // All of them first: what is pushed must be followed by its wake, whatever `make` does.
            let questions: SmallVec<[_; 2]> = cores.map(|core| (core, make(core))).collect();
            let core_count = questions.len();
            for (core, question) in questions {
                let room = Some(room.stream.handle.id);
                let pushed = self.mailbox(core).push(Command::Ask { room, question });
                asked.note(core, pushed);
            }
            core_count
        };
        Ok((core_count, asked.wake()))
    }
}
