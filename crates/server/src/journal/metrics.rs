//! What is counted of histories on disk, and how `/metrics` shows it.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metrics::counts::Count;

/// Counters that only the thread that writes histories changes.
#[derive(Debug, Default)]
pub(crate) struct JournalMetrics {
    batches: Count,
    records: Count,
    syncs: Count,
    failures: Count,
    failing: Count,
    lost_batches: Count,
    disk_bytes: Count,
}

impl JournalMetrics {
    /// Counts a batch of so many records that was written.
    pub(crate) fn wrote(&self, record_count: usize) {
        self.batches.add(1);
        self.records.add(record_count as u64);
    }

    /// Counts an fsync.
    pub(crate) fn synced(&self) {
        self.syncs.add(1);
    }

    /// Counts a failed write.
    pub(crate) fn failed(&self) {
        self.failures.add(1);
    }

    /// Counts batches that were reported as committed and were missing at the start.
    pub(crate) fn lost(&self, batch_count: u64) {
        self.lost_batches.add(batch_count);
    }

    /// Sets whether the disk takes nothing at present, or not yet all that it lacks.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.set(failing.into());
    }

    /// Sets the disk space of histories, in bytes.
    pub(crate) fn set_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.set(bytes);
    }

    /// Encodes its part of `/metrics`, with how many bytes wait to be written.
    pub(crate) fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        pending_bytes: u64,
    ) -> fmt::Result {
        let gauges = [
            (
                "journal_failing",
                "1 while histories cannot be written",
                self.failing.get(),
            ),
            (
                "journal_disk_bytes",
                "Disk space of histories, in bytes",
                self.disk_bytes.get(),
            ),
            (
                "journal_pending_bytes",
                "Bytes queued for the disk",
                pending_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("journal_batches", "Batches written", self.batches.get()),
            (
                "journal_records",
                "Changes of rooms written",
                self.records.get(),
            ),
            ("journal_syncs", "fsyncs of histories", self.syncs.get()),
            (
                "journal_failures",
                "Failed writes of histories",
                self.failures.get(),
            ),
            (
                "journal_lost_batches",
                "Committed batches that were missing at the start",
                self.lost_batches.get(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
