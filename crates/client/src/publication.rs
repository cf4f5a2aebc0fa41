//! What members are told of a room: publications, what is missing between them, and events.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::position::Position;
use crate::wire::Msg;

/// A JSON text as it came from the server.
///
/// # Examples
///
/// ```
/// let data = throng_client::Json::from("[1,2]");
/// assert_eq!(data.decode::<(u8, u8)>()?, (1, 2));
/// assert!(data.decode::<String>().is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes the text, which the type may borrow from.
    ///
    /// # Errors
    ///
    /// If the type is not made for it, or it nests deeper than serde_json goes, which is 127.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    pub(crate) fn of(value: Option<&RawValue>) -> Self {
        Self(value.map_or("null", RawValue::get).into())
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// One publication of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its room.
    pub room: Arc<str>,
    /// Its place in the room. Join or read the history with it as `since` to go on behind it.
    pub position: Position,
    /// The id of the connection that published it; `None` if it was the server's application.
    pub from: Option<String>,
    /// When the server took it, in Unix milliseconds by the server's clock; `None` if it did not
    /// say.
    pub at_ms: Option<u64>,
    /// The data that was published.
    pub data: Json,
    /// The gap right before it; `None` if nothing is.
    pub gap: Option<Gap>,
}

impl Publication {
    pub(crate) fn new(room: &Arc<str>, epoch: &Arc<str>, msg: &Msg<'_>, gap: Option<Gap>) -> Self {
        Self {
            room: room.clone(),
            position: Position {
                epoch: epoch.clone(),
                offset: msg.offset,
            },
            from: msg.from.clone(),
            at_ms: msg.at,
            data: Json::of(Some(msg.msg)),
            gap,
        }
    }
}

/// Publications that were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Their room.
    pub room: Arc<str>,
    /// Why they are missing.
    pub reason: GapReason,
    /// The epoch that the room is in now, and that the offsets are of.
    pub epoch: Arc<str>,
    /// The offsets of the first and of the last one; `None` if nobody knows how many are missing.
    pub offsets: Option<RangeInclusive<u64>>,
}

/// The reason why publications are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// While the connection was away, the room's offsets began again. How much was published
    /// before that is unknown.
    Epoch,
    /// While the connection was away, the server dropped them from the room's history.
    Evicted,
    /// Offsets were left out and the server did not say why.
    Jump,
    /// The room skips publications for slow members, and this one was slow. The room's history may
    /// still have them.
    Slow,
}

impl Gap {
    pub(crate) fn known(
        room: &Arc<str>,
        reason: GapReason,
        epoch: &Arc<str>,
        offsets: RangeInclusive<u64>,
    ) -> Self {
        let (room, epoch) = (room.clone(), epoch.clone());
        let offsets = Some(offsets);
        Self {
            room,
            reason,
            epoch,
            offsets,
        }
    }

    pub(crate) fn unknown(room: &Arc<str>, epoch: &Arc<str>) -> Self {
        let (room, epoch) = (room.clone(), epoch.clone());
        let reason = GapReason::Epoch;
        Self {
            room,
            reason,
            epoch,
            offsets: None,
        }
    }

    /// Returns this gap and one behind it, with nothing delivered between them, as one.
    pub(crate) fn joined_with(self, later: Self) -> Self {
        let same = self.epoch == later.epoch;
        match (self.offsets, &later.offsets) {
            (Some(before), Some(after)) if same => {
                let offsets = Some(*before.start()..=*after.end());
                Self { offsets, ..later }
            }
            _ => Self::unknown(&later.room, &later.epoch),
        }
    }
}

/// The way in which a server's answer goes on from a position: `joined` and `history` say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery<'a> {
    /// Of the room, or of the last publication in the answer.
    pub(crate) position: &'a Position,
    /// Nothing is missing between `since` and `first`.
    pub(crate) recovered: bool,
    /// The offset of the first publication that comes with the answer or behind it.
    pub(crate) first: u64,
}

impl Recovery<'_> {
    /// Returns what is missing since this position; `None` if nothing is.
    pub(crate) fn missing(self, room: &Arc<str>, since: &Position) -> Option<Gap> {
        let Position { epoch, offset } = self.position;
        let unknown = || Gap::unknown(room, epoch);
        if since.epoch != *epoch {
            return (!self.recovered).then(unknown);
        }
        // If its offsets have gone back, what it has is not what we had.
        if *offset < since.offset {
            return Some(unknown());
        }
        if self.first > since.offset + 1 {
            let reason = if self.recovered {
                GapReason::Jump
            } else {
                GapReason::Evicted
            };
            return Some(Gap::known(
                room,
                reason,
                epoch,
                since.offset + 1..=self.first - 1,
            ));
        }
        // It says that something is missing, and not what.
        (!self.recovered).then(unknown)
    }
}

/// An ephemeral event: it has no place in the room's order, and no offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The room; `None` if the server's application sent it to this connection, or to all.
    pub room: Option<Arc<str>>,
    /// Its name, such as `typing`.
    pub event: String,
    /// The id of the connection that emitted it; `None` if it was the server's application.
    pub from: Option<String>,
    /// The data that was emitted; `null` if there was nothing.
    pub data: Json,
}

/// A membership that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The room.
    pub room: Arc<str>,
    /// The room's position at that moment.
    pub position: Position,
    /// The offset, in the epoch of `position`, behind which the next publication is.
    pub reached: u64,
    /// Nothing is missing since the position that was asked for; `None` if none was. If it is
    /// `Some(false)`, a [`Gap`] says what is missing.
    pub recovered: Option<bool>,
    /// The room was joined before, and this is another connection.
    pub again: bool,
}

/// Something that happens in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEvent {
    /// Somebody emitted something.
    Emission(Emission),
    /// Publications are missing. It comes before the publication behind it, which has it too.
    Gap(Gap),
    /// A membership has begun: the first, or one after a lost connection.
    Joined(Joined),
    /// Something was published.
    Publication(Publication),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(since: (&str, u64), at: (&str, u64), recovered: bool, first: u64) -> Option<Gap> {
        let position = &Position::new(at.0, at.1);
        let recovery = Recovery {
            position,
            recovered,
            first,
        };
        recovery.missing(&"a".into(), &Position::new(since.0, since.1))
    }

    #[test]
    fn what_is_missing_follows_from_recovered_and_the_epoch() {
        let known = |reason, offsets| Some(Gap::known(&"a".into(), reason, &"k".into(), offsets));
        let unknown = |epoch: &str| Some(Gap::unknown(&"a".into(), &epoch.into()));
        assert_eq!(missing(("k", 4), ("k", 9), true, 5), None);
        assert_eq!(
            missing(("k", 4), ("k", 9), false, 8),
            known(GapReason::Evicted, 5..=7)
        );
        assert_eq!(
            missing(("k", 4), ("k", 9), true, 8),
            known(GapReason::Jump, 5..=7)
        );
        assert_eq!(missing(("k", 4), ("m", 2), false, 1), unknown("m"));
        assert_eq!(missing(("k", 4), ("m", 9), true, 9), None);
        assert_eq!(missing(("k", 4), ("k", 2), true, 3), unknown("k"));
        assert_eq!(missing(("k", 4), ("k", 9), false, 5), unknown("k"));
    }

    #[test]
    fn two_gaps_with_nothing_between_them_are_one() {
        let gap = |from, to| Gap::known(&"a".into(), GapReason::Slow, &"k".into(), from..=to);
        assert_eq!(gap(2, 3).joined_with(gap(4, 9)), gap(2, 9));
        let unknown = Gap::unknown(&"a".into(), &"k".into());
        assert_eq!(gap(2, 3).joined_with(unknown.clone()), unknown);
    }
}
