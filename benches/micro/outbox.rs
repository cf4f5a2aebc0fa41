//! The two queues of a publication's way: a core's mailbox and a member's outbox.

use std::io::IoSlice;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use proto::{OpCode, SharedFrame, frame};
use rooms::{Command, Mailbox, Outbox, Tag};

/// Moves one buffer in and out: the usual case, since a turn's publications are merged.
#[divan::bench]
fn push_and_advance(bencher: Bencher<'_, '_>) {
    let mut outbox = Outbox::default();
    let frame = frame_of_64();
    let mut pass = || {
        let pushed = outbox.push(black_box(&frame), Tag::Firm, PENDING_BYTES_MAX);
        let len = outbox.single().map_or(0, <[u8]>::len);
        outbox.advance(len);
        (pushed, len)
    };
    assert_eq!(pass(), (Ok(()), frame.len()));
    bencher.counter(ItemsCount::new(1_usize)).bench_local(pass);
}

/// Moves 16 buffers in, and out by one vectored write: a member whose flush came late.
#[divan::bench]
fn push_sixteen_and_advance(bencher: Bencher<'_, '_>) {
    let mut outbox = Outbox::default();
    let frame = frame_of_64();
    let mut pass = || {
        for _ in 0..16 {
            _ = outbox.push(black_box(&frame), Tag::Firm, PENDING_BYTES_MAX);
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let count = outbox.slices(&mut slices, usize::MAX);
        let len: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        outbox.advance(len);
        len
    };
    assert_eq!(pass(), 16 * frame.len());
    bencher.counter(ItemsCount::new(16_usize)).bench_local(pass);
}

/// Pushes 256 commands one by one, and drains them at once.
#[divan::bench]
fn mailbox_push_and_drain(bencher: Bencher<'_, '_>) {
    let mailbox = Mailbox::new(16 << 20);
    let frame = frame_of_64();
    let connection = benches::Core::alone(1).open();
    let mut commands = Vec::new();
    let mut pass = || {
        for _ in 0..256 {
            let frame = frame.clone();
            mailbox
                .push(Command::Direct { connection, frame })
                .wake_quietly();
        }
        mailbox.drain(&mut commands);
        commands.drain(..).count()
    };
    assert_eq!(pass(), 256);
    bencher
        .counter(ItemsCount::new(256_usize))
        .bench_local(pass);
}

fn frame_of_64() -> SharedFrame {
    frame::encode(OpCode::Text, &[b'x'; 64])
}

/// The server's default.
const PENDING_BYTES_MAX: u32 = 1 << 20;
