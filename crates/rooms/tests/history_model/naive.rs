//! A room as a list of all that was ever published to it.

use throng_rooms::{Epoch, Recovery, RoomClass, Since, StreamPosition};

/// One publication.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) offset: u64,
    pub(crate) serial: u32,
    at_ms: u64,
    pub(crate) frame_len: usize,
}

/// One key and what it came with.
#[derive(Clone, Debug)]
struct Key {
    text: String,
    offset: u64,
    at_ms: u64,
}

/// One life of a room: from when its stream began until it was forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) epoch: Epoch,
    class: RoomClass,
    /// All of them.
    told: Vec<Told>,
    /// The number of of them, from the first on, are not held any more.
    gone: usize,
    keys: Vec<Key>,
    /// When its last member left, if it has had one.
    left_at_ms: Option<u64>,
    /// Until when everything that had expired was certainly dropped.
    swept_at_ms: u64,
}

/// The fate of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is not known.
    No,
    /// It is over its time, but nobody has looked since; or its memory may have been needed.
    Perhaps(u64),
    /// It came with this offset.
    Yes(u64),
}

impl Life {
    pub(crate) const fn new(epoch: Epoch, class: RoomClass, now_ms: u64) -> Self {
        Self {
            epoch,
            class,
            told: Vec::new(),
            gone: 0,
            keys: Vec::new(),
            left_at_ms: None,
            swept_at_ms: now_ms,
        }
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.told.len() as u64
    }

    pub(crate) const fn position(&self) -> StreamPosition {
        StreamPosition {
            epoch: self.epoch,
            offset: self.offset(),
        }
    }

    /// The first offset that is held, one past the last if none is.
    pub(crate) const fn first_offset(&self) -> u64 {
        self.gone as u64 + 1
    }

    /// The publications from an offset on.
    pub(crate) fn since(&self, first: u64) -> &[Told] {
        let skipped = usize::try_from(first - 1).expect("there are few");
        &self.told[skipped.min(self.told.len())..]
    }

    /// When each publication that is held expires.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (u64, u64)> {
        let age_max_ms = self.class.history.age_max_ms;
        let held = self.told[self.gone..].iter();
        held.map(move |told| (told.offset, told.at_ms + age_max_ms))
    }

    pub(crate) fn publish(&mut self, serial: u32, frame_len: usize, at_ms: u64) {
        self.told.push(Told {
            offset: self.offset() + 1,
            serial,
            at_ms,
            frame_len,
        });
        let limits = self.class.history;
        if !limits.is_on() {
            self.gone = self.told.len();
        }
        let bytes = |held: &[Told]| held.iter().map(|told| told.frame_len).sum::<usize>();
        while self.told.len() - self.gone > limits.publications_max as usize
            || bytes(&self.told[self.gone..]) > limits.bytes_max
        {
            self.gone += 1;
        }
    }

    /// The publication with the last offset came with this key.
    pub(crate) fn remember(&mut self, text: &str, at_ms: u64) {
        self.keys.retain(|key| key.text != text);
        self.keys.push(Key {
            text: text.to_owned(),
            offset: self.offset(),
            at_ms,
        });
        let surplus = self.keys.len().saturating_sub(self.class.keys_max as usize);
        self.keys.drain(..surplus);
    }

    pub(crate) fn known(&self, text: &str, now_ms: u64, is_memory_ample: bool) -> Known {
        match self.keys.iter().find(|key| key.text == text) {
            None => Known::No,
            Some(key) if is_memory_ample && key.at_ms + self.class.key_window_ms > now_ms => {
                Known::Yes(key.offset)
            }
            Some(key) => Known::Perhaps(key.offset),
        }
    }

    /// The last member is gone.
    pub(crate) const fn leave(&mut self, now_ms: u64) {
        self.left_at_ms = Some(now_ms);
    }

    /// Memory was needed: nothing before this offset is held.
    pub(crate) fn evict(&mut self, first: u64) {
        assert!(first >= self.first_offset(), "it is not held again");
        self.gone = usize::try_from(first - 1).expect("there are few");
    }

    /// Everything that has expired is dropped.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        self.swept_at_ms = now_ms;
        let age_max_ms = self.class.history.age_max_ms;
        let is_old = |told: &Told| told.at_ms + age_max_ms <= now_ms;
        while self.told.get(self.gone).is_some_and(is_old) {
            self.gone += 1;
        }
        let window_ms = self.class.key_window_ms;
        self.keys.retain(|key| key.at_ms + window_ms > now_ms);
    }

    /// Returns whether a room without members is remembered, if memory is ample.
    pub(crate) fn is_remembered(&self) -> bool {
        let lingers = |left_at_ms: u64| {
            self.class.history.is_on()
                && left_at_ms + self.class.history.age_max_ms > self.swept_at_ms
        };
        self.gone < self.told.len() || !self.keys.is_empty() || self.left_at_ms.is_some_and(lingers)
    }

    /// Returns whether it may be remembered for nothing until somebody looks at it next.
    pub(crate) fn may_be_remembered(&self) -> bool {
        let ever_kept = self.class.history.is_on() || self.class.key_window_ms > 0;
        let age_max_ms = self.class.history.age_max_ms.max(self.class.key_window_ms);
        let last_ms = self.told.last().map(|told| told.at_ms);
        let last_ms = last_ms.max(self.left_at_ms);
        ever_kept && last_ms.is_none_or(|at| at + age_max_ms > self.swept_at_ms)
    }

    /// Returns how far what is held reaches back.
    pub(crate) fn recover(&self, since: Since) -> Option<Recovery> {
        let held = self.first_offset();
        match since {
            Since::Now => None,
            Since::Last(count) => Some(Recovery {
                first: held.max((self.offset() + 1).saturating_sub(u64::from(count))),
                recovered: None,
            }),
            Since::Position(left) => {
                let is_ours = left.epoch == self.epoch && left.offset <= self.offset();
                let first = if is_ours {
                    held.max(left.offset + 1)
                } else {
                    held
                };
                Some(Recovery {
                    first,
                    recovered: Some(is_ours && first == left.offset + 1),
                })
            }
        }
    }
}
