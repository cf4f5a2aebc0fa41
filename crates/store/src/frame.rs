//! Frames: what one append to the log is. A frame is there as a whole or not at all.
//!
//! ```text
//! length: u32 │ checksum: u32 │ oldest segment: u32 │ commits: u64 │ step …
//! step        key: 17 bytes │ length of the value: u32, or all ones: there is none │ value
//! ```
//!
//! Numbers are little-endian, but for those in keys. The length counts what is behind the checksum, and the
//! checksum covers the segment's number, the length and what it counts: a frame in another file is no
//! frame. Of several steps on one key, the last counts.

use crc32fast::Hasher;

use crate::codec::{EntryKey, KEY_BYTES, take};

/// What a frame says of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// The oldest segment that is still needed. Those before it are forgotten, there or not.
    pub(crate) oldest: u32,
    /// How many batches were committed with this one.
    pub(crate) commits: u64,
}

/// A frame to be written.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    pub(crate) head: FrameHead,
    steps: &'a [u8],
}

/// One change of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    pub(crate) key: EntryKey,
    /// None: the entry is removed.
    pub(crate) value: Option<&'a [u8]>,
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; HEAD_BYTES],
        }
    }

    /// A frame whose steps are any bytes.
    #[cfg(test)]
    pub(crate) fn of(steps: &[u8]) -> Self {
        let mut frame = Self::new();
        frame.bytes.extend(steps);
        frame
    }

    /// Puts what `encode` appends. Says how many bytes that takes in the log.
    pub(crate) fn put(&mut self, key: EntryKey, encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
        self.bytes.extend(key.encode());
        let at = self.bytes.len();
        self.bytes.extend(NONE.to_le_bytes());
        encode(&mut self.bytes);
        let len = count(self.bytes.len() - at - 4);
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        step_bytes(len)
    }

    pub(crate) fn remove(&mut self, key: EntryKey) {
        self.bytes.extend(key.encode());
        self.bytes.extend(NONE.to_le_bytes());
    }

    /// What is to be appended to the segment.
    pub(crate) fn seal(&mut self, segment: u32, head: FrameHead) -> &[u8] {
        let len = count(self.bytes.len() - PREFIX_BYTES);
        self.bytes[8..12].copy_from_slice(&head.oldest.to_le_bytes());
        self.bytes[12..20].copy_from_slice(&head.commits.to_le_bytes());
        let checksum = checksum(segment, len, &self.bytes[PREFIX_BYTES..]);
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }
}

impl<'a> Written<'a> {
    /// The frame at the beginning of the bytes, which is taken away. None, if what is there is not one that
    /// was written whole.
    pub(crate) fn read(segment: u32, bytes: &mut &'a [u8]) -> Option<Self> {
        let mut rest = *bytes;
        let len = u32::from_le_bytes(take(&mut rest)?);
        let expected = u32::from_le_bytes(take(&mut rest)?);
        let mut steps = rest.split_off(..usize::try_from(len).ok()?)?;
        if checksum(segment, len, steps) != expected {
            return None;
        }
        *bytes = rest;
        let head = FrameHead {
            oldest: u32::from_le_bytes(take(&mut steps)?),
            commits: u64::from_le_bytes(take(&mut steps)?),
        };
        Some(Self { head, steps })
    }

    /// Its steps, in order. None in place of one that makes no sense.
    pub(crate) fn steps(self) -> impl Iterator<Item = Option<Step<'a>>> {
        let mut rest = self.steps;
        std::iter::from_fn(move || {
            let step = (!rest.is_empty()).then(|| read_step(&mut rest));
            if let Some(None) = step {
                rest = &[];
            }
            step
        })
    }
}

impl Step<'_> {
    /// How many bytes it takes in the log.
    pub(crate) fn bytes(&self) -> u32 {
        step_bytes(self.value.map_or(0, |value| count(value.len())))
    }
}

fn read_step<'a>(bytes: &mut &'a [u8]) -> Option<Step<'a>> {
    let key = EntryKey::decode(&take::<KEY_BYTES>(bytes)?)?;
    let len = u32::from_le_bytes(take(bytes)?);
    let value = match len {
        NONE => None,
        len => Some(bytes.split_off(..usize::try_from(len).ok()?)?),
    };
    Some(Step { key, value })
}

fn checksum(segment: u32, len: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn step_bytes(len: u32) -> u32 {
    len + count(KEY_BYTES + 4)
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is far below 4 GiB, and a segment not much above one")
}

/// Length and checksum, which the length does not count.
const PREFIX_BYTES: usize = 8;
/// Everything before the first step.
const HEAD_BYTES: usize = 20;
/// In place of a value's length: there is no value.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Kind;

    const HEAD: FrameHead = FrameHead {
        oldest: 3,
        commits: 9,
    };

    fn key(offset: u64) -> EntryKey {
        EntryKey {
            room: 1,
            kind: Kind::Publications,
            offset,
        }
    }

    fn sealed() -> Vec<u8> {
        let mut frame = Frame::new();
        frame.put(key(1), |out| out.extend(b"value"));
        frame.remove(key(2));
        frame.seal(7, HEAD).to_vec()
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = [sealed(), sealed()].concat();
        let mut rest = bytes.as_slice();

        let written = Written::read(7, &mut rest).expect("it was just written");

        assert_eq!(written.head, HEAD);
        let steps: Vec<_> = written.steps().collect();
        let put = Step {
            key: key(1),
            value: Some(b"value"),
        };
        let remove = Step {
            key: key(2),
            value: None,
        };
        assert_eq!(steps, [Some(put), Some(remove)]);
        assert!(Written::read(7, &mut rest).is_some());
        assert!(rest.is_empty());
    }

    #[test]
    fn a_frame_with_any_bit_changed_or_any_byte_missing_is_none() {
        let whole = sealed();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);

            assert!(
                Written::read(7, &mut flipped.as_slice()).is_none(),
                "byte {at}"
            );
            assert!(Written::read(7, &mut &whole[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_frame_in_another_segment_is_none() {
        assert!(Written::read(8, &mut sealed().as_slice()).is_none());
    }
}
