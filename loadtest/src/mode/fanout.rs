//! Publications to rooms, as many as there may be under way or by the clock.

use clap::Args;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::failure::Failure;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `fanout`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications under way in all, spread evenly over the publishers [default: one per
    /// publisher]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: Option<u32>,

    /// Publications per second in all; latency counts from when each was due, so that a stall is
    /// not hidden
    #[arg(long, value_name = "PER_SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "fanout"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        let group = match self.rate {
            Some(per_second) => self.rooms.open(per_second)?,
            None => self.rooms.closed(self.window)?,
        };
        Ok(vec![group])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        run.measure_and_report()
    }
}
