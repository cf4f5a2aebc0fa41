//! A small quiet room beside flooded ones: what the flood does to its latency.

use clap::Args;

use super::Load;
use super::rooms::Rooms;
use crate::failure::Failure;
use crate::report::{Latency, Neighbour};
use crate::run::Run;
use crate::scenario::{Group, Pacing};

/// The flags of `neighbour`: the flooded rooms.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications under way in all in the flooded rooms, spread evenly over the publishers
    /// [default: one per publisher]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: Option<u32>,
}

/// The small room: enough members for a percentile over ten seconds (2,000 deliveries), far too few
/// publications to load anybody.
pub(super) const SMALL_ROOM: Group = Group {
    rooms: 1,
    members_per_room: 10,
    publishers: 1,
    pacing: Pacing::Open { per_second: 20.0 },
    urgent: true,
};

/// Their places among the groups.
const SMALL: usize = 0;
const FLOODED: usize = 1;

impl Load for Options {
    fn name(&self) -> &'static str {
        "neighbour"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![SMALL_ROOM, self.rooms.closed(self.window)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        let alone = run.measure(&[SMALL])?;
        let flooded = run.measure(&[SMALL, FLOODED])?;
        let flood = run.latencies_unwatched(FLOODED);
        let (each, last) = (Latency::of(&flood.each_ns), Latency::of(&flood.last_ns));
        run.report.set_interval(&flooded.interval);
        run.report.set_latencies(each, last);
        run.report.neighbour = Some(Neighbour {
            alone: Latency::of(&alone.latencies.each_ns),
            flooded: Latency::of(&flooded.latencies.each_ns),
        });
        Ok(())
    }
}
