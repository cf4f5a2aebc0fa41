//! Frames of any kind, one after the other and cut anywhere: the reader never panics, never holds
//! more than its limits allow, and reads what the naive one reads and what it reads uncut.
#![no_main]

#[path = "../../crates/proto/tests/support/naive.rs"]
mod naive;
#[path = "../../crates/proto/tests/support/outcome.rs"]
mod outcome;
#[path = "../../crates/proto/tests/support/pieces.rs"]
mod pieces;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use throng_proto::frame::CONTROL_PAYLOAD_MAX;
use throng_proto::{FrameHeader, Limits, MaskingKey, OpCode, Role, mask};

use crate::pieces::Pieces;

#[derive(Arbitrary, Debug)]
struct Case {
    from_clients: bool,
    /// In units of 2 bytes, so that 65,536 bytes may be allowed or not.
    message_len_max: u16,
    fragment_count_max: u8,
    operations: Vec<Operation>,
}

/// All of fixed size, so that a change to one leaves the bytes of the others what they are.
#[derive(Arbitrary, Debug)]
enum Operation {
    /// What is not a frame, as far as it goes.
    Bytes([u8; 4]),
    /// The stream is cut here, or so many bytes before.
    Cut { bytes_before: u8 },
    /// A frame that breaks no rule by itself.
    Frame {
        fin: bool,
        opcode: u8,
        payload: Payload,
        key: MaskingKey,
    },
}

/// A few bytes, over and over. Four make any character of UTF-8, or a close code.
#[derive(Arbitrary, Debug)]
struct Payload {
    pattern: [u8; 4],
    len: u8,
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        let len = match self.len {
            // Seldom the large ones, for they take the fuzzer's time.
            254 => 65_535,
            255 => 65_536,
            len => usize::from(len),
        };
        self.pattern.into_iter().cycle().take(len).collect()
    }
}

/// The stream, and where to cut it.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    cuts: Vec<usize>,
}

impl Stream {
    fn add(&mut self, operation: &Operation, role: Role) {
        match operation {
            Operation::Bytes(bytes) => self.bytes.extend_from_slice(bytes),
            Operation::Cut { bytes_before } => {
                self.cuts
                    .push(self.bytes.len().saturating_sub(usize::from(*bytes_before)));
            }
            Operation::Frame {
                fin,
                opcode,
                payload,
                key,
            } => {
                let opcode = OpCode::from_wire(opcode % 0x10).unwrap_or(OpCode::Continuation);
                let mut payload = payload.bytes();
                if opcode.is_control() {
                    payload.truncate(CONTROL_PAYLOAD_MAX);
                }
                let fin = *fin || opcode.is_control();
                self.add_frame(fin, opcode, payload, (role == Role::Server).then_some(*key));
            }
        }
    }

    fn add_frame(
        &mut self,
        fin: bool,
        opcode: OpCode,
        mut payload: Vec<u8>,
        masking_key: Option<MaskingKey>,
    ) {
        let payload_len = payload.len() as u64;
        let (header, len) = FrameHeader {
            fin,
            opcode,
            payload_len,
            masking_key,
        }
        .encode();
        if let Some(key) = masking_key {
            mask::apply(key, &mut payload);
        }
        self.bytes.extend_from_slice(&header[..len]);
        self.bytes.append(&mut payload);
    }
}

fuzz_target!(|case: Case| {
    let role = if case.from_clients {
        Role::Server
    } else {
        Role::Client
    };
    let limits = Limits {
        message_len_max: 2 * usize::from(case.message_len_max),
        fragment_count_max: u32::from(case.fragment_count_max),
    };
    let mut stream = Stream::default();
    for operation in &case.operations {
        stream.add(operation, role);
    }
    stream.cuts.sort_unstable();

    let mut pieces = Pieces::new(role, limits);
    let mut fed = 0;
    for cut in stream.cuts {
        pieces.feed(&stream.bytes[fed..cut]);
        fed = cut;
    }
    pieces.feed(&stream.bytes[fed..]);

    assert_eq!(
        pieces.outcome,
        pieces::read(role, limits, &stream.bytes, &[usize::MAX])
    );
    assert_eq!(pieces.outcome, naive::read(role, limits, &stream.bytes));
});
