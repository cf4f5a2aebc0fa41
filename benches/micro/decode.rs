//! Bytes of one `recv` to messages, at friendly and unfriendly cuts.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use proto::{FrameDecoder, Input, Message, MessageReader, OpCode, Role, frame};

use benches::chat::{LIMITS, client_frames};

/// Decodes 250 texts of 64 bytes from one read, as a busy publisher sends them.
#[divan::bench]
fn many_in_one_read(bencher: Bencher<'_, '_>) {
    let bytes = client_frames(&"x".repeat(64), COUNT);
    measure(bencher, &bytes, bytes.len(), COUNT);
}

/// Decodes the texts of [`many_in_one_read`] from reads of so many bytes: a network that cuts
/// anywhere.
#[divan::bench(args = [1, 7, 64, 1400])]
fn many_in_cut_reads(bencher: Bencher<'_, '_>, read_len: usize) {
    let bytes = client_frames(&"x".repeat(64), COUNT);
    measure(bencher, &bytes, read_len, COUNT);
}

/// Decodes the largest message that the server accepts, from one read.
#[divan::bench]
fn one_large(bencher: Bencher<'_, '_>) {
    let bytes = client_frames(&"x".repeat(LIMITS.message_len_max), 1);
    measure(bencher, &bytes, bytes.len(), 1);
}

/// Decodes the largest message from reads of 16 KiB, so that it has to be put together.
#[divan::bench]
fn one_large_in_cut_reads(bencher: Bencher<'_, '_>) {
    let bytes = client_frames(&"x".repeat(LIMITS.message_len_max), 1);
    measure(bencher, &bytes, 16 * 1024, 1);
}

/// Decodes as the load generator does: headers are read, payloads skipped.
#[divan::bench]
fn many_as_a_client(bencher: Bencher<'_, '_>) {
    let one = frame::encode(OpCode::Text, &[b'x'; 64]);
    let mut bytes = one.repeat(COUNT);
    assert_eq!(count_frames(&mut bytes), COUNT);
    bencher
        .counter(ItemsCount::new(COUNT))
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| count_frames(&mut bytes));
}

fn measure(bencher: Bencher<'_, '_>, bytes: &[u8], read_len: usize, count: usize) {
    assert_eq!(count_messages(&mut bytes.to_vec(), read_len), count);
    bencher
        .counter(ItemsCount::new(count))
        .counter(BytesCount::new(bytes.len()))
        // Unmasking is in place, so each round needs the bytes anew.
        .with_inputs(|| bytes.to_vec())
        .bench_local_refs(|bytes| count_messages(bytes, read_len));
}

fn count_messages(bytes: &mut [u8], read_len: usize) -> usize {
    let mut reader = MessageReader::new(Role::Server);
    let mut count = 0;
    for read in bytes.chunks_mut(read_len) {
        let mut input = Input::new(read);
        while let Some(message) = reader.read(&mut input, &LIMITS).expect("frames of ours") {
            count += usize::from(matches!(message, Message::Text(_)));
        }
    }
    count
}

fn count_frames(bytes: &mut [u8]) -> usize {
    let mut decoder = FrameDecoder::new(Role::Client);
    let mut count = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (part, consumed) = decoder.decode(&mut bytes[at..]).expect("frames of ours");
        count += usize::from(part.is_some_and(|part| part.last));
        at += consumed;
    }
    count
}

/// As many small frames as one read of the server's buffer carries when a publisher hurries.
const COUNT: usize = 250;
