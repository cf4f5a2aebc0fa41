//! Everybody drops at once and comes back at once: how long until all are served again, and at what
//! cost.
//!
//! On a wire with positions publications go on meanwhile: who publishes stays, or comes back before the
//! others if the server is restarted. What was missed must be there in the end, once.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::clock::to_ns;
use crate::driver::{Loss, ReturnPlan, Returned, Staying};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::latencies::latency_histogram;
use crate::meanwhile::{MEMORY_INTERVAL, meanwhile};
use crate::opening::{OpeningTally, listed};
use crate::positions::PositionTally;
use crate::process::{ServerProcess, listener};
use crate::report::Latency;
use crate::report::figures::Bytes;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `storm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all, between the storms, and on --wire throng during them
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// How often everybody drops
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    storms: u32,

    /// How many connections may be under way at a time; over the server's queue of those to be
    /// accepted, some are retransmitted after a second
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    together: u32,

    /// How long those who are not served are waited for: a number of seconds, or 1m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::some_duration)]
    patience: Duration,

    /// Instead of dropping everybody, run this with `sh -c`, which is to restart the server; `true`
    /// waits until somebody else does
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,

    /// Come back at once, whatever pause the server asks for
    #[arg(long)]
    ignore_pauses: bool,
}

impl Options {
    /// Who keeps the connection.
    fn staying(&self, has_positions: bool) -> Staying {
        if has_positions && self.restart_command.is_none() {
            Staying::Publishers
        } else {
            Staying::Nobody
        }
    }
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "storm"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let has_positions = run.setup.target.wire.has_positions();
        let staying = self.staying(has_positions);
        run.fleet.each(|driver| {
            driver.choose_away(staying);
            if has_positions {
                driver.ask_for_acks();
            }
            Ok(())
        })?;
        if run.fleet.away_count() == 0 {
            return Err(Failure::Arguments(
                "who publishes stays; give more --members than --publishers",
            ));
        }
        run.assemble()?;
        let mut calm = run.measure(&[0])?;
        let mut outcome = Outcome::default();
        for number in 1..=self.storms {
            let storm = self.storm(run, number)?;
            if run.is_interrupted() {
                break; // nobody waited for those who are not back
            }
            let all_are_back = storm.not_served == 0;
            outcome.storms.push(storm);
            if !all_are_back {
                break;
            }
            // That all are served is proved by publications that nobody may miss.
            calm = run.measure(&[0])?;
        }
        run.report(&calm);
        run.report.add_fault(outcome.is_faulty());
        run.report.add_section("storm", &outcome);
        Ok(())
    }
}

impl Options {
    /// One storm, from the drop until nothing is under way.
    fn storm(&self, run: &mut Run<'_>, number: u32) -> Result<Storm, Failure> {
        let rooms = run.setup.scenario.groups.iter().map(|group| group.rooms);
        let rooms_emptied = match self.staying(run.setup.target.wire.has_positions()) {
            Staying::Nobody => rooms.sum(),
            _ => 0,
        };
        let before = Sofar::of(&run.fleet);
        let publishes = before.positions.is_some();
        if publishes {
            run.start(&[0]);
        }
        let (server, address) = (run.setup.server.clone(), run.setup.target.address);
        let from_ns = run.clock.now_ns();
        let (returned, peak) = run.watch_while(format!("storm {number}"), |fleet| {
            self.strike(fleet, from_ns, server.as_ref(), address)
        })?;
        if publishes {
            run.drain()?;
        }
        let mut storm = Storm::of(&returned, rooms_emptied, peak);
        storm.recovery = Sofar::of(&run.fleet).since(&before);
        Ok(storm)
    }

    /// Everybody loses the connection and comes back; with the most memory that the server had.
    fn strike(
        &self,
        fleet: &mut Fleet<'_>,
        from_ns: u64,
        server: Option<&ServerProcess>,
        address: SocketAddr,
    ) -> Result<(Vec<Returned>, Option<u64>), Failure> {
        let threads = u32::try_from(fleet.threads()).unwrap_or(u32::MAX);
        let is_hopeless = AtomicBool::new(false);
        let plan = ReturnPlan {
            loss: match self.restart_command {
                Some(_) => Loss::ByServer,
                None => Loss::Dropped,
            },
            together: (self.together / threads).max(1),
            from_ns,
            within_ns: 0,
            end_ns: from_ns + to_ns(self.patience),
            keeps_pauses: !self.ignore_pauses,
            is_hopeless: &is_hopeless,
        };
        let restart = self.restart_command.as_deref().map(Restart::begin);
        let mut watch = Watch {
            server,
            address,
            restart: restart.transpose()?,
            is_hopeless: &is_hopeless,
            peak: None,
        };
        let returned = meanwhile(
            MEMORY_INTERVAL,
            || watch.look(),
            || {
                if plan.loss == Loss::Dropped {
                    fleet.each(|driver| {
                        driver.drop_away();
                        Ok(())
                    })?;
                }
                fleet.come_back(&plan)
            },
        )?;
        watch.end()?;
        Ok((returned, watch.peak))
    }
}

/// What restarts the server.
struct Restart<'a> {
    command: &'a str,
    child: Child,
    failed: Option<ExitStatus>,
}

impl<'a> Restart<'a> {
    /// Starts the command. What it prints goes where errors go: the report stands alone.
    fn begin(command: &'a str) -> Result<Self, Failure> {
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let stderr = stderr.map_err(Failure::System)?;
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(stderr)
            .spawn()
            .map_err(Failure::System)?;
        Ok(Self {
            command,
            child,
            failed: None,
        })
    }

    /// Whether it has ended and says that it could not do it. It may also be the server itself, and run
    /// on.
    fn has_failed(&mut self) -> bool {
        if let Ok(Some(status)) = self.child.try_wait()
            && !status.success()
        {
            self.failed = Some(status);
        }
        self.failed.is_some()
    }
}

/// What is looked at while they come back.
struct Watch<'a> {
    server: Option<&'a ServerProcess>,
    address: SocketAddr,
    restart: Option<Restart<'a>>,
    is_hopeless: &'a AtomicBool,
    peak: Option<u64>,
}

impl Watch<'_> {
    fn look(&mut self) {
        if let Some(restart) = &mut self.restart {
            if restart.has_failed() {
                self.is_hopeless.store(true, Ordering::Relaxed);
            }
            self.find_server();
        }
        self.peak = self
            .peak
            .max(self.server.and_then(ServerProcess::pss_bytes));
    }

    /// A server that was restarted is another process.
    fn find_server(&self) {
        if let Some(server) = self.server
            && !server.is_running()
            && let Some(pid) = listener::find(self.address)
        {
            server.replace(pid);
        }
    }

    fn end(&self) -> Result<(), Failure> {
        let Some(restart) = &self.restart else {
            return Ok(());
        };
        if let Some(status) = restart.failed {
            return Err(Failure::Restart {
                command: restart.command.to_owned(),
                status: status.to_string(),
            });
        }
        // The one before may still have been there when it was looked for the first time.
        if let (Some(server), Some(pid)) = (self.server, listener::find(self.address)) {
            server.replace(pid);
        }
        Ok(())
    }
}

/// One storm. The names are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Storm {
    /// From the drop until the last member was served: it had joined and received a publication, or had
    /// everything that it missed.
    pub(crate) all_served_seconds: f64,
    /// How many members were not served when patience ended.
    pub(crate) not_served: u64,
    pub(crate) rooms_emptied: u32,
    pub(crate) attempts: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    /// How a server that was restarted ended connections.
    pub(crate) ended_by: BTreeMap<String, u64>,
    /// From when each member lost its connection until it was served. Without positions, whoever was not
    /// last waited for a round of publications, of which there are ten a second.
    pub(crate) served_us: Option<Latency>,
    /// From each attempt that succeeded to its 101.
    pub(crate) handshake_us: Option<Latency>,
    pub(crate) server_pss_peak_bytes: Option<u64>,
    /// What became of what was published meanwhile, on a wire with positions.
    pub(crate) recovery: Option<Recovery>,
}

/// What members got of what they missed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recovery {
    /// Members that were told that nothing is missing.
    pub(crate) recovered: u64,
    /// Those that were told that something is.
    pub(crate) not_recovered: u64,
    /// Publications that went out during the storm.
    pub(crate) publications: u64,
    /// Those of them, over all members, that were sent again.
    pub(crate) replayed: u64,
    /// Those that members were told to have missed for good.
    pub(crate) evicted: u64,
    /// Deliveries that never came, whatever was told.
    pub(crate) lost: u64,
    /// Publications that a server had had already when they were sent again.
    pub(crate) duplicates: u64,
}

/// What was counted up to a moment.
struct Sofar {
    positions: Option<PositionTally>,
    publications: u64,
    lost: u64,
}

impl Sofar {
    fn of(fleet: &Fleet<'_>) -> Self {
        let ledger = fleet.ledger();
        Self {
            positions: fleet.positions(),
            publications: ledger.publications(),
            lost: ledger.faults().lost,
        }
    }

    /// What happened between another moment and this one.
    fn since(&self, before: &Self) -> Option<Recovery> {
        let (now, then) = (self.positions.as_ref()?, before.positions.as_ref()?);
        Some(Recovery {
            recovered: now.recovered - then.recovered,
            not_recovered: now.not_recovered - then.not_recovered,
            publications: self.publications - before.publications,
            replayed: now.replayed - then.replayed,
            evicted: now.evicted - then.evicted,
            lost: self.lost.saturating_sub(before.lost),
            duplicates: now.duplicates - then.duplicates,
        })
    }
}

/// What came of all storms.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) storms: Vec<Storm>,
}

impl Outcome {
    /// Whether somebody was not served.
    pub(crate) fn is_faulty(&self) -> bool {
        self.storms.iter().any(|storm| storm.not_served > 0)
    }
}

/// What all threads saw together of those who came back.
pub(super) struct AllReturned {
    pub(super) opening: OpeningTally,
    pub(super) served_ns: Histogram<u64>,
    pub(super) last_ns: u64,
    pub(super) missing: u64,
    ended_by: BTreeMap<String, u64>,
}

impl AllReturned {
    pub(super) fn of(returned: &[Returned]) -> Self {
        let mut all = Self {
            opening: OpeningTally::new(),
            served_ns: latency_histogram(),
            last_ns: 0,
            missing: 0,
            ended_by: BTreeMap::new(),
        };
        for part in returned {
            all.opening.add(&part.opening);
            all.served_ns
                .add(&part.served_ns)
                .expect("all histograms have the same bounds");
            all.last_ns = all.last_ns.max(part.last_ns);
            all.missing += u64::from(part.missing);
            for (by, count) in &part.lost_by {
                *all.ended_by.entry(by.clone()).or_default() += count;
            }
        }
        all
    }
}

impl Storm {
    fn of(returned: &[Returned], rooms_emptied: u32, peak: Option<u64>) -> Self {
        let all = AllReturned::of(returned);
        Self {
            all_served_seconds: all.last_ns as f64 / 1e9,
            not_served: all.missing,
            rooms_emptied,
            attempts: all.opening.attempts,
            refusals: all.opening.refusals_by_name(),
            ended_by: all.ended_by,
            served_us: Latency::of(&all.served_ns),
            handshake_us: Latency::of(&all.opening.handshake_ns),
            server_pss_peak_bytes: peak,
            recovery: None,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, storm) in (1..).zip(&self.storms) {
            write!(f, "storm {number}        {storm}")?;
        }
        Ok(())
    }
}

impl Display for Storm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.not_served > 0 {
            write!(f, "{} NOT served, the others", self.not_served)?;
        } else {
            write!(f, "all served")?;
        }
        let Self {
            all_served_seconds: seconds,
            rooms_emptied: rooms,
            attempts,
            ..
        } = self;
        writeln!(f, " after {seconds:.3} s, {rooms} rooms emptied")?;
        let refusals = listed(&self.refusals);
        writeln!(f, "               {attempts} attempts, refused: {refusals}")?;
        if !self.ended_by.is_empty() {
            writeln!(f, "  ended by     {}", listed(&self.ended_by))?;
        }
        if let Some(served) = &self.served_us {
            writeln!(f, "  served       {}", served.in_words())?;
        }
        if let Some(handshake) = &self.handshake_us {
            writeln!(f, "  handshakes   {}", handshake.in_words())?;
        }
        if let Some(recovery) = &self.recovery {
            write!(f, "{recovery}")?;
        }
        if let Some(peak) = self.server_pss_peak_bytes {
            writeln!(f, "  memory peak  {}", Bytes(peak as f64))?;
        }
        Ok(())
    }
}

impl Display for Recovery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            recovered,
            not_recovered,
            publications,
            replayed,
            evicted,
            lost,
            duplicates,
        } = self;
        writeln!(
            f,
            "  recovered    {recovered} members, {not_recovered} not; {publications} published, {replayed} replayed"
        )?;
        writeln!(
            f,
            "               {evicted} told to be gone, {lost} lost, {duplicates} known when sent again"
        )
    }
}
