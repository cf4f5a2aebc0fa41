//! What this process has used, and what a directory takes on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// What a piece of work took, in the process that did nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// CPU of all its threads, in the kernel too, in microseconds.
    pub cpu_us: f64,
    /// The time on the wall, in microseconds.
    pub wall_us: f64,
    /// Bytes given to `write` and its like. The kernel may still merge them.
    pub written: f64,
    /// Memory that is not a file's, in bytes, when the work was done.
    pub memory: f64,
    /// The most that the directory took on the disk, in bytes.
    pub disk_max: f64,
    /// What it took at last.
    pub disk: f64,
}

/// A piece of work under way.
pub struct Meter {
    cpu: Duration,
    written: u64,
    started_at: Instant,
    /// Not the database's: making publications up.
    not_counted: Duration,
}

impl Meter {
    /// Begins to count.
    pub fn start() -> Result<Self> {
        Ok(Self {
            cpu: clock(ClockId::ProcessCPUTime),
            written: written()?,
            started_at: now(),
            not_counted: Duration::ZERO,
        })
    }

    /// Does what the database has no part in.
    pub fn apart<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = clock(ClockId::ThreadCPUTime);
        let result = work();
        self.not_counted += clock(ClockId::ThreadCPUTime).saturating_sub(before);
        result
    }

    /// What was taken until now, without the disk.
    pub fn read(&self) -> Result<Taken> {
        let cpu = clock(ClockId::ProcessCPUTime) - self.cpu;
        let wall = self.started_at.elapsed();
        Ok(Taken {
            cpu_us: micros(cpu.saturating_sub(self.not_counted)),
            wall_us: micros(wall.saturating_sub(self.not_counted)),
            written: (written()? - self.written) as f64,
            memory: memory()? as f64,
            ..Taken::default()
        })
    }
}

impl Taken {
    /// A line that [`parse`](Self::parse) reads.
    pub fn line(&self) -> String {
        let values = [
            self.cpu_us,
            self.wall_us,
            self.written,
            self.memory,
            self.disk_max,
            self.disk,
        ];
        let words = values.map(|value| value.to_string());
        words.join(" ")
    }

    /// What [`line`](Self::line) wrote.
    pub fn parse(line: &str) -> Result<Self> {
        let values: Vec<f64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let &[cpu_us, wall_us, written, memory, disk_max, disk] = values.as_slice() else {
            anyhow::bail!("not a measurement: {line}");
        };
        Ok(Self {
            cpu_us,
            wall_us,
            written,
            memory,
            disk_max,
            disk,
        })
    }

    /// The medians, each value for itself.
    pub fn median(runs: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Self {
            cpu_us: median(|taken| taken.cpu_us),
            wall_us: median(|taken| taken.wall_us),
            written: median(|taken| taken.written),
            memory: median(|taken| taken.memory),
            disk_max: median(|taken| taken.disk_max),
            disk: median(|taken| taken.disk),
        }
    }
}

/// What the files in a directory take on the disk, in bytes; holes take nothing.
pub fn disk(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A file that is gone since takes nothing.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            disk(&entry.path()).unwrap_or_default()
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// The time on the wall.
#[expect(
    clippy::disallowed_methods,
    reason = "this is what measures, and nothing of it is tested with another time"
)]
pub fn now() -> Instant {
    Instant::now()
}

fn clock(id: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
    Duration::new(
        u64::try_from(tv_sec).unwrap_or_default(),
        u32::try_from(tv_nsec).unwrap_or_default(),
    )
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn written() -> Result<u64> {
    field("/proc/self/io", "wchar:")
}

fn memory() -> Result<u64> {
    Ok(field("/proc/self/status", "RssAnon:")? * 1024)
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value
        .with_context(|| format!("no {name} in {path}"))?
        .parse()?)
}
