//! What is printed: one structure, as a text for people and as JSON for programs.
//!
//! Besides this, only a comparison prints. A figure that was not measured is `null` in the JSON and absent in the text.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is this file's work"
)]

use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::Setup;
use crate::driver::{Connected, Driver};
use crate::failure::Failure;
use crate::run::Interval;
use crate::scenario::{Group, Mode, Pacing};
use crate::sequence::Faults;

/// The outcome of a run. The names are the JSON's: other programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: Parameters,
    /// Whether Ctrl-C ended the run.
    interrupted: bool,
    connections: u32,
    connects_per_second: f64,
    /// How long deliveries were counted.
    measured_seconds: f64,
    publications: u64,
    publications_per_second: f64,
    deliveries: u64,
    deliveries_per_second: f64,
    /// How many frames a read of a member's socket brought.
    deliveries_per_read: Option<f64>,
    latency_us: Option<Latency>,
    server_cpu_us_per_delivery: Option<f64>,
    server_cpu_percent: Option<f64>,
    driver_cpu_us_per_delivery: Option<f64>,
    driver_cpu_percent: f64,
    #[serde(flatten)]
    faults: Faults,
    /// `msg` events with what this run did not publish, or not to that member.
    unreadable: u64,
    /// Publications that were not waited for any longer; their deliveries are lost.
    given_up: u64,
    /// How long the generator stood still while publications were under way: its latencies and
    /// rates are the machine's then, not the server's.
    stood_still_seconds: f64,
    disconnected: u64,
    first_disconnect: Option<String>,
    server_errors: u64,
    first_server_error: Option<String>,
    pub(crate) server_pss_bytes: Memory,
    /// With `--idle`.
    bytes_per_connection: Option<f64>,
    pub(crate) neighbour: Option<Neighbour>,
    verdict: Verdict,
}

/// What was asked for.
#[derive(Debug, Serialize)]
struct Parameters {
    mode: &'static str,
    url: String,
    wire: String,
    rooms: u32,
    members: u32,
    publishers: u32,
    window: Option<u32>,
    rate: Option<f64>,
    payload_bytes: usize,
    seconds: f64,
    warmup_seconds: f64,
    pin: Option<usize>,
}

/// From when a publication was due to its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// How many deliveries were timed.
    count: u64,
}

/// The server's proportional set size.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Before the first connection.
    pub(crate) before: Option<u64>,
    /// At the end of what was measured, with all connections open.
    pub(crate) after: Option<u64>,
}

/// The small room's latency.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Neighbour {
    pub(crate) alone: Option<Latency>,
    pub(crate) flooded: Option<Latency>,
}

/// What kept the figures from being higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The figures are this program's, not the server's.
    GeneratorBottleneck,
    /// Neither had a whole core to do.
    NoBottleneck,
    /// The server had a core or more to do.
    ServerBottleneck,
    /// Nothing was measured, or not the server.
    Unknown,
}

/// A core of which this much is used has no more to give.
const BUSY_PERCENT: f64 = 90.0;

impl Latency {
    /// The percentiles of nanoseconds; none if nothing was timed.
    pub(crate) fn of(latency_ns: &Histogram<u64>) -> Option<Self> {
        if latency_ns.is_empty() {
            return None;
        }
        let us = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Self {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: us(1.0),
            count: latency_ns.len(),
        })
    }
}

impl Report {
    /// A report of nothing yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            scenario: Parameters::of(setup),
            interrupted: false,
            connections: 0,
            connects_per_second: 0.0,
            measured_seconds: 0.0,
            publications: 0,
            publications_per_second: 0.0,
            deliveries: 0,
            deliveries_per_second: 0.0,
            deliveries_per_read: None,
            latency_us: None,
            server_cpu_us_per_delivery: None,
            server_cpu_percent: None,
            driver_cpu_us_per_delivery: None,
            driver_cpu_percent: 0.0,
            faults: Faults::default(),
            unreadable: 0,
            given_up: 0,
            stood_still_seconds: 0.0,
            disconnected: 0,
            first_disconnect: None,
            server_errors: 0,
            first_server_error: None,
            server_pss_bytes: Memory::default(),
            bytes_per_connection: None,
            neighbour: None,
            verdict: Verdict::Unknown,
        }
    }

    /// Takes over how the connections were opened.
    pub(crate) fn set_connected(&mut self, connected: Connected) {
        self.connections = connected.connections;
        let rate = ratio(
            f64::from(connected.connections),
            connected.elapsed.as_secs_f64(),
        );
        self.connects_per_second = rate.unwrap_or_default();
    }

    /// Takes over what was measured.
    pub(crate) fn set_interval(&mut self, interval: &Interval, latency: Option<Latency>) {
        let seconds = interval.elapsed.as_secs_f64();
        let deliveries = interval.deliveries as f64;
        let per_delivery = |used: f64| ratio(used * 1e6, deliveries);
        let percent = |used: f64| ratio(used * 100.0, seconds);
        let driver_cpu = interval.driver_cpu.as_secs_f64();
        let server_cpu = interval.server_cpu.map(|used| used.as_secs_f64());
        self.measured_seconds = seconds;
        self.publications = interval.publications;
        self.publications_per_second =
            ratio(interval.publications as f64, seconds).unwrap_or_default();
        self.deliveries = interval.deliveries;
        self.deliveries_per_second = ratio(deliveries, seconds).unwrap_or_default();
        self.deliveries_per_read = ratio(deliveries, interval.reads as f64);
        self.latency_us = latency;
        self.server_cpu_us_per_delivery = server_cpu.and_then(per_delivery);
        self.server_cpu_percent = server_cpu.and_then(percent);
        self.driver_cpu_us_per_delivery = per_delivery(driver_cpu);
        self.driver_cpu_percent = percent(driver_cpu).unwrap_or_default();
        self.verdict = verdict(self.driver_cpu_percent, self.server_cpu_percent);
    }

    /// Takes over what idle connections cost, and who received the last publication.
    pub(crate) fn set_idle(&mut self, memory: &Memory, connected: Connected, received: u32) {
        self.deliveries = u64::from(received);
        self.faults.lost = u64::from(connected.connections - received);
        let grown = memory.after.zip(memory.before);
        self.bytes_per_connection = grown.and_then(|(after, before)| {
            ratio(
                after as f64 - before as f64,
                f64::from(connected.connections),
            )
        });
    }

    /// Takes over what went wrong.
    pub(crate) fn set_outcome(&mut self, driver: &Driver<'_>) {
        let (errors, disconnects) = (driver.errors(), driver.disconnects());
        self.interrupted = driver.is_interrupted();
        self.faults += driver.ledger().faults();
        if self.interrupted && self.scenario.mode == Mode::Idle.name() {
            self.faults.lost = 0; // nobody waited for the last publication
        }
        self.unreadable = driver.ledger().unreadable();
        self.given_up = driver.ledger().given_up();
        self.stood_still_seconds = driver.stood_still().as_secs_f64();
        self.disconnected = disconnects.count;
        self.first_disconnect.clone_from(&disconnects.first_reason);
        self.server_errors = errors.count;
        self.first_server_error.clone_from(&errors.first_text);
    }

    /// Whether anything went wrong with a delivery; the exit code is then 1.
    pub(crate) fn is_faulty(&self) -> bool {
        self.faults != Faults::default()
            || self.unreadable + self.disconnected + self.server_errors > 0
    }

    /// Prints the JSON.
    pub(crate) fn print_json(&self) {
        let json = serde_json::to_string_pretty(self).expect("numbers and strings are JSON");
        println!("{json}");
    }

    /// Prints the text.
    pub(crate) fn print_text(&self) {
        print!("{self}");
    }

    fn write_deliveries(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let in_time = format!("in {:.1} s", self.measured_seconds);
        let per_second = Grouped(self.deliveries_per_second);
        let deliveries = Grouped(self.deliveries as f64);
        writeln!(
            f,
            "deliveries     {per_second} per second, {deliveries} {in_time}"
        )?;
        let per_second = Grouped(self.publications_per_second);
        let publications = Grouped(self.publications as f64);
        writeln!(
            f,
            "publications   {per_second} per second, {publications} {in_time}"
        )?;
        if let Some(latency) = &self.latency_us {
            writeln!(f, "latency        {latency}")?;
        }
        Ok(())
    }

    fn write_cpu(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let (Some(us), Some(percent)) =
            (self.server_cpu_us_per_delivery, self.server_cpu_percent)
        {
            writeln!(
                f,
                "server CPU     {us:.3} us per delivery, {percent:.0} % of a core"
            )?;
        }
        if let (Some(us), Some(frames)) =
            (self.driver_cpu_us_per_delivery, self.deliveries_per_read)
        {
            let percent = self.driver_cpu_percent;
            write!(
                f,
                "driver CPU     {us:.3} us per delivery, {percent:.0} % of a core"
            )?;
            writeln!(f, ", {frames:.1} deliveries per read")?;
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Memory {
            before: Some(before),
            after: Some(after),
        } = self.server_pss_bytes
        else {
            return Ok(());
        };
        let (before, after) = (
            Grouped(before as f64 / 1024.0),
            Grouped(after as f64 / 1024.0),
        );
        write!(f, "server memory  {before} KiB before, {after} KiB after")?;
        match self.bytes_per_connection {
            Some(bytes) => writeln!(f, ", {} bytes per connection", Grouped(bytes)),
            None => writeln!(f),
        }
    }

    fn write_faults(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Faults {
            lost,
            repeated,
            reordered,
        } = self.faults;
        writeln!(
            f,
            "faults         {lost} lost, {repeated} repeated, {reordered} reordered"
        )?;
        if self.unreadable > 0 {
            writeln!(
                f,
                "               {} unreadable or misdirected",
                self.unreadable
            )?;
        }
        if self.given_up > 0 {
            writeln!(f, "               {} publications given up", self.given_up)?;
        }
        if self.stood_still_seconds > 0.0 {
            writeln!(
                f,
                "               stood still for {:.1} s",
                self.stood_still_seconds
            )?;
        }
        if let Some(reason) = &self.first_disconnect {
            writeln!(
                f,
                "               {} disconnected: {reason}",
                self.disconnected
            )?;
        }
        if let Some(text) = &self.first_server_error {
            writeln!(f, "               {} errors: {text}", self.server_errors)?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        let (connections, rate) = (self.connections, Grouped(self.connects_per_second));
        writeln!(f, "connections    {connections}, {rate} per second")?;
        if self.scenario.mode == Mode::Idle.name() {
            writeln!(
                f,
                "received       {} of {connections} had the last publication",
                self.deliveries
            )?;
        } else {
            self.write_deliveries(f)?;
        }
        if let Some(alone) = self.neighbour.and_then(|neighbour| neighbour.alone) {
            writeln!(f, "small room     {alone}, alone")?;
        }
        if let Some(flooded) = self.neighbour.and_then(|neighbour| neighbour.flooded) {
            writeln!(f, "small room     {flooded}, beside the flood")?;
        }
        self.write_cpu(f)?;
        self.write_memory(f)?;
        self.write_faults(f)?;
        if self.interrupted {
            writeln!(f, "interrupted: these are the figures so far")?;
        }
        match self.verdict {
            Verdict::GeneratorBottleneck => writeln!(f, "the generator was the bottleneck"),
            Verdict::ServerBottleneck => writeln!(f, "the server was the bottleneck"),
            Verdict::Unknown if self.driver_cpu_percent > BUSY_PERCENT => {
                writeln!(
                    f,
                    "the generator had no time left: was the server busy? give --server-pid"
                )
            }
            Verdict::NoBottleneck | Verdict::Unknown => Ok(()),
        }
    }
}

impl Parameters {
    fn of(setup: &Setup) -> Self {
        let scenario = &setup.scenario;
        // The last group is the one that the flags describe.
        let Group {
            rooms,
            members_per_room,
            publishers,
            pacing,
            ..
        } = *scenario.groups.last().expect("a scenario has a group");
        let (window, rate) = match pacing {
            _ if scenario.mode == Mode::Idle => (None, None),
            Pacing::Closed { window } => (Some(window), None),
            Pacing::Open { per_second } => (None, Some(per_second)),
        };
        Self {
            mode: scenario.mode.name(),
            url: setup.target.url.clone(),
            wire: setup.target.wire.name.clone(),
            rooms,
            members: members_per_room,
            publishers,
            window,
            rate,
            payload_bytes: scenario.payload_bytes,
            seconds: scenario.measured.as_secs_f64(),
            warmup_seconds: scenario.warmup.as_secs_f64(),
            pin: setup.pin,
        }
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
        write!(f, "{mode}: {rooms} x {members} members")?;
        match (self.window, self.rate) {
            (Some(window), _) => write!(f, ", {window} under way")?,
            (_, Some(rate)) => write!(f, ", {rate} publications per second")?,
            _ => return Ok(()),
        }
        write!(f, ", {publishers} publishing, {payload_bytes} bytes")
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = self;
        write!(
            f,
            "p50 {p50:.0} us, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {max:.0}"
        )
    }
}

/// A number without decimals and with commas at the thousands.
struct Grouped(f64);

impl Display for Grouped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0.abs());
        if self.0 < 0.0 {
            f.write_str("-")?;
        }
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Prints why there is no report.
pub(crate) fn print_failure(failure: &Failure) {
    eprintln!("loadtest: {failure}");
}

fn verdict(driver_percent: f64, server_percent: Option<f64>) -> Verdict {
    let Some(server_percent) = server_percent else {
        return Verdict::Unknown;
    };
    match (driver_percent > BUSY_PERCENT, server_percent > BUSY_PERCENT) {
        (_, true) => Verdict::ServerBottleneck,
        (true, false) => Verdict::GeneratorBottleneck,
        (false, false) => Verdict::NoBottleneck,
    }
}

/// A quotient; none if there is nothing to divide by.
fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let text = |number| Grouped(number).to_string();
        assert_eq!(text(0.4), "0");
        assert_eq!(text(999.0), "999");
        assert_eq!(text(1_234_567.0), "1,234,567");
        assert_eq!(text(-123_456.0), "-123,456");
    }

    #[test]
    fn the_generator_is_blamed_only_if_the_server_had_time() {
        assert_eq!(verdict(95.0, Some(50.0)), Verdict::GeneratorBottleneck);
        assert_eq!(verdict(95.0, Some(99.0)), Verdict::ServerBottleneck);
        assert_eq!(verdict(50.0, Some(99.0)), Verdict::ServerBottleneck);
        assert_eq!(verdict(50.0, Some(50.0)), Verdict::NoBottleneck);
        assert_eq!(verdict(95.0, None), Verdict::Unknown);
    }
}
