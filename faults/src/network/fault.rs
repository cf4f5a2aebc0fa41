//! What can happen to a link.

use std::time::Duration;

/// Something that happens to one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both ends get a FIN; what was under way is lost.
    Cut,
    /// Half of the next chunk in a direction is delivered, and the link stalls there, both ways.
    Halve {
        /// Of which direction.
        direction: Direction,
        /// For how long.
        time: Duration,
        /// What comes then.
        then: Then,
    },
    /// One end gets an RST. The other hears nothing for so long, and then gets one too.
    Orphan {
        /// The end that hears nothing.
        side: Side,
        /// For how long.
        time: Duration,
    },
    /// Both ends get an RST; what was under way is lost.
    Reset,
    /// Not more than so many bytes a second are forwarded each way.
    Slow {
        /// How many.
        bytes_per_second: u32,
        /// For how long.
        time: Duration,
    },
    /// Nothing is forwarded.
    Stall {
        /// In which directions.
        directions: Directions,
        /// For how long.
        time: Duration,
        /// What comes then.
        then: Then,
    },
}

/// What comes after a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on, and nothing was lost.
    Continue,
    /// [`Fault::Cut`].
    Cut,
    /// [`Fault::Reset`].
    Reset,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the client.
    Down,
    /// To the server.
    Up,
}

/// Where bytes go, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Both.
    Both,
    /// One.
    One(Direction),
}

impl Directions {
    /// Whether this is among them.
    pub fn include(self, direction: Direction) -> bool {
        self == Self::Both || self == Self::One(direction)
    }
}

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}
