//! The highest rate that a server carries: by the clock, faster and faster, until it is too late.
//!
//! A rate holds if the 99th percentile of latency is within the limit, nothing is lost, and as much
//! is published as was asked for. Latency and pace are tried twice, because one pause of the machine
//! breaks a short step; a loss is none of the machine's doing.

mod search;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::search::Search;
use super::Load;
use super::rooms::Rooms;
use crate::cli::units;
use crate::failure::Failure;
use crate::interval::Interval;
use crate::report::Latency;
use crate::report::figures::{Grouped, Micros, ratio};
use crate::report::verdict::{self, Kind, Verdict};
use crate::run::{Outcome, Run};
use crate::scenario::Group;

/// The flags of `knee`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rooms: Rooms,

    /// Publications per second in all to begin with; doubled until one is too many
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = units::rate)]
    rate: f64,

    /// The latency that 99 of 100 deliveries may have, with its unit: 20ms, 500us
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = units::latency)]
    p99: Duration,

    /// How long each rate is tried: a number of seconds, or 500ms, 1m
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = units::some_duration)]
    step_seconds: Duration,
}

/// A publisher that is later than this is not publishing at the rate any more.
const ACHIEVED_MIN: f64 = 0.95;

/// Before each step publications go out for so much of it, uncounted.
const WARMUP_SHARE: u32 = 10;

/// One rate that was tried.
#[derive(Debug, Serialize)]
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
    verdict: Kind,
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

/// The section of the report.
#[derive(Debug, Serialize)]
struct Knee {
    p99_limit_us: f64,
    step_seconds: f64,
    /// The highest rate that held, in publications per second.
    rate_held: Option<f64>,
    /// Whether a higher one broke. Without, the search ended before it came to a limit.
    limit_found: bool,
    deliveries_per_second: Option<f64>,
    /// Whether it was the generator that could not do more, and not the server.
    generator_gave_out: bool,
    steps: Vec<Step>,
}

impl Load for Options {
    fn name(&self) -> &'static str {
        "knee"
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(vec![self.rooms.open(self.rate)?])
    }

    /// The whole search; it takes some twenty steps.
    fn measured(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.assemble()?;
        let mut search = Search::new(self.rate);
        let mut steps: Vec<Step> = Vec::new();
        let mut best = None;
        while let Some(rate) = search.next().filter(|_| !run.is_out_of_time()) {
            let mut trial = self.try_rate(run, rate)?;
            if trial.may_be_chance() && !run.is_interrupted() {
                steps.push(trial.step);
                trial = self.try_rate(run, rate)?;
            }
            if run.is_interrupted() {
                break;
            }
            search.tell(rate, trial.step.held);
            if trial.step.held {
                best = Some((trial.interval, trial.each, trial.last));
            }
            steps.push(trial.step);
        }
        if let Some((interval, each, last)) = best {
            run.report.set_interval(&interval);
            run.report.set_latencies(each, last);
        }
        self.report(run, &search, steps);
        Ok(())
    }
}

/// A step with all that it measured.
struct Trial {
    step: Step,
    interval: Interval,
    each: Option<Latency>,
    last: Option<Latency>,
}

impl Trial {
    /// Whether another try could come out otherwise.
    fn may_be_chance(&self) -> bool {
        matches!(self.step.broken_by, Some(Breach::Behind | Breach::Latency))
    }
}

impl Options {
    fn try_rate(&self, run: &mut Run<'_>, rate: f64) -> Result<Trial, Failure> {
        run.set_rate(0, rate);
        let faults = run.faults_so_far();
        run.warm_up(&[0], self.step_seconds / WARMUP_SHARE)?;
        let limit = self.p99;
        // Later than that is no matter of a percentile: the queue would only grow.
        let hopeless =
            |under_way| under_way as f64 > 10.0 + rate * (limit * 10).as_secs_f64().max(1.0);
        let Outcome {
            interval,
            latencies,
        } = run.measure_for(
            format!("{} per second", Grouped(rate)),
            self.step_seconds,
            Some(&hopeless),
        )?;
        let [each, last] = [&latencies.each_ns, &latencies.last_ns].map(Latency::of);
        let lost = run.faults_so_far() - faults;
        let step = self.judge(rate, &interval, each.as_ref(), lost);
        if lost > 0 {
            // What a broken step left behind would break the next one too.
            run.begin_anew()?;
        }
        Ok(Trial {
            step,
            interval,
            each,
            last,
        })
    }

    fn judge(&self, rate: f64, interval: &Interval, each: Option<&Latency>, lost: u64) -> Step {
        let seconds = interval.elapsed.as_secs_f64();
        let per_second = |count: u64| ratio(count as f64, seconds).unwrap_or_default();
        let publications_per_second = per_second(interval.publications);
        let p99_us = each.map(|each| each.p99);
        let limit_us = self.p99.as_secs_f64() * 1e6;
        // A slow rate may have one publication more or less in a step.
        let achieved = (interval.publications + 1) as f64 >= rate * seconds * ACHIEVED_MIN;
        let broken_by = if lost > 0 {
            Some(Breach::Loss)
        } else if !achieved {
            Some(Breach::Behind)
        } else if p99_us.is_none_or(|p99| p99 > limit_us) {
            Some(Breach::Latency)
        } else {
            None
        };
        let usage = interval.usage();
        Step {
            rate,
            publications_per_second,
            deliveries_per_second: per_second(interval.deliveries),
            p99_us,
            lost,
            driver_cpu_percent: usage.driver_percent,
            server_cpu_percent: interval.server.cpu_percent(),
            held: broken_by.is_none(),
            broken_by,
            verdict: verdict::bottleneck(&usage),
        }
    }

    fn report(&self, run: &mut Run<'_>, search: &Search, steps: Vec<Step>) {
        let rate = search.knee();
        let best = steps
            .iter()
            .rfind(|step| Some(step.rate) == rate && step.held);
        let broken_with = |kind| steps.iter().any(|step| !step.held && step.verdict == kind);
        let generator_gave_out =
            broken_with(Kind::GeneratorBottleneck) && !broken_with(Kind::ServerBottleneck);
        let deliveries_per_second = best.map(|step| step.deliveries_per_second);
        let knee = Knee {
            p99_limit_us: self.p99.as_secs_f64() * 1e6,
            step_seconds: self.step_seconds.as_secs_f64(),
            rate_held: rate,
            limit_found: search.found_limit(),
            deliveries_per_second,
            generator_gave_out,
            steps,
        };
        // A rate that breaks is what was looked for; that none holds is a fault.
        run.report.excuse_losses(rate.is_some());
        if generator_gave_out {
            run.report.verdicts.push(Verdict::new(
                Kind::GeneratorBottleneck,
                "it was the generator that gave out above this rate, and not the server",
            ));
        }
        run.report.add_section("knee", &knee);
    }
}

impl Display for Knee {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let heads = [
            "rate",
            "published/s",
            "deliveries/s",
            "p99",
            "lost",
            "server",
            "generator",
        ];
        let [rate, published, deliveries, p99, lost, server, generator] = heads;
        writeln!(
            f,
            "{rate:>10} {published:>12} {deliveries:>13} {p99:>9} {lost:>8} {server:>7} {generator:>9}"
        )?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        let limit = Micros(self.p99_limit_us);
        match (self.rate_held, self.deliveries_per_second) {
            (Some(rate), Some(deliveries)) => {
                let [rate, deliveries] = [rate, deliveries].map(Grouped);
                if self.limit_found {
                    write!(
                        f,
                        "\n{rate} publications per second is the last rate that held"
                    )?;
                } else {
                    write!(
                        f,
                        "\nno limit was found up to {rate} publications per second"
                    )?;
                }
                writeln!(
                    f,
                    " ({deliveries} deliveries per second, p99 up to {limit})"
                )
            }
            _ => writeln!(f, "\nno rate held a p99 of {limit} without a loss"),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let percent = |used: f64| format!("{used:.0} %");
        let server = self
            .server_cpu_percent
            .map_or_else(|| "-".to_owned(), percent);
        let p99 = self
            .p99_us
            .map_or_else(|| "-".to_owned(), |p99| Micros(p99).to_string());
        let broken = match self.broken_by {
            None => "holds",
            Some(Breach::Behind) => "falls behind",
            Some(Breach::Latency) => "too late",
            Some(Breach::Loss) => "loses",
        };
        let [rate, deliveries] = [self.rate, self.deliveries_per_second].map(Grouped);
        let (published, lost) = (self.publications_per_second, self.lost);
        let driver = percent(self.driver_cpu_percent);
        write!(
            f,
            "{rate:>10} {published:>12.1} {deliveries:>13} {p99:>9} {lost:>8} {server:>7} {driver:>9}  {broken}"
        )
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

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

    fn judge(rate: f64, publications: u64, p99_ms: u64, lost: u64) -> Option<Breach> {
        let interval = Interval {
            elapsed: Duration::from_secs(5),
            publications,
            ..Interval::default()
        };
        let mut latency_ns = Histogram::new_with_bounds(1_000, 600_000_000_000, 3).unwrap();
        latency_ns.record(p99_ms * 1_000_000).unwrap();
        let each = Latency::of(&latency_ns);
        options()
            .judge(rate, &interval, each.as_ref(), lost)
            .broken_by
    }

    #[test]
    fn a_rate_holds_if_it_is_reached_in_time_and_without_a_loss() {
        assert_eq!(judge(100.0, 500, 19, 0), None);
        assert_eq!(judge(100.0, 500, 21, 0), Some(Breach::Latency));
        assert_eq!(judge(100.0, 400, 1, 0), Some(Breach::Behind));
        assert_eq!(judge(100.0, 400, 99, 1), Some(Breach::Loss));
        assert_eq!(judge(0.2, 0, 1, 0), None, "one more or less is no pace");
    }
}
