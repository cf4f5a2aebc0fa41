//! Classes of rooms: the settings that an operator makes for rooms by name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::key::{RoomKey, Space};

/// Per-room settings, chosen by the room's name. Set by the operator; fixed for the room's
/// lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomClass {
    /// The publications to retain for members that come back.
    pub history: HistoryLimits,
    /// The treatment of members that do not take publications as fast as they come.
    pub slow_consumer: SlowConsumer,
    /// The time for which the key of a publication is remembered, in milliseconds. A repeat within
    /// that time is not published again. 0 remembers no keys.
    pub key_window_ms: u64,
    /// The keys that a room remembers. At the limit the oldest key is forgotten.
    pub keys_max: u32,
    /// The largest payload of a publication, in bytes. A larger one is rejected.
    pub publication_bytes_max: u32,
}

impl RoomClass {
    /// No history and no keys. Slow members are closed.
    pub const PLAIN: Self = Self {
        history: HistoryLimits::NONE,
        slow_consumer: SlowConsumer::Disconnect,
        key_window_ms: 0,
        keys_max: 0,
        publication_bytes_max: u32::MAX,
    };

    /// Returns the class for rooms that retain nothing.
    const fn keeping_nothing(&self) -> Self {
        Self {
            slow_consumer: self.slow_consumer,
            publication_bytes_max: self.publication_bytes_max,
            ..Self::PLAIN
        }
    }
}

impl Default for RoomClass {
    /// Returns the history's defaults, slow members closed, 10,000 keys for 5 minutes, and payloads
    /// of any size that a message may have.
    fn default() -> Self {
        Self {
            history: HistoryLimits::default(),
            slow_consumer: SlowConsumer::default(),
            key_window_ms: 5 * 60 * 1000,
            keys_max: 10_000,
            publication_bytes_max: u32::MAX,
        }
    }
}

/// The limits of a room's history. Each limit alone drops the oldest publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The number of publications; 0 keeps no history.
    pub publications_max: u32,
    /// The bytes of their frames; 0 keeps no history.
    pub bytes_max: usize,
    /// The age in milliseconds; 0 keeps no history.
    pub age_max_ms: u64,
}

impl HistoryLimits {
    /// No history: a room is removed with its last member.
    pub const NONE: Self = Self {
        publications_max: 0,
        bytes_max: 0,
        age_max_ms: 0,
    };

    /// Returns whether a history is kept.
    pub const fn is_on(&self) -> bool {
        self.publications_max > 0 && self.bytes_max > 0 && self.age_max_ms > 0
    }
}

impl Default for HistoryLimits {
    /// Returns 1,000 publications, 1 MiB and 10 minutes.
    fn default() -> Self {
        Self {
            publications_max: 1000,
            bytes_max: 1 << 20,
            age_max_ms: 10 * 60 * 1000,
        }
    }
}

/// The treatment of a member whose outbox is full although its socket was just offered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Close it with 4102. When it comes back it recovers what it missed.
    #[default]
    Disconnect,
    /// Keep only the newest publication as soon as anything waits: for tickers and cursors.
    Latest,
    /// Drop the oldest publications that wait, and tell the member which.
    Skip,
}

/// Text that names no treatment of slow consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write disconnect, skip or latest")]
pub struct SlowConsumerError;

impl FromStr for SlowConsumer {
    type Err = SlowConsumerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disconnect" => Ok(Self::Disconnect),
            "latest" => Ok(Self::Latest),
            "skip" => Ok(Self::Skip),
            _ => Err(SlowConsumerError),
        }
    }
}

impl fmt::Display for SlowConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnect => "disconnect",
            Self::Latest => "latest",
            Self::Skip => "skip",
        })
    }
}

/// The classes of a server. The first pattern that matches a room's name decides its class.
///
/// # Examples
///
/// ```
/// use throng_rooms::{Classes, HistoryLimits, RoomClass};
///
/// let quiet = RoomClass { history: HistoryLimits::NONE, ..RoomClass::default() };
/// let classes = Classes::new(vec![("cursor:*".into(), quiet)], RoomClass::default());
/// assert!(!classes.of("cursor:7").history.is_on());
/// assert!(classes.of("lobby").history.is_on());
/// ```
#[derive(Clone, Debug)]
pub struct Classes {
    patterns: Vec<Box<str>>,
    /// The class of each pattern, then that of all other rooms.
    classes: Box<[Interned]>,
    keeps_histories: bool,
}

/// A class, and the class of a room of the same name in a space that retains nothing.
#[derive(Clone, Copy, Debug)]
struct Interned {
    class: &'static RoomClass,
    keeping_nothing: &'static RoomClass,
}

impl Interned {
    fn new(class: &RoomClass) -> Self {
        Self {
            class: intern(*class),
            keeping_nothing: intern(class.keeping_nothing()),
        }
    }
}

/// Returns the process's one copy of a class.
///
/// A room keeps the class that it was created with, even when its table gets others. It points to
/// the class, so publishing neither counts references nor looks the class up. Interned classes
/// stay: as many as anybody has ever set.
fn intern(class: RoomClass) -> &'static RoomClass {
    // Not the lock of `sync`, which loom replaces by one that cannot be a static: nothing is
    // modelled here.
    static KNOWN: parking_lot::Mutex<Vec<&'static RoomClass>> = parking_lot::Mutex::new(Vec::new());
    let mut known = KNOWN.lock();
    if let Some(found) = known.iter().copied().find(|found| **found == class) {
        return found;
    }
    let class: &'static RoomClass = Box::leak(Box::new(class));
    known.push(class);
    class
}

impl Default for Classes {
    /// Returns classes in which every room is [plain](RoomClass::PLAIN).
    fn default() -> Self {
        Self::new(Vec::new(), RoomClass::PLAIN)
    }
}

impl Classes {
    /// Creates classes by pattern, in the order they are tried, and the class of all other rooms.
    ///
    /// In a pattern `*` stands for any characters or none, everything else for itself.
    pub fn new(patterns: Vec<(Box<str>, RoomClass)>, other: RoomClass) -> Self {
        let (patterns, mut classes): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        classes.push(other);
        Self {
            patterns,
            keeps_histories: classes.iter().any(|class| class.history.is_on()),
            classes: classes.iter().map(Interned::new).collect(),
        }
    }

    /// Returns the class of a room; outside the default space, a class that retains nothing. Costs
    /// a comparison for each pattern before the one that matches.
    pub fn of<'a>(&self, key: impl Into<RoomKey<'a>>) -> &'static RoomClass {
        let key = key.into();
        let index = self.position(key.name).unwrap_or(self.patterns.len());
        let Interned {
            class,
            keeping_nothing,
        } = self.classes[index];
        match key.space {
            Space::DEFAULT => class,
            _ => keeping_nothing,
        }
    }

    /// Returns the pattern that decides the class of the rooms with this name; none if no pattern
    /// matches.
    pub fn pattern_of(&self, name: &str) -> Option<&str> {
        self.position(name).map(|index| &*self.patterns[index])
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.patterns
            .iter()
            .position(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// Returns whether some rooms keep a history.
    pub(crate) const fn keep_histories(&self) -> bool {
        self.keeps_histories
    }

    /// Returns every pattern with its class, in the order they are tried.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, &RoomClass)> {
        let patterns = self.patterns.iter().map(|pattern| &**pattern);
        let classes = self.classes.iter().map(|interned| interned.class);
        patterns.zip(classes)
    }

    /// Returns the class of the rooms that no pattern matches.
    pub fn other(&self) -> &'static RoomClass {
        self.classes[self.patterns.len()].class
    }
}

/// Returns whether the pattern matches the whole name. Goes back to the last `*` only, so that no
/// name costs more than the product of the lengths.
fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // Behind the last `*`, and what is left of the name if it takes one byte more.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                retry = name.split_first().map(|(_, shorter)| (rest, shorter));
                pattern = rest;
            }
            ([wanted, pattern_rest @ ..], [found, name_rest @ ..]) if wanted == found => {
                (pattern, name) = (pattern_rest, name_rest);
            }
            _ => {
                let Some((behind_star, shorter)) = retry else {
                    return false;
                };
                (pattern, name) = (behind_star, shorter);
                retry = shorter.split_first().map(|(_, rest)| (behind_star, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        let yes = [
            ("", ""),
            ("*", ""),
            ("*", "lobby"),
            ("chat:*", "chat:"),
            ("chat:*", "chat:a:b"),
            ("*:cursor", "doc:7:cursor"),
            ("a*b*c", "aXbYbZc"),
            ("**", "x"),
            ("é*", "éa"),
        ];
        for (pattern, name) in yes {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        let no = [
            ("", "x"),
            ("chat:*", "chat"),
            ("chat:*", "xchat:1"),
            ("*:cursor", "doc:cursor:7"),
            ("a*b*c", "acb"),
            ("lobby", "lobby2"),
            ("a*", "b"),
        ];
        for (pattern, name) in no {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let class = |keys_max| RoomClass {
            keys_max,
            ..RoomClass::default()
        };
        let classes = Classes::new(
            vec![("chat:vip*".into(), class(1)), ("chat:*".into(), class(2))],
            class(3),
        );
        let of = |name| classes.of(name).keys_max;
        assert_eq!([of("chat:vip7"), of("chat:7"), of("lobby")], [1, 2, 3]);
        let patterns = classes
            .patterns()
            .map(|(pattern, class)| (pattern, class.keys_max));
        assert!(patterns.eq([("chat:vip*", 1), ("chat:*", 2)]));
        assert_eq!(classes.other().keys_max, 3);
        let pattern_of = |name| classes.pattern_of(name);
        assert_eq!(
            [pattern_of("chat:vip7"), pattern_of("lobby")],
            [Some("chat:vip*"), None]
        );
    }

    #[test]
    fn classes_that_are_set_again_are_the_same_ones() {
        let class = RoomClass {
            keys_max: 123_456,
            ..RoomClass::default()
        };
        let make = || Classes::new(vec![("a".into(), class)], class);
        let (first, again) = (make(), make());
        assert!(std::ptr::eq(first.of("a"), again.of("b")));
    }

    #[test]
    fn rooms_of_other_spaces_have_what_their_class_says_of_members_and_keep_nothing() {
        let chat = RoomClass {
            slow_consumer: SlowConsumer::Skip,
            publication_bytes_max: 7,
            ..RoomClass::default()
        };
        let classes = Classes::new(vec![("chat:*".into(), chat)], RoomClass::default());
        let elsewhere = |name| *classes.of(RoomKey::new(Space(1), name));
        assert_eq!(*classes.of("chat:7"), chat);
        assert_eq!(
            elsewhere("chat:7"),
            RoomClass {
                slow_consumer: SlowConsumer::Skip,
                publication_bytes_max: 7,
                ..RoomClass::PLAIN
            }
        );
        assert_eq!(elsewhere("lobby"), RoomClass::PLAIN);
        assert_eq!(*classes.other(), RoomClass::default());
    }

    #[test]
    fn a_way_to_treat_slow_consumers_is_read_as_it_is_written() {
        for way in [
            SlowConsumer::Disconnect,
            SlowConsumer::Latest,
            SlowConsumer::Skip,
        ] {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        assert_eq!("Skip".parse::<SlowConsumer>(), Err(SlowConsumerError));
    }
}
