//! The report as a text: the headline, a table of latencies, what was used, what went wrong.

use std::fmt::{self, Display, Formatter};

use super::figures::{Bytes, Grouped, Micros};
use super::latency::Latency;
use super::{IDLE, Memory, Parameters, Report};
use crate::positions::PositionTally;
use crate::sequence::Faults;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f)?;
        self.write_headline(f)?;
        self.write_rates(f)?;
        self.write_latencies(f)?;
        self.write_memory(f)?;
        self.write_faults(f)?;
        for text in self.section_texts.iter().filter(|text| !text.is_empty()) {
            write!(f, "\n{text}")?;
        }
        if self.interrupted {
            writeln!(f, "\ninterrupted: these are the figures so far")?;
        }
        if !self.verdicts.is_empty() {
            writeln!(f)?;
        }
        for verdict in &self.verdicts {
            writeln!(f, "{}", verdict.sentence)?;
        }
        Ok(())
    }
}

/// One line of the text: what it is about, and the rest.
fn row(f: &mut Formatter<'_>, name: &str, figures: impl Display) -> fmt::Result {
    writeln!(f, "{name:<16} {figures}")
}

impl Report {
    /// The CPU of a delivery: of all figures the one that a busy machine disturbs least.
    fn write_headline(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = |us: f64, percent: f64| {
            format!("{us:>9.3} us per delivery {percent:>12.0} % of a core")
        };
        if let (Some(us), Some(percent)) =
            (self.server_cpu_us_per_delivery, self.server_cpu_percent)
        {
            row(f, "server CPU", line(us, percent))?;
        }
        if let (Some(us), Some(frames)) =
            (self.driver_cpu_us_per_delivery, self.deliveries_per_read)
        {
            let line = line(us, self.driver_cpu_percent);
            row(
                f,
                "generator CPU",
                format!("{line}, {frames:.1} deliveries per read"),
            )?;
        }
        Ok(())
    }

    fn write_rates(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.scenario.mode == IDLE {
            let (had, all) = (self.deliveries, self.connections);
            row(
                f,
                "received",
                format!("{had} of {all} had the last publication"),
            )?;
        } else {
            let line = |per_second: f64, count: u64| {
                let (per_second, count) = (Grouped(per_second), Grouped(count as f64));
                let seconds = self.measured_seconds;
                format!("{per_second:>12} per second {count:>16} in {seconds:.1} s")
            };
            let deliveries = line(self.deliveries_per_second, self.deliveries);
            row(f, "deliveries", deliveries)?;
            let publications = line(self.publications_per_second, self.publications);
            row(f, "publications", publications)?;
        }
        let (connections, rate) = (
            Grouped(f64::from(self.connections)),
            Grouped(self.connects_per_second),
        );
        row(
            f,
            "connections",
            format!("{connections:>12}, opened at {rate} per second"),
        )
    }

    fn write_latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let neighbour = self.neighbour.as_ref();
        let rows = [
            ("to each member", self.latency_us.as_ref()),
            ("to the last", self.latency_last_us.as_ref()),
            (
                "small, alone",
                neighbour.and_then(|small| small.alone.as_ref()),
            ),
            (
                "small, flooded",
                neighbour.and_then(|small| small.flooded.as_ref()),
            ),
        ];
        if rows.iter().all(|(_, latency)| latency.is_none()) {
            return Ok(());
        }
        let [p50, p90, p99, p999, max] = ["p50", "p90", "p99", "p99.9", "max"];
        let heads = format!("{p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}");
        row(f, "\nlatency", heads.as_str())?;
        for (name, latency) in rows {
            if let Some(latency) = latency {
                row(f, name, latency)?;
            }
        }
        writeln!(f)
    }

    fn write_memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Memory {
            before: Some(before),
            after: Some(after),
        } = self.server_pss_bytes
        else {
            return Ok(());
        };
        let (before, after) = (Bytes(before as f64), Bytes(after as f64));
        let each = match self.bytes_per_connection {
            Some(bytes) => format!(", {} bytes per connection", Grouped(bytes)),
            None => String::new(),
        };
        row(
            f,
            "server memory",
            format!("{before} before, {after} after{each}"),
        )
    }

    fn write_faults(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Faults {
            lost,
            repeated,
            reordered,
            truncated,
        } = self.faults;
        row(
            f,
            "faults",
            format!(
                "{lost} lost, {repeated} repeated, {reordered} reordered, {truncated} truncated"
            ),
        )?;
        if let Some(positions) = &self.positions {
            positions.write(f)?;
        }
        if self.unreadable > 0 {
            row(
                f,
                "",
                format!("{} unreadable or misdirected", self.unreadable),
            )?;
        }
        if self.given_up > 0 {
            let waited = format!("{} publications no longer waited for", self.given_up);
            row(f, "", waited)?;
        }
        if self.stood_still_seconds > 0.0 {
            row(
                f,
                "",
                format!("stood still for {:.1} s", self.stood_still_seconds),
            )?;
        }
        if let Some(reason) = &self.first_disconnect {
            row(
                f,
                "",
                format!("{} disconnected: {reason}", self.disconnected),
            )?;
        }
        if let Some(text) = &self.first_server_error {
            row(f, "", format!("{} errors: {text}", self.server_errors))?;
        }
        Ok(())
    }
}

impl PositionTally {
    fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            offsets_missing: missing,
            offsets_repeated: repeated,
            announced,
            wrong_senders,
            wrong_messages,
            unacknowledged,
            ..
        } = self;
        let offsets = format!("{missing} offsets missing, {repeated} repeated, ");
        let told = format!("{announced} told by gaps, {wrong_senders} wrong senders, ");
        let wrong = format!("{wrong_messages} wrong messages");
        row(f, "positions", format!("{offsets}{told}{wrong}"))?;
        if *unacknowledged > 0 {
            row(f, "", format!("{unacknowledged} never acknowledged"))?;
        }
        match &self.first_fault {
            Some(fault) => row(f, "", fault),
            None => Ok(()),
        }
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p999, max] =
            [self.p50, self.p90, self.p99, self.p999, self.max].map(Micros);
        write!(f, "{p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")
    }
}

impl Latency {
    /// The same in a line of its own.
    pub(crate) fn in_words(&self) -> impl Display {
        let [p50, p90, p99, p999, max] =
            [self.p50, self.p90, self.p99, self.p999, self.max].map(Micros);
        format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}")
    }
}

impl Display for Parameters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            rooms,
            members,
            publishers,
            payload_bytes,
            ..
        } = self;
        if let Some(name) = self.name.as_ref().filter(|name| name.as_str() != *mode) {
            write!(f, "{name}, ")?;
        }
        let plural = if *rooms == 1 { "room" } else { "rooms" };
        write!(f, "{mode}: {rooms} {plural} x {members} members")?;
        if let Some(visitors) = self.visitors_max {
            write!(f, ", up to {visitors} visitors")?;
        }
        match (self.window, self.rate) {
            (Some(window), _) => write!(f, ", {window} under way")?,
            (_, Some(rate)) => write!(f, ", {rate} publications per second")?,
            _ => return Ok(()),
        }
        write!(f, ", {publishers} publishing, {payload_bytes} bytes")
    }
}
