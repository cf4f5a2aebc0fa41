//! The paths that are counted. The allocator is the server's.

// Comments above benches have two slashes: `library_benchmark` takes no documentation.

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use mimalloc::MiMalloc;
use proto::event::EventEncoder;
use proto::{OpCode, SharedFrame, frame, mask};
use rooms::{Command, ConnectionId, JoinRequest, Mailbox, Outbox, Since, Tag, Wire};

use benches::chat::{MASKING_KEY, client_frames, msg_text};
use benches::cores::WIRES;
use benches::{Core, Relay};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

// Payloads of 64 bytes and of 4 KiB.
#[library_benchmark(setup = payload, teardown = assert_unmasked)]
#[bench::b64(64)]
#[bench::b4096(4096)]
fn unmask(mut payload: Vec<u8>) -> Vec<u8> {
    mask::apply(black_box(MASKING_KEY), black_box(&mut payload));
    payload
}

fn payload(len: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; len];
    mask::apply(MASKING_KEY, &mut payload);
    payload
}

fn assert_unmasked(payload: Vec<u8>) {
    assert!(payload.iter().all(|byte| *byte == b'x'));
}

// One `msg` of 64 bytes, or 250 in one read: decoded, unmasked, split, parsed, encoded.
#[library_benchmark(setup = received, teardown = assert_relayed)]
#[bench::x1(1)]
#[bench::x250(250)]
fn decode_and_dispatch((mut relay, mut bytes): (Relay, Vec<u8>)) -> (Relay, usize) {
    let count = relay.read(black_box(&mut bytes), |_, frame| drop(black_box(frame)));
    (relay, count)
}

fn received(count: usize) -> (Relay, Vec<u8>) {
    let bytes = client_frames(&msg_text("tea", 64), count);
    let mut relay = Relay::default();
    assert_eq!(relay.read(&mut bytes.clone(), |_, _| ()), count);
    (relay, bytes)
}

fn assert_relayed((_, count): (Relay, usize)) {
    assert!([1, 250].contains(&count));
}

// A publication of 64 bytes.
#[library_benchmark(setup = encoder, teardown = assert_encoded)]
#[bench::b64("x".repeat(64))]
fn encode((mut encoder, text): (EventEncoder, String)) -> (EventEncoder, SharedFrame) {
    let frame = encoder
        .encode("msg", black_box(&text))
        .expect("a good name");
    (encoder, frame)
}

fn encoder(text: String) -> (EventEncoder, String) {
    let mut encoder = EventEncoder::default();
    assert!(encoder.encode("msg", &text).is_ok());
    (encoder, text)
}

fn assert_encoded((_, frame): (EventEncoder, SharedFrame)) {
    assert_eq!(frame.len(), 2 + 6 + 64);
}

// One publication into a table with one room, up to its core's mailbox.
#[library_benchmark(setup = one_room, teardown = assert_in_mailbox)]
#[bench::one_room()]
fn table_publish((core, frame): (Core, SharedFrame)) -> Core {
    black_box(core.table.emit(black_box("tea"), frame));
    core
}

fn one_room() -> (Core, SharedFrame) {
    let mut core = Core::alone(1);
    core.open_in("tea");
    // Twice: the mailbox and its owner take turns with two buffers.
    for _ in 0..2 {
        core.table.emit("tea", frame_of_64());
        core.turn();
    }
    (core, frame_of_64())
}

fn assert_in_mailbox(mut core: Core) {
    assert_eq!(core.turn(), 1);
}

// The same with an offset, and kept in a history that is full: for members on one wire, which is
// the history's, and on two.
#[library_benchmark(setup = full_history, teardown = assert_kept)]
#[bench::one_wire(&WIRES[1..])]
#[bench::two_wires(&WIRES)]
fn table_publish_kept((core, frame): (Core, SharedFrame)) -> Core {
    black_box(core.publish(black_box("tea"), frame, None));
    core
}

fn full_history(wires: &[Wire]) -> (Core, SharedFrame) {
    let mut core = Core::keeping();
    for wire in wires {
        let member = core.open_on(*wire);
        core.join(member, "tea");
    }
    core.turn();
    for number in 0..HISTORY_LEN + 100 {
        core.publish("tea", frame_of_64(), Some(&number.to_string()));
        core.turn();
        core.flush();
    }
    (core, frame_of_64())
}

fn assert_kept(mut core: Core) {
    let members = u64::from(core.table.member_count("tea"));
    assert_eq!(core.turn() as u64, members);
    let position = core.table.position("tea");
    assert_eq!(position.map(|at| at.offset), Some(HISTORY_LEN + 101));
}

// The same with a key that is new.
#[library_benchmark(setup = full_history, teardown = assert_kept)]
#[bench::one_wire(&WIRES[1..])]
fn table_publish_keyed((core, frame): (Core, SharedFrame)) -> Core {
    black_box(core.publish("tea", frame, black_box(Some("a key that is new"))));
    core
}

// Joining and being replayed the last 100 publications, up to the outbox.
#[library_benchmark(setup = who_comes_back, teardown = assert_replayed)]
#[bench::x100(100)]
fn join_since((mut core, member, last): (Core, ConnectionId, u32)) -> Core {
    let request = JoinRequest {
        id: None,
        since: Since::Last(black_box(last)),
    };
    _ = black_box(core.table.join_since(member, "tea", request));
    core.turn();
    core
}

fn who_comes_back(last: u32) -> (Core, ConnectionId, u32) {
    let (mut core, _) = full_history(&WIRES[1..]);
    let member = core.open_on(WIRES[1]);
    (core, member, last)
}

fn assert_replayed(mut core: Core) {
    assert_eq!(core.local.counts().replayed, 100);
    assert_eq!(core.flush(), 100 * frame_of_64().len());
}

// A membership that begins and ends, in a room that stays: table, mailbox and core.
#[library_benchmark(setup = visitor, teardown = assert_left)]
#[bench::one_room()]
fn join_and_leave((mut core, visitor): (Core, ConnectionId)) -> Core {
    core.join(visitor, black_box("tea"));
    core.turn();
    core.table.leave(visitor, black_box("tea"));
    core.turn();
    core
}

fn visitor() -> (Core, ConnectionId) {
    let mut core = Core::alone(1);
    for _ in 0..3 {
        core.open_in("tea");
    }
    let visitor = core.open_in("tea");
    core.table.leave(visitor, "tea");
    core.turn();
    (core, visitor)
}

fn assert_left(core: Core) {
    assert_eq!(core.table.member_count("tea"), 3);
    assert_eq!(core.local.membership_count(), 3);
}

// 1000 members, and one publication or 16 of one turn.
#[library_benchmark(setup = crowd, teardown = assert_fanned_out)]
#[bench::x1(1)]
#[bench::x16(16)]
fn fan_out_1000(mut core: Core) -> Core {
    core.local.fan_out();
    core
}

fn crowd(publication_count: usize) -> Core {
    let mut core = Core::alone(1);
    for _ in 0..1000 {
        core.open_in("tea");
    }
    core.table.emit("tea", frame_of_64());
    core.turn();
    core.flush();
    for _ in 0..publication_count {
        core.table.emit("tea", frame_of_64());
    }
    core.apply();
    core
}

fn assert_fanned_out(mut core: Core) {
    let deliveries = core.local.counts().deliveries - 1000;
    assert!([1000, 16_000].contains(&deliveries));
    assert_eq!(core.flush() as u64, deliveries * frame_of_64().len() as u64);
}

// The same with one publication while another still waits in all outboxes: a flush that comes late.
#[library_benchmark(setup = crowd_behind, teardown = assert_fanned_out_twice)]
#[bench::x1()]
fn fan_out_1000_behind(mut core: Core) -> Core {
    core.local.fan_out();
    core
}

fn crowd_behind() -> Core {
    let mut core = crowd(1);
    // Twice, so that the allocator has what it needs: an empty outbox keeps nothing.
    for _ in 0..2 {
        core.turn();
        core.flush();
        core.table.emit("tea", frame_of_64());
        core.turn();
        core.table.emit("tea", frame_of_64());
        core.apply();
    }
    core
}

fn assert_fanned_out_twice(mut core: Core) {
    assert_eq!(core.flush(), 2 * 1000 * frame_of_64().len());
}

// What `fan_out_1000` left in 1000 outboxes, taken member by member as the flush does.
#[library_benchmark(setup = crowd_fanned_out, teardown = assert_flushed)]
#[bench::x1(1)]
fn flush_1000(mut core: Core) -> (Core, usize) {
    let flushed_bytes = core.flush();
    (core, flushed_bytes)
}

fn crowd_fanned_out(publication_count: usize) -> Core {
    let mut core = crowd(publication_count);
    core.local.fan_out();
    core
}

fn assert_flushed((_, flushed_bytes): (Core, usize)) {
    assert_eq!(flushed_bytes, 1000 * frame_of_64().len());
}

// One buffer, the usual case, and 16.
#[library_benchmark(setup = frames, teardown = assert_empty)]
#[bench::x1(1)]
#[bench::x16(16)]
fn outbox((outbox, frames): (Outbox, Vec<SharedFrame>)) -> (Outbox, Vec<SharedFrame>) {
    pass(outbox, frames)
}

fn frames(count: usize) -> (Outbox, Vec<SharedFrame>) {
    // Once before, so that the allocator has what it needs: an outbox itself keeps nothing.
    pass(Outbox::default(), vec![frame_of_64(); count])
}

fn pass(mut outbox: Outbox, frames: Vec<SharedFrame>) -> (Outbox, Vec<SharedFrame>) {
    for frame in &frames {
        _ = black_box(outbox.push(frame, Tag::Firm, 1 << 20));
    }
    for frame in &frames {
        outbox.advance(black_box(frame.len()));
    }
    (outbox, frames)
}

fn assert_empty((outbox, frames): (Outbox, Vec<SharedFrame>)) {
    assert!(outbox.is_empty() && !frames.is_empty());
}

// 256 commands in, and out at once.
#[library_benchmark(setup = mailbox, teardown = assert_drained)]
#[bench::x256(256)]
fn mailbox_push_and_drain(
    (mailbox, asked, mut drained): (Mailbox, Vec<Command>, Vec<Command>),
) -> Vec<Command> {
    for command in asked {
        black_box(mailbox.push(command)).wake_quietly();
    }
    mailbox.drain(&mut drained);
    drained
}

fn mailbox(count: usize) -> (Mailbox, Vec<Command>, Vec<Command>) {
    let mailbox = Mailbox::new(16 << 20);
    let connection = Core::alone(1).open();
    let direct = || Command::Direct {
        connection,
        frame: frame_of_64(),
    };
    let mut drained = Vec::new();
    // Twice: the mailbox and its owner take turns with two buffers.
    for _ in 0..2 {
        for _ in 0..count {
            mailbox.push(direct()).wake_quietly();
        }
        drained.clear();
        mailbox.drain(&mut drained);
    }
    drained.clear();
    (mailbox, (0..count).map(|_| direct()).collect(), drained)
}

fn assert_drained(drained: Vec<Command>) {
    assert_eq!(drained.len(), 256);
}

/// Publications that a room retains by default.
const HISTORY_LEN: u64 = 1000;

fn frame_of_64() -> SharedFrame {
    frame::encode(OpCode::Text, &[b'x'; 64])
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [
        unmask,
        decode_and_dispatch,
        encode,
        table_publish,
        table_publish_kept,
        table_publish_keyed,
        join_since,
        join_and_leave,
        fan_out_1000,
        fan_out_1000_behind,
        flush_1000,
        outbox,
        mailbox_push_and_drain,
    ]
);

main!(library_benchmark_groups = hot_paths);

/// Counts, or is counted: callgrind runs this program again for each bench.
pub(crate) fn run() {
    main();
}
