//! The stream of one room's publications: its position, and what is retained of it.

use std::sync::Arc;

use proto::SharedFrame;
use smallvec::SmallVec;

use super::expiry::Due;
use super::keys::HashedKey;
use super::retained::History;
use super::staged::Waiting;
use crate::class::RoomClass;
use crate::handle::RoomHandle;
use crate::id::RoomId;
use crate::key::Named;
use crate::position::{Ancestor, Epoch, StreamPosition};
use crate::recovery::{Recovery, Since};

/// The stream of one room. Its history changes by way of [`Histories`](super::Histories) alone.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) handle: RoomHandle,
    /// The class that the room's name had when the room was created.
    pub(crate) class: &'static RoomClass,
    pub(super) epoch: Epoch,
    /// The offset of the last publication that was delivered.
    pub(super) offset: u64,
    /// None if nothing is retained.
    pub(super) history: Option<Box<History>>,
}

/// The offsets that a history begins with; one past the last if it holds nothing of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The oldest publication that is retained.
    pub(super) first: u64,
    /// The oldest publication whose key is remembered.
    pub(super) first_key: u64,
}

impl Stream {
    /// Creates the stream of a new room.
    pub(crate) fn new(
        id: RoomId,
        named: Named<'_>,
        epoch: Epoch,
        class: &'static RoomClass,
    ) -> Self {
        Self {
            handle: RoomHandle {
                id,
                hash: named.hash,
                space: named.key.space,
                name: Arc::from(named.key.name),
                slow_consumer: class.slow_consumer,
            },
            class,
            epoch,
            offset: 0,
            history: None,
        }
    }

    /// Returns the position behind the last publication that was delivered.
    pub(crate) const fn position(&self) -> StreamPosition {
        self.position_of(self.offset)
    }

    /// Returns the position behind the publication with this offset.
    pub(crate) const fn position_of(&self, offset: u64) -> StreamPosition {
        StreamPosition {
            epoch: self.epoch,
            offset,
        }
    }

    /// Gives the next publication its offset, as it is delivered.
    pub(crate) const fn advance(&mut self) -> u64 {
        self.offset += 1;
        self.offset
    }

    /// Returns the offset of the next publication behind those that wait for the journal.
    pub(crate) fn next_staged_offset(&self) -> u64 {
        let staged = self.history.as_ref();
        self.offset + staged.map_or(0, |it| it.stage.publication_count()) + 1
    }

    /// Returns whether something of the room is retained, or the room is remembered for a while.
    pub(crate) const fn has_history(&self) -> bool {
        self.history.is_some()
    }

    /// Returns whether something waits for the journal.
    pub(crate) fn has_staged(&self) -> bool {
        let history = self.history.as_ref();
        history.is_some_and(|history| !history.stage.is_empty())
    }

    /// Returns the publishers that wait for the publication with this offset; none if the journal
    /// has that publication.
    pub(crate) fn waiting_for(&mut self, offset: u64) -> Option<&mut SmallVec<[Waiting; 1]>> {
        let staged = self.history.as_mut()?.stage.get_mut(offset)?;
        Some(&mut staged.waiting)
    }

    /// Returns the offset of the publication that came with this key.
    pub(crate) fn find_key(&self, key: HashedKey<'_>) -> Option<u64> {
        self.history.as_ref()?.keys.find(key)
    }

    /// Returns the offset of the oldest publication that is retained; one past the last if none is.
    pub(crate) fn first_offset(&self) -> u64 {
        let history = self.history.as_ref();
        self.offset + 1 - history.map_or(0, |history| history.publications.len() as u64)
    }

    /// Returns where the history begins.
    pub(super) fn bounds(&self) -> Bounds {
        let oldest_key = self.history.as_ref().and_then(|it| it.keys.oldest());
        Bounds {
            first: self.first_offset(),
            first_key: oldest_key.map_or(self.offset + 1, |key| key.offset),
        }
    }

    /// Returns the retained publications from this offset on, which must not be before the first.
    pub(crate) fn publications_from(&self, offset: u64) -> impl Iterator<Item = &SharedFrame> {
        let skipped = offset - self.first_offset();
        let history = self.history.iter();
        history.flat_map(move |history| history.publications.skip(skipped))
    }

    /// Returns how far the history reaches back to the place where somebody left.
    pub(crate) fn recover(&self, since: Since) -> Option<Recovery> {
        let held = self.first_offset();
        match since {
            Since::Now => None,
            Since::Last(count) => Some(Recovery {
                first: held.max((self.offset + 1).saturating_sub(count.into())),
                recovered: None,
            }),
            Since::Position(left) if left.epoch == self.epoch && left.offset <= self.offset => {
                let first = held.max(left.offset + 1);
                Some(Recovery {
                    first,
                    recovered: Some(first == left.offset + 1),
                })
            }
            Since::Position(left) => {
                let ancestor = self.lineage().iter().find(|a| a.epoch == left.epoch);
                // Nobody can say how much it missed: it gets all there is, or all that the journal
                // had of what is new to it.
                let known = ancestor.map_or(0, |a| a.last_offset.min(left.offset));
                let first = held.max(known + 1);
                let complete = ancestor.is_some_and(|a| a.complete);
                Some(Recovery {
                    first,
                    recovered: Some(complete && first == known + 1),
                })
            }
        }
    }

    /// Returns the room's epochs in earlier processes.
    pub(super) fn lineage(&self) -> &[Ancestor] {
        let history = self.history.as_ref();
        history.map_or(&[][..], |history| &history.lineage)
    }

    /// Returns whether an entry of the expiry heap is the room's live one.
    pub(crate) fn is_due(&self, due: Due) -> bool {
        self.due() == Some(due)
    }

    /// Returns the room's live entry in the expiry heap.
    pub(super) fn due(&self) -> Option<Due> {
        Some(Due {
            at: self.history.as_ref()?.due,
            room: self.handle.id,
            hash: self.handle.hash,
        })
    }
}
