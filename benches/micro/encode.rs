//! Values to frames.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use proto::event::EventEncoder;
use proto::{FrameHeader, OpCode, frame};

/// Encodes one frame: its header, its payload, one allocation.
#[divan::bench(args = [16, 64, 1024, 16 * 1024])]
fn frame(bencher: Bencher<'_, '_>, payload_len: usize) {
    let payload = vec![b'x'; payload_len];
    let encoded = frame::encode(OpCode::Text, &payload);
    assert!(encoded[0] == 0x81 && encoded.ends_with(&payload));
    bencher
        .counter(BytesCount::new(encoded.len()))
        .bench_local(|| frame::encode(OpCode::Text, black_box(&payload)));
}

#[divan::bench(args = [16, 1024, 128 * 1024])]
fn header(bencher: Bencher<'_, '_>, payload_len: u64) {
    let header = FrameHeader {
        fin: true,
        opcode: OpCode::Text,
        payload_len,
        masking_key: None,
    };
    assert!([2, 4, 10].contains(&header.encode().1));
    bencher
        .counter(ItemsCount::new(1_usize))
        .bench_local(|| black_box(header).encode());
}

/// Encodes `msg` with a string of so many bytes, its header in front.
#[divan::bench(args = [16, 64, 1024, 16 * 1024])]
fn event(bencher: Bencher<'_, '_>, payload_len: usize) {
    let mut encoder = EventEncoder::default();
    let text = "x".repeat(payload_len);
    let encoded = encoder.encode("msg", &text).expect("a name without spaces");
    assert!(encoded.ends_with(format!("msg \"{text}\"").as_bytes()));
    bencher
        .counter(BytesCount::new(encoded.len()))
        .bench_local(|| encoder.encode("msg", black_box(&text)));
}
