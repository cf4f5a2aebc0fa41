//! The highest rate that a server carries: by the clock, faster and faster, until it is too late.
//!
//! A rate holds if the 99th percentile of latency is within the limit, nothing is lost, and as much
//! is published as was asked for. Latency and pace are tried twice, because one pause of the
//! machine breaks a short step; a loss is none of the machine's doing.

mod search;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use self::search::Search;
use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::interval::{Bottleneck, Interval};
use crate::monitor::Measured;
use crate::report::text::Grouped;
use crate::run::Run;
use crate::scenario::Group;

/// The flags of `knee`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// First rate to try, in publications per second in total
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = units::rate)]
    rate: f64,

    /// Limit for the 99th percentile of latency, with its unit: 20ms, 500us
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = units::latency)]
    p99: Duration,

    /// How long to try each rate: seconds, or 500ms, 1m
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = units::some_duration)]
    step_seconds: Duration,
}

/// A publisher that is later than this is not publishing at the rate any more.
const ACHIEVED_MIN: f64 = 0.95;

/// Before each step publications go out for so much of it, uncounted.
const WARMUP_SHARE: u32 = 10;

/// One rate that was tried.
#[derive(Clone, Debug, Serialize)]
struct Step {
    rate: f64,
    publications_per_second: f64,
    deliveries_per_second: f64,
    p99_us: Option<f64>,
    lost: u64,
    driver_cpu_percent: f64,
    server_cpu_percent: Option<f64>,
    held: bool,
    /// What the limit was broken by.
    broken_by: Option<Breach>,
    verdict: Bottleneck,
}

/// Why a rate does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Breach {
    /// Less was published than asked for.
    Behind,
    /// Too late.
    Latency,
    /// Deliveries were lost, repeated, reordered, or members disconnected.
    Loss,
}

impl Load for Options {
    fn groups(&self) -> Result<Vec<Group>> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    /// Returns the time of the whole search; it takes some twenty steps.
    fn measured(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.assemble()?;
        let mut search = Search::new(self.rate);
        let mut steps: Vec<Step> = Vec::new();
        let mut best = None;
        // However late the first comes: a search that tries nothing says nothing.
        let may_go_on = |run: &Run<'_>, steps: &[Step]| steps.is_empty() || !run.is_out_of_time();
        while let Some(rate) = search.next().filter(|_| may_go_on(run, &steps)) {
            let (mut step, mut measured) = self.try_rate(run, rate)?;
            if step.may_be_chance() && !run.is_interrupted() {
                steps.push(step);
                (step, measured) = self.try_rate(run, rate)?;
            }
            if run.is_interrupted() {
                break;
            }
            search.tell(rate, step.held);
            if step.held {
                best = Some((step.clone(), measured));
            }
            steps.push(step);
        }
        let deliveries_per_second = best.as_ref().map(|(step, _)| step.deliveries_per_second);
        if let Some((_, measured)) = best {
            run.report.set_measured(measured);
        }
        let broken_with = |kind| steps.iter().any(|step| !step.held && step.verdict == kind);
        let generator_gave_out =
            broken_with(Bottleneck::Generator) && !broken_with(Bottleneck::Server);
        if generator_gave_out {
            let sentence = "it was the generator that gave out above this rate, and not the server";
            run.report.verdicts.push(sentence.to_owned());
        }
        // A rate that breaks is what was looked for; that none holds is a fault.
        run.report.losses_excused = search.held.is_some();
        let knee = json!({
            "p99_limit_us": self.p99.as_secs_f64() * 1e6,
            "step_seconds": self.step_seconds.as_secs_f64(),
            // The highest rate that held, in publications per second.
            "rate_held": search.held,
            // Whether a higher one broke. Without, the search ended before it came to a limit.
            "limit_found": search.broke.is_some(),
            "deliveries_per_second": deliveries_per_second,
            // Whether it was the generator that could not do more, and not the server.
            "generator_gave_out": generator_gave_out,
            "steps": steps,
        });
        run.report.add_section("knee", &knee, false);
        Ok(())
    }
}

impl Step {
    /// Returns whether another try could come out otherwise.
    fn may_be_chance(&self) -> bool {
        matches!(self.broken_by, Some(Breach::Behind | Breach::Latency))
    }
}

impl Options {
    fn try_rate(&self, run: &mut Run<'_>, rate: f64) -> Result<(Step, Measured)> {
        run.fleet.set_rate(0, rate);
        let faults = run.faults_so_far();
        run.warm_up(&[0], self.step_seconds / WARMUP_SHARE)?;
        // Later than ten times the limit is no matter of a percentile: the queue would only grow.
        let under_way_max = 10.0 + rate * (self.p99 * 10).as_secs_f64().max(1.0);
        let hopeless = |under_way| under_way as f64 > under_way_max;
        let name = format!("{} per second", Grouped(rate));
        let measured = run.measure_for(&name, self.step_seconds, Some(&hopeless))?;
        let lost = run.faults_so_far() - faults;
        let step = self.judge(
            rate,
            &measured.interval,
            measured.latencies.each.us(0.99),
            lost,
        );
        if lost > 0 {
            // What a broken step left behind would break the next one too.
            run.begin_anew()?;
        }
        Ok((step, measured))
    }

    fn judge(&self, rate: f64, interval: &Interval, p99_us: Option<f64>, lost: u64) -> Step {
        let limit_us = self.p99.as_secs_f64() * 1e6;
        // A slow rate may have one publication more or less in a step.
        let due = rate * interval.measured_seconds * ACHIEVED_MIN;
        let broken_by = if lost > 0 {
            Some(Breach::Loss)
        } else if ((interval.publications + 1) as f64) < due {
            Some(Breach::Behind)
        } else if p99_us.is_none_or(|p99| p99 > limit_us) {
            Some(Breach::Latency)
        } else {
            None
        };
        Step {
            rate,
            publications_per_second: interval.publications_per_second,
            deliveries_per_second: interval.deliveries_per_second,
            p99_us,
            lost,
            driver_cpu_percent: interval.busiest_driver_percent,
            server_cpu_percent: interval.server_cpu_percent,
            held: broken_by.is_none(),
            broken_by,
            verdict: interval.verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            options: Options,
        }
        use clap::Parser as _;
        Alone::parse_from(["knee"]).options
    }

    fn judge(rate: f64, publications: u64, p99_ms: f64, lost: u64) -> Option<Breach> {
        let interval = Interval {
            measured_seconds: 5.0,
            publications,
            ..Interval::default()
        };
        options()
            .judge(rate, &interval, Some(p99_ms * 1000.0), lost)
            .broken_by
    }

    #[test]
    fn a_rate_holds_if_it_is_reached_in_time_and_without_a_loss() {
        assert_eq!(judge(100.0, 500, 19.0, 0), None);
        assert_eq!(judge(100.0, 500, 21.0, 0), Some(Breach::Latency));
        assert_eq!(judge(100.0, 400, 1.0, 0), Some(Breach::Behind));
        assert_eq!(judge(100.0, 400, 99.0, 1), Some(Breach::Loss));
        assert_eq!(judge(0.2, 0, 1.0, 0), None, "one more or less is no pace");
    }
}
