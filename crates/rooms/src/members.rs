//! The members of one room, counted by core and wire.

use smallvec::SmallVec;

use crate::id::{CoreId, Wire, WireSet};

/// The members of a room on one core that speak one wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberCount {
    pub(crate) core: CoreId,
    pub(crate) wire: Wire,
    pub(crate) count: u32,
}

/// The member counts of a room; only of cores and wires that have members.
#[derive(Debug, Default)]
pub(crate) struct Members(SmallVec<[MemberCount; 2]>);

impl Members {
    /// Counts a member in; returns whether it is the first.
    pub(crate) fn count_in(&mut self, core: CoreId, wire: Wire) -> bool {
        let is_first = self.is_empty();
        match self.0.iter_mut().find(|members| members.is_of(core, wire)) {
            Some(members) => members.count += 1,
            None => self.0.push(MemberCount {
                core,
                wire,
                count: 1,
            }),
        }
        is_first
    }

    /// Counts members out.
    pub(crate) fn count_out(&mut self, MemberCount { core, wire, count }: MemberCount) {
        let Some(index) = self.0.iter().position(|members| members.is_of(core, wire)) else {
            debug_assert!(false, "a member that is released was counted");
            return;
        };
        self.0[index].count -= count;
        if self.0[index].count == 0 {
            self.0.swap_remove(index);
        }
    }

    /// Returns the counts, one for each core and wire.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &MemberCount> {
        self.0.iter()
    }

    /// Returns how many there are.
    pub(crate) fn total(&self) -> u32 {
        self.iter().map(|members| members.count).sum()
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the wires that they speak.
    pub(crate) fn wires(&self) -> WireSet {
        self.iter().map(|members| members.wire).collect()
    }

    /// Returns the cores that have some, each once.
    pub(crate) fn cores(&self) -> SmallVec<[CoreId; 4]> {
        let mut cores: SmallVec<[CoreId; 4]> = self.iter().map(|members| members.core).collect();
        cores.sort_unstable();
        cores.dedup();
        cores
    }
}

impl MemberCount {
    fn is_of(&self, core: CoreId, wire: Wire) -> bool {
        self.core == core && self.wire == wire
    }
}
