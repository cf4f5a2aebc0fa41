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
    ///
    /// With --window as many publications are under way at any time (closed loop), with --rate they
    /// go out by the clock (open loop).
    Fanout(fanout::Options),
    /// Only connects and joins: what a connection costs in memory
    ///
    /// At the end one publication to each room proves that everybody is there.
    Idle(idle::Options),
    /// Publishes faster and faster: the last rate at which nothing is late or lost
    ///
    /// Doubles the rate until it breaks a limit, and halves what is unknown until that is 5 % of the
    /// rate. A rate breaks if its 99th percentile is above --p99, if anything is lost, or if less is
    /// published than asked for; the first and the last are tried twice. Before each step
    /// publications go out for a tenth of its time. After --seconds no other step is begun.
    Knee(knee::Options),
    /// Publishes by the clock: how late each member has it, and the last one
    Latency(latency::Options),
    /// Floods huge rooms: what that does to the latency of a small quiet one
    ///
    /// The small room has 10 members and 20 publications per second. It is measured alone, and again
    /// while the rooms of the flags are flooded.
    Neighbour(neighbour::Options),
    /// Publishes at one rate for long: whether latency or memory drift
    ///
    /// Compares the 99th percentile of the first tenth of the time with that of the last, and says by
    /// how much the server's memory grows in an hour. Ctrl-C ends it with what was measured so far.
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
