//! Any bytes as a stream, for both roles: what is decoded does not depend on where it is cut, and
//! the naive reader says the same.
//!
//! The input is one byte of how to cut, then the stream: `\0` cuts nowhere, any other byte gives
//! the lengths of the pieces in its two halves, taken in turn.
#![no_main]

#[path = "../../crates/proto/tests/support/frames.rs"]
mod frames;
#[path = "../../crates/proto/tests/support/naive.rs"]
mod naive;
#[path = "../../crates/proto/tests/support/outcome.rs"]
mod outcome;
#[path = "../../crates/proto/tests/support/pieces.rs"]
mod pieces;

use libfuzzer_sys::fuzz_target;
use throng_proto::{Limits, Role};

use crate::frames::Frames;

/// Small, so that the fuzzer meets both sides of them with few bytes.
const LIMITS: Limits = Limits {
    message_len_max: 300,
    fragment_count_max: 3,
};

fuzz_target!(|input: &[u8]| {
    let [cut, stream @ ..] = input else { return };
    let piece_lens = match cut {
        0 => [usize::MAX, usize::MAX],
        _ => [usize::from(cut & 0x0F), usize::from(cut >> 4)],
    };
    for role in [Role::Client, Role::Server] {
        let whole = Frames::read(role, stream, &[usize::MAX]);
        assert_eq!(whole, Frames::read(role, stream, &piece_lens));

        let read = pieces::read(role, LIMITS, stream, &piece_lens);
        assert_eq!(read, naive::read(role, LIMITS, stream));
    }
});
