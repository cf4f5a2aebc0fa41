//! A run: everybody joins, the network fails for a while, everybody settles, and the verdict is
//! reached.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use faults::network::{Chances, Network, Options};
use faults::verdict::judge;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use crate::cli::Cli;
use crate::crowd::Crowd;
use crate::schedule::{Schedule, TICK};
use crate::server::Server;
use crate::table::{Report, Storm};

/// How many lines the network has: as many parts of the clients can be dropped by themselves.
const LINES: u32 = 8;

/// What a socket of the network holds, in bytes: a phone's rather than loopback's.
const SOCKET_BYTES: u32 = 8 * 1024;

/// How links fail beside the drops.
const CHANCES: Chances = Chances {
    down_bytes_mean: 96 * 1024,
    up_bytes_mean: 6 * 1024,
    refused_one_in: 20,
    time_max: Duration::from_secs(4),
    slow_bytes_per_second: 2048,
};

/// How long everybody may take to join, and to settle.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long everybody listens on when they have settled: what comes twice comes now.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Carries a run out.
///
/// # Errors
///
/// If there is nothing to judge: the server does not start, or ends by itself, or nobody can join.
pub(crate) async fn run(cli: &Cli, seed: u64) -> Result<Report> {
    // Of the server's files, gone with this.
    let directory = tempfile::tempdir().context("no directory for the server's files")?;
    let server = Server::start(cli, directory.path()).await?;
    let options = Options {
        lines: LINES,
        seed,
        chances: CHANCES,
        socket_bytes: Some(SOCKET_BYTES),
    };
    let network = Arc::new(Network::start(server.address(), options)?);
    let crowd = Crowd::start(cli, &network, seed, directory.path()).await?;
    timeout(PATIENCE, crowd.joined())
        .await
        .context("not everybody could join, though nothing failed yet")?;

    let storming = storm(
        cli,
        &network,
        &crowd,
        Schedule::new(seed, cli.rate, Instant::now()),
    );
    let restarting = restart_midway(cli, server, network.clone());
    let mut storm = storming.await;
    let mut server = restarting.await??;
    network.calm();
    let began_at = Instant::now();
    storm.has_settled = timeout(PATIENCE, crowd.settled()).await.is_ok();
    storm.settled_after = began_at.elapsed();
    sleep(AFTERWARDS).await;

    let testimony = crowd.testimony();
    let verdict = judge(&testimony.witnesses(), &testimony.plain, cli.promises());
    drop(crowd);
    server.stop().await?;
    storm.take_counts(network.counts());
    Ok(Report {
        cli: cli.clone(),
        seed,
        storm,
        verdict,
    })
}

/// Lets the network fail, and publishes, for as long as the run is to take.
async fn storm(cli: &Cli, network: &Network, crowd: &Crowd, mut schedule: Schedule) -> Storm {
    let mut storm = Storm::default();
    let began_at = Instant::now();
    let end = sleep(Duration::from_secs(cli.seconds.into()));
    tokio::pin!(end);
    let mut ticks = tokio::time::interval(TICK);
    let drop_every = Duration::from_secs(cli.drop_every.max(1).into());
    let mut drops = interval_at(began_at + drop_every / 2, drop_every);
    network.storm();
    loop {
        tokio::select! {
            () = &mut end => return storm,
            now = ticks.tick() => {
                for _ in 0..schedule.due(now) {
                    let (client, room) = (schedule.any(crowd.len()), schedule.any(2));
                    storm.held_back += u64::from(!crowd.publish(client, room));
                }
            }
            _ = drops.tick(), if cli.drop_every > 0 => {
                let lines = schedule.lines(network.line_count());
                let is_whole = lines.len() == network.line_count();
                *(if is_whole { &mut storm.drops } else { &mut storm.part_drops }) += 1;
                for line in lines {
                    network.drop_line(line, Duration::from_secs(cli.drop_for.into()));
                }
            }
        }
    }
}

/// Ends the server as often as that is asked for, each time after the same part of the run, and
/// starts it anew.
fn restart_midway(
    cli: &Cli,
    mut server: Server,
    network: Arc<Network>,
) -> JoinHandle<Result<Server>> {
    let (kill, restart) = (cli.kill, cli.restart);
    let part = Duration::from_secs(cli.seconds.into()) / (cli.times + 1);
    let moments = (1..=cli.times).map(move |time| part * time);
    let began_at = Instant::now();
    tokio::spawn(async move {
        if !kill && !restart {
            return Ok(server);
        }
        for moment in moments {
            sleep_until(began_at + moment).await;
            if kill {
                server.kill().await?;
            } else {
                server.stop().await?;
            }
            server.start_again().await?;
            network.set_upstream(server.address());
        }
        Ok(server)
    })
}
