//! What one core does in a turn, step by step: merging, lines, overflow, and who gets nothing.

use std::io::IoSlice;

use proto::SharedFrame;
use throng_rooms::{
    Command, ConnectionId, CoreId, Disconnect, Effect, EventKind, FlushQueue, LocalLimits,
    LocalRooms, Publication, RoomTable, Slot, Space, TableConfig, Wire,
};

#[test]
fn a_turns_publications_to_a_room_are_one_buffer_for_all_its_members() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob] = [(); 2].map(|()| core.open_in("tea"));
    core.publish("tea", b"hot ");
    core.publish("tea", b"and sweet");
    core.turn();

    let shared = core.rooms.outbox(alice.slot()).single().unwrap();
    assert_eq!(shared, b"hot and sweet");
    let other = core.rooms.outbox(bob.slot()).single().unwrap();
    assert!(std::ptr::eq(shared, other), "it was not copied");
    assert_eq!(core.rooms.counts().deliveries, 4);
}

#[test]
fn a_publication_that_is_alone_in_its_turn_is_not_copied() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    let frame = SharedFrame::from(&b"hot"[..]);
    core.table.emit("tea", frame.clone());
    core.turn();

    let queued = core.rooms.outbox(alice.slot()).single().unwrap();
    assert!(std::ptr::eq(queued, &*frame));
}

#[test]
fn one_buffer_is_for_all_but_those_who_are_excepted_from_some_of_it() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob, carol, dave] = [(); 4].map(|()| core.open_in("tea"));
    core.publish_except("tea", b"from alice ", alice);
    core.publish_except("tea", b"from dave ", dave);
    core.publish("tea", b"hot");
    core.turn();

    let shared = core.rooms.outbox(bob.slot()).single().unwrap();
    assert_eq!(shared, b"from alice from dave hot");
    let other = core.rooms.outbox(carol.slot()).single().unwrap();
    assert!(std::ptr::eq(shared, other), "it was not copied");
    let apart = [alice, dave].map(|it| core.rooms.outbox(it.slot()).single().unwrap());
    assert_eq!(apart, [&b"from dave hot"[..], b"from alice hot"]);
    assert_eq!(core.rooms.counts().deliveries, 10);
}

#[test]
fn who_is_excepted_from_all_there_is_waits_in_no_line() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob] = [(); 2].map(|()| core.open_in("tea"));
    core.publish_except("tea", b"hot", alice);
    core.turn();
    assert_eq!(core.flush(FlushQueue::Prompt), [bob.slot()]);

    let frame = SharedFrame::from(&b"sweet"[..]);
    core.publish_except("tea", b"hot", bob);
    core.table.emit("tea", frame.clone());
    core.turn();
    let alone = core.rooms.outbox(bob.slot()).single().unwrap();
    assert!(std::ptr::eq(alone, &*frame), "one frame is not copied");
}

#[test]
fn who_is_excepted_from_some_of_what_a_large_room_is_sent_waits_in_its_line() {
    let mut core = Core::new(LocalLimits::default());
    let crowd = [(); 65].map(|()| core.open_in("tea"));
    core.publish("tea", b"hot");
    core.publish_except("tea", b"sweet", crowd[7]);
    core.turn();

    assert!(core.flush(FlushQueue::Prompt).is_empty());
    assert_eq!(core.flush(FlushQueue::Bulk).len(), 65);
}

#[test]
fn small_rooms_do_not_wait_for_a_large_one_that_was_published_to_before() {
    let mut core = Core::new(LocalLimits::default());
    let crowds = ["mate", "milk"].map(|room| [(); 65].map(|()| core.open_in(room)));
    let alice = core.open_in("tea");
    for room in ["mate", "milk", "tea"] {
        core.publish(room, b"hot");
    }
    assert!(core.apply().is_empty());

    assert!(!core.rooms.fan_out_some(1), "one large room is left");
    assert_eq!(core.received(alice), b"hot");
    assert_eq!(core.received(crowds[0][0]), b"hot");
    assert!(core.rooms.has_published() && core.received(crowds[1][0]).is_empty());

    // Meanwhile it is published to again: both are one buffer.
    core.publish("milk", b" and sweet");
    assert!(core.apply().is_empty());
    assert!(core.rooms.fan_out_some(1));
    assert_eq!(core.queued_lens(crowds[1][0]), [13]);
    assert!(!core.rooms.has_published());
}

#[test]
fn an_answer_waits_for_what_was_published_before_it_and_for_no_more() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob] = ["mate", "milk"].map(|room| [(); 65].map(|()| core.open_in(room))[0]);
    core.publish("mate", b"hot");
    core.publish("milk", b"cold");
    core.answer(alice, b" ack");
    core.answer(bob, b" ack");
    assert!(core.apply().is_empty());

    assert!(!core.rooms.fan_out_some(1));
    assert_eq!(
        core.received(alice),
        b"hot",
        "one room that was published to is left"
    );
    core.publish("mate", b" again");
    core.answer(alice, b" ack");
    assert!(core.apply().is_empty());

    assert!(!core.rooms.fan_out_some(1));
    assert_eq!(
        core.received(alice),
        b"hot ack",
        "what came since holds up no answer"
    );
    assert_eq!(core.received(bob), b"cold ack");
    assert!(core.rooms.fan_out_some(1));
    assert_eq!(core.received(alice), b"hot ack again ack");
}

#[test]
fn frames_that_did_not_fit_are_taken_with_all_others_of_their_connection() {
    let mut core = Core::new(limited_to(4));
    let [alice, bob] = [(); 2].map(|()| core.open_in("tea"));
    for payload in [b"hot ", b"1234", b"5678"] {
        core.publish("tea", payload);
        core.turn();
    }

    let of_alice = core.rooms.take_overflow(1);
    let frames = of_alice.iter().map(|it| (it.slot, it.frame.to_vec()));
    let expected = [&b"1234"[..], b"5678"].map(|frame| (alice.slot(), frame.to_vec()));
    assert_eq!(frames.collect::<Vec<_>>(), expected);
    assert!(core.rooms.take_overflow_of(alice.slot()).is_empty());
    assert_eq!(core.rooms.take_overflow_of(bob.slot()).len(), 2);
    assert!(!core.rooms.has_overflow());
}

#[test]
fn who_is_closed_as_too_slow_is_sent_nothing_that_waits() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob] = [(); 2].map(|()| core.open_in("tea"));
    core.publish("tea", b"hot");
    assert!(core.apply().is_empty());
    core.rooms.drop_memberships(alice.slot(), &core.table);
    core.rooms.fan_out();

    assert!(core.received(alice).is_empty());
    assert_eq!(core.received(bob), b"hot");
}

#[test]
fn what_is_left_for_who_is_excepted_is_merged_up_to_64_kib_too() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    for len in [40_000, 25_000, 1, 70_000, 2] {
        core.publish("tea", &vec![0; len]);
        core.publish_except("tea", &[0; 100], alice);
    }
    core.turn();

    assert_eq!(core.queued_lens(alice), [65_001, 70_000, 2]);
}

#[test]
fn publications_are_merged_up_to_64_kib() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    for len in [40_000, 25_536, 1, 70_000, 2] {
        core.publish("tea", &vec![0; len]);
    }
    core.turn();

    assert_eq!(core.queued_lens(alice), [65_536, 1, 70_000, 2]);
}

#[test]
fn members_of_large_rooms_wait_in_the_bulk_line() {
    let mut core = Core::new(LocalLimits::default());
    for _ in 0..64 {
        core.open_in("tea");
    }
    core.publish("tea", b"hot");
    core.turn();
    assert!(core.flush(FlushQueue::Bulk).is_empty());
    assert_eq!(core.flush(FlushQueue::Prompt).len(), 64);

    core.open_in("tea");
    core.publish("tea", b"hot");
    core.turn();
    assert!(core.flush(FlushQueue::Prompt).is_empty());
    assert_eq!(core.flush(FlushQueue::Bulk).len(), 65);
}

#[test]
fn a_frame_for_one_connection_takes_it_out_of_the_bulk_line() {
    let mut core = Core::new(LocalLimits::default());
    let crowd = [(); 65].map(|()| core.open_in("tea"));
    core.publish("tea", b"hot");
    core.table.direct(crowd[40], b"for you".as_slice().into());
    core.turn();

    assert_eq!(core.flush(FlushQueue::Prompt), [crowd[40].slot()]);
    assert_eq!(core.flush(FlushQueue::Bulk).len(), 64);
    assert!(!core.rooms.has_flushes());
}

#[test]
fn a_connection_stands_in_a_line_once_however_much_waits_for_it() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    for _ in 0..3 {
        core.publish("tea", b"hot");
        core.turn();
    }
    assert_eq!(
        core.rooms.next_to_flush(FlushQueue::Prompt),
        Some(alice.slot())
    );
    assert!(!core.rooms.has_flushes());
}

#[test]
fn a_blocked_connection_is_flushed_once_its_socket_takes_more() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    core.rooms.set_blocked(alice.slot(), true);
    core.publish("tea", b"hot");
    core.turn();
    assert!(core.flush(FlushQueue::Prompt).is_empty());

    core.rooms.set_blocked(alice.slot(), false);
    assert_eq!(core.flush(FlushQueue::Prompt), [alice.slot()]);
    core.rooms.set_blocked(alice.slot(), false);
    assert!(!core.rooms.has_flushes(), "there is nothing left to flush");
}

#[test]
fn what_did_not_fit_is_not_overtaken_by_what_would() {
    let mut core = Core::new(limited_to(10));
    let alice = core.open_in("tea");
    for word in [&b"12345678"[..], b"too long", b"a"] {
        core.publish("tea", word);
        core.turn();
    }

    assert_eq!(core.received(alice), b"12345678");
    let overflow = core.rooms.take_overflow(usize::MAX);
    let words: Vec<&[u8]> = overflow.iter().map(|overflow| &*overflow.frame).collect();
    assert_eq!(words, [&b"too long"[..], b"a"]);
    assert!(
        overflow
            .iter()
            .all(|overflow| overflow.slot == alice.slot())
    );
}

#[test]
fn what_did_not_fit_for_one_connection_is_not_for_the_next_in_its_slot() {
    let mut core = Core::new(limited_to(10));
    let alice = core.open_in("tea");
    for word in [b"12345678", b"too long"] {
        core.publish("tea", word);
        core.turn();
    }
    core.rooms.close(alice.slot(), &core.table);
    let bob = core.open_in("tea");
    assert_eq!(bob.slot(), alice.slot());

    assert!(core.rooms.take_overflow(usize::MAX).is_empty());
    core.publish("tea", b"welcome");
    core.turn();
    assert_eq!(core.received(bob), b"welcome");
}

#[test]
fn what_is_queued_for_nobody_is_not_for_the_next_in_the_slot() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    core.rooms.close(alice.slot(), &core.table);
    let late = SharedFrame::from(&b"too late"[..]);
    core.rooms.push(alice.slot(), &late, FlushQueue::Prompt);
    core.table.direct(alice, late);
    let bob = core.open_in("milk");
    assert_eq!(bob.slot(), alice.slot());

    assert_eq!(core.received(bob), b"");
    assert!(!core.rooms.has_flushes());
}

#[test]
fn what_was_published_before_all_rooms_are_left_still_arrives() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    core.publish("tea", b"hot");
    core.apply();
    core.rooms
        .detach_all(alice.slot(), Space::DEFAULT, &core.table);
    core.publish("tea", b"cold");
    core.turn();

    assert_eq!(core.received(alice), b"hot");
    assert_eq!(core.table.room_count(), 0);
}

#[test]
fn who_is_shut_gets_a_last_frame_after_what_was_published_and_nothing_more() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    core.publish("tea", b"hot, ");
    core.apply();
    core.shut(alice, b"bye");
    core.publish("tea", b"cold");
    core.table.direct(alice, b"for you".as_slice().into());
    core.table.join(alice, "milk").unwrap();
    core.table.close(alice, Disconnect::going_away());
    core.turn();

    assert_eq!(core.received(alice), b"hot, bye");
    assert_eq!(core.rooms.slot_of(alice), None);
    assert_eq!(core.table.room_count(), 0);
    assert_eq!(core.flush(FlushQueue::Prompt), [alice.slot()]);
}

#[test]
fn the_last_frame_takes_the_place_of_what_the_socket_has_not_begun() {
    let mut core = Core::new(limited_to(10));
    let alice = core.open_in("tea");
    for word in [&b"begun"[..], b"later", b"too long"] {
        core.publish("tea", word);
        core.turn();
    }
    core.rooms.advance(alice.slot(), 2);
    core.shut(alice, b"good-bye");

    assert_eq!(core.received(alice), b"gungood-bye");
    assert!(core.rooms.take_overflow(usize::MAX).is_empty());
}

#[test]
fn what_was_published_before_a_drain_comes_before_it() {
    let mut core = Core::new(LocalLimits::default());
    let alice = core.open_in("tea");
    core.publish("tea", b"hot");
    core.table.drain();
    let effects = core.apply();

    assert!(matches!(effects[..], [Effect::Drain]));
    assert_eq!(core.received(alice), b"hot");
}

#[test]
fn a_broadcast_reaches_whoever_is_open_behind_what_was_sent_before() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob, carol, gone] = [(); 4].map(|()| core.open_in("tea"));
    core.table.join(bob, "milk").unwrap();
    core.table.leave(carol, "tea");
    core.apply();
    core.shut(gone, b"bye");
    core.publish("milk", b"cold, ");
    core.publish("tea", b"hot, ");
    core.table.answer(alice, b"you said so, ".as_slice().into());
    core.broadcast(b"all: ");
    core.publish("tea", b"sweet");
    core.table.direct(carol, b"for you".as_slice().into());
    core.turn();

    assert_eq!(core.received(alice), b"hot, you said so, all: sweet");
    let heard = core.received(bob);
    assert!(heard == b"cold, hot, all: sweet" || heard == b"hot, cold, all: sweet");
    assert_eq!(core.received(carol), b"all: for you");
    assert_eq!(core.received(gone), b"bye");
    assert_eq!(core.rooms.counts().deliveries, 1 + 2 + 3 + 2);
    assert_eq!(core.table.totals().publications, 3, "it is in no room");
}

#[test]
fn a_broadcast_is_one_buffer_for_all_in_the_bulk_line_if_they_are_many() {
    for (count, queue) in [(64, FlushQueue::Prompt), (65, FlushQueue::Bulk)] {
        let mut core = Core::new(LocalLimits::default());
        let crowd: Vec<ConnectionId> = (0..count).map(|_| core.rooms.open().unwrap()).collect();
        core.broadcast(b"hot");
        core.turn();
        let outbox = |it: &ConnectionId| core.rooms.outbox(it.slot()).single().unwrap();
        let first = outbox(&crowd[0]);
        assert!(crowd.iter().all(|it| std::ptr::eq(outbox(it), first)));
        assert_eq!(core.flush(queue).len(), count);
        assert!(!core.rooms.has_flushes());
    }
}

#[test]
fn a_broadcast_is_in_the_frame_of_each_wire_in_use() {
    struct Greeting;

    impl Publication for Greeting {
        fn encode(&mut self, Wire(wire): Wire, offset: Option<u64>) -> SharedFrame {
            assert_eq!(offset, None);
            vec![b'0' + wire].into()
        }
    }

    let mut core = Core::new(LocalLimits::default());
    core.table.add_wire(Wire(3));
    let members = [0, 3, 3, 5].map(|wire| core.rooms.open_on(Wire(wire)).unwrap());
    core.table.broadcast(Greeting).unwrap();
    core.turn();
    let heard = members.map(|it| core.received(it));
    assert_eq!(heard, [&b"0"[..], b"3", b"3", b""], "nobody added the last");
    let [_, one, other, _] = members.map(|it| core.rooms.outbox(it.slot()).single());
    assert!(std::ptr::eq(one.unwrap(), other.unwrap()));
}

#[test]
fn a_core_names_the_members_of_a_room_on_every_wire_and_the_rooms_of_a_member() {
    let mut core = Core::new(LocalLimits::default());
    let [alice, bob, carol] = [0, 1, 1].map(|wire| core.rooms.open_on(Wire(wire)).unwrap());
    for (member, room) in [(alice, "tea"), (bob, "tea"), (bob, "milk"), (carol, "milk")] {
        core.table.join(member, room).unwrap();
    }
    core.table.ask_members("tea", |core| Box::new(core));
    core.table.join(carol, "tea").unwrap();
    let mut answers = Vec::new();
    for command in core.take() {
        let Some(effect) = core.rooms.apply(command, &core.table) else {
            continue;
        };
        let Effect::Ask { room, question } = effect else {
            panic!("nobody asked for {effect:?}");
        };
        assert_eq!(question.downcast_ref(), Some(&CoreId(0)));
        let members = core.rooms.members_of(room.expect("it is about one"));
        answers.push(sorted(members));
    }
    assert_eq!(answers, [sorted([alice, bob])], "she joined after that");
    let rooms = core.rooms.rooms_of(bob.slot());
    let rooms: Vec<&str> = rooms.map(|room| &*room.name).collect();
    assert_eq!(rooms, ["tea", "milk"]);
}

fn sorted(connections: impl IntoIterator<Item = ConnectionId>) -> Vec<u64> {
    let mut ids: Vec<u64> = connections.into_iter().map(ConnectionId::as_u64).collect();
    ids.sort_unstable();
    ids
}

/// A table and its only core.
struct Core {
    table: RoomTable,
    rooms: LocalRooms,
}

impl Core {
    fn new(limits: LocalLimits) -> Self {
        let table = RoomTable::new(TableConfig {
            core_count: 1,
            shard_count: 1,
            name_len_max: 255,
            mailbox_bytes_max: 1 << 20,
            watch_rooms: false,
            ..TableConfig::default()
        });
        Self {
            table,
            rooms: LocalRooms::new(CoreId(0), limits),
        }
    }

    fn open_in(&mut self, room: &str) -> ConnectionId {
        let connection = self.rooms.open().expect("there are 16 million slots");
        let joined = self.table.join(connection, room);
        joined.expect("the name is a good one");
        self.turn();
        connection
    }

    fn publish(&self, room: &str, payload: &[u8]) {
        self.table.emit(room, SharedFrame::from(payload));
    }

    fn publish_except(&self, room: &str, payload: &[u8], except: ConnectionId) {
        let frame = SharedFrame::from(payload);
        let kind = EventKind::Lasting;
        let emitted = self.table.emit_as(kind, room, Some(except), frame);
        emitted.expect("a frame is its own on every wire");
    }

    fn answer(&self, to: ConnectionId, payload: &[u8]) {
        let pressure = self.table.answer(to, SharedFrame::from(payload));
        assert!(pressure.0.is_none());
    }

    fn broadcast(&self, payload: &[u8]) {
        let sent = self.table.broadcast(SharedFrame::from(payload));
        sent.expect("a frame is its own on every wire");
    }

    fn shut(&mut self, connection: ConnectionId, last: &[u8]) {
        self.rooms
            .shut(connection.slot(), &last.into(), &self.table);
    }

    fn take(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        self.table.mailbox(CoreId(0)).drain(&mut commands);
        commands
    }

    fn apply(&mut self) -> Vec<Effect> {
        let commands = self.take();
        let apply = |command| self.rooms.apply(command, &self.table);
        commands.into_iter().filter_map(apply).collect()
    }

    fn turn(&mut self) {
        let effects = self.apply();
        assert!(effects.is_empty(), "nobody asked for {effects:?}");
        self.rooms.fan_out();
    }

    /// Empties the outboxes of a line, and says whose they were.
    fn flush(&mut self, queue: FlushQueue) -> Vec<Slot> {
        let mut flushed = Vec::new();
        while let Some(slot) = self.rooms.next_to_flush(queue) {
            self.rooms.advance(slot, usize::MAX);
            flushed.push(slot);
        }
        flushed
    }

    fn queued_lens(&self, connection: ConnectionId) -> Vec<usize> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self
            .rooms
            .outbox(connection.slot())
            .slices(&mut slices, usize::MAX);
        slices[..count].iter().map(|slice| slice.len()).collect()
    }

    /// Everything that was queued for a connection that is not flushed.
    fn received(&self, connection: ConnectionId) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self
            .rooms
            .outbox(connection.slot())
            .slices(&mut slices, usize::MAX);
        let bytes = slices[..count].iter().flat_map(|slice| slice.iter());
        bytes.copied().collect()
    }
}

fn limited_to(outbox_bytes_max: u32) -> LocalLimits {
    LocalLimits {
        outbox_bytes_max,
        ..LocalLimits::default()
    }
}
