//! The bounds of each room's history in memory, so that writing never has to read the file.
//!
//! A room that begins again gets another number. Entries below a room's bounds, and all entries of
//! a number that no room has, are dead: they stay in the file until the sweep finds them.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

/// Every room that the store knows.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    ids: HashMap<Arc<str>, i64, RandomState>,
    rooms: HashMap<i64, Room, RandomState>,
}

/// One room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) epoch: u64,
    /// The first offset that is held; `last + 1` if none is.
    pub(crate) first: u64,
    /// The last offset, held or not; 0 if there was none.
    pub(crate) last: u64,
    /// The first offset whose key is remembered.
    pub(crate) first_key: u64,
    /// True if the bounds in the file are older.
    pub(crate) moved: bool,
}

impl Room {
    /// Creates a room without publications, whose next one has the offset.
    pub(crate) const fn new(epoch: u64, next_offset: u64) -> Self {
        Self {
            epoch,
            first: next_offset,
            last: next_offset - 1,
            first_key: 0,
            moved: false,
        }
    }
}

impl Rooms {
    /// Returns the number of a room, and the room.
    pub(crate) fn known(&self, name: &str) -> Option<(i64, Room)> {
        let id = *self.ids.get(name)?;
        Some((id, *self.rooms.get(&id)?))
    }

    /// Returns the room with the number.
    pub(crate) fn by_id(&self, id: i64) -> Option<&Room> {
        self.rooms.get(&id)
    }

    /// Adds a room; returns whether its name and its number were new.
    pub(crate) fn insert(&mut self, name: &Arc<str>, id: i64, room: Room) -> bool {
        let new_name = self.ids.insert(name.clone(), id).is_none();
        self.rooms.insert(id, room).is_none() && new_name
    }

    /// Changes the room with the number, if there is one.
    pub(crate) fn update(&mut self, id: i64, change: impl FnOnce(&mut Room)) {
        if let Some(room) = self.rooms.get_mut(&id) {
            change(room);
        }
    }

    /// Removes a room; returns the number that it had.
    pub(crate) fn remove(&mut self, name: &str) -> Option<i64> {
        let id = self.ids.remove(name)?;
        self.rooms.remove(&id);
        Some(id)
    }

    /// Returns whether an entry is no longer held.
    pub(crate) fn is_dead(&self, id: i64, offset: u64, is_key: bool) -> bool {
        self.rooms.get(&id).is_none_or(|room| {
            let first = if is_key { room.first_key } else { room.first };
            offset < first
        })
    }

    /// Returns how many rooms there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the documentation of the crate says.
    #[test]
    fn a_room_takes_what_it_is_said_to() {
        let named = size_of::<(Arc<str>, i64)>() + size_of::<(i64, Room)>();
        // A table that has just doubled is seven sixteenths full, and has a byte for each place.
        let in_tables = (named + 2) * 16 / 7;

        assert!(in_tables < 200, "{in_tables}");
    }
}
