//! Strategies for byte streams: what a good peer sends, what a broken one does, and garbage.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use throng_proto::frame::{encode, encode_masked};
use throng_proto::{CloseCode, CloseFrame, FrameHeader, Limits, MaskingKey, OpCode, Role, mask};

use crate::outcome::Owned;

/// Room for every message below: the longest has [`LONG_LEN_MAX`] bytes.
pub(crate) const WIDE: Limits = Limits {
    message_len_max: 1 << 20,
    fragment_count_max: 64,
};

/// Limits that the streams of [`broken`] and [`mutated`] meet on both sides. Not below 125 bytes,
/// for tungstenite applies its limit to control frames too.
pub(crate) const NARROW: Limits = Limits {
    message_len_max: 150,
    fragment_count_max: 3,
};

/// A length with 8 bytes in the header, and a little to cut.
const LONG_LEN_MAX: usize = 65_540;

/// 256 cases, or `PROPTEST_CASES`. What fails is printed shrunk, to be made a test of its own;
/// nothing is written beside the sources.
pub(crate) fn config() -> ProptestConfig {
    let nowhere = Box::new(FileFailurePersistence::Off);
    ProptestConfig {
        failure_persistence: Some(nowhere),
        ..ProptestConfig::default()
    }
}

pub(crate) fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// Returns where to cut a stream: the lengths of the pieces, repeated until its end.
pub(crate) fn piece_lens() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![1]),
        4 => vec(1..30_usize, 1..6),
        1 => vec(1..3000_usize, 1..6),
    ]
}

/// The messages that a peer sends, and the bytes that it sends them in.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Owned>,
    pub(crate) bytes: Vec<u8>,
}

impl Conversation {
    fn send(&mut self, role: Role, key: MaskingKey, message: Owned) {
        let (opcode, payload) = on_the_wire(&message);
        match role {
            Role::Client => self.bytes.extend_from_slice(&encode(opcode, &payload)),
            Role::Server => encode_masked(opcode, &payload, key, &mut self.bytes),
        }
        self.messages.push(message);
    }

    fn send_fragment(&mut self, role: Role, key: MaskingKey, fin: bool, op: OpCode, part: &[u8]) {
        let masking_key = (role == Role::Server).then_some(key);
        let payload_len = part.len() as u64;
        let (header, len) = FrameHeader {
            fin,
            opcode: op,
            payload_len,
            masking_key,
        }
        .encode();
        self.bytes.extend_from_slice(&header[..len]);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        if let Some(key) = masking_key {
            mask::apply(key, &mut self.bytes[start..]);
        }
    }
}

fn on_the_wire(message: &Owned) -> (OpCode, Vec<u8>) {
    match message {
        Owned::Binary(payload) => (OpCode::Binary, payload.clone()),
        Owned::Close(code, reason) => (
            OpCode::Close,
            CloseFrame {
                code: CloseCode(*code),
                reason,
            }
            .encode(),
        ),
        Owned::Ping(payload) => (OpCode::Ping, payload.clone()),
        Owned::Pong(payload) => (OpCode::Pong, payload.clone()),
        Owned::Text(text) => (OpCode::Text, text.clone().into_bytes()),
    }
}

/// One data message, cut at any places, with a control frame in any of the gaps.
#[derive(Clone, Debug)]
struct Cut {
    message: Owned,
    key: MaskingKey,
    /// The place of each fragment but the first, and the control frame before it.
    gaps: Vec<(Index, Option<Owned>)>,
}

/// Returns what a peer sends that keeps to the RFC, to a reader in this role.
pub(crate) fn conversation(role: Role) -> impl Strategy<Value = Conversation> {
    let close = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Owned::Close(1005, String::new()))),
        1 => (sendable_code(), "\\PC{0,20}")
            .prop_map(|(code, text)| Some(Owned::Close(code, text))),
    ];
    (vec(cut(), 0..6), close).prop_map(move |(cuts, close)| {
        let mut conversation = Conversation {
            messages: Vec::new(),
            bytes: Vec::new(),
        };
        for Cut {
            message,
            key,
            mut gaps,
        } in cuts
        {
            if gaps.is_empty() {
                conversation.send(role, key, message);
                continue;
            }
            let (mut op, payload) = on_the_wire(&message);
            gaps.sort_by_key(|(at, _)| at.index(payload.len() + 1));
            let mut start = 0;
            for (at, control) in gaps {
                let end = at.index(payload.len() + 1);
                conversation.send_fragment(role, key, false, op, &payload[start..end]);
                (op, start) = (OpCode::Continuation, end);
                if let Some(control) = control {
                    conversation.send(role, key, control);
                }
            }
            conversation.send_fragment(role, key, true, op, &payload[start..]);
            conversation.messages.push(message);
        }
        if let Some(close) = close {
            conversation.send(role, [1, 2, 3, 4], close);
        }
        conversation
    })
}

fn cut() -> impl Strategy<Value = Cut> {
    let gaps = prop_oneof![
        1 => Just(Vec::new()),
        1 => vec((any::<Index>(), prop::option::of(control())), 1..5),
    ];
    (
        prop_oneof![4 => data(), 1 => control()],
        any::<MaskingKey>(),
        gaps,
    )
        .prop_map(|(message, key, gaps)| {
            let whole = matches!(message, Owned::Ping(_) | Owned::Pong(_));
            Cut {
                message,
                key,
                gaps: if whole { Vec::new() } else { gaps },
            }
        })
}

fn data() -> impl Strategy<Value = Owned> {
    prop_oneof![
        8 => "\\PC{0,40}".prop_map(Owned::Text),
        8 => vec(any::<u8>(), 0..40).prop_map(Owned::Binary),
        4 => (120..132_usize).prop_map(|len| Owned::Text("x".repeat(len))),
        1 => (0xFFF0..LONG_LEN_MAX).prop_map(|len| Owned::Binary(vec![7; len])),
        1 => (0xFFF0..LONG_LEN_MAX).prop_map(|len| Owned::Text("€".repeat(len / 3))),
    ]
}

fn control() -> impl Strategy<Value = Owned> {
    let payload = || prop_oneof![vec(any::<u8>(), 0..8), Just(vec![9; 125])];
    prop_oneof![
        payload().prop_map(Owned::Ping),
        payload().prop_map(Owned::Pong)
    ]
}

fn sendable_code() -> impl Strategy<Value = u16> {
    prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16]
}

/// Returns what a broken peer sends: frames of which any field may be wrong, each seldom enough
/// that streams get past their first frame.
pub(crate) fn broken(role: Role) -> impl Strategy<Value = Vec<u8>> {
    vec(broken_frame(role), 0..8).prop_map(|frames| frames.concat())
}

fn broken_frame(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x82, 0x89, 0x8A]),
        8 => prop::sample::select(vec![0x01_u8, 0x02, 0x00, 0x80]),
        2 => Just(0x88),
        1 => any::<u8>(),
    ];
    // How many bytes the length takes, whatever it needs; zero for the shortest.
    let length_len = prop_oneof![20 => Just(0_usize), 1 => Just(2), 1 => Just(8)];
    let announced_too_many = prop_oneof![
        30 => Just(0_u64), 1 => 1..200_u64, 1 => any::<u64>()
    ];
    let masked_right = prop::bool::weighted(0.98);
    (
        first,
        payload(),
        length_len,
        announced_too_many,
        masked_right,
        any::<MaskingKey>(),
    )
        .prop_map(
            move |(first, mut payload, length_len, too_many, masked_right, key)| {
                let len = (payload.len() as u64).saturating_add(too_many);
                let length_len = match (length_len, len) {
                    (0, 126..=0xFFFF) => 2,
                    (0, 0x1_0000..) => 8,
                    (length_len, _) => length_len,
                };
                let masked = (role == Role::Server) == masked_right;
                let length = len.to_be_bytes();
                let short_len = match length_len {
                    2 => 126,
                    8 => 127,
                    _ => length[7],
                };
                let mut frame = vec![first, short_len | if masked { 0x80 } else { 0 }];
                frame.extend_from_slice(&length[8 - length_len..]);
                if masked {
                    frame.extend_from_slice(&key);
                    mask::apply(key, &mut payload);
                }
                frame.extend_from_slice(&payload);
                frame
            },
        )
}

/// Payloads around every border: of control frames, of [`NARROW`], of UTF-8, of close codes.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let pieces_of_utf8 = prop::sample::select(vec![
        &b"a"[..],
        b"\xC3",
        b"\xE2\x82",
        b"\x82",
        b"\xAC",
        b"\xF0\x9F",
        b"\xED",
        b"\xA0",
        b"\xF4",
        b"\x90",
        b"\x80",
        b"\xC0",
        b"\xFF",
        "€".as_bytes(),
    ]);
    let close = (prop_oneof![995..1020_u16, any::<u16>()], "\\PC{0,4}")
        .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat());
    prop_oneof![
        8 => "\\PC{0,12}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..12),
        5 => vec(pieces_of_utf8, 0..6).prop_map(|pieces| pieces.concat()),
        2 => (120..160_usize).prop_map(|len| vec![b'x'; len]),
        2 => close,
    ]
}

/// A good stream with a few bytes changed.
pub(crate) fn mutated(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), change()), 0..4);
    (conversation(role), changes).prop_map(|(conversation, changes)| {
        let mut bytes = conversation.bytes;
        // Headers are where it hurts, and a header is seldom hit in a long stream.
        bytes.truncate(2000);
        for (at, change) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match change {
                Change::Flip(bit) => bytes[at] ^= 1 << bit,
                Change::Insert(byte) => bytes.insert(at, byte),
                Change::Remove => drop(bytes.remove(at)),
                Change::Set(byte) => bytes[at] = byte,
                Change::Truncate => bytes.truncate(at),
            }
        }
        bytes
    })
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Flip(u8),
    Insert(u8),
    Remove,
    Set(u8),
    Truncate,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Change::Flip),
        1 => any::<u8>().prop_map(Change::Insert),
        1 => Just(Change::Remove),
        2 => any::<u8>().prop_map(Change::Set),
        1 => Just(Change::Truncate),
    ]
}

/// Any stream at all, for a reader in this role.
pub(crate) fn any_stream(role: Role) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => broken(role),
        3 => mutated(role),
        1 => vec(any::<u8>(), 0..60),
    ]
}
