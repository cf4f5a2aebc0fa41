//! What a person sees while a run lasts: the phase, how far it is, and the figures so far.
//!
//! A line that is drawn over on a terminal, a line every five seconds elsewhere if that is asked
//! for, and nothing otherwise. It runs on the monitor's thread.

#![expect(clippy::print_stderr, reason = "printing is this file's work")]

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::to_ns;
use crate::probe::Counters;
use crate::report::text::{Grouped, Micros};
use crate::tally::{Latency, ratio};

/// A part of a run.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// What is done.
    pub(crate) name: String,
    /// What it waits for.
    pub(crate) goal: Goal,
}

/// What a phase waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// So many connections.
    Connections(u64),
    /// Something that nobody can tell in advance.
    Open,
    /// A moment.
    Time { from_ns: u64, until_ns: u64 },
}

/// How often a plain line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// As often as there are readings.
const DRAWN_PER_SECOND: u8 = 5;

/// The person's view of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    /// When the next plain line is due; none where none are wanted.
    next_line_ns: Option<u64>,
    phase: Phase,
    /// The reading before, for the rate.
    before: Counters,
}

impl Progress {
    /// Shows it on standard error; in lines if that is no terminal and `lines` are wanted.
    pub(crate) fn new(lines: bool) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
        let style = ProgressStyle::with_template("{prefix:<12} [{bar:16}] {wide_msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        Self {
            bar: ProgressBar::with_draw_target(Some(1), target).with_style(style),
            next_line_ns: (lines && !stderr().is_terminal()).then_some(0),
            phase: Phase {
                name: "starting".to_owned(),
                goal: Goal::Open,
            },
            before: Counters::default(),
        }
    }

    /// Begins another part of the run.
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.bar.set_prefix(phase.name.clone());
        self.bar.set_position(0);
        self.phase = phase;
    }

    /// Shows a reading.
    pub(crate) fn show(&mut self, counters: &Counters, latency: &Latency) {
        let is_line_due = self
            .next_line_ns
            .is_some_and(|next_ns| counters.at_ns >= next_ns);
        if self.bar.is_hidden() && !is_line_due {
            return;
        }
        let figures = figures(&self.before, counters, latency);
        self.before = *counters;
        let (done, all) = self.phase.goal.share(counters);
        if is_line_due {
            self.next_line_ns = Some(counters.at_ns + to_ns(LINE_INTERVAL));
            let percent = ratio(done as f64 * 100.0, all as f64).unwrap_or_default();
            eprintln!("{} {percent:.0} %: {figures}", self.phase.name);
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(figures);
    }

    /// Leaves the screen as it was.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Goal {
    /// Returns how much of how much is done.
    fn share(self, counters: &Counters) -> (u64, u64) {
        match self {
            Self::Connections(all) => (counters.connections, all),
            Self::Open => (0, 1),
            Self::Time { from_ns, until_ns } => {
                let all = until_ns.saturating_sub(from_ns);
                (counters.at_ns.saturating_sub(from_ns).min(all), all)
            }
        }
    }
}

fn figures(before: &Counters, now: &Counters, latency: &Latency) -> String {
    let seconds = Duration::from_nanos(now.at_ns.saturating_sub(before.at_ns)).as_secs_f64();
    let delivered = now.deliveries.saturating_sub(before.deliveries);
    let rate = Grouped(ratio(delivered as f64, seconds).unwrap_or_default());
    let p99 = latency
        .us(0.99)
        .map_or_else(|| "-".to_owned(), |us| Micros(us).to_string());
    let (connections, lost) = (Grouped(now.connections as f64), now.lost);
    // What changes stands in front: a narrow terminal cuts the end off.
    format!("{rate} deliveries/s, p99 {p99}, {lost} lost, {connections} connections")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_since_the_reading_before() {
        let before = Counters {
            deliveries: 1000,
            at_ns: 1_000_000_000,
            ..Counters::default()
        };
        let now = Counters {
            deliveries: 3000,
            at_ns: 3_000_000_000,
            connections: 1234,
            lost: 2,
            ..before
        };
        let mut latency = Latency::default();
        let expected = "1,000 deliveries/s, p99 -, 2 lost, 1,234 connections";
        assert_eq!(figures(&before, &now, &latency), expected);
        latency.record(4_100_000);
        assert!(figures(&before, &now, &latency).contains("p99 4.1 ms"));
    }

    #[test]
    fn a_goal_is_reached_in_connections_or_in_time() {
        let counters = Counters {
            at_ns: 1500,
            connections: 30,
            ..Counters::default()
        };
        assert_eq!(Goal::Connections(100).share(&counters), (30, 100));
        let time = |from_ns, until_ns| Goal::Time { from_ns, until_ns }.share(&counters);
        assert_eq!(time(1000, 2000), (500, 1000));
        assert_eq!(
            time(1000, 1200),
            (200, 200),
            "late, and no further than the end"
        );
        assert_eq!(time(2000, 3000), (0, 1000));
    }
}
