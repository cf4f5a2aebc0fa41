//! The side of a core that its sockets see: slots, lines to flush, and frames that did not fit.

use proto::SharedFrame;

use super::LocalRooms;
use super::flush::FlushQueue;
use super::member::MemberState;
use super::overflow::Overflow;
use crate::id::{ConnectionId, Slot, Wire};
use crate::outbox::Outbox;

impl LocalRooms {
    /// Returns the slot of a connection, if it is open and not [shut](Self::shut).
    #[inline]
    pub fn slot_of(&self, connection: ConnectionId) -> Option<Slot> {
        self.outboxes.connections.slot_of(connection)
    }

    /// Returns the id of the connection in the slot.
    #[inline]
    pub fn id_of(&self, slot: Slot) -> ConnectionId {
        self.outboxes.connections.id_of(slot)
    }

    /// Returns an id that no connection of this core has.
    pub const fn nobody(&self) -> ConnectionId {
        let core = self.outboxes.connections.core;
        ConnectionId::new(core, Slot(u32::MAX), Wire(0), u32::MAX)
    }

    /// Returns every slot that has an open connection.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let connections = &self.outboxes.connections;
        let is_open = |slot: &Slot| connections[*slot].state.has(MemberState::OPEN);
        connections.slots().filter(is_open)
    }

    /// Queues frames for one connection, after what was queued before. A connection that is
    /// [shut](Self::shut) takes nothing, nor does a free slot: it is the next connection's.
    ///
    /// Returns false if the outbox is full; then the frames wait in the
    /// [overflow](Self::take_overflow).
    #[inline]
    pub fn push(&mut self, slot: Slot, frame: &SharedFrame, queue: FlushQueue) -> bool {
        self.outboxes.push(slot, frame, queue)
    }

    /// Takes the next connection that has something to flush from a line.
    #[inline]
    pub fn next_to_flush(&mut self, queue: FlushQueue) -> Option<Slot> {
        self.outboxes.next_to_flush(queue)
    }

    /// Returns whether connections wait to be flushed.
    pub fn has_flushes(&self) -> bool {
        self.outboxes.has_flushes()
    }

    /// Returns what waits for the connection's socket.
    #[inline]
    pub fn outbox(&self, slot: Slot) -> &Outbox {
        &self.outboxes.connections[slot].outbox
    }

    /// Notes that the connection's socket took so many bytes.
    #[inline]
    pub fn advance(&mut self, slot: Slot, taken: usize) {
        self.outboxes.advance(slot, taken);
    }

    /// Sets whether the socket takes no more for now. When it does again, what is queued waits in
    /// the prompt line.
    pub fn set_blocked(&mut self, slot: Slot, blocked: bool) {
        self.outboxes.set_blocked(slot, blocked);
    }

    /// Returns the connections whose sockets take no more for now. For all others, nothing waits
    /// longer than a flush takes to come round.
    pub fn blocked_slots(&self) -> impl ExactSizeIterator<Item = Slot> {
        self.outboxes.blocked_slots()
    }

    /// Returns whether the socket takes no more for now.
    pub fn is_blocked(&self, slot: Slot) -> bool {
        let state = self.outboxes.connections[slot].state;
        state.has(MemberState::BLOCKED)
    }

    /// Takes frames that found their outbox full: at least `count_max`, if there are as many, and
    /// with each all others of its connection, in the order in which they came.
    ///
    /// An outbox may be full only because its flush has not come round. So the caller flushes the
    /// connection and queues the frame again with [`push_again`](Self::push_again). If that fails
    /// too, the socket does not take what it is sent: the connection is a slow consumer. Nothing
    /// may be [fanned out](Self::fan_out) meanwhile, or it overtakes what was taken.
    pub fn take_overflow(&mut self, count_max: usize) -> Vec<Overflow> {
        self.outboxes.take_overflow(count_max)
    }

    /// Takes the frames of one connection that found its outbox full.
    pub fn take_overflow_of(&mut self, slot: Slot) -> Vec<Overflow> {
        self.outboxes.take_overflow_of(slot)
    }

    /// Returns whether frames found their outbox full.
    pub const fn has_overflow(&self) -> bool {
        !self.outboxes.overflows.is_empty()
    }

    /// Returns whether a frame that found the outbox full would fit now.
    pub fn has_place_for(&self, overflow: &Overflow) -> bool {
        let bytes_max = self.outboxes.bytes_max(overflow.slot);
        let outbox = self.outbox(overflow.slot);
        outbox.has_place_for(overflow.frame.len(), bytes_max)
    }

    /// Queues a frame that found the outbox full. If the outbox still is, the treatment of slow
    /// members applies that the room's class sets: older publications make way, and a gap tells of
    /// them.
    ///
    /// Returns false if the frame has no place even then: the connection is a slow consumer, to be
    /// closed.
    pub fn push_again(&mut self, overflow: &Overflow) -> bool {
        self.outboxes.push_again(overflow)
    }

    /// Lets so many bytes more wait for the connection, until nothing does. Not if as much is
    /// allowed already as a few outboxes hold: a connection that joins again and again without
    /// reading is a slow consumer.
    pub fn allow(&mut self, slot: Slot, bytes: usize) {
        self.outboxes.allow(slot, bytes);
    }

    /// Returns whether more than the limit may wait for the connection.
    pub fn has_allowance(&self, slot: Slot) -> bool {
        let state = self.outboxes.connections[slot].state;
        state.has(MemberState::ALLOWED)
    }
}
