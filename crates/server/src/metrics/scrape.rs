//! Writes the text of `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rooms::{Command, CoreId, RoomTable};

use super::counts::{Closed, CoreMetrics, Count, ErrorCounts, RefusedCounts, SystemCalls};
use super::survey::{BOUNDS, Survey};
use crate::journal::JournalMetrics;

/// All that `/metrics` shows.
pub(crate) struct Exposition {
    pub(crate) table: Arc<RoomTable>,
    pub(crate) cores: Vec<Arc<CoreMetrics>>,
    /// Counts of threads that are no core's.
    pub(crate) outside: Arc<CoreMetrics>,
    /// If histories are kept on disk.
    pub(crate) journal: Option<Arc<JournalMetrics>>,
    /// The application's.
    pub(crate) own: Vec<OwnCounter>,
}

/// A counter of the application's.
pub(crate) struct OwnCounter {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) count: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Exposition {
    /// Writes the text of `/metrics`, in the OpenMetrics format.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by it.
    pub(crate) async fn render(self: &Arc<Self>) -> String {
        let scrape = Scrape {
            survey: survey(&self.table, &self.cores).await,
            exposition: self.clone(),
        };
        let mut registry = Registry::with_prefix("throng");
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        // Writing to a String does not fail.
        _ = encode(&mut text, &registry);
        text
    }

    fn sum(&self, count: impl Fn(&CoreMetrics) -> &Count) -> u64 {
        self.cores.iter().map(|core| count(core).get()).sum()
    }
}

/// The values that are read once for one answer.
#[derive(Debug)]
struct Scrape {
    exposition: Arc<Exposition>,
    survey: Survey,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_survey(&mut encoder)?;
        self.exposition.encode(encoder)
    }
}

impl Scrape {
    fn encode_survey(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new(0_i64);
        let help = "Connections with at most this many bytes queued";
        let kind = gauge.metric_type();
        let mut counts = encoder.encode_descriptor("connections_pending", help, None, kind)?;
        let bounds = BOUNDS.iter().map(|(_, label)| *label);
        for (bound, count) in bounds.chain(["+Inf"]).zip(self.survey.at_most) {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(series(&mut counts, &[("le", bound)])?)?;
        }
        Ok(())
    }
}

/// Begins one series of a metric. What a label may be is written in the program: a scraper keeps
/// each value that it has ever seen, so none may come from a peer, such as a name or an address.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that the ban points to"
)]
fn series<'m>(
    metric: &'m mut MetricEncoder<'_>,
    label: &'m [(&'static str, &'static str); 1],
) -> Result<MetricEncoder<'m>, fmt::Error> {
    metric.encode_family(label)
}

impl Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.table.totals();
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name, help, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            &mut encoder,
            "connections",
            "Open connections",
            self.sum(|c| &c.connections),
        )?;
        gauge(
            &mut encoder,
            "handlers",
            "Async handlers in progress",
            self.sum(|c| &c.handlers),
        )?;
        gauge(
            &mut encoder,
            "rooms",
            "Rooms with members",
            totals.rooms as u64,
        )?;
        gauge(
            &mut encoder,
            "rooms_without_members",
            "Rooms without members that retain history or keys",
            totals.rooms_without_members as u64,
        )?;
        gauge(
            &mut encoder,
            "history_bytes",
            "Memory retained by rooms, in bytes",
            totals.history_bytes as u64,
        )?;
        gauge(
            &mut encoder,
            "members",
            "Memberships in all rooms",
            self.sum(|c| &c.memberships),
        )?;
        gauge(
            &mut encoder,
            "cores",
            "Cores in use",
            self.cores.len() as u64,
        )?;
        gauge(
            &mut encoder,
            "shards",
            "Shards of the table of rooms",
            self.table.shard_count() as u64,
        )?;
        let mailboxes = self.table.mailbox_pending_bytes();
        gauge(
            &mut encoder,
            "mailbox_pending_bytes",
            "Pending work of the busiest core, in bytes",
            mailboxes,
        )?;

        let mut counter = |name, help, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        let created = totals.rooms_created;
        counter("rooms_created", "Rooms created", created)?;
        let publications = totals.publications;
        counter("publications", "Publications to rooms", publications)?;
        let evictions = "Publications and keys evicted because the memory was full";
        counter("history_evictions", evictions, totals.evictions)?;
        let opened = self.sum(|c| &c.connections_opened);
        counter(
            "connections_opened",
            "Connections that completed the handshake",
            opened,
        )?;
        let deliveries = self.sum(|c| &c.deliveries);
        counter("deliveries", "Messages for members", deliveries)?;
        let skipped = "Publications skipped for slow members";
        counter("skipped", skipped, self.sum(|c| &c.skipped))?;
        let dropped = "Ephemeral events dropped for members with long queues";
        counter(
            "ephemeral_dropped",
            dropped,
            self.sum(|c| &c.ephemeral_dropped),
        )?;
        let replayed = "Publications replayed to members that rejoined";
        counter("replayed", replayed, self.sum(|c| &c.replayed))?;
        counter(
            "messages_in",
            "Messages received",
            self.sum(|c| &c.messages_in),
        )?;
        counter("bytes_in", "Bytes received", self.sum(|c| &c.bytes_in))?;
        counter(
            "bytes_out",
            "Bytes accepted by sockets",
            self.sum(|c| &c.bytes_out),
        )?;
        counter("flushes", "Writes to sockets", self.sum(|c| &c.flushes))?;
        counter("turns", "Turns of the core loops", self.sum(|c| &c.turns))?;
        let late = "Turns that left commands or fan-outs to the next turn";
        counter("late_turns", late, self.sum(|c| &c.late_turns))?;
        let used_up = "Times that a connection used its whole share of a turn";
        counter("slices_used_up", used_up, self.sum(|c| &c.slices_used_up))?;
        counter("pings", "Keepalive pings sent", self.sum(|c| &c.pings))?;
        let stalls = "Times that a publisher was held back because a core was behind";
        counter("publisher_stalls", stalls, self.sum(|c| &c.stalls))?;
        let slow = self.sum(|c| &c.closed.slow_consumer);
        counter(
            "slow_consumers",
            "Members closed because their outbox was full",
            slow,
        )?;

        for own in &self.own {
            counter(own.name, own.help, (own.count)())?;
        }

        if let Some(journal) = &self.journal {
            journal.encode(&mut encoder, self.table.journal_pending_bytes())?;
        }
        self.family(
            &mut encoder,
            "connections_closed",
            "Connections that ended",
            "reason",
            |c| (Closed::labels(), c.closed.values()),
        )?;
        self.family(
            &mut encoder,
            "handshakes_refused",
            "Requests refused",
            "reason",
            |c| (RefusedCounts::labels(), c.refused.values()),
        )?;
        self.family(&mut encoder, "errors", "Error events sent", "code", |c| {
            (ErrorCounts::labels(), c.errors.values())
        })?;
        self.family(
            &mut encoder,
            "system_calls",
            "System calls of the core loops",
            "call",
            |c| (SystemCalls::labels(), c.system_calls.values()),
        )
    }
}

impl Exposition {
    /// Encodes one counter with a label, summed over the cores.
    fn family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &'static str,
        read: impl Fn(&CoreMetrics) -> (&'static [&'static str], Vec<u64>),
    ) -> fmt::Result {
        let all = self.cores.iter().chain([&self.outside]);
        let rows: Vec<_> = all.map(|counts| read(counts)).collect();
        let Some((labels, _)) = rows.first() else {
            return Ok(());
        };
        let counter = ConstCounter::new(0_u64);
        let unit: Option<&Unit> = None;
        let mut metric: MetricEncoder<'_> =
            encoder.encode_descriptor(name, help, unit, counter.metric_type())?;
        for (index, value) in labels.iter().enumerate() {
            let sum: u64 = rows.iter().map(|(_, values)| values[index]).sum();
            ConstCounter::new(sum).encode(series(&mut metric, &[(label, *value)])?)?;
        }
        Ok(())
    }
}

/// Maximum time for which a core is waited for. One that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks every core.
///
/// # Cancel safety
///
/// What the cores answer then goes nowhere.
async fn survey(table: &RoomTable, cores: &[Arc<CoreMetrics>]) -> Survey {
    let asked: Vec<_> = cores.iter().map(|core| core.asked.ask()).collect();
    for (index, _) in (0..=u8::MAX).zip(cores) {
        table
            .mailbox(CoreId(index))
            .push(Command::Survey)
            .wake_quietly();
    }
    let mut all = Survey::default();
    for answer in asked {
        if let Ok(Ok(of_core)) = tokio::time::timeout(PATIENCE, answer).await {
            all.merge(of_core);
        }
    }
    all
}
