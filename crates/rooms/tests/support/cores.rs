//! What the models have beside their lists: cores that carry out what they are asked when a step
//! says so, and sockets that take as much as it says.

use std::collections::VecDeque;
use std::io::IoSlice;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof};
use proptest::test_runner::RngSeed;
use throng_rooms::{
    Backpressure, Command, CoreId, FlushQueue, Full, LocalLimits, LocalRooms, RoomTable, Slot,
};

/// Returns the same cases in every run; `PROPTEST_CASES` asks for more of them.
pub(crate) fn same_cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    }
}

/// About how much a core fans out at once: a part of what waits, or all of it.
pub(crate) fn fan_out_work() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..=4_usize, 1 => Just(usize::MAX)]
}

/// A core under test, and what a model has in its place: a log of entries.
pub(crate) struct Core<Entry> {
    pub(crate) id: CoreId,
    pub(crate) local: LocalRooms,
    /// Commands taken from the mailbox and not yet carried out.
    pub(crate) inbox: VecDeque<Command>,
    /// The model of mailbox and inbox together.
    pub(crate) log: VecDeque<Entry>,
}

impl<Entry> Core<Entry> {
    pub(crate) fn new(id: u8, limits: LocalLimits) -> Self {
        let id = CoreId(id);
        Self {
            id,
            local: LocalRooms::new(id, limits),
            inbox: VecDeque::new(),
            log: VecDeque::new(),
        }
    }

    /// Takes the commands from the mailbox, to be carried out later.
    pub(crate) fn take_mail(&mut self, table: &RoomTable) {
        let mut commands = Vec::new();
        table.mailbox(self.id).drain(&mut commands);
        self.inbox.extend(commands);
    }

    /// Takes the next connection from a line: one whose socket takes what waits for it.
    pub(crate) fn next_to_flush(&mut self, queue: FlushQueue) -> Option<Slot> {
        let slot = self.local.next_to_flush(queue)?;
        assert!(!self.local.is_blocked(slot));
        assert!(!self.local.outbox(slot).is_empty());
        Some(slot)
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) received: Vec<u8>,
    /// The number of bytes it takes.
    pub(crate) window: usize,
}

impl Socket {
    pub(crate) const fn new(window: usize) -> Self {
        Self {
            received: Vec::new(),
            window,
        }
    }

    /// Writes as much as the socket takes; returns whether that was all.
    pub(crate) fn flush(&mut self, local: &mut LocalRooms, slot: Slot) -> bool {
        while !local.outbox(slot).is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = local.outbox(slot).slices(&mut slices, usize::MAX);
            let shown = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied());
            let shown: Vec<u8> = shown.collect();
            let taken = shown.len().min(self.window);
            self.window -= taken;
            self.received.extend(&shown[..taken]);
            local.advance(slot, taken);
            if taken < shown.len() {
                local.set_blocked(slot, true);
                return false;
            }
        }
        true
    }

    /// Takes so many bytes more.
    pub(crate) fn make_writable(&mut self, bytes: usize, local: &mut LocalRooms, slot: Slot) {
        self.window += bytes;
        if self.window > 0 {
            local.set_blocked(slot, false);
        }
    }
}

/// Returns whether what was said of mailboxes is so: one that is full, or none of those that were
/// pushed to.
pub(crate) fn check_backpressure(table: &RoomTable, said: Backpressure, asked: &[usize]) {
    match said.0 {
        Some(full @ Full::Core(_)) => assert!(table.is_full(full)),
        Some(Full::Journal) => panic!("there is none"),
        None => assert!(!asked.iter().any(|core| is_full(table, *core))),
    }
}

pub(crate) fn is_full(table: &RoomTable, core: usize) -> bool {
    table.mailbox(core_id(core)).is_full()
}

/// Returns whether every mailbox is empty. Then nothing may be left in the logs.
pub(crate) fn is_quiet<Entry>(table: &RoomTable, cores: &[Core<Entry>]) -> bool {
    let is_quiet = |core: &Core<_>| table.mailbox(core.id).pending_bytes() == 0;
    let is_quiet = cores.iter().all(is_quiet);
    let is_done = cores.iter().all(|core| core.log.is_empty());
    assert!(!is_quiet || is_done, "nothing got lost");
    is_quiet
}

pub(crate) fn core_id(index: usize) -> CoreId {
    CoreId(u8::try_from(index).expect("there are three"))
}
