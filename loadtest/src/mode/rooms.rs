//! The flags that modes with rooms have in common, and what does not go together in them.

use clap::Args;

use crate::failure::Failure;
use crate::scenario::{Group, Pacing};

/// Rooms that are alike.
#[derive(Args, Clone, Debug)]
pub(crate) struct Rooms {
    /// Number of rooms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,

    /// Connections in each room
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,

    /// Connections that publish at a time, over all rooms; when there are fewer than rooms, each
    /// serves its share of the rooms in turn [default: one per room, or --window if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: Option<u32>,
}

/// More sockets than one machine's addresses and memory are good for.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Sequence numbers to keep, of 4 bytes each.
const LANES_MAX: u64 = 200_000_000;

impl Rooms {
    /// Rooms in which `window` publications are under way in all, one per publisher if nobody says.
    pub(super) fn closed(&self, window: Option<u32>) -> Result<Group, Failure> {
        let publishers = match (self.publishers, window) {
            (Some(publishers), _) => publishers,
            (None, Some(window)) => self.rooms.min(window),
            (None, None) => self.rooms,
        };
        let window = window.unwrap_or(publishers);
        if window < publishers {
            return Err(Failure::Arguments(
                "--window is at least --publishers, one for each",
            ));
        }
        self.group(publishers, Pacing::Closed { window })
    }

    /// Rooms that are published to by the clock.
    pub(super) fn open(&self, per_second: f64) -> Result<Group, Failure> {
        let publishers = self.publishers.unwrap_or(self.rooms);
        self.group(publishers, Pacing::Open { per_second })
    }

    fn group(&self, publishers: u32, pacing: Pacing) -> Result<Group, Failure> {
        let group = Group {
            rooms: self.rooms,
            members_per_room: self.members,
            publishers,
            pacing,
            urgent: false,
        };
        if group.connections() > CONNECTIONS_MAX {
            return Err(Failure::Arguments(
                "--rooms times --members is at most 1,000,000",
            ));
        }
        if u64::from(publishers) > group.connections() {
            return Err(Failure::Arguments(
                "--publishers is at most --rooms times --members",
            ));
        }
        let lanes = group.connections() * u64::from(publishers.div_ceil(self.rooms));
        if lanes > LANES_MAX {
            return Err(Failure::Arguments(
                "every member counts every publisher of its room, at most 200,000,000 in all; try \
                 fewer --publishers",
            ));
        }
        Ok(group)
    }
}
