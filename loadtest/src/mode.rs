//! The kinds of run. Each is one file, which owns its flags, its rooms, what it does in which order,
//! and its section of the report; a new one is added to the [`Mode`] enum and to [`Mode::load`].
//!
//! The flags are also the keys of a scenario's file: both are read by the same parser.

pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod knee;
pub(crate) mod latency;
pub(crate) mod neighbour;
mod rooms;
pub(crate) mod soak;

use std::fmt::Debug;
use std::time::Duration;

use clap::Subcommand;

use crate::failure::Failure;
use crate::run::Run;
use crate::scenario::Group;

/// What is done and reported.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Mode {
    /// Publishes to rooms: how many deliveries, how late, at what cost
    Fanout(fanout::Options),
    /// Only connects and joins: what a connection costs in memory
    Idle(idle::Options),
    /// Publishes faster and faster: the last rate at which nothing is late or lost
    Knee(knee::Options),
    /// Publishes by the clock: how late each member has it, and the last one
    Latency(latency::Options),
    /// Floods huge rooms: what that does to the latency of a small quiet one
    Neighbour(neighbour::Options),
    /// Publishes at one rate for long: whether latency or memory drift
    Soak(soak::Options),
}

/// What a mode has to know.
pub(crate) trait Load: Debug {
    /// As the command line and reports call it.
    fn name(&self) -> &'static str;

    /// The rooms that it loads.
    ///
    /// # Errors
    ///
    /// [`Failure::Arguments`] if flags do not fit together.
    fn groups(&self) -> Result<Vec<Group>, Failure>;

    /// How long deliveries are counted when nobody says.
    fn measured(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Does it, from the first connection to the last figure.
    ///
    /// # Errors
    ///
    /// Why there is nothing to report.
    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure>;
}

impl Mode {
    /// The file that knows it.
    pub(crate) fn load(&self) -> &dyn Load {
        match self {
            Self::Fanout(options) => options,
            Self::Idle(options) => options,
            Self::Knee(options) => options,
            Self::Latency(options) => options,
            Self::Neighbour(options) => options,
            Self::Soak(options) => options,
        }
    }
}
