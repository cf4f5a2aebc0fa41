//! Names of rooms: a space, and a name in it.

/// A namespace of rooms. The same name in two spaces is two rooms.
///
/// Rooms outside the [default](Self::DEFAULT) space retain nothing beside their members, whatever
/// class their name has: no history, no keys, no journal. They end with their last member. The
/// class still decides how slow members are treated and how large a publication may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(pub u64);

impl Space {
    /// The space of rooms that are known by their name alone.
    pub const DEFAULT: Self = Self(0);
}

/// The full name of a room. The table looks rooms up by it.
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
    /// The room's space.
    pub space: Space,
    /// The room's name in that space.
    pub name: &'a str,
}

impl<'a> RoomKey<'a> {
    /// Creates the key of a room in a space.
    pub const fn new(space: Space, name: &'a str) -> Self {
        Self { space, name }
    }
}

impl<'a> From<&'a str> for RoomKey<'a> {
    /// Creates the key of a room in the default space.
    fn from(name: &'a str) -> Self {
        Self::new(Space::DEFAULT, name)
    }
}

impl<'a> From<&'a String> for RoomKey<'a> {
    /// Creates the key of a room in the default space.
    fn from(name: &'a String) -> Self {
        Self::new(Space::DEFAULT, name)
    }
}

/// A room's key with its hash, which is computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) hash: u64,
    pub(crate) key: RoomKey<'a>,
}
