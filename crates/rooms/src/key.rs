//! What a room is found by: whose it is, and its name.

/// Whose rooms. Two rooms of one name in two spaces are two rooms.
///
/// Rooms of every space but the [default](Self::DEFAULT) keep nothing beside their members, whatever
/// the class of their name says: they have no history, remember no keys, are not written down, and end
/// with their last member. What happens to slow members, and how large a publication may be, follows the
/// class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(pub u64);

impl Space {
    /// The space of a room that is named by its name alone.
    pub const DEFAULT: Self = Self(0);
}

/// A room by its name: what the table looks it up by.
///
/// # Examples
///
/// ```
/// use throng_rooms::{RoomKey, Space};
///
/// assert_eq!(RoomKey::from("tea"), RoomKey::new(Space::DEFAULT, "tea"));
/// assert_ne!(RoomKey::from("tea"), RoomKey::new(Space(7), "tea"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey<'a> {
    /// Whose room.
    pub space: Space,
    /// What it is called there.
    pub name: &'a str,
}

impl<'a> RoomKey<'a> {
    /// The room of this name in a space.
    pub const fn new(space: Space, name: &'a str) -> Self {
        Self { space, name }
    }
}

impl<'a> From<&'a str> for RoomKey<'a> {
    /// In the default space.
    fn from(name: &'a str) -> Self {
        Self::new(Space::DEFAULT, name)
    }
}

impl<'a> From<&'a String> for RoomKey<'a> {
    /// In the default space.
    fn from(name: &'a String) -> Self {
        Self::new(Space::DEFAULT, name)
    }
}
