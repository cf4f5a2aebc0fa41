//! The modes that publish to rooms for a while and need no section of the report, or a small one:
//! `fanout`, `latency`, `idle` and `neighbour`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::run::Run;
use crate::scenario::{Group, Pacing};

/// The flags of `fanout`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Fanout {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications under way in total, spread evenly over the publishers [default: one per
    /// publisher]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = units::count())]
    window: Option<u32>,

    /// Publications per second in total; latency counts from when each was due, so that stalls show
    #[arg(long, value_name = "PER_SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl Load for Fanout {
    fn groups(&self) -> Result<Vec<Group>> {
        let group = match self.rate {
            Some(per_second) => self.rooms.open(per_second)?,
            None => self.rooms.closed(self.window)?,
        };
        Ok(vec![group])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        publish(run)
    }
}

/// The flags of `latency`: far below what the server can do.
#[derive(Args, Clone, Debug)]
pub(crate) struct Latency {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in total; latency counts from when each was due, so that stalls show
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = units::rate)]
    rate: f64,
}

impl Load for Latency {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        publish(run)
    }
}

/// Lets the only group publish, and reports it.
pub(super) fn publish(run: &mut Run<'_>) -> Result<()> {
    run.assemble()?;
    let measured = run.measure(&[0])?;
    run.report.set_measured(measured);
    Ok(())
}

/// The flags of `idle`: connections that only wait.
#[derive(Args, Clone, Debug)]
pub(crate) struct Idle {
    #[command(flatten)]
    rooms: Rooms,

    /// How long to wait before measuring the server's memory: seconds, or 500ms, 1m
    #[arg(long, value_name = "TIME", default_value = "2", value_parser = units::duration)]
    settle: Duration,
}

impl Load for Idle {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![self.rooms.closed(None)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.watch();
        run.connect()?;
        run.rest(self.settle)
    }
}

/// The flags of `neighbour`: the flooded rooms.
#[derive(Args, Clone, Debug)]
pub(crate) struct Neighbour {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications under way in the flooded rooms, spread evenly over the publishers
    /// [default: one per publisher]
    #[arg(long, value_name = "N", value_parser = units::count())]
    window: Option<u32>,
}

/// The small room: enough members for a percentile over ten seconds (2,000 deliveries), far too few
/// publications to load anybody.
pub(super) const SMALL_ROOM: Group = Group {
    urgent: true,
    ..Group::alike(1, 10, 1, Pacing::Open { per_second: 20.0 })
};

/// Their places among the groups.
const SMALL: usize = 0;
const FLOODED: usize = 1;

impl Load for Neighbour {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![SMALL_ROOM, self.rooms.closed(self.window)?])
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.assemble()?;
        let alone = run.measure(&[SMALL])?.latencies.each;
        let mut measured = run.measure(&[SMALL, FLOODED])?;
        let flooded = run.fleet.latencies(FLOODED);
        let flooded = std::mem::replace(&mut measured.latencies, flooded).each;
        run.report.set_measured(measured);
        let section = json!({ "alone": alone, "flooded": flooded });
        run.report.add_section("neighbour", &section, false);
        Ok(())
    }
}
