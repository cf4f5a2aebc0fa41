//! How cost grows: memory and time for each room, member, membership and connection, up to a
//! million.
//!
//! Prints the tables of `docs/benchmarks.md` and draws them. Memory is what is asked of the
//! allocator, counted to the byte, so it is the same on every machine; times are the least of
//! several rounds, and still depend on it.

mod memory;
mod meter;
mod plot;
mod series;
mod threads;
mod time;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use series::{Chart, Sizes};

/// Measure how memory and time grow with rooms, members, connections and shards
///
/// Prints Markdown tables. Memory is exact; times want a quiet machine with two CPUs.
#[derive(Parser)]
struct Options {
    /// The largest number of rooms, members and connections, at least 1000
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max: usize,

    /// Rounds in which each time is taken; the least counts
    #[arg(long, value_name = "N", default_value_t = 21)]
    rounds: usize,

    /// Draw the tables too, as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Seed for the draw of who joins and leaves what
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let sizes = Sizes::up_to(options.max)?;
    fastrand::seed(options.seed);
    meter::prove();
    let measurements: [&dyn Fn() -> Chart; 7] = [
        &|| memory::with_count(&sizes),
        &|| memory::with_memberships(&sizes),
        &|| memory::with_shards(&sizes),
        &|| time::with_rooms(&sizes, options.rounds),
        &|| time::with_members(&sizes, options.rounds),
        &|| time::with_memberships(options.rounds),
        &|| threads::with_shards(options.rounds),
    ];
    let mut charts = Vec::new();
    for measure in measurements {
        let chart = measure();
        print(&chart);
        charts.push(chart);
    }
    match options.plot {
        Some(path) => plot::draw(&path, &charts),
        None => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the tables are what this is run for")]
fn print(chart: &Chart) {
    println!("{chart}");
}
