//! Positions, as they are written.

use rooms::{Epoch, StreamPosition};
use serde::{Serialize, Serializer};

/// A position as clients see it.
#[derive(Serialize)]
pub(crate) struct Position {
    epoch: EpochText,
    offset: u64,
}

impl From<StreamPosition> for Position {
    fn from(position: StreamPosition) -> Self {
        Self {
            epoch: EpochText(position.epoch),
            offset: position.offset,
        }
    }
}

struct EpochText(Epoch);

impl Serialize for EpochText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
