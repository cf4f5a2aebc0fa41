//! Places in the stream of a room's publications.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in a room: behind the publication with this offset.
///
/// Store it to go on from there later, even in another process.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Which life of the stream. Offsets of different epochs cannot be compared; otherwise opaque.
    pub epoch: Arc<str>,
    /// Of the last publication before the place: the first of an epoch has 1, and each later one
    /// the next. 0 is before all of them.
    pub offset: u64,
}

impl Position {
    /// Returns the place behind the publication with this offset.
    pub fn new(epoch: &str, offset: u64) -> Self {
        let epoch = epoch.into();
        Self { epoch, offset }
    }
}
