//! Random steps on one to three cores, against a model of plain lists.
//!
//! The model has one log a core, and a member is whoever has attached in it and not detached. From
//! that follows what each connection must receive, how many members each room has, and when rooms
//! begin and end. The sockets take as many bytes as the steps say, so that outboxes fill up.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rooms::{
    Backpressure, Command, ConnectionId, CoreId, Disconnect, Effect, EmitError, EventKind,
    FlushQueue, LocalLimits, LocalRooms, Overloaded, RoomId, RoomTable, TableConfig,
};

#[path = "model/received.rs"]
mod received;
#[path = "model/steps.rs"]
mod steps;

use received::{HEADER_LEN, Item, check_received, decode};
use steps::{CROWD, Config, ROOMS, Step, config, step};

proptest! {
    // The same cases in every run; `PROPTEST_CASES` asks for more of them.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_core_does_what_plain_lists_would(
        config in config(),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(config);
        for step in steps {
            world.take(step);
            world.check();
        }
        world.settle_down();
    }
}

/// What is under test, and the model beside it.
struct World {
    table: RoomTable,
    outbox_bytes_max: u32,
    rooms_per_connection_max: usize,
    cores: Vec<Core>,
    /// All there ever were.
    connections: Vec<Connection>,
    /// How many lives each room has had.
    life_counts: HashMap<u8, u32>,
    /// What was heard of each room: which core, and whether it was a beginning.
    heard: HashMap<u8, Vec<(usize, bool)>>,
    publication_count: u64,
    next_serial: u32,
}

struct Core {
    local: LocalRooms,
    /// Commands taken from the mailbox and not yet carried out.
    inbox: VecDeque<Command>,
    /// The model of mailbox and inbox together.
    log: VecDeque<Entry>,
}

/// The model's command.
#[derive(Clone, Debug)]
enum Entry {
    /// About the members of a room, or about nothing.
    Ask {
        life: Option<Life>,
        serial: u32,
    },
    Attach {
        connection: usize,
        life: Life,
    },
    Broadcast {
        item: Item,
    },
    Close {
        connection: usize,
    },
    /// To all members but one, perhaps.
    Deliver {
        life: Life,
        item: Item,
        except: Option<usize>,
    },
    Detach {
        connection: usize,
        life: Life,
    },
    DetachAll {
        connection: usize,
    },
    Direct {
        connection: usize,
        item: Item,
    },
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    core: usize,
    open: bool,
    rooms: Vec<Life>,
    expected: Vec<Item>,
    /// What it was sent when it was shut.
    last: Option<Item>,
    received: Vec<u8>,
    /// How many bytes the socket takes.
    window: usize,
}

/// One life of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    room: u8,
    number: u32,
}

impl World {
    fn new(config: Config) -> Self {
        let limits = LocalLimits {
            rooms_per_connection_max: config.rooms_per_connection_max,
            outbox_bytes_max: config.outbox_bytes_max,
        };
        let core = |id| Core {
            local: LocalRooms::new(CoreId(id), limits),
            inbox: VecDeque::new(),
            log: VecDeque::new(),
        };
        Self {
            table: RoomTable::new(TableConfig {
                core_count: config.core_count.into(),
                shard_count: config.shard_count,
                name_len_max: 255,
                mailbox_bytes_max: config.mailbox_bytes_max,
                watch_rooms: true,
                ..TableConfig::default()
            }),
            outbox_bytes_max: config.outbox_bytes_max,
            rooms_per_connection_max: config.rooms_per_connection_max,
            cores: (0..config.core_count).map(core).collect(),
            connections: Vec::new(),
            life_counts: HashMap::new(),
            heard: HashMap::new(),
            publication_count: 0,
            next_serial: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Apply { core, count } => self.apply(self.core(core), count),
            Step::Ask { room, is_tried } => self.ask(room, is_tried),
            Step::AskCore { core, is_tried } => self.ask_core(self.core(core), is_tried),
            Step::Broadcast {
                padding_len,
                is_tried,
            } => self.broadcast(padding_len, is_tried),
            Step::Close { connection } => {
                self.with(connection, |world, it| world.send_close(it));
            }
            Step::Crowd { core, room } => {
                for _ in 0..CROWD {
                    let connection = self.open(self.core(core), 1 << 20);
                    self.join(connection, room);
                }
            }
            Step::Direct {
                connection,
                padding_len,
            } => {
                self.with(connection, |world, it| world.direct(it, padding_len));
            }
            Step::FanOut { core } => {
                let core = self.core(core);
                self.cores[core].local.fan_out();
                self.handle_overflow(core);
            }
            Step::Flush { core, queue, count } => self.flush_line(self.core(core), queue, count),
            Step::Gone { connection } => {
                self.with(connection, |world, it| {
                    if world.connections[it].open {
                        world.end(it);
                    }
                });
            }
            Step::Join { connection, room } => {
                self.with(connection, |world, it| world.join(it, room));
            }
            Step::Leave { connection, room } => {
                self.with(connection, |world, it| world.leave(it, room));
            }
            Step::LeaveAll { connection } => {
                self.with(connection, |world, it| world.leave_all(it));
            }
            Step::LeaveAllHere { connection } => {
                self.with(connection, |world, it| {
                    if world.connections[it].open {
                        world.leave_all_here(it);
                    }
                });
            }
            Step::Open { core, window } => {
                self.open(self.core(core), window);
            }
            Step::Publish {
                room,
                padding_len,
                except,
            } => {
                let except = self.connection(except);
                self.publish(room, padding_len, except);
            }
            Step::Shut { connection } => {
                self.with(connection, |world, it| {
                    if world.connections[it].is_addressable() {
                        world.shut(it);
                    }
                });
            }
            Step::TakeMail { core } => self.take_mail(self.core(core)),
            Step::TryPublish {
                room,
                padding_len,
                except,
            } => {
                let except = self.connection(except);
                self.try_publish(room, padding_len, except);
            }
            Step::Writable { connection, bytes } => {
                self.with(connection, |world, it| {
                    if world.connections[it].open {
                        world.make_writable(it, bytes);
                    }
                });
            }
        }
    }

    fn core(&self, index: usize) -> usize {
        index % self.cores.len()
    }

    fn connection(&self, index: Option<usize>) -> Option<usize> {
        index?.checked_rem(self.connections.len())
    }

    fn with(&mut self, connection: usize, act: impl FnOnce(&mut Self, usize)) {
        if !self.connections.is_empty() {
            act(self, connection % self.connections.len());
        }
    }

    // What any thread may ask of the table.

    fn join(&mut self, connection: usize, room: u8) {
        let Connection { id, core, .. } = self.connections[connection];
        if self.member_count(room) == 0 {
            *self.life_counts.entry(room).or_default() += 1;
        }
        let life = self.life(room);
        self.cores[core]
            .log
            .push_back(Entry::Attach { connection, life });
        let backpressure = self
            .table
            .join(id, &name(room))
            .expect("the name is a good one");
        self.check_backpressure(backpressure, &[core]);
    }

    fn leave(&mut self, connection: usize, room: u8) {
        let Connection { id, core, .. } = self.connections[connection];
        let exists = self.member_count(room) > 0;
        let backpressure = self.table.leave(id, &name(room));
        if exists {
            let life = self.life(room);
            self.cores[core]
                .log
                .push_back(Entry::Detach { connection, life });
            self.check_backpressure(backpressure, &[core]);
        }
    }

    fn leave_all(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        self.cores[core]
            .log
            .push_back(Entry::DetachAll { connection });
        let backpressure = self.table.leave_all(id);
        self.check_backpressure(backpressure, &[core]);
    }

    fn direct(&mut self, connection: usize, padding_len: u32) {
        let Connection { id, core, .. } = self.connections[connection];
        let item = self.item(None, padding_len);
        self.cores[core]
            .log
            .push_back(Entry::Direct { connection, item });
        let backpressure = self.table.direct(id, item.encode());
        self.check_backpressure(backpressure, &[core]);
    }

    fn send_close(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        self.cores[core].log.push_back(Entry::Close { connection });
        let backpressure = self.table.close(id, Disconnect::going_away());
        self.check_backpressure(backpressure, &[core]);
    }

    fn publish(&mut self, room: u8, padding_len: u32, except: Option<usize>) {
        let item = self.item(Some(room), padding_len);
        let member_count = self.member_count(room);
        let cores = self.deliver(room, item, except);
        let id = except.map(|it| self.connections[it].id);
        let kind = EventKind::Lasting;
        let published = self.table.emit_as(kind, &name(room), id, item.encode());
        let published = published.expect("a frame is its own on every wire");
        assert_eq!(published.member_count, member_count);
        self.check_backpressure(published.backpressure, &cores);
    }

    fn try_publish(&mut self, room: u8, padding_len: u32, except: Option<usize>) {
        let item = self.item(Some(room), padding_len);
        let full = |core: &usize| self.table.mailbox(core_id(*core)).is_full();
        let overloaded = self.listening(room).iter().any(full);
        let member_count = self.member_count(room);
        let id = except.map(|it| self.connections[it].id);
        let kind = EventKind::Lasting;
        match self.table.try_emit_as(kind, &name(room), id, item.encode()) {
            Ok(published) => {
                assert!(!overloaded);
                assert_eq!(published.member_count, member_count);
                let cores = self.deliver(room, item, except);
                self.check_backpressure(published.backpressure, &cores);
            }
            Err(EmitError::Overloaded(Overloaded { core })) => {
                assert!(overloaded && self.table.mailbox(core).is_full());
            }
            Err(EmitError::Lacks(lacks)) => panic!("{lacks}"),
        }
    }

    fn broadcast(&mut self, padding_len: u32, is_tried: bool) {
        let item = self.item(None, padding_len);
        let cores: Vec<usize> = (0..self.cores.len()).collect();
        let overloaded = self.is_some_full(&cores);
        if is_tried {
            let sent = self.table.try_broadcast(item.encode());
            assert_eq!(sent.is_err(), overloaded);
            if overloaded {
                return;
            }
        } else {
            let sent = self.table.broadcast(item.encode());
            self.check_backpressure(sent.expect("a frame is its own on every wire"), &cores);
        }
        for core in &mut self.cores {
            core.log.push_back(Entry::Broadcast { item });
        }
    }

    fn ask(&mut self, room: u8, is_tried: bool) {
        self.next_serial += 1;
        let (serial, cores) = (self.next_serial, self.listening(room));
        let life = Some(self.life(room));
        let mut asked = Vec::new();
        let make = |core: CoreId| {
            asked.push(usize::from(core.0));
            Box::new(serial) as _
        };
        let overloaded = is_tried && self.is_some_full(&cores);
        let core_count = if is_tried {
            self.table.try_ask_members(&name(room), make)
        } else {
            let (core_count, backpressure) = self.table.ask_members(&name(room), make);
            self.check_backpressure(backpressure, &cores);
            Ok(core_count)
        };
        assert_eq!(core_count.is_err(), overloaded);
        if let Ok(core_count) = core_count {
            assert_eq!((core_count, &asked), (cores.len(), &cores));
        }
        for core in asked {
            self.cores[core].log.push_back(Entry::Ask { life, serial });
        }
    }

    fn ask_core(&mut self, core: usize, is_tried: bool) {
        self.next_serial += 1;
        let question = Box::new(self.next_serial);
        if is_tried {
            let overloaded = self.is_some_full(&[core]);
            let asked = self.table.try_ask(core_id(core), question);
            assert_eq!(asked.is_err(), overloaded);
            if overloaded {
                return;
            }
        } else {
            let backpressure = self.table.ask(core_id(core), question);
            self.check_backpressure(backpressure, &[core]);
        }
        let (life, serial) = (None, self.next_serial);
        self.cores[core].log.push_back(Entry::Ask { life, serial });
    }

    fn is_some_full(&self, cores: &[usize]) -> bool {
        let mut mailboxes = cores.iter().map(|core| self.table.mailbox(core_id(*core)));
        mailboxes.any(|mailbox| mailbox.is_full())
    }

    /// Writes a publication to the logs of the cores that must get it, and says which.
    fn deliver(&mut self, room: u8, item: Item, except: Option<usize>) -> Vec<usize> {
        self.publication_count += 1;
        let cores = self.listening(room);
        let life = self.life(room);
        for core in &cores {
            self.cores[*core]
                .log
                .push_back(Entry::Deliver { life, item, except });
        }
        cores
    }

    // What a core does.

    fn open(&mut self, core: usize, window: usize) -> usize {
        let id = self.cores[core]
            .local
            .open()
            .expect("there are 16 million slots");
        assert_eq!(id.core(), core_id(core));
        assert!(
            self.connections.iter().all(|other| other.id != id),
            "ids are never used twice"
        );
        self.connections.push(Connection {
            id,
            core,
            open: true,
            rooms: Vec::new(),
            expected: Vec::new(),
            last: None,
            received: Vec::new(),
            window,
        });
        self.connections.len() - 1
    }

    /// Ends a connection whose socket is gone; it may have received less than it was sent.
    fn end(&mut self, connection: usize) {
        let ended = &mut self.connections[connection];
        ended.open = false;
        ended.rooms.clear();
        ended.check_received();
        self.cores[ended.core]
            .local
            .close(ended.id.slot(), &self.table);
    }

    fn leave_all_here(&mut self, connection: usize) {
        let leaving = &mut self.connections[connection];
        leaving.rooms.clear();
        self.cores[leaving.core]
            .local
            .detach_all(leaving.id.slot(), &self.table);
    }

    fn take_mail(&mut self, core: usize) {
        let mut commands = Vec::new();
        self.table.mailbox(core_id(core)).drain(&mut commands);
        self.cores[core].inbox.extend(commands);
    }

    fn apply(&mut self, core: usize, count: usize) {
        for _ in 0..count {
            let Some(command) = self.cores[core].inbox.pop_front() else {
                return;
            };
            let effect = self.cores[core].local.apply(command, &self.table);
            match effect {
                Some(Effect::RoomCreated { name }) => self.hear(core, &name, true),
                Some(Effect::RoomRemoved { name }) => self.hear(core, &name, false),
                effect => {
                    let entry = self.cores[core]
                        .log
                        .pop_front()
                        .expect("nobody asked for this");
                    self.apply_entry(core, &entry, effect);
                }
            }
        }
    }

    /// Carries out what the core did in the model, and what the core asks for in both.
    fn apply_entry(&mut self, core: usize, entry: &Entry, effect: Option<Effect>) {
        match *entry {
            Entry::Ask { life, serial } => {
                let Some(Effect::Ask { room, question }) = effect else {
                    panic!("{entry:?} is one, not {effect:?}");
                };
                assert_eq!(question.downcast_ref(), Some(&serial));
                assert_eq!(room.is_some(), life.is_some());
                if let (Some(room), Some(life)) = (room, life) {
                    self.check_members(core, room, life);
                }
            }
            Entry::Attach { connection, life } => {
                let joining = &mut self.connections[connection];
                if !joining.is_addressable() || joining.rooms.contains(&life) {
                    assert!(effect.is_none(), "{entry:?} is none, not {effect:?}");
                } else if joining.rooms.len() < self.rooms_per_connection_max {
                    assert!(effect.is_none(), "{entry:?} is one, not {effect:?}");
                    joining.rooms.push(life);
                } else {
                    let Some(Effect::JoinRefused {
                        connection: id,
                        room,
                        id: None,
                    }) = effect
                    else {
                        panic!("{entry:?} is one too many, not {effect:?}");
                    };
                    assert_eq!((id, &*room.name), (joining.id, &*name(life.room)));
                    self.answer(connection);
                }
            }
            Entry::Broadcast { item } => {
                assert!(effect.is_none());
                let here = self.connections.iter_mut().filter(|it| it.core == core);
                for connection in here.filter(|it| it.is_addressable()) {
                    connection.expected.push(item);
                }
            }
            Entry::Close { connection } if self.connections[connection].is_addressable() => {
                let Some(Effect::Close { connection: id, .. }) = effect else {
                    panic!("{entry:?} closes, not {effect:?}");
                };
                assert_eq!(id, self.connections[connection].id);
                self.shut(connection);
            }
            Entry::Deliver { life, item, except } => {
                assert!(effect.is_none());
                let here = (0..).zip(&mut self.connections);
                let here = here.filter(|(_, member)| member.core == core);
                for (index, member) in here.filter(|(_, member)| member.rooms.contains(&life)) {
                    if except != Some(index) {
                        member.expected.push(item);
                    }
                }
            }
            Entry::Detach { connection, life } => {
                assert!(effect.is_none());
                self.connections[connection]
                    .rooms
                    .retain(|joined| *joined != life);
            }
            Entry::DetachAll { connection } => {
                assert!(effect.is_none());
                self.connections[connection].rooms.clear();
            }
            Entry::Direct { connection, item } if self.connections[connection].is_addressable() => {
                assert!(effect.is_none());
                self.connections[connection].expected.push(item);
            }
            Entry::Close { .. } | Entry::Direct { .. } => assert!(effect.is_none()),
        }
    }

    /// Queues what a core answers a connection itself, at once.
    fn answer(&mut self, connection: usize) {
        let item = self.item(None, 0);
        let answered = &mut self.connections[connection];
        answered.expected.push(item);
        let local = &mut self.cores[answered.core].local;
        local.push(answered.id.slot(), &item.encode(), FlushQueue::Prompt);
    }

    /// Sends a connection the last that it is sent.
    fn shut(&mut self, connection: usize) {
        let item = self.item(None, 0);
        let shut = &mut self.connections[connection];
        shut.last = Some(item);
        shut.rooms.clear();
        let local = &mut self.cores[shut.core].local;
        local.shut(shut.id.slot(), &item.encode(), &self.table);
    }

    fn hear(&mut self, core: usize, name: &str, begins: bool) {
        let room = name.parse().expect("rooms are called by their numbers");
        self.heard.entry(room).or_default().push((core, begins));
    }

    /// Flushes what did not fit and queues it again; shuts those whose socket does not take it.
    fn handle_overflow(&mut self, core: usize) {
        for overflow in self.cores[core].local.take_overflow() {
            let member = self.connection_in(core, overflow.slot);
            // Its first frame that did not fit again has shut it.
            if !self.connections[member].is_addressable() {
                continue;
            }
            self.flush(member);
            if self.cores[core].local.push_again(&overflow) {
                continue;
            }
            assert_eq!(
                self.connections[member].window, 0,
                "its socket takes no more"
            );
            let pending_bytes = self.cores[core].local.outbox(overflow.slot).pending_bytes();
            let would_be = pending_bytes as usize + overflow.frame.len();
            assert!(pending_bytes > 0 && would_be > self.outbox_bytes_max as usize);
            self.shut(member);
        }
        assert!(!self.cores[core].local.has_overflow());
    }

    fn flush_line(&mut self, core: usize, queue: FlushQueue, count: usize) {
        for _ in 0..count {
            let Some(slot) = self.cores[core].local.next_to_flush(queue) else {
                return;
            };
            assert!(!self.cores[core].local.is_blocked(slot));
            assert!(!self.cores[core].local.outbox(slot).is_empty());
            let flushed = self.connection_in(core, slot);
            self.flush(flushed);
        }
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self, connection: usize) {
        let flushed = &mut self.connections[connection];
        let (local, slot) = (&mut self.cores[flushed.core].local, flushed.id.slot());
        while !local.outbox(slot).is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = local.outbox(slot).slices(&mut slices);
            let shown: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            let taken = shown.len().min(flushed.window);
            flushed.window -= taken;
            flushed.received.extend(&shown[..taken]);
            local.advance(slot, taken);
            if taken < shown.len() {
                local.set_blocked(slot, true);
                return;
            }
        }
    }

    fn make_writable(&mut self, connection: usize, bytes: usize) {
        let writable = &mut self.connections[connection];
        writable.window += bytes;
        if writable.window > 0 {
            self.cores[writable.core]
                .local
                .set_blocked(writable.id.slot(), false);
        }
    }

    /// The one open connection in the slot.
    fn connection_in(&self, core: usize, slot: u32) -> usize {
        let id = self.cores[core].local.id_of(slot);
        let found = self
            .connections
            .iter()
            .position(|it| it.id == id && it.open);
        found.expect("what a core names is open")
    }

    // What the model knows.

    fn item(&mut self, room: Option<u8>, padding_len: u32) -> Item {
        self.next_serial += 1;
        Item {
            room,
            serial: self.next_serial,
            padding_len,
        }
    }

    /// The life that the room has, had last, or has not begun.
    fn life(&self, room: u8) -> Life {
        Life {
            room,
            number: self.life_counts.get(&room).copied().unwrap_or(0),
        }
    }

    /// How many members a core has, with those on their way.
    fn member_count_of(&self, room: u8, core: usize) -> u32 {
        let members = self.connections.iter().filter(|it| it.core == core);
        let member_count: usize = members
            .map(|it| it.rooms.iter().filter(|life| life.room == room).count())
            .sum();
        let attaches = self.cores[core]
            .log
            .iter()
            .filter(|entry| matches!(entry, Entry::Attach { life, .. } if life.room == room));
        u32::try_from(member_count + attaches.count()).expect("there are few")
    }

    fn member_count(&self, room: u8) -> u32 {
        (0..self.cores.len())
            .map(|core| self.member_count_of(room, core))
            .sum()
    }

    fn listening(&self, room: u8) -> Vec<usize> {
        (0..self.cores.len())
            .filter(|core| self.member_count_of(room, *core) > 0)
            .collect()
    }

    // What must be so.

    fn check_backpressure(&self, backpressure: Backpressure, asked: &[usize]) {
        let full = |core: &usize| self.table.mailbox(core_id(*core)).is_full();
        match backpressure.0 {
            Some(full) => assert!(self.table.is_full(full)),
            None => assert!(!asked.iter().any(full)),
        }
    }

    /// What is so after every step.
    fn check(&self) {
        let member_counts: Vec<u32> = (0..ROOMS).map(|room| self.member_count(room)).collect();
        for (room, member_count) in (0..ROOMS).zip(&member_counts) {
            assert_eq!(self.table.member_count(&name(room)), *member_count);
        }
        let room_count = member_counts.iter().filter(|count| **count > 0).count();
        assert_eq!(self.table.room_count(), room_count);
        let life_count: u32 = self.life_counts.values().sum();
        let totals = self.table.totals();
        assert_eq!(
            (totals.rooms_created, totals.publications),
            (life_count.into(), self.publication_count)
        );
        for core in 0..self.cores.len() {
            self.check_core(core);
        }
        for connection in &self.connections {
            let local = &self.cores[connection.core].local;
            let slot = local.slot_of(connection.id);
            assert_eq!(
                slot,
                connection.is_addressable().then_some(connection.id.slot())
            );
            if let Some(slot) = slot {
                let mut rooms: Vec<&str> = local.rooms_of(slot).map(|room| &*room.name).collect();
                let mut expected: Vec<String> = connection
                    .rooms
                    .iter()
                    .map(|life| name(life.room))
                    .collect();
                rooms.sort_unstable();
                expected.sort_unstable();
                assert_eq!(rooms, expected);
                let outbox = local.outbox(slot);
                assert!(
                    outbox.pending_bytes() <= self.outbox_bytes_max || outbox.single().is_some(),
                    "only a frame that is alone may be over the limit"
                );
            }
        }
    }

    fn check_members(&self, core: usize, room: RoomId, life: Life) {
        let mut members: Vec<u64> = { self.cores[core].local.members_of(room) }
            .map(ConnectionId::as_u64)
            .collect();
        let here = self.connections.iter().filter(|it| it.core == core);
        let expected = here.filter(|it| it.rooms.contains(&life));
        let mut expected: Vec<u64> = expected.map(|it| it.id.as_u64()).collect();
        members.sort_unstable();
        expected.sort_unstable();
        assert_eq!(members, expected);
    }

    fn check_core(&self, core: usize) {
        let local = &self.cores[core].local;
        let open = || {
            self.connections
                .iter()
                .filter(|it| it.core == core && it.open)
        };
        assert_eq!(local.connection_count(), open().count());
        let mut slots: Vec<u32> = open().map(|it| it.id.slot()).collect();
        slots.sort_unstable();
        assert!(local.slots().eq(slots));
        assert_eq!(
            local.membership_count(),
            open().map(|it| it.rooms.len()).sum::<usize>()
        );
        let has_members =
            |room: &u8| open().any(|it| it.rooms.iter().any(|life| life.room == *room));
        assert_eq!(local.room_count(), (0..ROOMS).filter(has_members).count());
    }

    /// Lets everything arrive, then ends every connection, and looks at what is left: nothing.
    fn settle_down(&mut self) {
        let connections = |world: &Self| -> Range<usize> { 0..world.connections.len() };
        for connection in connections(self) {
            if self.connections[connection].open {
                self.make_writable(connection, 1 << 30);
            }
        }
        self.turn_until_quiet();
        for connection in connections(self) {
            if self.connections[connection].open {
                self.connections[connection].check_received_all(self.outbox_bytes_max);
                self.end(connection);
            }
        }
        self.turn_until_quiet();
        self.check();
        assert_eq!(self.table.room_count(), 0);
        for room in 0..ROOMS {
            let heard = self.heard.remove(&room).unwrap_or_default();
            let (watchers, begins): (Vec<usize>, Vec<bool>) = heard.into_iter().unzip();
            assert!(
                watchers.windows(2).all(|two| two[0] == two[1]),
                "one core hears of a room"
            );
            let life_count = self.life(room).number as usize;
            assert_eq!(begins, [true, false].repeat(life_count));
        }
    }

    fn turn_until_quiet(&mut self) {
        loop {
            for core in 0..self.cores.len() {
                self.take_mail(core);
                self.apply(core, usize::MAX);
                self.cores[core].local.fan_out();
                self.handle_overflow(core);
                self.flush_line(core, FlushQueue::Bulk, usize::MAX);
                self.flush_line(core, FlushQueue::Prompt, usize::MAX);
                assert!(!self.cores[core].local.has_flushes());
            }
            let pending = |core| self.table.mailbox(core_id(core)).pending_bytes() > 0;
            if !(0..self.cores.len()).any(pending) {
                break;
            }
        }
        assert!(
            self.cores.iter().all(|core| core.log.is_empty()),
            "nothing got lost"
        );
    }
}

impl Connection {
    /// Whether anything may still be sent to it.
    const fn is_addressable(&self) -> bool {
        self.open && self.last.is_none()
    }

    /// Its socket may be gone at any time: what arrived is the beginning of what was sent.
    fn check_received(&self) {
        let mut received = decode(&self.received, false);
        received.pop_if(|item| Some(*item) == self.last);
        check_received(&received, &self.expected, false);
    }

    /// Its socket took everything. Only who was shut may have missed something, and only if it
    /// could have been too much for its outbox.
    fn check_received_all(&self, outbox_bytes_max: u32) {
        let mut received = decode(&self.received, true);
        if self.last.is_some() {
            assert_eq!(received.pop(), self.last);
        }
        let sent: usize = self.expected.iter().map(|item| item.len()).sum();
        let complete = self.last.is_none() || sent + HEADER_LEN <= outbox_bytes_max as usize;
        check_received(&received, &self.expected, complete);
    }
}

fn name(room: u8) -> String {
    room.to_string()
}

fn core_id(index: usize) -> CoreId {
    CoreId(u8::try_from(index).expect("there are three"))
}
