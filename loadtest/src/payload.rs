//! What a publication says: fixed-width fields that are read without a JSON parser.
//!
//! ```text
//! "aaaaaaab" "aaaaaabk" "aaaaaaaa" "bfkmoopp" then padding, in one JSON string
//!  stream     number     due, ns    (64 bits)
//! ```
//!
//! A field is eight letters, `a` to `p`, each four bits. Letters because no JSON writer escapes
//! them, and these sixteen because they are next to each other: eight are decoded with one
//! subtraction and three shifts, and validated with one mask.

use crate::plan::StreamId;

/// The fields of one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who says it, in which room.
    pub(crate) stream: StreamId,
    /// How many this stream said before.
    pub(crate) number: u32,
    /// When it should have gone out, in nanoseconds of this run.
    pub(crate) due_ns: u64,
}

/// The letters of a stamp.
pub(crate) const STAMP_BYTES: usize = 32;

/// The shortest payload: a stamp in its quotes.
pub(crate) const PAYLOAD_BYTES_MIN: usize = STAMP_BYTES + 2;

const FIELD_BYTES: usize = 8;

impl Stamp {
    /// Writes the JSON, `payload_bytes` long, which is at least [`PAYLOAD_BYTES_MIN`].
    pub(crate) fn write(self, payload_bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + payload_bytes - 1;
        out.push(b'"');
        let due = self.due_ns.to_be_bytes();
        let fields = [self.stream.0.to_be_bytes(), self.number.to_be_bytes()];
        for byte in fields.as_flattened().iter().chain(&due) {
            out.push(b'a' + (byte >> 4));
            out.push(b'a' + (byte & 0xF));
        }
        out.resize(end, b'.');
        out.push(b'"');
    }

    /// Reads the letters behind the first quote.
    #[inline]
    pub(crate) fn read(letters: &[u8; STAMP_BYTES]) -> Option<Self> {
        let (fields, _) = letters.as_chunks::<FIELD_BYTES>();
        let [stream, number, due_high, due_low] = fields else {
            return None;
        };
        let due_ns = u64::from(field(*due_high)?) << 32 | u64::from(field(*due_low)?);
        Some(Self {
            stream: StreamId(field(*stream)?),
            number: field(*number)?,
            due_ns,
        })
    }
}

/// Reads eight letters as 32 bits.
#[inline]
fn field(letters: [u8; FIELD_BYTES]) -> Option<u32> {
    let nibbles = u64::from_be_bytes(letters).wrapping_sub(0x6161_6161_6161_6161);
    // A byte below `a` borrows and one above `p` does not fit: both leave a high bit.
    if nibbles & 0xF0F0_F0F0_F0F0_F0F0 != 0 {
        return None;
    }
    let bytes = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let pairs = (bytes | bytes >> 8) & 0x0000_FFFF_0000_FFFF;
    u32::try_from((pairs | pairs >> 16) & 0xFFFF_FFFF).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(stamp: Stamp) -> [u8; STAMP_BYTES] {
        let mut out = Vec::new();
        stamp.write(PAYLOAD_BYTES_MIN, &mut out);
        *out[1..].first_chunk().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let stamp = Stamp {
                stream: StreamId(random.u32(..)),
                number: random.u32(..) >> random.u32(0..32),
                due_ns: random.u64(..) >> random.u32(0..64),
            };
            assert_eq!(Stamp::read(&letters(stamp)), Some(stamp));
        }
    }

    #[test]
    fn the_payload_is_a_json_string_of_the_length_asked_for() {
        for payload_bytes in [PAYLOAD_BYTES_MIN, 35, 64, 4096] {
            let mut out = Vec::new();
            Stamp {
                stream: StreamId(7),
                number: 42,
                due_ns: 1,
            }
            .write(payload_bytes, &mut out);
            assert_eq!(out.len(), payload_bytes);
            let text: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(text.len(), payload_bytes - 2);
        }
    }

    #[test]
    fn any_other_letter_in_any_place_is_refused() {
        let good = letters(Stamp {
            stream: StreamId(0xABCD),
            number: 0xFFFF_FFFF,
            due_ns: 99,
        });
        for place in 0..STAMP_BYTES {
            for byte in (0..=u8::MAX).filter(|byte| !(b'a'..=b'p').contains(byte)) {
                let mut bad = good;
                bad[place] = byte;
                assert_eq!(Stamp::read(&bad), None, "{byte} at {place}");
            }
        }
    }
}
