//! A table that grows without moving, for what a core keeps of each of its connections.

use std::ops::{Index, IndexMut};

use crate::id::Slot;

/// Values by slot, in blocks.
///
/// A `Vec` that doubles copies everything in one turn, and leaves behind as much memory as it
/// holds, which the allocator may keep. Here growing adds one block and moves nothing.
#[derive(Debug)]
pub struct Slots<T> {
    blocks: Vec<Vec<T>>,
}

/// Values in a block: a few pages of memory for what is kept of a connection.
const BLOCK_LEN: usize = 256;

impl<T> Slots<T> {
    /// Creates an empty table.
    pub const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Returns how many slots there are.
    pub fn len(&self) -> usize {
        match self.blocks.split_last() {
            Some((last, full)) => full.len() * BLOCK_LEN + last.len(),
            None => 0,
        }
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds a slot, and returns it.
    pub fn push(&mut self, value: T) -> Slot {
        let slot = Slot::new(self.len());
        if self
            .blocks
            .last()
            .is_none_or(|last| last.len() == BLOCK_LEN)
        {
            self.blocks.push(Vec::with_capacity(BLOCK_LEN));
        }
        if let Some(last) = self.blocks.last_mut() {
            last.push(value);
        }
        slot
    }

    /// Returns the value in a slot, if the table has the slot.
    pub fn get(&self, slot: Slot) -> Option<&T> {
        let index = slot.index();
        self.blocks.get(index / BLOCK_LEN)?.get(index % BLOCK_LEN)
    }

    /// Returns the value in a slot, to change it, if the table has the slot.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let index = slot.index();
        self.blocks
            .get_mut(index / BLOCK_LEN)?
            .get_mut(index % BLOCK_LEN)
    }

    /// Returns every slot, from the first on.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<T> {
        (0..self.len()).map(Slot::new)
    }

    /// Returns all values, from the first slot on.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<Slot> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        let index = slot.index();
        &self.blocks[index / BLOCK_LEN][index % BLOCK_LEN]
    }
}

impl<T> IndexMut<Slot> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let index = slot.index();
        &mut self.blocks[index / BLOCK_LEN][index % BLOCK_LEN]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_their_values_and_their_places_while_the_table_grows() {
        let mut slots = Slots::new();
        assert_eq!(slots.push(0), Slot(0));
        let first: *const usize = &raw const slots[Slot(0)];
        for value in 1..1000 {
            assert_eq!(slots.push(value), Slot::new(value));
            assert_eq!(slots.len(), value + 1);
        }
        assert!(slots.iter().copied().eq(0..1000));
        assert!(slots.slots().eq((0..1000).map(Slot)));
        let ends = [slots.get(Slot(999)), slots.get(Slot(1000))];
        assert_eq!(ends, [Some(&999), None]);
        assert_eq!(first, &raw const slots[Slot(0)]);
    }
}
