//! What a client was given and told: the evidence from which the verdict is reached.
//!
//! A record only grows, by what is said to it; it judges nothing. Its size is the run's: 40 bytes
//! for each delivery.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What makes a publication one, however often it is sent: who publishes it, and their how-manieth
/// it is.
///
/// It is the `key` on the wire, `c12-345`, and stands in what is published too, so that whoever
/// gets it can say which it got.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key {
    /// The number of the client that publishes it.
    pub client: u32,
    /// Which one of that client's: they rise.
    pub number: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}-{}", self.client, self.number)
    }
}

/// Text that is no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key is written as c12-345")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let numbers = text.strip_prefix('c').and_then(|rest| rest.split_once('-'));
        let (client, number) = numbers.ok_or(KeyError)?;
        Ok(Self {
            client: client.parse().map_err(|_| KeyError)?,
            number: number.parse().map_err(|_| KeyError)?,
        })
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

/// What clients of a run publish.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Content<'a> {
    /// Which publication it is, so that whoever gets it can say which it got.
    pub(crate) key: Key,
    /// The number of its room: golem's wire does not say it.
    pub(crate) room: u32,
    /// So that it has its size.
    #[serde(default)]
    pub(crate) pad: &'a str,
}

/// A place in a room's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which life of the stream.
    pub epoch: Arc<str>,
    /// The last publication before the place.
    pub offset: u64,
}

impl Position {
    /// A place from its parts.
    pub fn new(epoch: &str, offset: u64) -> Self {
        Self {
            epoch: epoch.into(),
            offset,
        }
    }
}

/// One thing that a member was given or told of a room, in the order in which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A membership began.
    Joined {
        /// Where the room was.
        position: Position,
        /// Whether nothing is missing since the place that was asked for; none if none was.
        recovered: Option<bool>,
        /// The offset of the last publication that the member has, in this epoch: the next is
        /// behind it.
        reached: u64,
    },
    /// The member was told that these are missing, both ends included.
    Missing {
        /// Of the offsets.
        epoch: Arc<str>,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The member was told that an unknown number is missing before what comes next.
    MissingUnknown,
    /// A publication, handed to the application.
    Publication {
        /// Its place.
        position: Position,
        /// Which it is.
        key: Key,
    },
}

/// What became of a publication, as its publisher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which it is.
    pub key: Key,
    /// In which room.
    pub room: u32,
    /// Its place; none if the server gave none.
    pub position: Option<Position>,
    /// Whether the server had it already from an earlier sending.
    pub duplicate: bool,
}

/// What a client was given of one room.
#[derive(Clone, Debug, Default)]
pub struct RoomRecord {
    /// In order.
    pub entries: Vec<Entry>,
    /// Up to where it has come.
    pub reached: Option<Position>,
    /// Publications that came again; the client kept them from the application.
    pub repeated_count: u64,
}

/// What one client was given and told.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// By room.
    pub rooms: BTreeMap<u32, RoomRecord>,
    /// Its own publications that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// Its own publications that the server refused for good.
    pub refused: Vec<Key>,
    /// How many of its own it has taken to publish.
    pub taken_count: u64,
    /// How many of these had to be put off, since the server asked for that.
    pub put_off_count: u64,
    /// Connections that got as far as the greeting.
    pub connection_count: u64,
    /// Attempts that did not.
    pub failed_attempt_count: u64,
    /// Close codes of the server, and how often each came.
    pub closes: BTreeMap<u16, u64>,
    /// Connections that it gave up because nothing was heard.
    pub silent_count: u64,
    /// What the protocol does not allow, in words; the first [`COMPLAINTS_MAX`].
    pub complaints: Vec<String>,
    /// How many there were.
    pub complaint_count: u64,
}

/// A record that a client writes and the run reads.
pub type SharedRecord = Arc<Mutex<Record>>;

/// How many complaints of one client are kept in words: enough to see what is wrong.
pub const COMPLAINTS_MAX: usize = 10;

impl Record {
    /// A client that is to be in these rooms.
    pub fn of(rooms: &[u32]) -> Self {
        let rooms = rooms.iter().map(|room| (*room, RoomRecord::default()));
        Self {
            rooms: rooms.collect(),
            ..Self::default()
        }
    }

    /// A place in a room, which shares its epoch with the place that was reached, if that is the
    /// same.
    pub fn place(&self, room: u32, epoch: &str, offset: u64) -> Position {
        let reached = self.rooms.get(&room).and_then(|room| room.reached.as_ref());
        let known = reached.filter(|reached| *reached.epoch == *epoch);
        Position {
            epoch: known.map_or_else(|| epoch.into(), |reached| reached.epoch.clone()),
            offset,
        }
    }

    /// Writes down a membership that began, after which the next publication is the one behind
    /// `reached`.
    pub fn join(&mut self, room: u32, position: Position, recovered: Option<bool>, reached: u64) {
        let room = self.rooms.entry(room).or_default();
        room.reached = Some(Position {
            offset: reached,
            ..position.clone()
        });
        room.entries.push(Entry::Joined {
            position,
            recovered,
            reached,
        });
    }

    /// Writes down a publication.
    pub fn publication(&mut self, room: u32, position: Position, key: Key) {
        let room = self.rooms.entry(room).or_default();
        room.reached = Some(position.clone());
        room.entries.push(Entry::Publication { position, key });
    }

    /// Writes down that the member was told of publications that are missing, and has come to the
    /// last of them; nothing if there are none.
    pub fn missing(&mut self, room: u32, epoch: &Arc<str>, from: u64, to: u64) {
        if from > to {
            return;
        }
        let room = self.rooms.entry(room).or_default();
        let epoch = epoch.clone();
        room.reached = Some(Position {
            epoch: epoch.clone(),
            offset: to,
        });
        room.entries.push(Entry::Missing { epoch, from, to });
    }

    /// Counts a publication that came again.
    pub fn repeated(&mut self, room: u32) {
        self.rooms.entry(room).or_default().repeated_count += 1;
    }

    /// Writes down that the member was told that an unknown number is missing.
    pub fn missing_unknown(&mut self, room: u32) {
        let room = self.rooms.entry(room).or_default();
        room.entries.push(Entry::MissingUnknown);
    }

    /// Writes down what the protocol does not allow.
    pub fn complain(&mut self, complaint: String) {
        self.complaint_count += 1;
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }

    /// How many of its own publications have no answer yet.
    pub fn unanswered_count(&self) -> u64 {
        let answered = self.acknowledged.len() + self.refused.len();
        self.taken_count.saturating_sub(answered as u64)
    }
}

/// What the rooms of a run are called.
pub fn room_name(room: u32) -> String {
    format!("{ROOM_PREFIX}{room}")
}

/// The number in the name of a room of the run; none if it is another's.
pub fn room_number(name: &str) -> Option<u32> {
    name.strip_prefix(ROOM_PREFIX)?.parse().ok()
}

/// What the names of the rooms of a run begin with: the pattern of their class is this and a star.
pub const ROOM_PREFIX: &str = "faults:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text_and_from_no_other() {
        let key = Key {
            client: 12,
            number: 345,
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "c", "c1", "c1-", "1-2", "c-1", "c1-x", "c1-99999999999"] {
            assert_eq!(text.parse::<Key>(), Err(KeyError), "{text}");
        }
    }

    #[test]
    fn a_room_is_known_by_its_name_and_a_strangers_is_not() {
        assert_eq!(room_number(&room_name(7)), Some(7));
        assert_eq!(room_number("lobby"), None);
        assert_eq!(room_number("faults:x"), None);
    }

    #[test]
    fn complaints_are_counted_and_the_first_are_kept() {
        let mut record = Record::default();
        for number in 0..COMPLAINTS_MAX + 5 {
            record.complain(number.to_string());
        }
        assert_eq!(record.complaint_count, COMPLAINTS_MAX as u64 + 5);
        assert_eq!(record.complaints.len(), COMPLAINTS_MAX);
    }
}
