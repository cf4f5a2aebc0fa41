//! Connections that only wait: what one costs in memory, and that all are there at the end.

use std::time::Duration;

use clap::Args;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::failure::Failure;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `idle`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// How long the server is left alone before its memory is measured, in seconds
    #[arg(long, value_name = "TIME", default_value = "2", value_parser = units::duration)]
    settle: Duration,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![self.rooms.closed(None)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.watch();
        run.connect()?;
        run.rest(self.settle)
    }
}
