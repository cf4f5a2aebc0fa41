//! How a delivery is told from everything else: the bytes in front of its stamp, and its length.
//!
//! This is looked at for every delivery, so it is one comparison of eight bytes and allocates
//! nothing, which is no slower than a prefix that is written into the program. Only a longer one
//! costs a second comparison.

use super::envelope::{Envelope, EnvelopeShape};
use crate::payload::{STAMP_BYTES, Stamp};
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
    /// How long a delivery is, or at least.
    message_bytes: u64,
    /// Where the payload's last byte is, its quote, if the server says more behind it than is
    /// known.
    quote_at: Option<usize>,
}

/// What the deliveries of a room look like.
#[derive(Clone, Debug)]
pub(crate) enum RoomShape {
    /// The payload in an envelope that says its offset.
    Enveloped(EnvelopeShape),
    /// The payload between texts that are always the same.
    Plain(DeliveryShape),
}

/// The deliveries of a run.
#[derive(Clone, Debug)]
pub(crate) enum DeliveryShapes {
    /// One for each room, in their order.
    PerRoom(Vec<RoomShape>),
    /// The same in all rooms.
    Shared(RoomShape),
}

/// One delivery, where it does not matter how long it takes to tell what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'m> {
    /// The letters of its stamp.
    pub(crate) letters: &'m [u8; STAMP_BYTES],
    /// Whether it is as long as what was published.
    pub(crate) is_whole: bool,
    /// What is around it, on a wire with positions.
    pub(crate) envelope: Option<Envelope<'m>>,
}

impl RoomShape {
    /// Takes a message of `message_bytes`, of which this is the beginning, for a delivery.
    pub(crate) fn delivery<'m>(&self, start: &'m [u8], message_bytes: u64) -> Option<Delivery<'m>> {
        let plain = |letters, is_whole| Delivery {
            letters,
            is_whole,
            envelope: None,
        };
        Some(match self {
            Self::Enveloped(shape) => {
                let envelope = shape.read(start, message_bytes)?;
                let delivery = plain(envelope.letters, envelope.is_whole);
                Delivery {
                    envelope: Some(envelope),
                    ..delivery
                }
            }
            Self::Plain(shape) => {
                plain(shape.letters(start)?, shape.is_whole(start, message_bytes))
            }
        })
    }

    /// Takes the same for a delivery with a stamp.
    pub(crate) fn stamped<'m>(
        &self,
        start: &'m [u8],
        message_bytes: u64,
    ) -> Option<(Delivery<'m>, Stamp)> {
        let delivery = self.delivery(start, message_bytes)?;
        Some((delivery, Stamp::read(delivery.letters)?))
    }
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
            quote_at: None,
        }
    }

    /// Recognizes what has more behind a payload of so many bytes than is known.
    pub(crate) fn with_more_behind(mut self, payload_bytes: usize) -> Self {
        // The prefix ends with the payload's first quote.
        self.quote_at = Some(self.prefix_bytes + payload_bytes - 2);
        self
    }

    /// Returns whether a delivery of `message_bytes`, which begins with `start`, has the whole
    /// payload.
    #[inline]
    pub(crate) fn is_whole(&self, start: &[u8], message_bytes: u64) -> bool {
        message_bytes == self.message_bytes
            || self.quote_at.is_some_and(|quote_at| {
                // Of a long message only the start is kept.
                let quote = start.get(quote_at);
                message_bytes > self.message_bytes && quote.is_none_or(|&byte| byte == b'"')
            })
    }

    /// Returns the letters of the stamp in a message that begins with the prefix.
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

    /// Compares the rest of a long prefix; apart, so that it does not weigh on wires with short
    /// ones.
    #[inline(never)]
    fn has_tail(&self, message: &[u8]) -> bool {
        message[HEAD_BYTES..].starts_with(&self.tail)
    }
}

impl DeliveryShapes {
    /// Returns what a room's deliveries look like.
    #[inline]
    pub(crate) fn of(&self, room: RoomId) -> &RoomShape {
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
    fn more_may_stand_behind_a_whole_payload_and_nothing_instead_of_it() {
        let payload = [b"\"".as_slice(), LETTERS, b"....\""].concat();
        let message = |payload: &[u8], more: &str| [b"<", payload, more.as_bytes(), b">"].concat();
        let known = DeliveryShape::new(b"<\"", (payload.len() + 2) as u64);
        let known = known.with_more_behind(payload.len());
        let is_whole = |message: &[u8]| known.is_whole(message, message.len() as u64);
        assert!(is_whole(&message(&payload, "")) && is_whole(&message(&payload, ",7")));
        let cut = &payload[..payload.len() - 1];
        assert!(!is_whole(&message(cut, "")) && !is_whole(&message(cut, ",more")));
        let exact = DeliveryShape::new(b"<\"", (payload.len() + 2) as u64);
        let more = message(&payload, ",7");
        assert!(!exact.is_whole(&more, more.len() as u64));
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
