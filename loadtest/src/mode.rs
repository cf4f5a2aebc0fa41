//! The kinds of run. Each is one file, which owns its flags, its rooms, what it does in which
//! order, and its section of the report; a new one is added to the [`Mode`] enum and to
//! [`Mode::load`].
//!
//! The flags are also the keys of a scenario's file: both are read by the same parser.

pub(crate) mod churn;
pub(crate) mod flood;
pub(crate) mod knee;
pub(crate) mod plain;
pub(crate) mod recovery;
mod rooms;
pub(crate) mod slow;
pub(crate) mod soak;
pub(crate) mod storm;

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::run::Run;
use crate::scenario::Group;

/// What is done and reported.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Mode {
    /// Lets connections come and go: what a visit takes, and whether anybody misses anything
    ///
    /// A tenth of each room's members stay and publish 10 times a second; the others are visitors
    /// who come at --rate per second, publish, and leave, cleanly or by a reset.
    Churn(churn::Options),
    /// Publishes to rooms: how many deliveries, how late, at what cost
    ///
    /// With --window as many publications are under way at any time (closed loop), with --rate they
    /// go out by the clock (open loop).
    Fanout(plain::Fanout),
    /// Lets clients send as fast as they can: what that does to the latency of a small quiet room
    ///
    /// The small room has 10 members and 20 publications per second. It is measured alone, and
    /// beside a flood of each of --kind for --seconds; so is a page, over HTTP.
    Flood(flood::Options),
    /// Only connects and joins: what a connection costs in memory
    ///
    /// The server is to be fresh: one that has been used keeps memory for those to come. At the end
    /// one publication to each room proves that everybody is there.
    Idle(plain::Idle),
    /// Publishes faster and faster: the last rate at which nothing is late or lost
    ///
    /// Doubles the rate until it breaks a limit, and halves what is unknown until that is 5 % of
    /// the rate. A rate breaks if its 99th percentile is above --p99, if anything is lost, or if
    /// less is published than asked for; the first and the last are tried twice. Before each step
    /// publications go out for a tenth of its time. After --seconds no other step is begun; if no
    /// rate broke until then, the report says that no limit was found, and how far it was looked
    /// for.
    Knee(knee::Options),
    /// Publishes by the clock: how late each member has it, and the last one
    Latency(plain::Latency),
    /// Floods huge rooms: what that does to the latency of a small quiet one
    ///
    /// The small room has 10 members and 20 publications per second. It is measured alone, and
    /// again while the rooms of the flags are flooded.
    Neighbour(plain::Neighbour),
    /// Brings many back who missed something: what that does to the latency of those who were there
    ///
    /// Only --wire throng can do that. Of each room --live members stay, with who publishes; the
    /// others drop, miss --missed publications, and come back evenly spread over --within. The
    /// latency of those who stayed, and of 10 members of another room, is measured while everybody
    /// is there and again while the others recover.
    Recovery(recovery::Options),
    /// Lets some members stop reading: what becomes of them, of the others, and of memory
    ///
    /// First everybody reads, then the slow ones stop, at the same rate. Everybody else must
    /// receive everything; what the slow ones find in their sockets at the end is looked at. On
    /// --wire throng everything that is not there must have been announced by a gap, in rooms that
    /// skip.
    Slow(slow::Options),
    /// Publishes at one rate for long: whether latency or memory drift
    ///
    /// Compares the 99th percentile of the first tenth of the time with that of the last, and says
    /// by how much the server's memory grows in an hour. Ctrl-C ends it with what was measured so
    /// far.
    Soak(soak::Options),
    /// Drops everybody at once and brings them back: how long until all are served again
    ///
    /// Before the first storm and after each one deliveries are measured for --seconds, at --rate.
    /// On --wire throng who publishes stays and goes on, and the others come back for what they
    /// missed: every publication must reach everybody once. With --restart-command the server is
    /// restarted, and everybody comes back when it says.
    Storm(storm::Options),
}

/// What a mode has to know.
pub(crate) trait Load: Debug {
    /// Returns the rooms that it loads.
    ///
    /// # Errors
    ///
    /// That flags do not fit together.
    fn groups(&self) -> Result<Vec<Group>>;

    /// Returns how long deliveries are counted when nobody says.
    fn measured(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Returns how many connections there may be beside the rooms' members.
    fn visitors_max(&self) -> u32 {
        0
    }

    /// Returns whether members come back for what they missed, so that the wire must have
    /// positions.
    fn needs_positions(&self) -> bool {
        false
    }

    /// Returns how long a publication's JSON is when nobody says: what one of a chat has.
    fn payload_bytes(&self) -> usize {
        64
    }

    /// Does it, from the first connection to the last figure.
    ///
    /// # Errors
    ///
    /// Why there is nothing to report.
    fn run(&self, run: &mut Run<'_>) -> Result<()>;
}

impl Mode {
    /// Returns its name on the command line and in reports, and the file that knows it.
    pub(crate) fn load(&self) -> (&'static str, &dyn Load) {
        match self {
            Self::Churn(options) => ("churn", options),
            Self::Fanout(options) => ("fanout", options),
            Self::Flood(options) => ("flood", options),
            Self::Idle(options) => ("idle", options),
            Self::Knee(options) => ("knee", options),
            Self::Latency(options) => ("latency", options),
            Self::Neighbour(options) => ("neighbour", options),
            Self::Recovery(options) => ("recovery", options),
            Self::Slow(options) => ("slow", options),
            Self::Soak(options) => ("soak", options),
            Self::Storm(options) => ("storm", options),
        }
    }
}
