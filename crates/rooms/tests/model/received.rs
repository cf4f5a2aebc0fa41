//! The frames of the model, and whether those that arrived are those that were sent.
//!
//! Between two frames that are for one connection alone, each room's publications have an order and
//! the rooms among each other have none: a turn's publications are merged room by room.

use std::collections::BTreeMap;

use proto::{OpCode, SharedFrame, frame};

/// The contents of a frame: the room, if any, its number there, and so much padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) room: Option<u8>,
    pub(crate) serial: u32,
    pub(crate) padding_len: u32,
}

impl Item {
    pub(crate) fn encode(self) -> SharedFrame {
        let mut bytes = vec![self.room.unwrap_or(u8::MAX)];
        bytes.extend(self.serial.to_be_bytes());
        bytes.extend(self.padding_len.to_be_bytes());
        bytes.resize(ITEM_LEN + self.padding_len as usize, bytes[4]);
        frame::encode(OpCode::Binary, &bytes)
    }

    pub(crate) fn len(self) -> usize {
        self.encode().len()
    }
}

/// Room, serial number, length of the padding.
const ITEM_LEN: usize = 9;

/// Reads the frames that were received; the last one may be cut off unless it is `complete`.
pub(crate) fn decode(mut bytes: &[u8], complete: bool) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(short) = bytes.get(1) {
        let header_len = if *short < 126 { 2 } else { 4 };
        let item = &bytes[bytes.len().min(header_len)..];
        let Some((item, rest)) = item.split_first_chunk::<ITEM_LEN>() else {
            break;
        };
        let [room, a, b, c, d, padding_len @ ..] = *item;
        let padding_len = u32::from_be_bytes(padding_len);
        let Some((padding, rest)) = rest.split_at_checked(padding_len as usize) else {
            break;
        };
        assert!(padding.iter().all(|byte| *byte == d), "frames are not torn");
        items.push(Item {
            room: (room != u8::MAX).then_some(room),
            serial: u32::from_be_bytes([a, b, c, d]),
            padding_len,
        });
        bytes = rest;
    }
    assert!(!complete || bytes.is_empty(), "nothing is cut off");
    items
}

/// Returns whether the items are what was expected, or, unless `complete`, the beginning of it.
pub(crate) fn check_received(mut received: &[Item], mut expected: &[Item], complete: bool) {
    let is_direct = |item: &Item| item.room.is_none();
    while let Some(at) = received.iter().position(is_direct) {
        let expected_at = expected.iter().position(is_direct).expect("nobody sent it");
        assert_eq!(by_room(&received[..at]), by_room(&expected[..expected_at]));
        assert_eq!(received[at], expected[expected_at]);
        (received, expected) = (&received[at + 1..], &expected[expected_at + 1..]);
    }
    if complete {
        assert_eq!(by_room(received), by_room(expected));
        return;
    }
    let expected_at = expected
        .iter()
        .position(is_direct)
        .unwrap_or(expected.len());
    let expected = by_room(&expected[..expected_at]);
    for (room, serials) in by_room(received) {
        assert!(
            expected
                .get(&room)
                .is_some_and(|expected| expected.starts_with(&serials))
        );
    }
}

/// The serial numbers of each room's publications, in order.
fn by_room(items: &[Item]) -> BTreeMap<Option<u8>, Vec<u32>> {
    let mut rooms = BTreeMap::<_, Vec<u32>>::new();
    for item in items {
        rooms.entry(item.room).or_default().push(item.serial);
    }
    rooms
}
