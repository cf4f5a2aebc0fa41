//! What is sent to every connection, whatever rooms it is in.

use std::sync::Arc;

use proto::SharedFrame;
use smallvec::SmallVec;

use super::deliver::{Asked, Encoder};
use super::RoomTable;
use crate::backpressure::Backpressure;
use crate::error::{EmitError, Lacks};
use crate::id::{CoreId, Wire};
use crate::mailbox::Command;
use crate::publication::Publication;

impl RoomTable {
    /// Sends an event to every connection that is open, on every core. On each core it comes behind what was
    /// published there before and before what is published after; two broadcasts of two threads may come
    /// in one order on one core and in the other on the next.
    ///
    /// It is in no room's stream, is not kept, and counts for no room. Costs one command a core, and there
    /// what a publication to a room of all its connections would.
    ///
    /// # Errors
    ///
    /// [`Lacks`] if the publication has no frame for a wire in use; nobody got it.
    pub fn broadcast(&self, mut publication: impl Publication) -> Result<Backpressure, Lacks> {
        let frames = self.frames_for_all(&mut publication)?;
        Ok(self.push_to_all_cores(&frames))
    }

    /// The same, unless the mailbox of any core is full: for publishers that cannot be held back otherwise.
    ///
    /// # Errors
    ///
    /// [`EmitError::Overloaded`] if a core has more to do than it may keep, and else [`EmitError::Lacks`];
    /// nobody got it.
    pub fn try_broadcast(&self, mut publication: impl Publication) -> Result<(), EmitError> {
        self.core_ids()
            .try_for_each(|core| self.check_pressure(core))?;
        let frames = self.frames_for_all(&mut publication)?;
        // Refused before, not after: what is pushed now is one command of this thread.
        self.push_to_all_cores(&frames);
        Ok(())
    }

    /// The frame of each wire in use. No lock is held, for there is no offset in them.
    fn frames_for_all(
        &self,
        publication: &mut impl Publication,
    ) -> Result<Arc<[(Wire, SharedFrame)]>, Lacks> {
        let wires = self.wires();
        Lacks::check(wires.without(publication.wires()))?;
        let mut encoder = Encoder::new(publication, None);
        let frames = wires.iter().map(|wire| (wire, encoder.frame(wire)));
        Ok(frames.collect::<SmallVec<[_; 2]>>().as_slice().into())
    }

    fn push_to_all_cores(&self, frames: &Arc<[(Wire, SharedFrame)]>) -> Backpressure {
        let mut asked = Asked::default();
        for core in self.core_ids() {
            let frames = frames.clone();
            let pushed = self.mailbox(core).push(Command::Broadcast { frames });
            asked.note(core, pushed);
        }
        asked.wake()
    }

    fn core_ids(&self) -> impl Iterator<Item = CoreId> {
        (0..=u8::MAX).map(CoreId).take(self.mailboxes.len())
    }
}
