//! Publications that wait for the journal, and the events behind them. Nobody has seen them yet.

use std::collections::VecDeque;

use proto::SharedFrame;
use smallvec::SmallVec;

use super::places::place_cost;
use crate::allocation::{COUNTS_LEN, allocated_bytes};
use crate::delivery::Delivery;
use crate::id::{ConnectionId, Wire};
use crate::time::Moment;

/// A publication or event that waits for the journal.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) delivery: Delivery,
    /// The member that does not receive it.
    pub(crate) except: Option<ConnectionId>,
    /// Its frame on every wire: nobody knows yet who will be a member when the journal has it.
    pub(crate) frames: SmallVec<[(Wire, SharedFrame); 2]>,
    pub(crate) at: Moment,
    pub(crate) waiting: SmallVec<[Waiting; 1]>,
}

/// A publisher that waits for the journal.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) connection: ConnectionId,
    pub(crate) acknowledgement: SharedFrame,
    pub(crate) refusal: SharedFrame,
}

impl Staged {
    /// Returns whether it will have an offset.
    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.delivery, Delivery::Publication(_))
    }

    /// Returns the bytes that it takes while it waits. Publishers that wait for it count nothing:
    /// they are few.
    pub(super) fn cost_bytes(&self) -> usize {
        let frames = self.frames.iter();
        let frames = frames.map(|(_, frame)| allocated_bytes(COUNTS_LEN + frame.len()));
        place_cost(size_of::<Self>()) + frames.sum::<usize>()
    }
}

/// Everything that waits in one room, in order.
#[derive(Debug, Default)]
pub(super) struct Stage {
    items: VecDeque<Staged>,
    publication_count: u64,
    cost_bytes: usize,
}

impl Stage {
    /// Appends an item.
    pub(super) fn push(&mut self, staged: Staged) {
        self.cost_bytes += staged.cost_bytes();
        self.publication_count += u64::from(staged.is_publication());
        self.items.push_back(staged);
    }

    /// Takes the first item, unless it is a publication behind `offset`.
    pub(super) fn take(&mut self, offset: u64) -> Option<Staged> {
        let first = self.items.front()?;
        if matches!(first.delivery, Delivery::Publication(found) if found > offset) {
            return None;
        }
        let first = self.items.pop_front()?;
        self.cost_bytes -= first.cost_bytes();
        self.publication_count -= u64::from(first.is_publication());
        if self.items.is_empty() {
            // Empty places are not counted.
            self.items = VecDeque::new();
        }
        Some(first)
    }

    /// Returns the publication with this offset.
    pub(super) fn get_mut(&mut self, offset: u64) -> Option<&mut Staged> {
        let of_offset = Delivery::Publication(offset);
        self.items.iter_mut().find(|it| it.delivery == of_offset)
    }

    /// Returns how many publications wait.
    pub(super) const fn publication_count(&self) -> u64 {
        self.publication_count
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the bytes that all items take.
    pub(super) const fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }
}
