//! A fixed rate for long: whether latency and memory are at the end what they were at the
//! beginning.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::Load;
use super::plain::publish;
use super::rooms::Rooms;
use crate::cli::units;
use crate::drift::{Line, Slots};
use crate::report::text::Bytes;
use crate::run::Run;
use crate::scenario::Group;
use crate::series::Point;
use crate::tally::{Latency, ratio};

/// The flags of `soak`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in total; latency counts from when each was due, so that stalls show
    #[arg(long, value_name = "PER_SECOND", default_value = "20", value_parser = units::rate)]
    rate: f64,
}

/// The section of the report.
#[derive(Debug, Default, Serialize)]
struct Soak {
    /// Of the first tenth of the time.
    p99_first_us: Option<f64>,
    p99_last_us: Option<f64>,
    p99_ratio: Option<f64>,
    /// The slope of the server's memory.
    pss_growth_bytes_per_hour: Option<f64>,
    /// What that makes over the time measured, as a part of the memory at the beginning.
    pss_growth_ratio: Option<f64>,
    latency_drifts: bool,
    memory_drifts: bool,
}

/// So much slower at the end is no chance any more.
const P99_RATIO_MAX: f64 = 1.5;

/// A difference that is smaller than this is the scheduler's, whatever the ratio.
const P99_DIFFERENCE_MIN_US: f64 = 500.0;

/// Of fewer deliveries a 99th percentile is one pause of the machine.
const COUNT_MIN: u64 = 1000;

/// Memory that grows by this part of itself in one run has something to explain.
const GROWTH_MAX: f64 = 0.05;

/// A smaller growth is an allocator's habit.
const GROWTH_MIN_BYTES: f64 = 1024.0 * 1024.0;

impl Load for Options {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    fn measured(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        publish(run)?;
        if let Some(course) = run.monitor.stop() {
            let soak = Soak::of(&course.slots, &course.points);
            run.report.verdicts.extend(soak.verdicts());
            run.report.add_section("soak", &soak, false);
            run.report.series = course.points;
        }
        Ok(())
    }
}

impl Soak {
    fn of(slots: &Slots, points: &[Point]) -> Self {
        let mut soak = Self::default();
        if let Some((first, last)) = slots.first_and_last_tenth() {
            let p99 = |tenth: Latency| tenth.us(0.99).filter(|_| tenth.count() >= COUNT_MIN);
            soak.take_latencies(p99(first), p99(last));
        }
        if let Some(line) = Line::through_memory(points) {
            soak.take_memory(&line, points.last().map_or(0.0, |point| point.seconds));
        }
        soak
    }

    fn take_latencies(&mut self, first: Option<f64>, last: Option<f64>) {
        self.p99_first_us = first;
        self.p99_last_us = last;
        if let (Some(first), Some(last)) = (first, last) {
            self.p99_ratio = ratio(last, first);
            self.latency_drifts =
                last > first * P99_RATIO_MAX && last - first > P99_DIFFERENCE_MIN_US;
        }
    }

    fn take_memory(&mut self, line: &Line, seconds: f64) {
        let grown = line.per_second * seconds;
        self.pss_growth_bytes_per_hour = Some(line.per_second * 3600.0);
        self.pss_growth_ratio = ratio(grown, line.start);
        self.memory_drifts =
            grown > GROWTH_MIN_BYTES && self.pss_growth_ratio.is_some_and(|part| part > GROWTH_MAX);
    }

    fn verdicts(&self) -> impl Iterator<Item = String> {
        let ratio = self.p99_ratio.filter(|_| self.latency_drifts);
        let latency = ratio
            .map(|ratio| format!("latency drifts: p99 is {ratio:.1} times what it was at first"));
        let slope = self
            .pss_growth_bytes_per_hour
            .filter(|_| self.memory_drifts);
        let memory = slope.map(|slope| {
            format!(
                "memory drifts: the server grows by {} per hour",
                Bytes(slope)
            )
        });
        latency.into_iter().chain(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(first: f64, last: f64) -> Soak {
        let mut soak = Soak::default();
        soak.take_latencies(Some(first), Some(last));
        soak
    }

    fn memory(start: f64, per_second: f64, seconds: f64) -> Soak {
        let mut soak = Soak::default();
        soak.take_memory(&Line { start, per_second }, seconds);
        soak
    }

    const MIB: f64 = 1024.0 * 1024.0;

    #[test]
    fn latency_drifts_if_it_is_much_more_at_the_end_and_more_than_the_scheduler_makes() {
        assert!(latencies(2_000.0, 4_000.0).latency_drifts);
        assert!(
            !latencies(2_000.0, 2_900.0).latency_drifts,
            "below the ratio"
        );
        assert!(
            !latencies(100.0, 500.0).latency_drifts,
            "less than half a millisecond"
        );
        assert!(
            !latencies(4_000.0, 2_000.0).latency_drifts,
            "it became better"
        );
        assert_eq!(latencies(2_000.0, 4_000.0).p99_ratio, Some(2.0));
    }

    #[test]
    fn memory_drifts_if_it_grows_by_more_than_an_allocator_makes() {
        let leak = memory(100.0 * MIB, MIB / 60.0, 3600.0);
        assert!(leak.memory_drifts);
        assert_eq!(leak.pss_growth_bytes_per_hour, Some(60.0 * MIB));
        assert!(leak.verdicts().any(|it| it.contains("60.0 MiB per hour")));
        assert!(
            !memory(100.0 * MIB, MIB / 3600.0, 3600.0).memory_drifts,
            "1 % of it"
        );
        assert!(
            !memory(3.0 * MIB, MIB / 3600.0, 1800.0).memory_drifts,
            "half a MiB"
        );
        assert!(!memory(100.0 * MIB, -MIB, 60.0).memory_drifts, "it shrinks");
    }
}
