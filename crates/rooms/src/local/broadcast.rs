//! What every connection is sent, whatever rooms it is in.

use proto::SharedFrame;

use super::LocalRooms;
use super::fan_out::queue_of;
use crate::id::Wire;

impl LocalRooms {
    /// Queues a frame for each connection that is open and not [shut](Self::shut), behind what it was sent
    /// before: that of the wire it speaks, if there is one.
    pub(super) fn broadcast(&mut self, frames: &[(Wire, SharedFrame)]) {
        self.fan_out();
        let queue = queue_of(self.connection_count);
        for (index, slot) in (0..self.members.len()).zip(0..) {
            let member = &self.members[index];
            if !member.state.is_addressable() {
                continue;
            }
            let wire = member.wire;
            if let Some((_, frame)) = frames.iter().find(|(of, _)| *of == wire) {
                self.push(slot, frame, queue);
                self.counts.deliveries += 1;
            }
        }
    }
}
