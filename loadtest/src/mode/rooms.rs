//! The flags that modes with rooms have in common, and what does not go together in them.

use anyhow::{Result, ensure};
use clap::Args;

use crate::cli::units;
use crate::scenario::{Group, Pacing};

/// Rooms that are alike.
#[derive(Args, Clone, Debug)]
pub(crate) struct Rooms {
    /// Number of rooms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::count())]
    rooms: u32,

    /// Connections in each room
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = units::count())]
    members: u32,

    /// Connections that publish, over all rooms; with fewer publishers than rooms, each serves its
    /// share of the rooms in turn [default: one per room, or --window if that is less]
    #[arg(long, value_name = "N", value_parser = units::count())]
    publishers: Option<u32>,
}

/// More sockets than one machine's addresses and memory are good for.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Sequence numbers to keep, of 4 bytes each.
const LANES_MAX: u64 = 200_000_000;

/// Refuses what no machine has addresses for.
pub(super) fn check_connections(rooms: u32, members: u32) -> Result<()> {
    ensure!(
        u64::from(rooms) * u64::from(members) <= CONNECTIONS_MAX,
        "conflicting flags: --rooms times --members is at most 1,000,000"
    );
    Ok(())
}

impl Rooms {
    /// Describes rooms in which `window` publications are under way in all, one per publisher if
    /// nobody says.
    pub(super) fn closed(&self, window: Option<u32>) -> Result<Group> {
        let publishers = self
            .publishers
            .unwrap_or_else(|| self.rooms.min(window.unwrap_or(u32::MAX)));
        let window = window.unwrap_or(publishers);
        ensure!(
            window >= publishers,
            "conflicting flags: --window is at least --publishers, one for each"
        );
        self.group(publishers, Pacing::Closed { window })
    }

    /// Describes rooms that are published to by the clock.
    pub(super) fn open(&self, per_second: f64) -> Result<Group> {
        let publishers = self.publishers.unwrap_or(self.rooms);
        self.group(publishers, Pacing::Open { per_second })
    }

    fn group(&self, publishers: u32, pacing: Pacing) -> Result<Group> {
        let group = Group::alike(self.rooms, self.members, publishers, pacing);
        check_connections(self.rooms, self.members)?;
        ensure!(
            u64::from(publishers) <= group.connections(),
            "conflicting flags: --publishers is at most --rooms times --members"
        );
        let lanes = group.connections() * u64::from(publishers.div_ceil(self.rooms));
        ensure!(
            lanes <= LANES_MAX,
            "conflicting flags: every member counts every publisher of its room, at most \
             200,000,000 in all; try fewer --publishers"
        );
        Ok(group)
    }
}
