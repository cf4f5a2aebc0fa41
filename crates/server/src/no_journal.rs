//! No histories on disk: this is built without the feature `disk`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use rooms::{Journal, RoomTable};

use crate::clock::AgeClock;
use crate::config::Disk;

/// Histories that nobody can have opened.
#[derive(Debug)]
pub(crate) enum Histories {}

/// Why they could not be opened: there is nothing to open.
pub(crate) type OpenError = Infallible;

impl Histories {
    pub(crate) fn open(disk: &Disk) -> Result<Self, OpenError> {
        match *disk {}
    }

    pub(crate) fn journal(&self) -> Arc<Journal> {
        match *self {}
    }

    pub(crate) fn clock(&self) -> AgeClock {
        match *self {}
    }

    pub(crate) fn start(self, _: Arc<RoomTable>) -> (Writing, Arc<JournalMetrics>) {
        match self {}
    }
}

/// Counters that nobody has.
#[derive(Debug)]
pub(crate) enum JournalMetrics {}

impl JournalMetrics {
    pub(crate) fn encode(&self, _: &mut DescriptorEncoder<'_>, _: u64) -> fmt::Result {
        match *self {}
    }
}

/// The thread that would write.
#[derive(Debug)]
pub(crate) struct Writing;

impl Writing {
    pub(crate) const fn nothing() -> Self {
        Self
    }

    pub(crate) const fn finish(self) {}
}
