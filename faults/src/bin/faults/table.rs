//! What a run prints: tables for people, the same for a terminal and for docs/benchmarks.md.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faults::network::Counts;
use faults::verdict::{Deliveries, Verdict};

use crate::cli::Cli;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) cli: Cli,
    pub(crate) seed: u64,
    pub(crate) storm: Storm,
    pub(crate) verdict: Verdict,
}

/// What was done to the network.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    /// Drops of the whole network.
    pub(crate) drops: u64,
    /// Drops of a part.
    pub(crate) part_drops: u64,
    /// Publications that were due and not taken, since too many waited already.
    pub(crate) held_back: u64,
    /// Whether everybody came to the same end.
    pub(crate) has_settled: bool,
    /// How long that took.
    pub(crate) settled_after: Duration,
    faults: Vec<(&'static str, u64)>,
}

impl Storm {
    /// Takes over what the network has counted.
    pub(crate) fn take_counts(&mut self, counts: &Counts) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.faults = vec![
            ("links", of(&counts.links)),
            ("refused", of(&counts.refused)),
            ("cut (FIN)", of(&counts.cut)),
            ("reset (RST)", of(&counts.reset)),
            ("orphaned", of(&counts.orphaned)),
            ("stalled", of(&counts.stalled)),
            ("halved", of(&counts.halved)),
            ("slowed", of(&counts.slowed)),
        ];
    }
}

impl Report {
    /// Whether the promise was kept.
    pub(crate) const fn is_kept(&self) -> bool {
        self.storm.has_settled && self.verdict.findings.count == 0
    }

    /// The report for a terminal: what went wrong is at the end, where it is seen.
    pub(crate) fn text(&self) -> String {
        let mut text = self.markdown();
        let findings = &self.verdict.findings;
        if !self.storm.has_settled {
            let waited = self.storm.settled_after.as_secs();
            _ = write!(
                text,
                "\nAfter {waited} s not everybody had come to the same end.\n"
            );
        }
        for finding in &findings.first {
            _ = write!(text, "\n- {finding}");
        }
        let more = findings.count - findings.first.len() as u64;
        if more > 0 {
            _ = write!(text, "\n- and {more} more");
        }
        let verdict = if self.is_kept() {
            "the promise was kept"
        } else {
            "THE PROMISE WAS BROKEN"
        };
        _ = write!(text, "\nfaults: {verdict}, seed {}", self.seed);
        text
    }

    /// The report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let verdict = &self.verdict;
        let mut text = format!("`{}`\n\n", self.command());
        text.push_str(&self.clients());
        text.push('\n');
        text.push_str(&self.happenings());
        let everybody = total(&verdict.by_kind);
        _ = write!(
            text,
            "\nDelivered exactly once, in order: **{}**",
            percent(&everybody)
        );
        if everybody.announced > 0 {
            let told = Deliveries {
                in_order: everybody.in_order + everybody.announced,
                ..everybody
            };
            _ = write!(
                text,
                ", and delivered or told that it is missing: **{}**",
                percent(&told)
            );
        }
        if verdict.plain.client_count > 0 {
            let plain = percent(&verdict.plain);
            _ = write!(text, ". Without recovery, on the same network: {plain}");
        }
        text.push_str(".\n");
        text
    }

    fn command(&self) -> String {
        let Cli {
            seconds,
            clients,
            plain,
            rooms,
            rate,
            pad_bytes,
            policy,
            drop_every,
            drop_for,
            ..
        } = &self.cli;
        let mut command = format!(
            "cargo xtask faults --seconds {seconds} --clients {clients} --plain {plain} \
             --rooms {rooms} --rate {rate} --pad-bytes {pad_bytes} --policy {policy} \
             --drop-every {drop_every} --drop-for {drop_for} --seed {}",
            self.seed
        );
        for (count, flag) in [(self.cli.node(), "node"), (self.cli.browser(), "browser")] {
            if count > 0 {
                _ = write!(command, " --{flag} {count}");
            }
        }
        for (is_given, flag) in [(self.cli.restart, "restart"), (self.cli.kill, "kill")] {
            if is_given {
                _ = write!(command, " --{flag} --times {}", self.cli.times);
            }
        }
        if let Some(fsync) = self.cli.fsync() {
            _ = write!(command, " --fsync {fsync}");
        }
        command
    }

    fn clients(&self) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.push(
            HEADINGS.map(|heading| if heading.is_empty() { "---" } else { "---:" }.to_owned()),
        );
        for (kind, deliveries) in &self.verdict.by_kind {
            rows.push(row(&format!("throng.v1, {kind}"), deliveries));
        }
        if self.verdict.plain.client_count > 0 {
            rows.push(row("golem's wire, no recovery", &self.verdict.plain));
        }
        let rows = rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
        rows.collect()
    }

    fn happenings(&self) -> String {
        let Verdict {
            publications,
            republished,
            acknowledged,
            duplicates,
            by_kind,
            ..
        } = &self.verdict;
        let everybody = total(by_kind);
        let Storm {
            drops,
            part_drops,
            held_back,
            faults,
            ..
        } = &self.storm;
        let mut rows = vec![
            ("publications", *publications),
            (
                "of them published once more by a server that had forgotten them",
                *republished,
            ),
            ("acknowledged", *acknowledged),
            ("of them sent again and known by their key", *duplicates),
            ("due and not taken, since too many waited", *held_back),
            ("drops of the whole network", *drops),
            ("drops of a part of it", *part_drops),
        ];
        let times = u64::from(self.cli.times);
        let ends = [
            (
                self.cli.restart,
                "times that the server was stopped and started anew",
            ),
            (
                self.cli.kill,
                "times that the server was killed and started anew",
            ),
        ];
        rows.extend(
            ends.iter()
                .filter(|(is_given, _)| *is_given)
                .map(|(_, what)| (*what, times)),
        );
        rows.extend(faults.iter().copied());
        rows.extend([
            ("connections", everybody.connections),
            ("attempts to connect that failed", everybody.failed_attempts),
            (
                "connections given up, since nothing was heard",
                everybody.silences,
            ),
            (
                "rooms joined again, told that nothing is missing",
                everybody.recovered,
            ),
            (
                "rooms joined again, told that something may be",
                everybody.not_recovered,
            ),
        ]);
        let mut text = "| what happened | how often |\n| --- | ---: |\n".to_owned();
        let mut write = |what: &str, count| _ = writeln!(text, "| {what} | {} |", grouped(count));
        for (what, count) in rows {
            write(what, count);
        }
        for (code, count) in &everybody.closes {
            write(
                &format!("connections closed by the server with {code}"),
                *count,
            );
        }
        text
    }
}

const HEADINGS: [&str; 9] = [
    "",
    "clients",
    "deliveries expected",
    "once, in order",
    "repeated",
    "reordered",
    "missing, told",
    "missing, untold",
    "share",
];

fn row(name: &str, deliveries: &Deliveries) -> [String; 9] {
    let Deliveries {
        client_count,
        expected,
        in_order,
        repeated,
        reordered,
        announced,
        missing,
        ..
    } = deliveries;
    [
        name.to_owned(),
        grouped(*client_count),
        grouped(*expected),
        grouped(*in_order),
        grouped(*repeated),
        grouped(*reordered),
        grouped(*announced),
        grouped(*missing),
        percent(deliveries),
    ]
}

fn total(by_kind: &[(&str, Deliveries)]) -> Deliveries {
    let mut total = Deliveries::default();
    for (_, of) in by_kind {
        total.expected += of.expected;
        total.in_order += of.in_order;
        total.connections += of.connections;
        total.failed_attempts += of.failed_attempts;
        total.silences += of.silences;
        for (code, count) in &of.closes {
            *total.closes.entry(*code).or_default() += count;
        }
        total.announced += of.announced;
        total.recovered += of.recovered;
        total.not_recovered += of.not_recovered;
    }
    total
}

/// A share as people read it: 100 % is all of them and not nearly so.
fn percent(deliveries: &Deliveries) -> String {
    match deliveries.percent() {
        None => "none expected".to_owned(),
        Some(_) if deliveries.in_order == deliveries.expected => "100 %".to_owned(),
        Some(percent) => format!("{:.3} %", percent.min(99.999)),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_a_share_is_all_only_if_it_is() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let of = |in_order, expected| {
            percent(&Deliveries {
                in_order,
                expected,
                ..Deliveries::default()
            })
        };
        assert_eq!(of(0, 0), "none expected");
        assert_eq!(of(1_000_000, 1_000_000), "100 %");
        assert_eq!(of(9_999_999, 10_000_000), "99.999 %");
        assert_eq!(of(1, 3), "33.333 %");
    }
}
