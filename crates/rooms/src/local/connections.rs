//! The connections of one core, by slot.

use std::ops::{Index, IndexMut};

use super::member::{Member, MemberState};
use crate::id::{ConnectionId, CoreId, SLOT_COUNT_MAX, Slot, Wire};
use crate::slots::Slots;

/// The connections of one core, and the slots that are free.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) core: CoreId,
    members: Slots<Member>,
    free: Vec<Slot>,
    open_count: usize,
}

impl Connections {
    /// Creates the table of a core without connections.
    pub(super) const fn new(core: CoreId) -> Self {
        Self {
            core,
            members: Slots::new(),
            free: Vec::new(),
            open_count: 0,
        }
    }

    /// Takes in a connection; none if all slots are taken.
    pub(super) fn open(&mut self, wire: Wire) -> Option<ConnectionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.members.len() < SLOT_COUNT_MAX => self.members.push(Member::default()),
            None => return None,
        };
        let member = &mut self[slot];
        member.state = MemberState(MemberState::OPEN);
        member.wire = wire;
        self.open_count += 1;
        Some(self.id_of(slot))
    }

    /// Frees the slot of a connection, with everything that was queued for it.
    pub(super) fn close(&mut self, slot: Slot) {
        let member = &mut self[slot];
        debug_assert!(
            member.state.has(MemberState::OPEN),
            "a connection is closed once"
        );
        *member = Member {
            generation: member.generation.wrapping_add(1),
            wire: member.wire,
            ..Member::default()
        };
        self.open_count -= 1;
        self.free.push(slot);
    }

    /// Returns the slot of a connection, if it is open and not shut.
    #[inline]
    pub(super) fn slot_of(&self, connection: ConnectionId) -> Option<Slot> {
        let slot = connection.slot();
        let member = self.members.get(slot)?;
        (member.state.is_addressable() && self.id_of(slot) == connection).then_some(slot)
    }

    /// Returns the id of the connection in the slot.
    #[inline]
    pub(super) fn id_of(&self, slot: Slot) -> ConnectionId {
        let member = &self[slot];
        ConnectionId::new(self.core, slot, member.wire, member.generation)
    }

    /// Returns how many connections are open.
    pub(super) const fn open_count(&self) -> usize {
        self.open_count
    }

    /// Returns every slot, whether a connection has it or not.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        self.members.slots()
    }
}

impl Index<Slot> for Connections {
    type Output = Member;

    #[inline]
    fn index(&self, slot: Slot) -> &Member {
        &self.members[slot]
    }
}

impl IndexMut<Slot> for Connections {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Member {
        &mut self.members[slot]
    }
}
