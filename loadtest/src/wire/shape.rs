//! How a delivery is told from everything else: the bytes in front of its stamp, and its length.
//!
//! This is looked at for every delivery, so it is one comparison of eight bytes and allocates nothing,
//! which is no slower than a prefix that is written into the program. Only a longer one costs a
//! second comparison.

use crate::payload::STAMP_BYTES;
use crate::plan::RoomId;

/// What a delivery looks like.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryShape {
    /// The first [`HEAD_BYTES`] of the prefix, and nothing where it is shorter.
    head: u64,
    /// The bits of `head` that count.
    mask: u64,
    /// What of the prefix is behind the head.
    tail: Box<[u8]>,
    prefix_bytes: usize,
    /// How long a delivery is.
    pub(crate) message_bytes: u64,
}

/// The deliveries of a run.
#[derive(Clone, Debug)]
pub(crate) enum DeliveryShapes {
    /// One for each room, in their order.
    PerRoom(Vec<DeliveryShape>),
    /// The same in all rooms.
    Shared(DeliveryShape),
}

/// A stamp alone is longer, so every delivery has as many.
const HEAD_BYTES: usize = size_of::<u64>();

impl DeliveryShape {
    /// Recognizes what begins with these bytes and then has a stamp.
    pub(crate) fn new(prefix: &[u8], message_bytes: u64) -> Self {
        let (head, tail) = prefix.split_at(prefix.len().min(HEAD_BYTES));
        let padded = |filled: &dyn Fn(u8) -> u8| {
            let mut bytes = [0; HEAD_BYTES];
            bytes
                .iter_mut()
                .zip(head)
                .for_each(|(to, from)| *to = filled(*from));
            u64::from_le_bytes(bytes)
        };
        Self {
            head: padded(&|byte| byte),
            mask: padded(&|_| u8::MAX),
            tail: tail.into(),
            prefix_bytes: prefix.len(),
            message_bytes,
        }
    }

    /// The letters of the stamp in a message that begins with the prefix.
    #[inline]
    pub(crate) fn letters<'a>(&self, message: &'a [u8]) -> Option<&'a [u8; STAMP_BYTES]> {
        let start = u64::from_le_bytes(*message.first_chunk()?);
        if (start ^ self.head) & self.mask != 0 {
            return None;
        }
        if self.prefix_bytes > HEAD_BYTES && !self.has_tail(message) {
            return None;
        }
        message.get(self.prefix_bytes..)?.first_chunk()
    }

    /// Apart, so that it does not weigh on wires with short prefixes.
    #[inline(never)]
    fn has_tail(&self, message: &[u8]) -> bool {
        message[HEAD_BYTES..].starts_with(&self.tail)
    }
}

impl DeliveryShapes {
    /// What a room's deliveries look like.
    #[inline]
    pub(crate) fn of(&self, room: RoomId) -> &DeliveryShape {
        match self {
            Self::PerRoom(shapes) => &shapes[room.index()],
            Self::Shared(shape) => shape,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &[u8; STAMP_BYTES] = b"abcdefghijklmnopabcdefghijklmnop";

    #[test]
    fn a_prefix_of_any_length_is_told_from_all_its_neighbours() {
        for bytes in 0..40_u8 {
            let prefix: Vec<u8> = (b'A'..b'A' + bytes).collect();
            let message = [&prefix, LETTERS.as_slice(), b"..."].concat();
            let known = DeliveryShape::new(&prefix, 0);
            assert_eq!(known.letters(&message), Some(LETTERS), "{bytes} bytes");
            for place in 0..prefix.len() {
                let mut other = message.clone();
                other[place] ^= 1;
                assert_eq!(known.letters(&other), None, "{bytes} bytes, {place}");
            }
        }
    }

    #[test]
    fn a_message_that_is_too_short_for_a_stamp_has_none() {
        for bytes in [0, 5, 16, 30] {
            let prefix = vec![b'x'; bytes];
            let message = [&prefix, LETTERS.as_slice()].concat();
            let known = DeliveryShape::new(&prefix, 0);
            for end in 0..message.len() {
                assert_eq!(known.letters(&message[..end]), None, "{bytes} bytes, {end}");
            }
            assert!(known.letters(&message).is_some());
        }
    }
}
