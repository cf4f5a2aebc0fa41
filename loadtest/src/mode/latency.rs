//! Publications by the clock, far below what the server can do: how late they are.

use clap::Args;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::failure::Failure;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `latency`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all; latency counts from when each was due, so that a stall is
    /// not hidden
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        run.measure_and_report()
    }
}
