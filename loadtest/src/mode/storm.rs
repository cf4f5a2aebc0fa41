//! Everybody drops at once and comes back at once: how long until all are served again, and at what
//! cost.
//!
//! On a wire with positions publications go on meanwhile: who publishes stays, or comes back before
//! the others if the server is restarted. What was missed must be there in the end, once.

use std::io;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::clock::to_ns;
use crate::driver::{Loss, ReturnPlan, Returned, Staying};
use crate::meanwhile::{MEMORY_INTERVAL, meanwhile};
use crate::positions::Recovery;
use crate::process::ServerProcess;
use crate::run::Run;
use crate::scenario::Group;
use crate::sockets;
use crate::target::Target;

/// The flags of `storm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in total between storms, and with --wire throng also during them
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,

    /// Number of times that everybody drops
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = units::up_to(1000))]
    storms: u32,

    /// Connection attempts at a time; if the server's accept queue overflows, the kernel retries
    /// after a second
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = units::count())]
    together: u32,

    /// How long to wait until everybody is served: seconds, or 1m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::some_duration)]
    patience: Duration,

    /// Restart the server with this command, run by `sh -c`, instead of dropping everybody; `true`
    /// waits until somebody else restarts it
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,

    /// Return at once, even if the server asks for a pause
    #[arg(long)]
    ignore_pauses: bool,
}

impl Options {
    /// Returns who keeps the connection.
    fn staying(&self, has_positions: bool) -> Staying {
        if has_positions && self.restart_command.is_none() {
            Staying::Publishers
        } else {
            Staying::Nobody
        }
    }
}

impl Load for Options {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let has_positions = run.setup.target.wire.positions;
        let staying = self.staying(has_positions);
        run.fleet.each(|driver| {
            driver.choose_away(staying);
            if has_positions {
                driver.ask_for_acks();
            }
            Ok(())
        })?;
        ensure!(
            run.fleet.total(|driver| driver.away.len() as u64) > 0,
            "conflicting flags: publishers stay; give more --members than --publishers"
        );
        run.assemble()?;
        let mut calm = run.measure(&[0])?;
        let mut report = Report::default();
        for number in 1..=self.storms {
            let storm = self.storm(run, number)?;
            if run.is_interrupted() {
                break; // nobody waited for those who are not back
            }
            report.not_served += storm.returned.not_served;
            report.storms.push(storm);
            if report.not_served > 0 {
                break;
            }
            // That all are served is proved by publications that nobody may miss.
            calm = run.measure(&[0])?;
        }
        run.report.set_measured(calm);
        let is_faulty = report.not_served > 0;
        run.report.add_section("storm", &report, is_faulty);
        Ok(())
    }
}

impl Options {
    /// Does one storm, from the drop until nothing is under way.
    fn storm(&self, run: &mut Run<'_>, number: u32) -> Result<Storm> {
        let has_positions = run.setup.target.wire.positions;
        let rooms = run.setup.scenario.groups.iter().map(|group| group.rooms);
        let rooms_emptied = match self.staying(has_positions) {
            Staying::Nobody => rooms.sum(),
            _ => 0,
        };
        let before = (
            run.fleet.outcome(),
            run.fleet.total(|driver| driver.ledger.publications()),
        );
        if has_positions {
            run.fleet.start(&[0]);
        }
        let (returned, server_pss_peak_bytes) = self.strike(run, number)?;
        if has_positions {
            run.drain()?;
        }
        let now = run.fleet.outcome();
        let positions = now.positions.0.zip(before.0.positions.0);
        let missed = positions.map(|(now_at, then_at)| Missed {
            recovery: now_at.since(&then_at),
            publications: run.fleet.total(|driver| driver.ledger.publications()) - before.1,
            lost: now.faults.lost.saturating_sub(before.0.faults.lost),
        });
        Ok(Storm {
            returned,
            rooms_emptied,
            server_pss_peak_bytes,
            recovery: missed,
        })
    }

    /// Lets everybody lose the connection and come back; returns also the most memory that the
    /// server had.
    fn strike(&self, run: &mut Run<'_>, number: u32) -> Result<(Returned, Option<u64>)> {
        let (target, server) = (&run.setup.target, run.setup.server.as_ref());
        let is_hopeless = AtomicBool::new(false);
        let from_ns = run.clock.now_ns();
        let plan = ReturnPlan {
            loss: match self.restart_command {
                Some(_) => Loss::ByServer,
                None => Loss::Dropped,
            },
            together: (self.together / run.fleet.threads()).max(1),
            from_ns,
            within_ns: 0,
            end_ns: from_ns + to_ns(self.patience),
            keeps_pauses: !self.ignore_pauses,
            is_hopeless: Some(&is_hopeless),
        };
        let restart = self.restart_command.as_deref().map(Restart::begin);
        let mut restart = restart.transpose()?;
        let look = || {
            if let Some(restart) = &mut restart {
                is_hopeless.fetch_or(restart.has_failed(), Ordering::Relaxed);
                find_server(server.filter(|server| !server.is_running()), target);
            }
        };
        let strike = || {
            run.watch_while(&format!("storm {number}"), |fleet| {
                if plan.loss == Loss::Dropped {
                    fleet.drop_away()?;
                }
                fleet.come_back(&plan)
            })
        };
        let (returned, peak) = meanwhile(server, MEMORY_INTERVAL, look, strike);
        if let Some(Restart {
            command, failed, ..
        }) = &restart
        {
            if let Some(status) = failed {
                bail!("the restart command ended with {status}; try it by hand: {command}");
            }
            // The one before may still have been there when it was looked for the first time.
            find_server(server, target);
        }
        Ok((returned?, peak))
    }
}

/// Goes on with another process: a server that was restarted is one.
fn find_server(server: Option<&ServerProcess>, target: &Target) {
    if let Some(server) = server
        && let Some(pid) = sockets::listener(target.address)
    {
        server.replace(pid);
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
    fn begin(command: &'a str) -> Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null());
        shell.stdout(stderr);
        Ok(Self {
            command,
            child: shell.spawn()?,
            failed: None,
        })
    }

    /// Returns whether it has ended and says that it could not do it. It may also be the server
    /// itself, and run on.
    fn has_failed(&mut self) -> bool {
        let ended = self.child.try_wait().ok().flatten();
        self.failed = ended.filter(|status| !status.success()).or(self.failed);
        self.failed.is_some()
    }
}

/// What came of all storms. The names are the JSON's.
#[derive(Debug, Default, Serialize)]
struct Report {
    storms: Vec<Storm>,
    /// How many members were not served in any of them.
    #[serde(skip)]
    not_served: u64,
}

/// One storm.
#[derive(Debug, Serialize)]
struct Storm {
    #[serde(flatten)]
    returned: Returned,
    rooms_emptied: u32,
    server_pss_peak_bytes: Option<u64>,
    /// What became of what was published meanwhile, on a wire with positions.
    recovery: Option<Missed>,
}

/// What members got of what they missed.
#[derive(Debug, Serialize)]
struct Missed {
    #[serde(flatten)]
    recovery: Recovery,
    /// Publications that went out during the storm.
    publications: u64,
    /// Deliveries that never came, whatever was told.
    lost: u64,
}
