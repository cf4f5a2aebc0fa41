//! Compares embedded databases, and `crates/store`, by what a durable history asks of one.
//!
//! Prints the tables of `docs/benchmarks.md`. Everything is done in processes of their own: what they took
//! is theirs, and they may be killed.

mod child;
mod engine;
mod harm;
mod history;
mod measure;
mod speed;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::engine::Kind;

/// Compare fjall, redb, LMDB and Throng's store, which is SQLite, for histories
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,

    /// Where to put the databases; gone afterwards
    #[arg(long, value_name = "DIRECTORY", default_value = "/tmp", global = true)]
    directory: PathBuf,

    /// How often each is measured, in turns; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3, global = true)]
    rounds: usize,

    /// How often each is harmed
    #[arg(long, value_name = "N", default_value_t = 100, global = true)]
    trials: u32,

    /// Only this database; may be given several times
    #[arg(long, value_name = "DATABASE", global = true)]
    only: Vec<Kind>,

    /// What chance draws from
    #[arg(long, value_name = "N", default_value_t = 1, global = true)]
    seed: u64,
}

#[derive(Subcommand)]
enum What {
    /// All of it
    All,
    /// Append to rooms that keep everything
    Append,
    /// Append to rooms that keep a window
    Trim,
    /// Read 256 MiB after kill -9
    Reopen,
    /// Kill a writer, see what is there
    Crash,
    /// Take pages away that were not synced
    Power,
    /// Fill the disk; needs root
    Full,
    /// Change bytes and cut files
    Corrupt,
    /// What the others start
    #[command(hide = true)]
    Child(child::Child),
}

fn main() -> Result<()> {
    let options = Options::parse();
    let directory = &options.directory;
    let all = matches!(options.what, What::All);
    if let What::Child(child) = &options.what {
        return child::main(child);
    }
    if all || matches!(options.what, What::Append) {
        speed::append(directory, &options.only, options.rounds)?;
    }
    if all || matches!(options.what, What::Trim) {
        speed::trim(directory, &options.only, options.rounds)?;
    }
    if all || matches!(options.what, What::Reopen) {
        speed::reopen(directory, &options.only, options.rounds)?;
    }
    if all || matches!(options.what, What::Crash) {
        harm::crash(directory, &options.only, options.trials, options.seed)?;
    }
    if all || matches!(options.what, What::Power) {
        harm::power(directory, &options.only, options.trials, options.seed)?;
    }
    if all || matches!(options.what, What::Full) {
        harm::full(directory, &options.only)?;
    }
    if all || matches!(options.what, What::Corrupt) {
        harm::corrupt(directory, &options.only, options.trials, options.seed)?;
    }
    Ok(())
}
