//! The command line: flags, their units and defaults, and what does not go together.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::compare;
use crate::failure::Failure;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::process::ServerProcess;
use crate::scenario::{Group, Mode, Pacing, Scenario};
use crate::target::Target;
use crate::wire::WireFlags;

/// Loads a WebSocket server with rooms full of members, and checks and times every delivery.
///
/// A publication is under way from the moment it is written until the last member of its room has
/// it. Give --window to keep that many under way (closed loop), or --rate to publish by the clock
/// (open loop). Exit code: 0 if every delivery arrived once and in order, 1 if not, 2 if the run
/// could not be done.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,

    /// Address of the server; only 127.0.0.0/8 and ::1 without --i-own-this-server
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    url: String,

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

    /// Publications under way in all, spread evenly over the publishers [default: one per
    /// publisher]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: Option<u32>,

    /// Publications per second in all; latency counts from when each was due, so that a stall is
    /// not hidden
    #[arg(long, value_name = "PER_SECOND", conflicts_with_all = ["idle", "neighbour"], value_parser = parse_rate)]
    rate: Option<f64>,

    /// Length of a publication's JSON, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_payload_bytes)]
    payload: usize,

    /// How long deliveries are counted, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_measured)]
    seconds: Duration,

    /// How long publications go out before that, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    warmup: Duration,

    /// The server's process: its and its children's CPU time and memory are measured
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// CPU to run this program on; keep it off the server's [default: any]
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// Only connect and join, and measure the server's memory per connection; at the end one
    /// publication to each room proves that everybody is there
    #[arg(long, conflicts_with_all = ["neighbour", "window"])]
    idle: bool,

    /// With --idle, how long the server is left alone before its memory is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds, requires = "idle")]
    settle: Duration,

    /// Measure the latency of a small room (10 members, 20 publications per second) alone, and
    /// again while the rooms of the other flags are flooded
    #[arg(long)]
    neighbour: bool,

    /// Print one JSON object and not a text
    #[arg(long)]
    pub(crate) json: bool,

    /// Allow a server that is not on this machine
    #[arg(long)]
    i_own_this_server: bool,

    #[command(flatten)]
    wire: WireFlags,
}

/// What else there is to do than one run.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    Compare(compare::Options),
    /// Only for this program's own use.
    #[command(hide = true)]
    Pinned(compare::pinned::Options),
}

/// Everything that a run needs to know.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What to do.
    pub(crate) scenario: Scenario,
    /// To whom.
    pub(crate) target: Target,
    /// Whose resources to measure.
    pub(crate) server: Option<ServerProcess>,
    /// Where to run.
    pub(crate) pin: Option<usize>,
}

/// More sockets than one machine's addresses and memory are good for.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Sequence numbers to keep, of 4 bytes each.
const LANES_MAX: u64 = 200_000_000;

/// The small room beside a flood: enough members for a percentile over ten seconds (2,000
/// deliveries), far too few publications to load anybody.
const SMALL_ROOM: Group = Group {
    rooms: 1,
    members_per_room: 10,
    publishers: 1,
    pacing: Pacing::Open { per_second: 20.0 },
    urgent: true,
};

impl Args {
    /// Checks what the flags say together.
    pub(crate) fn setup(&self) -> Result<Setup, Failure> {
        let scenario = self.scenario()?;
        let wire = self.wire.wire()?;
        if !wire.names_rooms() && scenario.rooms() > 1 {
            return Err(Failure::Arguments(
                "without {room} in --publish there is one room, so --rooms is 1",
            ));
        }
        let target = Target::resolve(&self.url, self.i_own_this_server, wire)?;
        let server = self.server_pid.map(ServerProcess::new);
        Ok(Setup {
            scenario,
            target,
            server,
            pin: self.pin,
        })
    }

    fn scenario(&self) -> Result<Scenario, Failure> {
        let mode = match (self.idle, self.neighbour) {
            (true, _) => Mode::Idle,
            (_, true) => Mode::Neighbour,
            _ => Mode::FanOut,
        };
        let mut groups = vec![self.group()?];
        if mode == Mode::Neighbour {
            groups.insert(0, SMALL_ROOM);
        }
        let scenario = Scenario {
            mode,
            groups,
            payload_bytes: self.payload,
            measured: self.seconds,
            warmup: self.warmup,
            settle: self.settle,
        };
        if scenario.connections() > CONNECTIONS_MAX {
            return Err(Failure::Arguments(
                "--rooms times --members is at most 1,000,000",
            ));
        }
        Ok(scenario)
    }

    fn group(&self) -> Result<Group, Failure> {
        let publishers = match (self.publishers, self.window) {
            (Some(publishers), _) => publishers,
            (None, Some(window)) => self.rooms.min(window),
            (None, None) => self.rooms,
        };
        let pacing = match self.rate {
            Some(per_second) => Pacing::Open { per_second },
            None => Pacing::Closed {
                window: self.window.unwrap_or(publishers),
            },
        };
        let group = Group {
            rooms: self.rooms,
            members_per_room: self.members,
            publishers,
            pacing,
            urgent: false,
        };
        if u64::from(publishers) > group.connections() {
            return Err(Failure::Arguments(
                "--publishers is at most --rooms times --members",
            ));
        }
        if matches!(pacing, Pacing::Closed { window } if window < publishers) {
            return Err(Failure::Arguments(
                "--window is at least --publishers, one for each",
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

/// A publication's number has 32 bits; an hour at a million per second fits.
const SECONDS_MAX: f64 = 3600.0;

/// The most that a loop of microseconds per publication can be asked for.
const RATE_MAX: f64 = 1_000_000.0;

/// Payloads over this are not what rooms are for, and servers refuse them.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("not between 0 and {SECONDS_MAX} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_measured(text: &str) -> Result<Duration, String> {
    let measured = parse_seconds(text)?;
    if measured.is_zero() {
        return Err("nothing can be counted in no time".to_owned());
    }
    Ok(measured)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.001..=RATE_MAX).contains(&rate) {
        return Err(format!("not between 0.001 and {RATE_MAX} per second"));
    }
    Ok(rate)
}

fn parse_payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text
        .parse()
        .map_err(|_| "not a number of bytes".to_owned())?;
    if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "not between {PAYLOAD_BYTES_MIN} and {PAYLOAD_BYTES_MAX} bytes"
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn group(flags: &str) -> Result<Group, Failure> {
        let args = Args::try_parse_from(format!("loadtest {flags}").split_whitespace()).unwrap();
        args.scenario().map(|scenario| scenario.groups[0])
    }

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_usual_scenarios_can_be_said() {
        let one = group("--members 1000 --window 16").unwrap();
        assert_eq!(
            (one.publishers, one.pacing),
            (1, Pacing::Closed { window: 16 })
        );
        let many = group("--rooms 200 --members 10 --publishers 50").unwrap();
        assert_eq!(
            (many.publishers, many.pacing),
            (50, Pacing::Closed { window: 50 })
        );
        let few = group("--rooms 200 --members 10 --window 8").unwrap();
        assert_eq!(
            (few.publishers, few.pacing),
            (8, Pacing::Closed { window: 8 })
        );
        let open = group("--rate 20 --publishers 3").unwrap();
        assert_eq!(
            (open.publishers, open.pacing),
            (3, Pacing::Open { per_second: 20.0 })
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(group("--publishers 4 --window 3").is_err());
        assert!(group("--members 2 --publishers 3").is_err());
        assert!(group("--rooms 1001 --members 1000").is_err());
        for flags in [
            "--payload 33",
            "--seconds 0",
            "--seconds nan",
            "--rate 0",
            "--idle --rate 5",
        ] {
            let args = format!("loadtest {flags}");
            assert!(
                Args::try_parse_from(args.split_whitespace()).is_err(),
                "{flags}"
            );
        }
    }
}
