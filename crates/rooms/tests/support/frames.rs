//! Frames that say in plain text what they are, and how their texts are read back.

use proto::frame::encode;
use proto::{OpCode, SharedFrame};
use throng_rooms::{Publication, Wire};

/// Something that is said in a room: `wire:room/offset body`, or `wire:room/- body` without an
/// offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) room: &'a str,
    pub(crate) body: &'a str,
}

impl Publication for Said<'_> {
    fn encode(&mut self, Wire(wire): Wire, offset: Option<u64>) -> SharedFrame {
        let Self { room, body } = self;
        let offset = offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        frame(&format!("{wire}:{room}/{offset} {body}"))
    }
}

/// The frame of a text.
pub(crate) fn frame(text: &str) -> SharedFrame {
    encode(OpCode::Text, text.as_bytes())
}

/// The texts of the frames that are there as a whole, and what is left behind them.
pub(crate) fn texts(mut bytes: &[u8]) -> (Vec<String>, &[u8]) {
    let mut texts = Vec::new();
    while let Some((header_len, payload_len)) = lens(bytes) {
        let Some((frame, rest)) = bytes.split_at_checked(header_len + payload_len) else {
            break;
        };
        let text = str::from_utf8(&frame[header_len..]).expect("frames are not torn");
        texts.push(text.to_owned());
        bytes = rest;
    }
    (texts, bytes)
}

/// The lengths of the first frame's header and payload, once they can be read.
fn lens(bytes: &[u8]) -> Option<(usize, usize)> {
    let [first, len, rest @ ..] = bytes else {
        return None;
    };
    assert_eq!(*first, 0x81, "frames are not torn: each is a whole text");
    match (*len, rest) {
        (126, [a, b, ..]) => Some((4, usize::from(u16::from_be_bytes([*a, *b])))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            Some((10, usize::try_from(len).expect("it was sent")))
        }
        (126 | 127, _) => None,
        (len, _) => Some((2, usize::from(len))),
    }
}
