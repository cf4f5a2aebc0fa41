//! The command line: subcommands, flags, and what they say together.

pub(crate) mod units;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::catalogue;
use crate::compare;
use crate::limits;
use crate::mode::{Mode, plain};
use crate::process::ServerProcess;
use crate::scenario::{Group, Pacing, Scenario};
use crate::sockets;
use crate::target::Target;
use crate::wire::WireFlags;

/// Loads a WebSocket server with rooms full of members, and checks and times every delivery.
///
/// Without a subcommand, the flags are those of `fanout`. Without flags, the scenario big-room runs
/// for 30 seconds. A publication is under way from when it is written until the last member of its
/// room has it: --window keeps that many under way (closed loop), --rate publishes by the clock
/// (open loop).
///
/// Exit code: 0 if every delivery arrived once and in order, 1 if not, 2 if there is no report.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    fanout: plain::Fanout,

    #[command(flatten)]
    timing: Timing,

    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    wire: WireFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Mode(Mode),

    /// Runs a scenario by name, or your own from a file
    #[command(arg_required_else_help = true)]
    Run {
        /// The name or the file, followed by flags of its mode, which override the scenario's
        #[arg(
            value_names = ["NAME|FILE.toml", "FLAGS"],
            num_args = 1..,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            required = true
        )]
        words: Vec<String>,
    },

    /// Runs several servers one at a time under the same load, and compares them
    #[command(disable_help_flag = true)]
    Compare {
        /// See `loadtest compare --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },

    /// Lists the scenarios with what they stand for, or prints one as a file to start from
    Scenarios {
        /// The one to print
        name: Option<String>,
    },
}

/// How long, and how large.
#[derive(Args, Clone, Debug)]
pub(crate) struct Timing {
    /// How long to measure: seconds, or 500ms, 30m, 2h [default: 10 s; 10 minutes for soak, and for
    /// the whole of knee; 30 s without any flags]
    #[arg(long, global = true, value_name = "TIME", value_parser = units::some_duration)]
    seconds: Option<Duration>,

    /// How long to publish before measuring: seconds, or 500ms, 1m
    #[arg(long, global = true, value_name = "TIME", default_value = "2")]
    #[arg(value_parser = units::duration)]
    warmup: Duration,

    /// Length of each publication's payload, in bytes of JSON [default: 64; 16384 for slow]
    #[arg(long, global = true, value_name = "BYTES", value_parser = units::payload_bytes)]
    payload: Option<usize>,
}

/// Where the server is, and where this program.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The server and this machine")]
struct Place {
    /// Address of the server; anything but 127.0.0.0/8 and ::1 needs --i-own-this-server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080/ws"
    )]
    url: String,

    /// Allow a server that is not on this machine
    #[arg(long, global = true)]
    i_own_this_server: bool,

    /// Process whose CPU time and memory are measured, with its children [default: the process of
    /// this machine that listens on the address]
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,

    /// Threads to spread the connections over; one can load any server that has one core
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = units::up_to(256))]
    threads: u32,

    /// CPUs to run on, one per thread, such as 2,3; choose others than the server's [default: any]
    #[arg(long, global = true, value_name = "CPUS", value_delimiter = ',')]
    pin: Vec<usize>,
}

/// What is printed, and where to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Print the report as one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Write the report also as a self-contained HTML page with plots
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Print the progress to standard error every five seconds; a terminal always shows it
    #[arg(long, global = true)]
    pub(crate) progress: bool,
}

/// What loads no server itself, so that no flag of a load goes with it.
#[derive(Debug, Parser)]
#[command(name = "loadtest", max_term_width = 100)]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    Compare(compare::Options),
    /// Becomes another program: only for this one's own use
    Pinned(compare::pinned::Options),
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// To become another program.
    Become(compare::pinned::Options),
    /// Several servers in turns.
    Compare(Box<compare::Options>),
    /// Load for a server.
    Load(Box<Setup>),
    /// A list of the scenarios, or one's file.
    Print(String),
}

/// Everything that a run needs to know.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What to do.
    pub(crate) mode: Mode,
    /// With what.
    pub(crate) scenario: Scenario,
    /// To whom.
    pub(crate) target: Target,
    /// Whose resources to measure.
    pub(crate) server: Option<ServerProcess>,
    /// How many threads to run on.
    pub(crate) threads: usize,
    /// The CPU of each, or none for any.
    pub(crate) pin: Vec<usize>,
    /// What to print.
    pub(crate) output: Output,
    /// The program and its arguments, as they were typed.
    pub(crate) command: Vec<String>,
    /// What the program decided by itself, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Reads the command line; ends the process with a sentence and exit code 2 if clap refuses it.
pub(crate) fn read(words: Vec<String>) -> Result<Request> {
    interpret(&words).map_err(|failure| match failure.downcast::<clap::Error>() {
        Ok(error) => error.exit(),
        Err(failure) => failure,
    })
}

fn interpret(words: &[String]) -> Result<Request> {
    if words.get(1).is_some_and(|word| is_tool(word)) {
        return Ok(match Tools::try_parse_from(words)?.tool {
            Tool::Compare(options) => Request::Compare(Box::new(options)),
            Tool::Pinned(options) => Request::Become(options),
        });
    }
    let matches = Cli::command().try_get_matches_from(words)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let plain = plain_flag(&matches);
    if let (Some(flag), Some(_)) = (&plain, &cli.command) {
        bail!(
            "--{flag} stands in the wrong place: a mode's flags stand behind its name; see \
             `loadtest --help`"
        );
    }
    let mode = match cli.command.take() {
        Some(Command::Mode(mode)) => mode,
        Some(Command::Compare { .. }) => bail!(
            "conflicting flags: compare stands first, and its flags behind it; see \
             `loadtest compare --help`"
        ),
        Some(Command::Run { words: own }) => return run_scenario(words, &own),
        Some(Command::Scenarios { name: None }) => return Ok(Request::Print(catalogue::listed()?)),
        Some(Command::Scenarios { name: Some(name) }) => {
            return Ok(Request::Print(catalogue::find(&name)?.text));
        }
        None if plain.is_none() => return run_unasked(words, &cli),
        None => Mode::Fanout(cli.fanout.clone()),
    };
    Ok(Request::Load(Box::new(cli.setup(mode, words)?)))
}

fn is_tool(word: &str) -> bool {
    Tools::command().find_subcommand(word).is_some()
}

/// Returns the first flag of `fanout` that stands without it.
fn plain_flag(matches: &ArgMatches) -> Option<String> {
    let fanout = plain::Fanout::augment_args(clap::Command::new("fanout"));
    let mut flags = fanout.get_arguments().map(|arg| arg.get_id().as_str());
    let flag = flags.find(|id| matches.value_source(id) == Some(ValueSource::CommandLine))?;
    Some(flag.replace('_', "-"))
}

/// Puts a scenario's command line in place of `run NAME`.
fn run_scenario(words: &[String], own: &[String]) -> Result<Request> {
    let (name, flags) = own.split_first().expect("the parser asks for a name");
    let mut prefix = words[..words.len() - own.len()].to_vec();
    let run = prefix.iter().rposition(|word| word == "run");
    prefix.remove(run.expect("the parser found the subcommand"));
    expanded(&catalogue::find(name)?, &prefix, flags, words, Vec::new())
}

/// Runs big-room, as large as the machine allows, when nothing is asked for.
fn run_unasked(words: &[String], cli: &Cli) -> Result<Request> {
    let mut notes = vec![format!(
        "no load was asked for, so this is the scenario {UNASKED}; `loadtest scenarios` has others"
    )];
    let mut flags = Vec::new();
    if cli.timing.seconds.is_none() {
        flags.extend(["--seconds".to_owned(), UNASKED_SECONDS.to_owned()]);
    }
    let allowed = limits::connections_allowed();
    if let Some(members) = allowed.filter(|allowed| *allowed < UNASKED_MEMBERS) {
        notes.push(format!(
            "it has {members} members and not {UNASKED_MEMBERS}, because no more files may be open \
             (ulimit -Hn)"
        ));
        flags.extend(["--members".to_owned(), members.to_string()]);
    }
    expanded(&catalogue::find(UNASKED)?, words, &flags, words, notes)
}

/// The scenario of a command line without one.
const UNASKED: &str = "big-room";
const UNASKED_MEMBERS: u64 = 1000;

/// Long enough that a second of somebody else's work does not decide the figures.
const UNASKED_SECONDS: &str = "30";

fn expanded(
    entry: &catalogue::Entry,
    prefix: &[String],
    own: &[String],
    typed: &[String],
    notes: Vec<String>,
) -> Result<Request> {
    let mut cli = Cli::try_parse_from(entry.expand(prefix, own)?)?;
    let Some(Command::Mode(mode)) = cli.command.take() else {
        unreachable!("a scenario is expanded to its mode");
    };
    let mut setup = cli.setup(mode, typed)?;
    setup.scenario.name = Some(entry.name.clone());
    setup.notes.extend(notes);
    Ok(Request::Load(Box::new(setup)))
}

impl Cli {
    /// Checks what the flags say together.
    fn setup(self, mode: Mode, typed: &[String]) -> Result<Setup> {
        let Timing {
            seconds,
            warmup,
            payload,
        } = self.timing;
        let load = mode.load().1;
        let scenario = Scenario {
            name: None,
            groups: load.groups()?,
            payload_bytes: payload.unwrap_or_else(|| load.payload_bytes()),
            measured: seconds.unwrap_or_else(|| load.measured()),
            warmup,
        };
        check_numbers(&scenario)?;
        let wire = self.wire.wire()?;
        ensure!(
            wire.names_rooms() || scenario.rooms() == 1,
            "conflicting flags: without {{room}} in --publish there is one room, so \
             --rooms is 1"
        );
        ensure!(
            wire.positions || !load.needs_positions(),
            "conflicting flags: this mode needs recovery, and only --wire throng has positions"
        );
        let target = Target::resolve(&self.place.url, self.place.i_own_this_server, wire)?;
        let mut notes = Vec::new();
        let server = match self.place.server_pid {
            Some(pid) => Some(ServerProcess::new(pid)),
            None => listening(&target, &mut notes),
        };
        let (threads, pin) = (self.place.threads as usize, self.place.pin);
        ensure!(
            pin.is_empty() || pin.len() == threads,
            "conflicting flags: --pin names one CPU for each of --threads"
        );
        let (output, command) = (self.output, typed.to_vec());
        Ok(Setup {
            mode,
            scenario,
            target,
            server,
            threads,
            pin,
            output,
            command,
            notes,
        })
    }
}

/// Finds the process that listens where the server should be, which is worth a note.
fn listening(target: &Target, notes: &mut Vec<String>) -> Option<ServerProcess> {
    let server = ServerProcess::new(sockets::listener(target.address)?);
    let (pid, command) = (server.pid(), server.command().unwrap_or_default());
    let program = command.split(' ').next().unwrap_or_default();
    notes.push(format!(
        "process {pid} listens there ({program}), so it is measured; --server-pid says otherwise"
    ));
    Some(server)
}

/// Checks the numbers of publications, which have 32 bits: an hour at the most there can be, longer
/// at a slower rate.
fn check_numbers(scenario: &Scenario) -> Result<()> {
    let seconds = (scenario.measured + scenario.warmup).as_secs_f64();
    let per_second = |group: &Group| match group.pacing {
        Pacing::Closed { .. } => units::RATE_MAX,
        Pacing::Open { per_second } => per_second,
    };
    let rate = scenario.groups.iter().map(per_second).fold(0.0, f64::max);
    ensure!(
        rate * seconds <= f64::from(u32::MAX),
        "conflicting flags: publications are counted in 32 bits: at most 71 minutes of a \
         closed loop; give a --rate for longer"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
