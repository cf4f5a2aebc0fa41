//! A table that grows without moving: what a core keeps for each of its connections.

use std::ops::{Index, IndexMut};

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
    /// An empty table.
    pub const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        match self.blocks.split_last() {
            Some((last, full)) => full.len() * BLOCK_LEN + last.len(),
            None => 0,
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds a slot.
    pub fn push(&mut self, value: T) {
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
    }

    /// The value in a slot, if there is that slot.
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.blocks.get(slot / BLOCK_LEN)?.get(slot % BLOCK_LEN)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.blocks
            .get_mut(slot / BLOCK_LEN)?
            .get_mut(slot % BLOCK_LEN)
    }

    /// All values, from slot 0 on.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: usize) -> &T {
        &self.blocks[slot / BLOCK_LEN][slot % BLOCK_LEN]
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: usize) -> &mut T {
        &mut self.blocks[slot / BLOCK_LEN][slot % BLOCK_LEN]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_their_values_and_their_places_while_the_table_grows() {
        let mut slots = Slots::new();
        slots.push(0);
        let first: *const usize = &raw const slots[0];
        for value in 1..1000 {
            slots.push(value);
            assert_eq!(slots.len(), value + 1);
        }
        assert!(slots.iter().copied().eq(0..1000));
        assert_eq!((slots.get(999), slots.get(1000)), (Some(&999), None));
        assert_eq!(first, &raw const slots[0]);
    }
}
