//! Frames for every connection, whatever rooms it is in.

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use crate::id::Wire;

impl LocalRooms {
    /// Queues a frame for each connection that is open and not [shut](Self::shut), behind what it
    /// was sent before: the frame of its wire, if there is one.
    pub(super) fn broadcast(&mut self, frames: &[(Wire, SharedFrame)]) {
        self.fan_out();
        let queue = FlushQueue::of(self.connection_count());
        for slot in self.outboxes.connections.slots() {
            let member = &self.outboxes.connections[slot];
            if !member.state.is_addressable() {
                continue;
            }
            let wire = member.wire;
            if let Some((_, frame)) = frames.iter().find(|(of, _)| *of == wire) {
                self.outboxes.push(slot, frame, queue);
                self.outboxes.counts.deliveries += 1;
            }
        }
    }
}
