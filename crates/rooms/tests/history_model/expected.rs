//! Whether what a connection received is what it was to get: in order, each once, and what is
//! missing told exactly.
//!
//! Rooms have no order among each other, but for what is for the connection alone: that has its
//! place. An answer has its place too, but may come as late as the end of the turn.

use std::collections::{BTreeMap, VecDeque};

use throng_rooms::{EventKind, SlowConsumer};

use crate::items::Item;

/// A frame that a connection is to receive.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// A frame that waits for the end of the turn.
    Answer(String),
    /// A frame in its place; the answer to a join names the room, whose publications after it are
    /// of another membership.
    Direct {
        text: String,
        joined: Option<&'static str>,
    },
    Event {
        room: &'static str,
        serial: u32,
        kind: EventKind,
        /// Much waited for the connection, so that it may be missing.
        is_excused: bool,
    },
    Publication {
        room: &'static str,
        offset: u64,
        serial: u32,
        /// It was replayed: then it is never left out.
        is_replayed: bool,
    },
}

/// The gaps that tell of publications that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) publications: u64,
}

/// Goes through what was received, and through what was expected beside it.
struct Reader<'a> {
    wire: u8,
    rooms: BTreeMap<&'static str, VecDeque<Place<'a>>>,
    answers: VecDeque<Place<'a>>,
    directs: VecDeque<Place<'a>>,
    /// The number of directs have been read.
    part: usize,
    skipped: Skipped,
}

#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    index: usize,
    /// The number of directs are before it.
    part: usize,
    what: &'a Expected,
}

/// Reads all that was received; `is_complete` says that nothing more will come.
pub(crate) fn check(
    expected: &[Expected],
    received: &[Item],
    wire: u8,
    is_complete: bool,
    way_of: impl Fn(&str) -> SlowConsumer,
) -> Skipped {
    let mut reader = Reader::new(expected, wire);
    for item in received {
        match item {
            Item::Event { room, body, wire } => reader.read_event(room, body, *wire),
            Item::Gap { room, first, last } => {
                assert_ne!(way_of(room), SlowConsumer::Disconnect, "{item:?}");
                reader.read_gap(room, *first, *last);
            }
            Item::Publication {
                room,
                offset,
                body,
                wire,
            } => reader.read_publication(room, *offset, body, *wire),
            Item::Text(text) => reader.read_text(text),
        }
    }
    if is_complete {
        reader.check_done_before(usize::MAX);
        assert!(reader.answers.is_empty() && reader.directs.is_empty());
    }
    reader.skipped
}

impl<'a> Reader<'a> {
    fn new(expected: &'a [Expected], wire: u8) -> Self {
        let mut reader = Self {
            wire,
            rooms: BTreeMap::new(),
            answers: VecDeque::new(),
            directs: VecDeque::new(),
            part: 0,
            skipped: Skipped::default(),
        };
        for (index, what) in expected.iter().enumerate() {
            let part = reader.directs.len();
            let place = Place { index, part, what };
            match what {
                Expected::Answer(_) => reader.answers.push_back(place),
                Expected::Direct { joined, .. } => {
                    reader.directs.push_back(place);
                    if let Some(room) = joined {
                        reader.rooms.entry(room).or_default().push_back(place);
                    }
                }
                Expected::Event { room, .. } | Expected::Publication { room, .. } => {
                    reader.rooms.entry(room).or_default().push_back(place);
                }
            }
        }
        reader
    }

    /// Returns what comes next of a room, after ephemeral events that are missing for a reason. Up
    /// to one of these if it is `wanted`.
    fn next_of(&mut self, room: &str, wanted: Option<u32>) -> Option<Place<'a>> {
        let places = self.rooms.get_mut(room)?;
        while let Some(place) = places.front() {
            match place.what {
                Expected::Event {
                    serial,
                    kind: EventKind::Ephemeral,
                    is_excused,
                    ..
                } if wanted != Some(*serial) => {
                    assert!(*is_excused, "nothing waited, and {place:?} is missing");
                    places.pop_front();
                }
                _ => return Some(*place),
            }
        }
        None
    }

    fn take(&mut self, room: &str) {
        self.rooms.get_mut(room).and_then(VecDeque::pop_front);
    }

    fn read_event(&mut self, room: &str, body: &str, wire: u8) {
        assert_eq!(wire, self.wire);
        let read = serial_of(body);
        let next = self.next_of(room, Some(read));
        let next = next.unwrap_or_else(|| panic!("{room} {body} was not sent"));
        assert!(
            matches!(next.what, Expected::Event { serial, .. } if *serial == read),
            "{room} {body} comes where {next:?} should"
        );
        assert_eq!(next.part, self.part, "{next:?} has its place");
        self.take(room);
    }

    fn read_publication(&mut self, room: &str, read_offset: u64, body: &str, wire: u8) {
        let read = serial_of(body);
        let next = self.next_of(room, None);
        let next = next.unwrap_or_else(|| panic!("{room}/{read_offset} {body} was not sent"));
        assert!(
            matches!(
                next.what,
                Expected::Publication { offset, serial, .. }
                    if (*offset, *serial) == (read_offset, read)
            ),
            "{room}/{read_offset} {body} comes where {next:?} should"
        );
        assert_eq!(wire, self.wire);
        assert_eq!(next.part, self.part, "{next:?} has its place");
        self.take(room);
    }

    fn read_gap(&mut self, room: &str, first: u64, last: u64) {
        assert!(first <= last, "{room} {first}-{last}");
        self.skipped.publications += last + 1 - first;
        let next = self.next_of(room, None);
        let next = next.unwrap_or_else(|| panic!("{room} {first}-{last} was not sent"));
        assert_eq!(next.part, self.part, "a gap is where {next:?} would be");
        let places = self.rooms.get_mut(room).expect("it was found just now");
        let mut index = 0;
        for told in first..=last {
            // Events that are not left out come behind it.
            while matches!(places[index].what, Expected::Event { .. }) && told > first {
                index += 1;
            }
            let left_out = places[index];
            assert!(
                matches!(
                    left_out.what,
                    Expected::Publication { offset, is_replayed: false, .. } if *offset == told
                ),
                "the gap tells of {told}, not of {left_out:?}"
            );
            places.remove(index);
        }
    }

    fn read_text(&mut self, read: &str) {
        let is_read = |place: &&Place<'_>| match place.what {
            Expected::Answer(text) | Expected::Direct { text, .. } => text == read,
            _ => false,
        };
        if let Some(place) = self.answers.front().filter(is_read).copied() {
            assert_eq!(place.part, self.part, "{place:?} has its place");
            self.check_done_before(place.index);
            self.answers.pop_front();
            return;
        }
        let direct = self.directs.front().filter(is_read).copied();
        let direct = direct.unwrap_or_else(|| panic!("{read} comes before {:?}", self.directs));
        self.check_done_before(direct.index);
        let answer = self.answers.front();
        assert!(
            answer.is_none_or(|answer| answer.index > direct.index),
            "{answer:?}"
        );
        self.directs.pop_front();
        self.part += 1;
        if let Expected::Direct {
            joined: Some(room), ..
        } = direct.what
        {
            let next = self.next_of(room, None).map(|place| place.index);
            assert_eq!(next, Some(direct.index));
            self.take(room);
        }
    }

    /// All that rooms were sent before this has been read.
    fn check_done_before(&mut self, index: usize) {
        let rooms: Vec<&'static str> = self.rooms.keys().copied().collect();
        for room in rooms {
            let places = self.rooms.get_mut(room).expect("it is one of them");
            let is_ephemeral = |place: &Place<'_>| {
                matches!(
                    place.what,
                    Expected::Event {
                        kind: EventKind::Ephemeral,
                        is_excused: true,
                        ..
                    }
                )
            };
            let before = places.iter().take_while(|place| place.index < index);
            let missing = before.copied().find(|place| !is_ephemeral(place));
            assert!(missing.is_none(), "{missing:?} has not come");
        }
    }
}

/// The number that a body begins with.
fn serial_of(body: &str) -> u32 {
    let (serial, padding) = body
        .split_once('.')
        .expect("a body is a number and padding");
    assert!(
        padding.bytes().all(|byte| byte == b'x'),
        "frames are not torn"
    );
    serial.parse().expect("a body is a number and padding")
}
