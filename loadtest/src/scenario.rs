//! What to load the server with: rooms, and when publications go out in them.

use std::time::Duration;

/// The load of a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The name it was asked for by, if it has one.
    pub(crate) name: Option<String>,
    /// The rooms; the last are those that the flags describe.
    pub(crate) groups: Vec<Group>,
    /// The length of a publication's JSON.
    pub(crate) payload_bytes: usize,
    /// How long deliveries are counted.
    pub(crate) measured: Duration,
    /// How long publications go out before they are counted.
    pub(crate) warmup: Duration,
}

impl Scenario {
    /// Returns how many rooms there are.
    pub(crate) fn rooms(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.rooms)).sum()
    }

    /// Returns how many sockets all this takes.
    pub(crate) fn connections(&self) -> u64 {
        self.groups.iter().map(Group::connections).sum()
    }
}

/// Rooms that are alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// How many rooms.
    pub(crate) rooms: u32,
    /// How many connections are in each.
    pub(crate) members_per_room: u32,
    /// How many connections publish at a time, over all the rooms.
    pub(crate) publishers: u32,
    /// When publications go out.
    pub(crate) pacing: Pacing,
    /// Whether these sockets are read before others, so that a latency measured here does not
    /// contain the time that this program takes to read the others.
    pub(crate) urgent: bool,
}

impl Group {
    /// Describes rooms that need not be read before others.
    pub(crate) const fn alike(
        rooms: u32,
        members_per_room: u32,
        publishers: u32,
        pacing: Pacing,
    ) -> Self {
        let urgent = false;
        Self {
            rooms,
            members_per_room,
            publishers,
            pacing,
            urgent,
        }
    }

    /// Returns how many sockets this takes.
    pub(crate) fn connections(&self) -> u64 {
        u64::from(self.rooms) * u64::from(self.members_per_room)
    }
}

/// What makes the next publication go out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pacing {
    /// The end of an earlier one: `window` are under way at any time.
    Closed {
        /// Publications under way in all, spread evenly over the publishers.
        window: u32,
    },
    /// The clock.
    Open {
        /// Publications a second in all; the publishers take turns.
        per_second: f64,
    },
}
