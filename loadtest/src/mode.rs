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
    /// Connects and disconnects visitors: what a visit costs, and whether anybody misses anything
    ///
    /// A tenth of each room's members stay and publish 10 times a second. The others are visitors:
    /// they arrive at --rate per second, publish, and leave, with a close frame or a reset.
    Churn(churn::Options),
    /// Publishes to rooms: how many deliveries, how late, at what cost
    ///
    /// With --window, that many publications are under way at any time (closed loop). With --rate,
    /// they go out by the clock (open loop).
    Fanout(plain::Fanout),
    /// Floods the server from a few clients: what that does to the latency of a small quiet room
    ///
    /// The small room has 10 members and 20 publications per second. Its latency, and that of an
    /// HTTP request, is measured alone and then beside a flood of each --kind, for --seconds each.
    Flood(flood::Options),
    /// Only connects and joins: what a connection costs in memory
    ///
    /// Use a freshly started server: a used one keeps memory for later connections. At the end, one
    /// publication to each room proves that everybody is there.
    Idle(plain::Idle),
    /// Raises the rate until something breaks: the highest rate without loss or delay
    ///
    /// Doubles the rate until it breaks a limit, then bisects to 5 %. A rate breaks if its 99th
    /// percentile is above --p99, if anything is lost, or if less is published than asked for. A
    /// step that is late or falls behind is tried twice. Each step warms up for a tenth of its
    /// time. After --seconds no further step begins; if no rate broke until then, the report says
    /// that no limit was found, and the highest rate tried.
    Knee(knee::Options),
    /// Publishes by the clock: how late each member receives it, and the last member
    Latency(plain::Latency),
    /// Floods huge rooms: what that does to the latency of a small quiet one
    ///
    /// The small room has 10 members and 20 publications per second. Its latency is measured alone,
    /// and again while the rooms that the flags describe are flooded.
    Neighbour(plain::Neighbour),
    /// Brings many members back for what they missed: what that does to those who stayed
    ///
    /// Needs --wire throng. In each room, --live members and the publishers stay. The others drop,
    /// miss --missed publications, and return evenly spread over --within. The latency of those who
    /// stayed, and of 10 members of another room, is measured before and during the recovery.
    Recovery(recovery::Options),
    /// Lets some members stop reading: what happens to them, to the others, and to memory
    ///
    /// First everybody reads; then the slow members stop, at the same rate. Everybody else must
    /// receive everything. At the end the slow members' sockets are read and checked. With --wire
    /// throng, in rooms that skip, a gap must have announced everything that is missing.
    Slow(slow::Options),
    /// Publishes at one rate for a long time: whether latency or memory drift
    ///
    /// Compares the 99th percentile of the first tenth of the time with that of the last, and
    /// reports how much the server's memory grows per hour. Ctrl-C ends the run with a report.
    Soak(soak::Options),
    /// Drops everybody at once and brings them back: how long until all are served again
    ///
    /// Measures deliveries at --rate for --seconds before the first storm and after each. With
    /// --wire throng, publishers stay and go on, and the others return for what they missed: every
    /// publication must reach everybody once. With --restart-command the server is restarted, and
    /// everybody returns when the server says.
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
