//! Events for every connection, whatever rooms it is in.

use std::sync::Arc;

use proto::SharedFrame;
use smallvec::SmallVec;

use super::RoomTable;
use super::deliver::{Asked, Encoder};
use crate::backpressure::Backpressure;
use crate::error::{EmitError, Lacks};
use crate::id::{CoreId, Wire};
use crate::mailbox::Command;
use crate::publication::Publication;

impl RoomTable {
    /// Sends an event to every open connection, on every core.
    ///
    /// On each core it comes behind what was published there before, and ahead of what is published
    /// after. Two broadcasts of two threads may arrive in one order on one core and in the other
    /// order on the next. The event is in no room's stream, is not retained, and counts for no
    /// room. Costs one command for each core, and there as much as a publication to a room of all
    /// its connections.
    ///
    /// # Errors
    ///
    /// [`Lacks`] if the event has no frame for a wire in use; nobody received it.
    pub fn broadcast(&self, mut publication: impl Publication) -> Result<Backpressure, Lacks> {
        let frames = self.frames_for_all(&mut publication)?;
        Ok(self.push_to_all_cores(&frames))
    }

    /// [Broadcasts](Self::broadcast) for a publisher that cannot pause: not if the mailbox of any
    /// core is full.
    ///
    /// # Errors
    ///
    /// [`EmitError::Overloaded`] if a core has too much to do, and else [`EmitError::Lacks`];
    /// nobody received it.
    pub fn try_broadcast(&self, mut publication: impl Publication) -> Result<(), EmitError> {
        self.core_ids()
            .try_for_each(|core| self.check_pressure(core))?;
        let frames = self.frames_for_all(&mut publication)?;
        // Rejected before, not after: what is pushed now is one command of this thread.
        self.push_to_all_cores(&frames);
        Ok(())
    }

    /// Encodes the frame of each wire in use. No lock is held, because no frame has an offset.
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
