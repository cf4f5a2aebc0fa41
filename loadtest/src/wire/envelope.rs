//! What throng.v1 has around a publication: the room, its offset, who published it, and when.
//!
//! ```text
//! msg {"room":"tea","offset":58,"from":"Xk3qTz9bA_w","at":1732270000000,"msg":"..."}
//! ```
//!
//! This is read for every delivery, so there are two ways. [`EnvelopeShape::read`] knows the fields
//! in the order in which Throng writes them, compares what is always the same, and allocates
//! nothing. What it does not know goes through a JSON parser, for another order and more fields are
//! the protocol too.

use std::borrow::Cow;

use serde::Deserialize;

use crate::payload::STAMP_BYTES;

/// What a connection is called: its first eight characters and its last eight, which overlap, so
/// that two are compared in two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name {
    first: u64,
    last: u64,
}

/// What the protocol says that a name has.
const NAME_BYTES: usize = 11;

/// Whole numbers up to here are the same for everybody who reads JSON.
pub(crate) const WHOLE_NUMBER_MAX: u64 = (1 << 53) - 1;

/// The digits of [`WHOLE_NUMBER_MAX`].
const DIGITS_MAX: usize = 16;

/// What a room's deliveries look like.
#[derive(Clone, Debug)]
pub(crate) struct EnvelopeShape {
    room: Box<str>,
    /// Everything in front of the offset.
    head: Box<[u8]>,
    payload_bytes: usize,
}

/// One delivery, taken out of its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'m> {
    pub(crate) offset: u64,
    /// Who published it, which may be no [usual](Name::is_usual) name; none if that was the
    /// server's application.
    pub(crate) from: Option<Name>,
    /// The letters of the payload's stamp.
    pub(crate) letters: &'m [u8; STAMP_BYTES],
    /// Whether the payload is as long as what was published, and nothing is behind it.
    pub(crate) is_whole: bool,
}

/// The fields between an offset and the end of a stamp, in the order in which Throng writes them.
const FROM: &[u8; 9] = br#","from":""#;
const AT: &[u8; 7] = br#"","at":"#;
const MSG: &[u8; 8] = br#","msg":""#;

/// Milliseconds since 1970 have so many digits until 2286.
const AT_DIGITS: usize = 13;

const AT_MS_MIN: u64 = 1_000_000_000_000;
const AT_MS_MAX: u64 = 9_999_999_999_999;

/// Where each of them begins behind the offset.
const NAME_PLACE: usize = FROM.len();
const AT_PLACE: usize = NAME_PLACE + NAME_BYTES;
const TIME_PLACE: usize = AT_PLACE + AT.len();
const MSG_PLACE: usize = TIME_PLACE + AT_DIGITS;
const LETTERS_PLACE: usize = MSG_PLACE + MSG.len();
const BEHIND_BYTES: usize = LETTERS_PLACE + STAMP_BYTES;

/// The bytes behind an offset, up to the end of the stamp.
type Behind = [u8; BEHIND_BYTES];

impl Name {
    /// Reads the name in a text, if it may be one: 11 characters of base64url.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = Self::of(text.as_bytes().try_into().ok()?);
        name.is_usual().then_some(name)
    }

    #[inline]
    fn of(characters: &[u8; NAME_BYTES]) -> Self {
        let eight = |place: usize| {
            let eight: &[u8; 8] = characters[place..].first_chunk().expect("3 and 8 are 11");
            u64::from_le_bytes(*eight)
        };
        Self {
            first: eight(0),
            last: eight(NAME_BYTES - 8),
        }
    }

    /// Returns whether it has no character that names do not have. One that equals a name that was
    /// looked at need not be looked at.
    pub(crate) fn is_usual(self) -> bool {
        let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
        let halves = [self.first.to_le_bytes(), self.last.to_le_bytes()];
        halves.as_flattened().iter().all(is_usual)
    }
}

impl EnvelopeShape {
    /// Recognizes deliveries of a room, whose envelopes begin with `head` and whose payloads are so
    /// long.
    pub(super) fn new(room: &str, head: &[u8], payload_bytes: usize) -> Self {
        Self {
            room: room.into(),
            head: head.into(),
            payload_bytes,
        }
    }

    /// Reads a message of `message_bytes`, of which this is the beginning.
    #[inline]
    pub(crate) fn read<'m>(&self, start: &'m [u8], message_bytes: u64) -> Option<Envelope<'m>> {
        match self.read_usual(start, message_bytes) {
            Some(envelope) if envelope.is_whole => Some(envelope),
            usual => self.read_any(start, message_bytes).or(usual),
        }
    }

    /// Reads the same if it is written as Throng writes it.
    // A call is a twentieth of a delivery, and the compiler saves it only where there is one
    // caller.
    #[inline(always)]
    fn read_usual<'m>(&self, start: &'m [u8], message_bytes: u64) -> Option<Envelope<'m>> {
        let rest = start.strip_prefix(&*self.head)?;
        let (offset, digits) = whole_number(rest)?;
        let behind: &Behind = rest.get(digits..)?.first_chunk()?;
        let from = from(behind)?;
        // The payload's first quote stands in front of the letters, the object's brace behind the
        // last.
        let payload_place = self.head.len() + digits + LETTERS_PLACE - 1;
        let has_length = message_bytes == (payload_place + self.payload_bytes + 1) as u64;
        Some(Envelope {
            offset,
            from: Some(from),
            letters: behind.last_chunk()?,
            is_whole: has_length && has_end(start, message_bytes),
        })
    }

    /// Reads the same if it is all there, whatever the order of its fields and however many others
    /// it has.
    #[inline(never)]
    fn read_any<'m>(&self, start: &'m [u8], message_bytes: u64) -> Option<Envelope<'m>> {
        if start.len() as u64 != message_bytes {
            return None;
        }
        let fields: Fields<'m> = serde_json::from_slice(start.strip_prefix(b"msg ")?).ok()?;
        let is_right = *fields.room == *self.room
            && (1..=WHOLE_NUMBER_MAX).contains(&fields.offset)
            && (AT_MS_MIN..=AT_MS_MAX).contains(&fields.at);
        let from = match &fields.from {
            None => None,
            Some(name) => Some(Name::parse(name)?),
        };
        is_right.then_some(Envelope {
            offset: fields.offset,
            from,
            letters: fields.msg.as_bytes().first_chunk()?,
            is_whole: fields.msg.len() + 2 == self.payload_bytes,
        })
    }
}

/// The same for a parser of JSON. Stamps and filler have no character that is ever escaped.
#[derive(Deserialize)]
struct Fields<'m> {
    #[serde(borrow)]
    room: Cow<'m, str>,
    offset: u64,
    #[serde(borrow)]
    from: Option<Cow<'m, str>>,
    at: u64,
    msg: &'m str,
}

/// Reads an offset without leading zeros, and how many digits it has.
#[inline]
fn whole_number(text: &[u8]) -> Option<(u64, usize)> {
    let eight: &[u8; 8] = text.first_chunk()?;
    let eight = u64::from_le_bytes(*eight);
    let digits = (other_than_digits(eight).trailing_zeros() / 8) as usize;
    if digits == 0 || digits == 8 || eight & 0xFF == u64::from(b'0') {
        return whole_number_slowly(text);
    }
    // Behind zeros, so that it always has eight.
    let padded = eight << (64 - 8 * digits) & 0x0F0F_0F0F_0F0F_0F0F;
    // Neighbours are put together: to tens and ones, to thousands, to ten millions.
    let tens = padded.wrapping_mul(10).wrapping_add(padded >> 8) & 0x00FF_00FF_00FF_00FF;
    let thousands = tens.wrapping_mul(100).wrapping_add(tens >> 16) & 0x0000_FFFF_0000_FFFF;
    let value = thousands.wrapping_mul(10_000).wrapping_add(thousands >> 32) & 0xFFFF_FFFF;
    Some((value, digits))
}

/// Reads the same for what is shorter or longer than nearly all are.
#[cold]
fn whole_number_slowly(text: &[u8]) -> Option<(u64, usize)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_offset = (1..=DIGITS_MAX).contains(&digits) && text[0] != b'0';
    let value = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    (is_offset && value <= WHOLE_NUMBER_MAX).then_some((value, digits))
}

/// Returns eight bytes of which those are zero that are digits, up to the first that is none.
#[inline]
fn other_than_digits(eight: u64) -> u64 {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const THREE: u64 = 0x3030_3030_3030_3030;
    // Digits have a high half of 3, also after adding 6; they are far below a carry.
    ((eight & HIGH) ^ THREE) | ((eight.wrapping_add(0x0606_0606_0606_0606) & HIGH) ^ THREE)
}

/// Returns who published it, if what stands around that is as it should be.
#[inline]
fn from(behind: &Behind) -> Option<Name> {
    let is_as_written = part::<{ FROM.len() }>(behind, 0) == FROM
        && part::<{ AT.len() }>(behind, AT_PLACE) == AT
        && part::<{ MSG.len() }>(behind, MSG_PLACE) == MSG
        && behind[TIME_PLACE] != b'0'
        // Thirteen digits are eight and eight that overlap.
        && are_digits(*part(behind, TIME_PLACE))
        && are_digits(*part(behind, MSG_PLACE - 8));
    is_as_written.then(|| Name::of(part(behind, NAME_PLACE)))
}

/// Returns so many bytes from a place on; both are constants, so that nothing is checked.
#[inline]
fn part<const BYTES: usize>(behind: &Behind, place: usize) -> &[u8; BYTES] {
    behind[place..]
        .first_chunk()
        .expect("the places and lengths above lie within")
}

#[inline]
fn are_digits(eight: [u8; 8]) -> bool {
    other_than_digits(u64::from_le_bytes(eight)) == 0
}

/// Returns whether a message ends with the payload's quote and the object's brace, as far as it is
/// there.
#[inline]
fn has_end(start: &[u8], message_bytes: u64) -> bool {
    (start.len() as u64) < message_bytes || start.ends_with(b"\"}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::payload::Stamp;
    use crate::plan::StreamId;

    const HEAD: &[u8] = br#"msg {"room":"tea","offset":"#;

    fn shape(payload_bytes: usize) -> EnvelopeShape {
        EnvelopeShape::new("tea", HEAD, payload_bytes)
    }

    fn payload(payload_bytes: usize) -> String {
        let mut out = Vec::new();
        let stamp = Stamp {
            stream: StreamId(7),
            number: 42,
            due_ns: 99,
        };
        stamp.write(payload_bytes, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    /// A delivery as Throng writes it, of random fields.
    fn delivery(random: &mut fastrand::Rng, payload_bytes: usize) -> Value {
        const LETTERS: &[u8] = b"ABCXYZabcxyz0189-_";
        let name: String = (0..NAME_BYTES)
            .map(|_| char::from(LETTERS[random.usize(..LETTERS.len())]))
            .collect();
        json!({
            "room": "tea",
            "offset": random.u64(1..=WHOLE_NUMBER_MAX) >> random.u32(0..53) | 1,
            "from": name,
            "at": random.u64(AT_MS_MIN..=AT_MS_MAX),
            "msg": payload(payload_bytes),
        })
    }

    fn text(delivery: &Value) -> Vec<u8> {
        format!("msg {delivery}").into_bytes()
    }

    /// What a parser of JSON makes of a message, field by field.
    fn oracle(message: &[u8], payload_bytes: usize) -> Option<(u64, Option<String>, String, bool)> {
        let delivery: Value = serde_json::from_slice(message.strip_prefix(b"msg ")?).ok()?;
        let from = match &delivery["from"] {
            Value::Null => None,
            name => Some(name.as_str()?.to_owned()),
        };
        if from
            .as_ref()
            .is_some_and(|name| Name::parse(name).is_none())
        {
            return None;
        }
        let offset = delivery["offset"].as_u64()?;
        let is_right = delivery["room"] == "tea"
            && (1..=WHOLE_NUMBER_MAX).contains(&offset)
            && (AT_MS_MIN..=AT_MS_MAX).contains(&delivery["at"].as_u64()?);
        let msg = delivery["msg"].as_str()?;
        let letters = msg.get(..STAMP_BYTES)?.to_owned();
        is_right.then_some((offset, from, letters, msg.len() + 2 == payload_bytes))
    }

    fn seen(envelope: Envelope<'_>) -> (u64, Option<String>, String, bool) {
        let name = |name: Name| {
            let (first, last) = (name.first.to_le_bytes(), name.last.to_le_bytes());
            String::from_utf8([&first[..], &last[5..]].concat()).unwrap()
        };
        let letters = String::from_utf8(envelope.letters.to_vec()).unwrap();
        (
            envelope.offset,
            envelope.from.map(name),
            letters,
            envelope.is_whole,
        )
    }

    #[test]
    fn what_throng_writes_is_read_without_a_parser_as_a_parser_reads_it() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let payload_bytes = random.usize(34..100);
            let message = text(&delivery(&mut random, payload_bytes));
            let usual = shape(payload_bytes).read_usual(&message, message.len() as u64);
            let expected = oracle(&message, payload_bytes);
            assert!(expected.is_some());
            assert_eq!(usual.map(seen), expected);
        }
    }

    /// One byte is wrong, or missing, or too many: in front of the filler, where JSON has its
    /// bones, and at the end. Filler is not looked at.
    #[test]
    fn what_is_broken_is_read_as_a_parser_reads_it_or_not_at_all() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut refused = 0;
        for _ in 0..40_000 {
            let mut message = text(&delivery(&mut random, STAMP_BYTES + 2));
            let place = random.usize(..message.len());
            let byte = *random
                .choice(b"\"\\{}:,0123456789.-eaA_ \x00\x7f\xff")
                .unwrap();
            match random.u8(..3) {
                0 => message[place] = byte,
                1 => drop(message.remove(place)),
                _ => message.insert(place, byte),
            }
            let bytes = message.len() as u64;
            // A stamp of other letters is none, to whoever reads it.
            let is_stamp = |letters: &[u8]| letters.iter().all(|it| (b'a'..=b'p').contains(it));
            let read = shape(STAMP_BYTES + 2).read(&message, bytes);
            // And a name that is none is nobody's.
            let read = read.filter(|envelope| is_stamp(envelope.letters));
            let read = read.filter(|envelope| envelope.from.is_none_or(Name::is_usual));
            let expected = oracle(&message, STAMP_BYTES + 2);
            let expected = expected.filter(|(_, _, letters, _)| is_stamp(letters.as_bytes()));
            refused += u32::from(expected.is_none());
            let said = String::from_utf8_lossy(&message);
            match read {
                Some(envelope) if envelope.is_whole => {
                    assert_eq!(Some(seen(envelope)), expected, "{said}");
                }
                // What a server cut off is a delivery, and a wrong one.
                Some(_) => assert!(expected.is_none_or(|(.., is_whole)| !is_whole), "{said}"),
                None => assert_eq!(expected, None, "{said}"),
            }
        }
        assert!(refused > 10_000, "{refused}");
    }

    #[test]
    fn fields_may_have_any_order_and_others_beside_them() {
        let from = "Xk3qTz9bA_w";
        let payload = payload(40);
        let at = 1_732_270_000_000_u64;
        let offset = 58;
        let [msg, room] = [
            format!(r#""msg":"{payload}""#),
            r#""room":"tea""#.to_owned(),
        ];
        let rest = format!(r#""offset":{offset},"from":"{from}","at":{at}"#);
        for other in [
            format!(r#"msg {{{msg},"at":{at},"from":"{from}","offset":{offset},{room}}}"#),
            format!(r#"msg {{{room},{rest},{msg},"new":1}}"#),
            format!(r#"msg {{ {room}, {}, {msg}}}"#, rest.replace(',', ", ")),
        ] {
            let envelope = shape(40)
                .read(other.as_bytes(), other.len() as u64)
                .unwrap();
            assert_eq!((envelope.offset, envelope.is_whole), (58, true), "{other}");
            assert_eq!(envelope.from, Name::parse(from));
        }
        let unsigned =
            format!(r#"msg {{"room":"tea","offset":{offset},"at":{at},"msg":"{payload}"}}"#);
        let envelope = shape(40).read(unsigned.as_bytes(), unsigned.len() as u64);
        assert_eq!(envelope.unwrap().from, None, "the application's own");
    }

    #[test]
    fn a_message_that_a_read_cut_is_known_by_its_beginning() {
        let mut random = fastrand::Rng::with_seed(6);
        let message = text(&delivery(&mut random, 5000));
        let bytes = message.len() as u64;
        let envelope = shape(5000).read(&message[..256], bytes).unwrap();
        assert!(envelope.is_whole);
        let cut = shape(5000).read(&message[..256], bytes - 1).unwrap();
        assert!(!cut.is_whole);
        for end in 0..150 {
            let start = &message[..end.min(HEAD.len() + 1)];
            assert_eq!(shape(5000).read(start, bytes), None);
        }
    }

    #[test]
    fn another_rooms_delivery_is_none_of_this_one() {
        let mut random = fastrand::Rng::with_seed(7);
        let message = text(&delivery(&mut random, 40));
        let other = EnvelopeShape::new("coffee", br#"msg {"room":"coffee","offset":"#, 40);
        assert_eq!(other.read(&message, message.len() as u64), None);
    }

    #[test]
    fn a_name_is_eleven_characters_of_base64url() {
        assert!(Name::parse("Xk3qTz9bA_w").is_some());
        for text in [
            "",
            "Xk3qTz9bA_",
            "Xk3qTz9bA_ww",
            "Xk3qTz9b\"_w",
            "Xk3qTz9bA+w",
            "äk3qTz9bAw",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
