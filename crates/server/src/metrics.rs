//! What the engine counts, and how `/metrics` shows it.

pub(crate) mod counts;
pub(crate) mod format;
mod scrape;
pub(crate) mod survey;

pub(crate) use counts::{CoreMetrics, RefusedCounts};
pub(crate) use scrape::{Exposition, OwnCounter};
