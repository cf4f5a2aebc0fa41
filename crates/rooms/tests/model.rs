//! Random steps on one to three cores, against a model of plain lists.
//!
//! The model has one log a core, and a member is whoever has attached in it and not detached. From
//! that follows what each connection must receive, how many members each room has, and when rooms
//! begin and end. The sockets take as many bytes as the steps say, so that outboxes fill up.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use proptest::prelude::*;
use throng_rooms::{
    Backpressure, Command, ConnectionId, CoreId, Disconnect, Effect, EmitError, EventKind,
    FlushQueue, LocalLimits, Overloaded, RoomId, RoomKey, RoomTable, Slot, Space, TableConfig,
};

#[path = "support/cores.rs"]
mod cores;
#[path = "model/received.rs"]
mod received;
#[path = "model/steps.rs"]
mod steps;

use cores::{Core, Socket, core_id, is_full, is_quiet};
use received::{Item, check_received, decode};
use steps::{CROWD, Config, ROOMS, Step, config, step};

proptest! {
    #![proptest_config(cores::same_cases())]

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

/// The tables under test, and the model beside them.
struct World {
    table: RoomTable,
    outbox_bytes_max: u32,
    rooms_per_connection_max: usize,
    cores: Vec<Core<Entry>>,
    /// All there ever were.
    connections: Vec<Connection>,
    /// The number of lives each room has had.
    life_counts: HashMap<u8, u32>,
    /// The reports of each room: the core, and true for a beginning.
    heard: HashMap<u8, Vec<(usize, bool)>>,
    /// Which life each room's id is, of those that a member has been of.
    lives: HashMap<RoomId, Life>,
    publication_count: u64,
    next_serial: u32,
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
    CloseWithLastRoom {
        connection: usize,
        space: Space,
        on: bool,
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
        space: Space,
    },
    Dissolve {
        life: Life,
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
    /// With the last room of which spaces it is to be closed.
    closes_with: HashSet<Space>,
    expected: Vec<Item>,
    /// The frame that it was sent when it was shut.
    last: Option<Item>,
    socket: Socket,
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
        let core = |id| Core::new(id, limits);
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
            lives: HashMap::new(),
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
            Step::CloseWithLastRoom {
                connection,
                space,
                on,
            } => {
                self.with(connection, |world, it| {
                    world.close_with_last_room(it, Space(space), on);
                });
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
            Step::Dissolve { room } => self.dissolve(room),
            Step::DissolveSpace { space } => self.dissolve_space(Space(space)),
            Step::FanOut { core, work_max } => {
                let core = self.core(core);
                self.cores[core].local.fan_out_some(work_max);
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
            Step::LeaveAll { connection, space } => {
                self.with(connection, |world, it| world.leave_all(it, Space(space)));
            }
            Step::LeaveAllHere { connection, space } => {
                self.with(connection, |world, it| {
                    if world.connections[it].open {
                        world.leave_all_here(it, Space(space));
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
            Step::TakeMail { core } => {
                let core = self.core(core);
                self.cores[core].take_mail(&self.table);
            }
            Step::TryDissolve { room } => self.try_dissolve(room),
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
            .join(id, key(room))
            .expect("the name is a good one");
        self.check_backpressure(backpressure, &[core]);
    }

    fn leave(&mut self, connection: usize, room: u8) {
        let Connection { id, core, .. } = self.connections[connection];
        let exists = self.member_count(room) > 0;
        let backpressure = self.table.leave(id, key(room));
        if exists {
            let life = self.life(room);
            self.cores[core]
                .log
                .push_back(Entry::Detach { connection, life });
            self.check_backpressure(backpressure, &[core]);
        }
    }

    fn leave_all(&mut self, connection: usize, space: Space) {
        let Connection { id, core, .. } = self.connections[connection];
        self.cores[core]
            .log
            .push_back(Entry::DetachAll { connection, space });
        let backpressure = self.table.leave_all(id, space);
        self.check_backpressure(backpressure, &[core]);
    }

    fn close_with_last_room(&mut self, connection: usize, space: Space, on: bool) {
        let Connection { id, core, .. } = self.connections[connection];
        self.cores[core].log.push_back(Entry::CloseWithLastRoom {
            connection,
            space,
            on,
        });
        let backpressure = self.table.close_with_last_room(id, space, on);
        self.check_backpressure(backpressure, &[core]);
    }

    fn dissolve(&mut self, room: u8) {
        let cores = self.note_dissolve(room);
        let backpressure = self.table.dissolve(key(room));
        self.check_backpressure(backpressure, &cores);
    }

    fn try_dissolve(&mut self, room: u8) {
        let overloaded = self.is_some_full(&self.listening(room));
        match self.table.try_dissolve(key(room)) {
            Ok(backpressure) => {
                assert!(!overloaded);
                let cores = self.note_dissolve(room);
                self.check_backpressure(backpressure, &cores);
            }
            Err(Overloaded { core }) => {
                assert!(overloaded && self.table.mailbox(core).is_full());
            }
        }
    }

    fn dissolve_space(&mut self, space: Space) {
        let of_the_space = (0..ROOMS).filter(|room| key(*room).space == space);
        let cores: Vec<usize> = of_the_space
            .flat_map(|room| self.note_dissolve(room))
            .collect();
        let backpressure = self.table.dissolve_space(space);
        self.check_backpressure(backpressure, &cores);
    }

    /// Writes to the logs of the cores with members that all of them leave, and says which.
    fn note_dissolve(&mut self, room: u8) -> Vec<usize> {
        let (cores, life) = (self.listening(room), self.life(room));
        for core in &cores {
            self.cores[*core].log.push_back(Entry::Dissolve { life });
        }
        cores
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
        let published = self.table.emit_as(kind, key(room), id, item.encode());
        let published = published.expect("a frame is its own on every wire");
        assert_eq!(published.member_count, member_count);
        self.check_backpressure(published.backpressure, &cores);
    }

    fn try_publish(&mut self, room: u8, padding_len: u32, except: Option<usize>) {
        let item = self.item(Some(room), padding_len);
        let overloaded = self.is_some_full(&self.listening(room));
        let member_count = self.member_count(room);
        let id = except.map(|it| self.connections[it].id);
        let kind = EventKind::Lasting;
        match self.table.try_emit_as(kind, key(room), id, item.encode()) {
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
            self.table.try_ask_members(key(room), make)
        } else {
            let (core_count, backpressure) = self.table.ask_members(key(room), make);
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

    /// Returns whether one of these cores has too much to do.
    fn is_some_full(&self, cores: &[usize]) -> bool {
        cores.iter().any(|core| is_full(&self.table, *core))
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
            closes_with: HashSet::new(),
            expected: Vec::new(),
            last: None,
            socket: Socket::new(window),
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

    fn leave_all_here(&mut self, connection: usize, space: Space) {
        let leaving = &self.connections[connection];
        let local = &mut self.cores[leaving.core].local;
        let effect = local.detach_all(leaving.id.slot(), space, &self.table);
        let is_of_it = |life: Life| key(life.room).space == space;
        self.leave_rooms(&[connection], is_of_it, effect);
    }

    fn apply(&mut self, core: usize, count: usize) {
        for _ in 0..count {
            let Some(command) = self.cores[core].inbox.pop_front() else {
                return;
            };
            self.note_life(core, &command);
            let effect = self.cores[core].local.apply(command, &self.table);
            match effect {
                Some(Effect::RoomCreated { space, name }) => {
                    self.hear(core, RoomKey::new(space, &name), true);
                }
                Some(Effect::RoomRemoved { space, name }) => {
                    self.hear(core, RoomKey::new(space, &name), false);
                }
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

    /// Takes note of which life of a room has which id; and of the rooms of a space that are
    /// dissolved together, in whatever order, moves the one to the front of the log that comes
    /// first.
    fn note_life(&mut self, core: usize, command: &Command) {
        let log = &mut self.cores[core].log;
        match command {
            Command::Attach { room, .. } => {
                let Some(Entry::Attach { life, .. }) = log.front() else {
                    panic!("{command:?} comes where {:?} should", log.front());
                };
                assert_eq!(RoomKey::from(room), key(life.room));
                let known = *self.lives.entry(room.id).or_insert(*life);
                assert_eq!(known, *life);
            }
            Command::Dissolve { room } => {
                let life = self.lives[room];
                let together = log.iter().map_while(|entry| match entry {
                    Entry::Dissolve { life } => Some(*life),
                    _ => None,
                });
                let index = together.into_iter().position(|it| it == life);
                log.swap(0, index.expect("nobody asked for this"));
            }
            _ => {}
        }
    }

    /// Lets connections leave the rooms that `leaves` says in the model, and shuts those that are
    /// to be closed for it, which the effect must say.
    fn leave_rooms(
        &mut self,
        leaving: &[usize],
        leaves: impl Fn(Life) -> bool,
        effect: Option<Effect>,
    ) {
        let mut closed = Vec::new();
        for index in leaving {
            let connection = &mut self.connections[*index];
            let before = connection.spaces();
            connection.rooms.retain(|life| !leaves(*life));
            let left = &before - &connection.spaces();
            if !left.is_disjoint(&connection.closes_with) {
                closed.push(*index);
            }
        }
        let mut said = match effect {
            None => Vec::new(),
            Some(Effect::LastRoomLeft { connections }) => {
                assert!(!connections.is_empty(), "an effect has something to do");
                connections
            }
            Some(effect) => panic!("nobody asked for {effect:?}"),
        };
        let mut expected: Vec<ConnectionId> =
            closed.iter().map(|it| self.connections[*it].id).collect();
        said.sort_unstable_by_key(|id| id.as_u64());
        expected.sort_unstable_by_key(|id| id.as_u64());
        assert_eq!(said, expected);
        closed.into_iter().for_each(|it| self.shut(it));
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
                    assert_eq!((id, RoomKey::from(&room)), (joining.id, key(life.room)));
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
            Entry::CloseWithLastRoom {
                connection,
                space,
                on,
            } => {
                assert!(effect.is_none());
                let asked = &mut self.connections[connection];
                match on && asked.is_addressable() {
                    true => asked.closes_with.insert(space),
                    false => asked.closes_with.remove(&space),
                };
            }
            Entry::Detach { connection, life } => {
                self.leave_rooms(&[connection], |joined| joined == life, effect);
            }
            Entry::DetachAll { connection, space } => {
                let is_of_it = |life: Life| key(life.room).space == space;
                self.leave_rooms(&[connection], is_of_it, effect);
            }
            Entry::Dissolve { life } => {
                let all = 0..self.connections.len();
                let here = all.filter(|it| self.connections[*it].core == core);
                let here: Vec<usize> = here.collect();
                self.leave_rooms(&here, |joined| joined == life, effect);
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

    fn hear(&mut self, core: usize, key: RoomKey<'_>, begins: bool) {
        let heard = self.heard.entry(room_of(key)).or_default();
        heard.push((core, begins));
    }

    /// Flushes what did not fit and queues it again; shuts those whose socket does not take it.
    fn handle_overflow(&mut self, core: usize) {
        while self.cores[core].local.has_overflow() {
            for overflow in self.cores[core].local.take_overflow(2) {
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
                    self.connections[member].socket.window, 0,
                    "its socket takes no more"
                );
                let pending_bytes = self.cores[core].local.outbox(overflow.slot).pending_bytes();
                let would_be = pending_bytes as usize + overflow.frame.len();
                assert!(pending_bytes > 0 && would_be > self.outbox_bytes_max as usize);
                self.cores[core]
                    .local
                    .drop_memberships(overflow.slot, &self.table);
                self.shut(member);
            }
        }
    }

    fn flush_line(&mut self, core: usize, queue: FlushQueue, count: usize) {
        for _ in 0..count {
            let Some(slot) = self.cores[core].next_to_flush(queue) else {
                return;
            };
            let flushed = self.connection_in(core, slot);
            self.flush(flushed);
        }
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self, connection: usize) {
        let flushed = &mut self.connections[connection];
        let (local, slot) = (&mut self.cores[flushed.core].local, flushed.id.slot());
        flushed.socket.flush(local, slot);
    }

    fn make_writable(&mut self, connection: usize, bytes: usize) {
        let writable = &mut self.connections[connection];
        let local = &mut self.cores[writable.core].local;
        let slot = writable.id.slot();
        writable.socket.make_writable(bytes, local, slot);
    }

    /// The one open connection in the slot.
    fn connection_in(&self, core: usize, slot: Slot) -> usize {
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

    /// Returns how many members a core has, with those on their way.
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
        cores::check_backpressure(&self.table, backpressure, asked);
    }

    /// Returns what is so after every step.
    fn check(&self) {
        let member_counts: Vec<u32> = (0..ROOMS).map(|room| self.member_count(room)).collect();
        for (room, member_count) in (0..ROOMS).zip(&member_counts) {
            assert_eq!(self.table.member_count(key(room)), *member_count);
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
                let mut expected: Vec<&str> = connection
                    .rooms
                    .iter()
                    .map(|life| key(life.room).name)
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
        let mut slots: Vec<Slot> = open().map(|it| it.id.slot()).collect();
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
                self.cores[core].take_mail(&self.table);
                self.apply(core, usize::MAX);
                while !self.cores[core].local.fan_out_some(3) {
                    self.handle_overflow(core);
                }
                self.handle_overflow(core);
                self.flush_line(core, FlushQueue::Bulk, usize::MAX);
                self.flush_line(core, FlushQueue::Prompt, usize::MAX);
                assert!(!self.cores[core].local.has_flushes());
            }
            if is_quiet(&self.table, &self.cores) {
                return;
            }
        }
    }
}

impl Connection {
    /// The spaces of its rooms.
    fn spaces(&self) -> HashSet<Space> {
        let spaces = self.rooms.iter().map(|life| key(life.room).space);
        spaces.collect()
    }

    /// Returns whether anything may still be sent to it.
    const fn is_addressable(&self) -> bool {
        self.open && self.last.is_none()
    }

    /// Its socket may be gone at any time: what arrived is the beginning of what was sent.
    fn check_received(&self) {
        let mut received = decode(&self.socket.received, false);
        received.pop_if(|item| Some(*item) == self.last);
        check_received(&received, &self.expected, false);
    }

    /// Its socket took everything. Only who was shut may have missed something, and only if it
    /// could have been too much for its outbox.
    fn check_received_all(&self, outbox_bytes_max: u32) {
        let mut received = decode(&self.socket.received, true);
        if self.last.is_some() {
            assert_eq!(received.pop(), self.last);
        }
        let sent: usize = self.expected.iter().map(|item| item.len()).sum();
        let complete = self
            .last
            .is_none_or(|last| sent + last.len() <= outbox_bytes_max as usize);
        check_received(&received, &self.expected, complete);
    }
}

/// Rooms of two spaces have the same names.
fn key(room: u8) -> RoomKey<'static> {
    let space = Space((room / 2).into());
    RoomKey::new(space, ["tea", "milk"][usize::from(room % 2)])
}

fn room_of(found: RoomKey<'_>) -> u8 {
    let mut all = 0..ROOMS;
    let room = all.find(|room| key(*room) == found);
    room.expect("there are no others")
}
