//! Random steps with positions, histories, keys, recovery and slow members, against plain lists.
//!
//! Beside the table there is a list of everything that was ever published to each room, and beside
//! each core a log of what it was asked. From these follows what every connection must receive. The
//! sockets take as many bytes as the steps say, connections come back to where they were, time goes
//! by, and the memory for histories may be too small for them.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use proto::SharedFrame;
use throng_rooms::{
    Acknowledge, Backpressure, Classes, Command, ConnectionId, Delivery, Disconnect, Effect,
    EmitError, Epoch, EventKind, FlushQueue, JoinRequest, LocalLimits, Moment, Outgoing,
    Overloaded, PastLimits, Publication as _, PublishError, Published, Recovery, RoomTable, Since,
    Slot, SlowConsumer, Space, StreamPosition, TableConfig, Wire,
};

#[path = "support/cores.rs"]
mod cores;
#[path = "history_model/expected.rs"]
mod expected;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/items.rs"]
mod items;
#[path = "history_model/naive.rs"]
mod naive;
#[path = "history_model/steps.rs"]
mod steps;

use cores::{Core, Socket, core_id, is_full, is_quiet};
use expected::Expected;
use frames::{Said, frame, texts};
use items::Item;
use naive::{Known, Life};
use steps::{AMPLE_BYTES, Asked, Config, Early, ROOMS, Step, config, slow_config, slow_step, step};

proptest! {
    #![proptest_config(cores::same_cases())]

    #[test]
    fn every_connection_gets_what_plain_lists_would_give_it(
        config in config(),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(&config);
        world.begin(&config.members);
        for step in steps {
            world.take(step);
            world.check();
        }
        world.settle_down();
    }

    #[test]
    fn slow_members_are_told_exactly_what_they_were_not_sent(
        config in slow_config(),
        steps in proptest::collection::vec(slow_step(), 0..120),
    ) {
        let mut world = World::new(&config);
        world.begin(&config.members);
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
    classes: Classes,
    is_memory_ample: bool,
    is_one_shard: bool,
    history_bytes_max: usize,
    limits: LocalLimits,
    now_ms: u64,
    cores: Vec<Core<Entry>>,
    /// All there ever were.
    connections: Vec<Connection>,
    /// The streams of rooms that are not forgotten.
    lives: BTreeMap<&'static str, Life>,
    epochs: HashSet<Epoch>,
    /// The positions of connections when they ended.
    remembered: Vec<(&'static str, StreamPosition)>,
    /// The number of times that each room got a first member.
    begun_counts: BTreeMap<&'static str, usize>,
    /// The reports of each room: true for a beginning.
    heard: BTreeMap<&'static str, Vec<bool>>,
    has_members: HashSet<&'static str>,
    publication_count: u64,
    next_serial: u32,
    /// The first serial number of this step.
    step_serial: u32,
    /// The room of a publication in this step that is larger than it was said to be.
    understated: Option<&'static str>,
    replayed_count: u64,
    /// The publications that complete connections were told they did not receive.
    skipped_count: u64,
    /// Some connection ended or was shut, so that it may have been told less than was skipped.
    has_ended: bool,
}

/// The model's command.
#[derive(Clone, Debug)]
enum Entry {
    Answer {
        connection: usize,
        text: String,
    },
    Attach {
        connection: usize,
        life: LifeOf,
        told: Option<Told>,
    },
    Close {
        connection: usize,
    },
    /// One command for each of these wires, in whatever order.
    Deliver {
        life: LifeOf,
        wires: Vec<Wire>,
        what: What,
    },
    Detach {
        connection: usize,
        life: LifeOf,
    },
    DetachAll {
        connection: usize,
    },
    Dissolve {
        life: LifeOf,
    },
    Direct {
        connection: usize,
        text: String,
    },
}

/// The kind of a delivery.
#[derive(Clone, Copy, Debug)]
enum What {
    Event { serial: u32, kind: EventKind },
    Publication { serial: u32, offset: u64 },
}

/// The answer to a join.
#[derive(Clone, Debug)]
struct Told {
    id: u64,
    position: StreamPosition,
    recovery: Option<Recovery>,
    replay: Vec<(u64, u32)>,
}

/// One life of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LifeOf {
    room: &'static str,
    epoch: Epoch,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    core: usize,
    wire: Wire,
    open: bool,
    rooms: Vec<LifeOf>,
    /// It was a member of a room twice, so that what waited of the first time cannot be skipped.
    has_rejoined: bool,
    expected: Vec<Expected>,
    /// Which of these are ephemeral events that must arrive, for little waited.
    ephemeral: Vec<usize>,
    /// The frame that it was sent when it was shut.
    last: Option<String>,
    socket: Socket,
    /// The amount of more than the limit may wait for it, for what is replayed, until nothing does.
    allowed_bytes: usize,
    /// It was a member of a room that leaves things out.
    has_skipped: bool,
}

/// A publisher that wants to know.
struct Ack(u32);

impl Acknowledge for Ack {
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame {
        frame(&ack_text(self.0, position, duplicate))
    }

    fn refuse(&mut self) -> SharedFrame {
        panic!("nothing is written down here");
    }
}

fn ack_text(serial: u32, position: Option<StreamPosition>, duplicate: bool) -> String {
    let offset = position.map(|position| position.offset);
    format!("ack {serial} {offset:?} {duplicate}")
}

impl World {
    fn new(config: &Config) -> Self {
        let limits = LocalLimits {
            rooms_per_connection_max: config.rooms_per_connection_max,
            outbox_bytes_max: config.outbox_bytes_max,
        };
        let core = |id| {
            let mut core = Core::new(id, limits);
            core.local.set_now(Moment(BEGIN_MS));
            core
        };
        Self {
            table: RoomTable::new(TableConfig {
                core_count: config.core_count.into(),
                shard_count: config.shard_count,
                mailbox_bytes_max: config.mailbox_bytes_max,
                watch_rooms: true,
                classes: config.classes(),
                wires: vec![Wire(0), KEPT],
                history_wire: KEPT,
                history_bytes_max: config.history_bytes_max,
                ..TableConfig::default()
            }),
            classes: config.classes(),
            is_memory_ample: config.history_bytes_max >= AMPLE_BYTES,
            is_one_shard: config.shard_count == 1,
            history_bytes_max: config.history_bytes_max,
            limits,
            now_ms: BEGIN_MS,
            cores: (0..config.core_count).map(core).collect(),
            connections: Vec::new(),
            lives: BTreeMap::new(),
            epochs: HashSet::new(),
            remembered: Vec::new(),
            begun_counts: BTreeMap::new(),
            heard: BTreeMap::new(),
            has_members: HashSet::new(),
            publication_count: 0,
            next_serial: 0,
            step_serial: 0,
            understated: None,
            replayed_count: 0,
            skipped_count: 0,
            has_ended: false,
        }
    }

    fn begin(&mut self, members: &[Early]) {
        for member in members {
            let connection = self.open(self.core(member.core), member.wire, member.window);
            for room in member.rooms {
                self.join(connection, ROOMS[room], Asked::Now);
            }
        }
        for core in 0..self.cores.len() {
            self.turn(core);
        }
        self.check();
    }

    fn take(&mut self, step: Step) {
        self.step_serial = self.next_serial;
        self.understated = None;
        match step {
            Step::Answer { connection } => self.with(connection, Self::answer),
            Step::Apply { core, count } => self.apply(self.core(core), count),
            Step::Close { connection } => self.with(connection, Self::send_close),
            Step::ComeBack {
                connection,
                core,
                window,
            } => {
                let core = self.core(core);
                self.with(connection, |world, it| world.come_back(it, core, window));
            }
            Step::Direct { connection } => self.with(connection, Self::direct),
            Step::Dissolve { room, is_tried } => self.dissolve(ROOMS[room], is_tried),
            Step::Emit {
                room,
                kind,
                padding_len,
                is_tried,
            } => self.emit(ROOMS[room], kind, padding_len, is_tried),
            Step::FanOut { core, work_max } => _ = self.fan_out(self.core(core), work_max),
            Step::Flush { core, queue, count } => self.flush_line(self.core(core), queue, count),
            Step::Gone { connection } => self.with(connection, |world, it| {
                if world.connections[it].open {
                    world.end(it);
                }
            }),
            Step::Join {
                connection,
                room,
                asked,
            } => self.with(connection, |world, it| world.join(it, ROOMS[room], asked)),
            Step::Leave { connection, room } => {
                self.with(connection, |world, it| world.leave(it, ROOMS[room]));
            }
            Step::LeaveAll { connection } => self.with(connection, Self::leave_all),
            Step::Open { core, wire, window } => {
                self.open(self.core(core), wire, window);
            }
            Step::Past {
                room,
                asked,
                publications_max,
                bytes_max,
            } => {
                let limits = PastLimits {
                    publications_max,
                    bytes_max,
                };
                self.read_past(ROOMS[room], asked, limits);
            }
            Step::Publish {
                room,
                padding_len,
                key,
                publisher,
                is_tried,
                is_understated,
            } => {
                let flags = (is_tried, is_understated);
                self.publish(ROOMS[room], padding_len, key, publisher, flags);
            }
            Step::Shut { connection } => self.with(connection, |world, it| {
                if world.connections[it].is_addressable() {
                    world.shut(it);
                }
            }),
            Step::Sweep => self.sweep(),
            Step::TakeMail { core } => {
                let core = self.core(core);
                self.cores[core].take_mail(&self.table);
            }
            Step::Tick { ms } => self.tick(ms),
            Step::Turn { core } => self.turn(self.core(core)),
            Step::Writable { connection, bytes } => self.with(connection, |world, it| {
                if world.connections[it].open {
                    world.make_writable(it, bytes);
                }
            }),
        }
    }

    fn core(&self, index: usize) -> usize {
        index % self.cores.len()
    }

    fn with(&mut self, connection: usize, act: impl FnOnce(&mut Self, usize)) {
        if !self.connections.is_empty() {
            act(self, connection % self.connections.len());
        }
    }

    // What any thread may ask of the table.

    fn since(&self, room: &'static str, asked: Asked) -> Since {
        let position = self.lives.get(room).map(Life::position);
        let position = position.unwrap_or(StreamPosition {
            epoch: Epoch(7),
            offset: 0,
        });
        let at = |offset| StreamPosition { offset, ..position };
        match asked {
            Asked::Nothing | Asked::Now => Since::Now,
            Asked::Last(count) => Since::Last(count),
            Asked::After(offset) => Since::Position(at(offset % (position.offset + 1))),
            Asked::Future(count) => Since::Position(at(position.offset.saturating_add(count))),
            Asked::Elsewhere => Since::Position(StreamPosition {
                epoch: Epoch::UNKNOWN,
                ..position
            }),
            Asked::Remembered(index) => {
                let of_the_room = self.remembered.iter().filter(|(of, _)| *of == room);
                let places: Vec<StreamPosition> = of_the_room.map(|(_, at)| *at).collect();
                match places.len() {
                    0 => Since::Position(at(0)),
                    count => Since::Position(places[index % count]),
                }
            }
        }
    }

    fn join(&mut self, connection: usize, room: &'static str, asked: Asked) {
        let since = self.since(room, asked);
        // Who does not speak the wire of histories cannot be replayed to.
        let is_told = !matches!(asked, Asked::Nothing) && self.connections[connection].wire == KEPT;
        self.join_since(connection, room, is_told.then_some(since));
    }

    fn join_since(&mut self, connection: usize, room: &'static str, since: Option<Since>) {
        let Connection { id, core, .. } = self.connections[connection];
        let member_count = self.member_count(room);
        let mark = u64::from(self.serial());
        let joined = match since {
            None => self.table.join(id, room),
            Some(since) => {
                let id_of_request = Some(mark);
                let request = JoinRequest {
                    id: id_of_request,
                    since,
                };
                self.table.join_since(id, room, request)
            }
        };
        let position = self.table.position(room).expect("it has a member");
        self.adopt(room, position, member_count, 0);
        if member_count == 0 {
            *self.begun_counts.entry(room).or_default() += 1;
            self.has_members.insert(room);
        }
        let stream = &self.lives[room];
        let told = since.map(|since| {
            let recovery = stream.recover(since);
            let replay = recovery.map_or(&[][..], |recovery| stream.since(recovery.first));
            Told {
                id: mark,
                position: stream.position(),
                recovery,
                replay: replay
                    .iter()
                    .map(|told| (told.offset, told.serial))
                    .collect(),
            }
        });
        let life = self.life(room);
        self.cores[core].log.push_back(Entry::Attach {
            connection,
            life,
            told,
        });
        self.check_backpressure(joined.expect("the name is a good one"), &[core]);
    }

    /// A room has this position: it is the stream that was known, or one that begins, of which so
    /// many were published.
    fn adopt(
        &mut self,
        room: &'static str,
        position: StreamPosition,
        member_count: u32,
        published_count: u64,
    ) {
        if let Some(life) = self.lives.get(room) {
            if life.epoch == position.epoch {
                assert_eq!(position.offset, life.offset() + published_count);
                return;
            }
            assert_eq!(member_count, 0, "members keep {room}");
            let is_kept = self.is_memory_ample && life.is_remembered();
            assert!(!is_kept, "{room} is forgotten too early");
        }
        assert_eq!(position.offset, published_count, "{room} begins");
        assert!(
            self.epochs.insert(position.epoch),
            "epochs are never used twice"
        );
        let class = *self.classes.of(room);
        self.lives
            .insert(room, Life::new(position.epoch, class, self.now_ms));
    }

    fn come_back(&mut self, gone: usize, core: usize, window: usize) {
        if self.connections[gone].open {
            return;
        }
        let places = self.last_places(gone);
        let connection = self.open(core, KEPT, window);
        for (room, position) in places {
            self.join_since(connection, room, Some(Since::Position(position)));
        }
    }

    fn leave(&mut self, connection: usize, room: &'static str) {
        let Connection { id, core, .. } = self.connections[connection];
        let exists = self.lives.contains_key(room);
        let backpressure = self.table.leave(id, room);
        if exists {
            let life = self.life(room);
            let log = &mut self.cores[core].log;
            log.push_back(Entry::Detach { connection, life });
            self.check_backpressure(backpressure, &[core]);
        }
    }

    fn leave_all(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        let log = &mut self.cores[core].log;
        log.push_back(Entry::DetachAll { connection });
        let backpressure = self.table.leave_all(id, Space::DEFAULT);
        self.check_backpressure(backpressure, &[core]);
    }

    fn dissolve(&mut self, room: &'static str, is_tried: bool) {
        let overloaded = is_tried && self.is_some_full(room);
        let dissolved = match is_tried {
            false => Ok(self.table.dissolve(room)),
            true => self.table.try_dissolve(room),
        };
        match dissolved {
            Ok(backpressure) => {
                assert!(!overloaded);
                let cores = self.listening(room);
                for core in &cores {
                    let life = self.life(room);
                    let log = &mut self.cores[*core].log;
                    log.push_back(Entry::Dissolve { life });
                }
                self.check_backpressure(backpressure, &cores);
            }
            Err(Overloaded { core }) => {
                assert!(overloaded && self.table.mailbox(core).is_full());
            }
        }
    }

    fn direct(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        let text = format!("direct {}", self.serial());
        let backpressure = self.table.direct(id, frame(&text));
        let log = &mut self.cores[core].log;
        log.push_back(Entry::Direct { connection, text });
        self.check_backpressure(backpressure, &[core]);
    }

    fn answer(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        let text = format!("answer {}", self.serial());
        let backpressure = self.table.answer(id, frame(&text));
        let log = &mut self.cores[core].log;
        log.push_back(Entry::Answer { connection, text });
        self.check_backpressure(backpressure, &[core]);
    }

    fn send_close(&mut self, connection: usize) {
        let Connection { id, core, .. } = self.connections[connection];
        self.cores[core].log.push_back(Entry::Close { connection });
        let backpressure = self.table.close(id, Disconnect::going_away());
        self.check_backpressure(backpressure, &[core]);
    }

    fn emit(&mut self, room: &'static str, kind: EventKind, padding_len: usize, is_tried: bool) {
        let serial = self.serial();
        let body = &body(serial, padding_len);
        let member_count = self.member_count(room);
        let overloaded = is_tried && self.is_some_full(room);
        let said = Said { room, body };
        let published = match is_tried {
            false => Ok(self
                .table
                .emit_as(kind, room, None, said)
                .expect("nothing is lacking")),
            true => self.table.try_emit_as(kind, room, None, said),
        };
        match published {
            Ok(published) => {
                assert!(!overloaded);
                assert_eq!(published.member_count, member_count);
                assert_eq!((published.position, published.duplicate), (None, false));
                self.publication_count += 1;
                let cores = self.deliver(room, What::Event { serial, kind });
                self.check_backpressure(published.backpressure, &cores);
            }
            Err(EmitError::Overloaded(Overloaded { core })) => {
                assert!(overloaded && self.table.mailbox(core).is_full());
            }
            Err(EmitError::Lacks(lacks)) => panic!("{lacks}"),
        }
    }

    fn publish(
        &mut self,
        room: &'static str,
        padding_len: usize,
        key: Option<u8>,
        publisher: Option<usize>,
        (is_tried, is_understated): (bool, bool),
    ) {
        let serial = self.serial();
        let body = &body(serial, padding_len);
        let key = key.map(|key| format!("key {key}"));
        let publisher = publisher.filter(|_| !self.connections.is_empty());
        let publisher = publisher.map(|it| it % self.connections.len());
        let (mut said, mut ack) = (Said { room, body }, Ack(serial));
        let overloaded = is_tried && self.is_some_full(room);
        let payload_len = if is_understated { 0 } else { body.len() };
        self.understated = is_understated.then_some(room);
        let outgoing = Outgoing {
            publication: &mut said,
            except: None,
            payload_len,
            key: key.as_deref(),
            at: Moment(self.now_ms),
            answer: publisher.map(|it| (self.connections[it].id, &mut ack as &mut dyn Acknowledge)),
        };
        let published = match is_tried {
            false => self.table.publish(room, outgoing),
            true => self.table.try_publish(room, outgoing),
        };
        let is_too_large = payload_len > self.classes.of(room).publication_bytes_max as usize;
        let published = match published {
            Ok(published) => published,
            Err(PublishError::TooLarge { .. }) => return assert!(is_too_large),
            Err(PublishError::Overloaded(Overloaded { core })) => {
                return assert!(overloaded && self.table.mailbox(core).is_full());
            }
            Err(error) => panic!("{error}"),
        };
        assert!(!is_too_large);
        let mut asked = match published.duplicate {
            true => self.check_repeat(room, key.as_deref(), published),
            false => {
                assert!(!overloaded);
                self.note_publication(room, (serial, body), key.as_deref(), published)
            }
        };
        if let Some(connection) = publisher {
            let text = ack_text(serial, published.position, published.duplicate);
            let core = self.connections[connection].core;
            let log = &mut self.cores[core].log;
            log.push_back(Entry::Answer { connection, text });
            asked.push(core);
        }
        self.check_backpressure(published.backpressure, &asked);
    }

    fn check_repeat(
        &self,
        room: &'static str,
        key: Option<&str>,
        published: Published,
    ) -> Vec<usize> {
        let life = self.lives.get(room).expect("its key is known");
        let known = life.known(key.expect("it has one"), self.now_ms, self.is_memory_ample);
        let position = published.position.expect("it is that of the first");
        assert_eq!(position.epoch, life.epoch);
        assert!(
            [Known::Yes(position.offset), Known::Perhaps(position.offset)].contains(&known),
            "{room} {key:?}: {known:?}, not {position:?}"
        );
        assert_eq!(published.member_count, self.member_count(room));
        Vec::new()
    }

    /// Writes a publication that was accepted to the list of all and to the logs of the cores.
    fn note_publication(
        &mut self,
        room: &'static str,
        (serial, body): (u32, &str),
        key: Option<&str>,
        published: Published,
    ) -> Vec<usize> {
        let (class, member_count) = (*self.classes.of(room), self.member_count(room));
        assert_eq!(published.member_count, member_count);
        self.publication_count += 1;
        let keeps_key = key.is_some() && class.key_window_ms > 0;
        let Some(position) = published.position else {
            assert_eq!(member_count, 0);
            let is_kept = class.history.is_on() || keeps_key;
            assert!(!is_kept || !self.is_memory_ample);
            return Vec::new();
        };
        if let (Some(key), Some(life)) = (key, self.lives.get(room)) {
            let known = life.known(key, self.now_ms, self.is_memory_ample);
            let is_known = matches!(known, Known::Yes(_)) && life.epoch == position.epoch;
            assert!(!is_known, "{room} {key}: {known:?}");
        }
        self.adopt(room, position, member_count, 1);
        let offset = position.offset;
        let frame_len = Said { room, body }.encode(KEPT, Some(offset)).len();
        let life = self.lives.get_mut(room).expect("it was adopted");
        life.publish(serial, frame_len, self.now_ms);
        if let Some(key) = key.filter(|_| keeps_key) {
            life.remember(key, self.now_ms);
        }
        self.deliver(room, What::Publication { serial, offset })
    }

    /// Writes something to the logs of the cores that must get it, and says which.
    fn deliver(&mut self, room: &'static str, what: What) -> Vec<usize> {
        let mut cores = Vec::new();
        for core in 0..self.cores.len() {
            let wires: Vec<Wire> = [Wire(0), KEPT]
                .into_iter()
                .filter(|wire| self.member_count_of(room, core, *wire) > 0)
                .collect();
            if !wires.is_empty() {
                let life = self.life(room);
                let log = &mut self.cores[core].log;
                log.push_back(Entry::Deliver { life, wires, what });
                cores.push(core);
            }
        }
        cores
    }

    fn read_past(&self, room: &'static str, asked: Asked, limits: PastLimits) {
        let since = self.since(room, asked);
        let past = self.table.past(room, since, limits);
        let Some(life) = self.lives.get(room) else {
            assert!(past.is_none());
            return;
        };
        let past = past.expect("the room exists");
        let recovery = life.recover(since);
        assert_eq!(past.recovery, recovery);
        let first = recovery.map_or_else(|| life.offset() + 1, |recovery| recovery.first);
        let bytes: Vec<u8> = past
            .frames
            .iter()
            .flat_map(|frame| frame.to_vec())
            .collect();
        let (texts, _) = texts(&bytes);
        let serials: Vec<(u64, u32)> = texts.iter().map(|text| serial_in(text)).collect();
        let held: Vec<(u64, u32)> = life
            .since(first)
            .iter()
            .map(|t| (t.offset, t.serial))
            .collect();
        assert!(held.starts_with(&serials));
        assert!(serials.len() <= limits.publications_max);
        assert!(bytes.len() <= limits.bytes_max || serials.len() == 1);
        let next = first + serials.len() as u64;
        assert_eq!(past.more, next <= life.offset());
        assert_eq!(
            (past.position.epoch, past.position.offset),
            (life.epoch, next - 1)
        );
        let is_cut = serials.len() == limits.publications_max;
        let next_len = life.since(next).first().map_or(0, |told| told.frame_len);
        assert!(!past.more || is_cut || bytes.len() + next_len > limits.bytes_max);
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for core in &mut self.cores {
            core.local.set_now(Moment(self.now_ms));
        }
    }

    fn sweep(&mut self) {
        for core in 0..self.cores.len() {
            self.table.sweep(core_id(core), Moment(self.now_ms));
        }
        self.lives
            .values_mut()
            .for_each(|life| life.sweep(self.now_ms));
    }

    // What a core does.

    fn open(&mut self, core: usize, wire: Wire, window: usize) -> usize {
        let open = self.cores[core].local.open_on(wire);
        let id = open.expect("there are 16 million slots");
        assert_eq!((id.core(), id.wire()), (core_id(core), wire));
        self.connections.push(Connection {
            id,
            core,
            wire,
            open: true,
            rooms: Vec::new(),
            has_rejoined: false,
            expected: Vec::new(),
            ephemeral: Vec::new(),
            last: None,
            socket: Socket::new(window),
            allowed_bytes: 0,
            has_skipped: false,
        });
        self.connections.len() - 1
    }

    /// Ends a connection whose socket is gone; it may have received less than it was sent.
    fn end(&mut self, connection: usize) {
        self.note_pressure(self.connections[connection].core);
        self.check_received(connection, false);
        let places = self.last_places(connection);
        self.remembered.extend(places);
        self.has_ended = true;
        let ended = &mut self.connections[connection];
        ended.open = false;
        ended.rooms.clear();
        let local = &mut self.cores[ended.core].local;
        local.close(ended.id.slot(), &self.table);
    }

    /// The last publication that a connection has received of each room.
    fn last_places(&self, connection: usize) -> Vec<(&'static str, StreamPosition)> {
        let (texts, _) = texts(&self.connections[connection].socket.received);
        let mut places = BTreeMap::new();
        for text in &texts {
            let Item::Publication { room, offset, .. } = Item::of(text) else {
                continue;
            };
            let Some(life) = self.lives.get(&*room) else {
                continue;
            };
            let (_, serial) = serial_in(text);
            let is_of_this_life = life
                .since(offset)
                .first()
                .is_some_and(|t| t.serial == serial);
            if is_of_this_life {
                let position = StreamPosition {
                    offset,
                    ..life.position()
                };
                places.insert(static_name(&room), position);
            }
        }
        places.into_iter().collect()
    }

    fn turn(&mut self, core: usize) {
        self.cores[core].take_mail(&self.table);
        self.apply(core, usize::MAX);
        while !self.fan_out(core, 3) {}
        self.flush_line(core, FlushQueue::Bulk, usize::MAX);
        self.flush_line(core, FlushQueue::Prompt, usize::MAX);
        assert!(!self.cores[core].local.has_flushes());
    }

    fn apply(&mut self, core: usize, count: usize) {
        for _ in 0..count {
            let Some(command) = self.cores[core].inbox.pop_front() else {
                return;
            };
            if let Command::Deliver { to, delivery, .. } = &command {
                self.deliver_on(core, to.wire(), *delivery);
                assert!(self.cores[core].local.apply(command, &self.table).is_none());
                continue;
            }
            self.note_pressure(core);
            let effect = self.cores[core].local.apply(command, &self.table);
            match effect {
                Some(Effect::RoomCreated { name, .. }) => self.hear(&name, true),
                Some(Effect::RoomRemoved { name, .. }) => self.hear(&name, false),
                effect => {
                    let entry = self.cores[core].log.pop_front();
                    let entry = entry.expect("nobody asked for this");
                    self.apply_entry(core, &entry, effect);
                }
            }
            self.note_pressure(core);
        }
    }

    /// Carries out a delivery in the model, for the members that speak one wire.
    fn deliver_on(&mut self, core: usize, wire: Wire, delivery: Delivery) {
        let log = &mut self.cores[core].log;
        let Some(Entry::Deliver { life, wires, what }) = log.front_mut() else {
            panic!("a delivery comes where {:?} should", log.front());
        };
        let (life, what) = (*life, *what);
        let index = wires.iter().position(|it| *it == wire);
        wires.swap_remove(index.expect("each wire has one"));
        if wires.is_empty() {
            log.pop_front();
        }
        let (of_what, expected) = match what {
            What::Event { serial, kind } => (
                Delivery::Event(kind),
                Expected::Event {
                    room: life.room,
                    serial,
                    kind,
                    is_excused: false,
                },
            ),
            What::Publication { serial, offset } => (
                Delivery::Publication(offset),
                Expected::Publication {
                    room: life.room,
                    offset,
                    serial,
                    is_replayed: false,
                },
            ),
        };
        assert_eq!(delivery, of_what);
        for member in &mut self.connections {
            if member.core == core && member.wire == wire && member.rooms.contains(&life) {
                if matches!(what, What::Event { .. }) {
                    member.ephemeral.push(member.expected.len());
                }
                member.expected.push(expected.clone());
            }
        }
    }

    /// Carries out what the core did in the model, and what the core asks for in both.
    fn apply_entry(&mut self, core: usize, entry: &Entry, effect: Option<Effect>) {
        match entry {
            Entry::Attach {
                connection,
                life,
                told,
            } => self.attach(*connection, *life, told.as_ref(), effect),
            Entry::Close { connection } if self.connections[*connection].is_addressable() => {
                let Some(Effect::Close { connection: id, .. }) = effect else {
                    panic!("{entry:?} closes, not {effect:?}");
                };
                assert_eq!(id, self.connections[*connection].id);
                self.shut(*connection);
            }
            Entry::Deliver { .. } => panic!("{entry:?} comes on the wires {core} has"),
            Entry::Detach { connection, life } => {
                assert!(effect.is_none());
                let rooms = &mut self.connections[*connection].rooms;
                rooms.retain(|joined| joined != life);
            }
            Entry::DetachAll { connection } => {
                assert!(effect.is_none());
                self.connections[*connection].rooms.clear();
            }
            Entry::Dissolve { life } => {
                assert!(effect.is_none());
                for connection in self.connections.iter_mut().filter(|it| it.core == core) {
                    connection.rooms.retain(|joined| joined != life);
                }
            }
            Entry::Answer { connection, text } | Entry::Direct { connection, text } => {
                assert!(effect.is_none());
                let to = &mut self.connections[*connection];
                if to.is_addressable() {
                    let text = text.clone();
                    to.expected.push(match entry {
                        Entry::Answer { .. } => Expected::Answer(text),
                        _ => Expected::Direct { text, joined: None },
                    });
                }
            }
            Entry::Close { .. } => assert!(effect.is_none()),
        }
    }

    fn attach(
        &mut self,
        connection: usize,
        life: LifeOf,
        told: Option<&Told>,
        effect: Option<Effect>,
    ) {
        let joining = &mut self.connections[connection];
        if !joining.is_addressable() {
            assert!(effect.is_none(), "it is gone, not {effect:?}");
            return;
        }
        let already = joining.rooms.contains(&life);
        if !already && joining.rooms.len() == self.limits.rooms_per_connection_max {
            let Some(Effect::JoinRefused {
                connection: id,
                room,
                id: mark,
            }) = effect
            else {
                panic!("{life:?} is one too many, not {effect:?}");
            };
            assert_eq!((id, &*room.name), (joining.id, life.room));
            assert_eq!(mark, told.map(|told| told.id));
            self.push(
                connection,
                format!("refused {}", told.map_or(0, |t| t.id)),
                None,
            );
            return;
        }
        if !already {
            joining.rooms.push(life);
            let way = self.classes.of(life.room).slow_consumer;
            joining.has_skipped |= way != SlowConsumer::Disconnect;
            let is_again = |it: &Expected| match it {
                Expected::Publication { room, .. } => *room == life.room,
                _ => false,
            };
            joining.has_rejoined |= joining.expected.iter().any(is_again);
        }
        match (told, effect) {
            (None, None) => {}
            (Some(told), Some(effect)) => self.welcome(connection, life, told, already, effect),
            (told, effect) => panic!("{told:?} is told by {effect:?}"),
        }
    }

    /// Answers a join as the server does, and looks at what it is answered with.
    fn welcome(
        &mut self,
        connection: usize,
        life: LifeOf,
        told: &Told,
        is_already: bool,
        effect: Effect,
    ) {
        let Effect::Joined {
            connection: id,
            room: handle,
            joined,
            already,
        } = effect
        else {
            panic!("{told:?} is told, not {effect:?}");
        };
        let joining = &self.connections[connection];
        assert_eq!((id, &*handle.name), (joining.id, life.room));
        assert_eq!((joined.id, joined.position), (Some(told.id), told.position));
        assert_eq!((joined.recovery, already), (told.recovery, is_already));
        let bytes: Vec<u8> = joined
            .replay
            .iter()
            .flat_map(|frame| frame.to_vec())
            .collect();
        let replay: Vec<(u64, u32)> = texts(&bytes).0.iter().map(|text| serial_in(text)).collect();
        assert_eq!(replay, told.replay);
        let text = format!("joined {}", told.id);
        if already {
            return self.push(connection, text, None);
        }
        self.push(connection, text, Some(life.room));
        self.replayed_count += replay.len() as u64;
        let joining = &mut self.connections[connection];
        for (offset, serial) in replay {
            joining.expected.push(Expected::Publication {
                room: life.room,
                offset,
                serial,
                is_replayed: true,
            });
        }
        let (bytes_max, slot) = (self.limits.outbox_bytes_max as usize, joining.id.slot());
        let local = &mut self.cores[joining.core].local;
        let pending_bytes = local.outbox(slot).pending_bytes() as usize;
        let is_over = pending_bytes + bytes.len() > bytes_max;
        if is_over && joining.allowed_bytes <= 16 * bytes_max {
            joining.allowed_bytes += bytes.len();
        }
        local.replay(slot, &handle, &joined);
    }

    /// Queues what a core answers a connection itself, at once.
    fn push(&mut self, connection: usize, text: String, joined: Option<&'static str>) {
        let answered = &mut self.connections[connection];
        let local = &mut self.cores[answered.core].local;
        local.push(answered.id.slot(), &frame(&text), FlushQueue::Prompt);
        answered.expected.push(Expected::Direct { text, joined });
    }

    /// Sends a connection the last that it is sent.
    fn shut(&mut self, connection: usize) {
        let text = format!("last {}", self.serial());
        self.has_ended = true;
        let shut = &mut self.connections[connection];
        shut.last = Some(text.clone());
        shut.rooms.clear();
        let local = &mut self.cores[shut.core].local;
        local.shut(shut.id.slot(), &frame(&text), &self.table);
    }

    fn hear(&mut self, name: &str, begins: bool) {
        self.heard
            .entry(static_name(name))
            .or_default()
            .push(begins);
    }

    /// Fans out about so much; false if some is left.
    fn fan_out(&mut self, core: usize, work_max: usize) -> bool {
        self.note_pressure(core);
        let done = self.cores[core].local.fan_out_some(work_max);
        self.note_pressure(core);
        self.handle_overflow(core);
        done
    }

    /// Ephemeral events may be missing for whom much waits, and where only the latest waits if
    /// anything does.
    fn note_pressure(&mut self, core: usize) {
        let local = &self.cores[core].local;
        // In a small outbox one event may be what does not fit.
        let is_small = self.limits.outbox_bytes_max < 1 << 20;
        let much = if is_small {
            0
        } else {
            self.limits.outbox_bytes_max / 4
        };
        for connection in &mut self.connections {
            if connection.core != core || !connection.open || connection.ephemeral.is_empty() {
                continue;
            }
            let Connection {
                expected,
                ephemeral,
                ..
            } = connection;
            let slot = connection.id.slot();
            let outbox = local.outbox(slot);
            let is_pressed = outbox.pending_bytes() > much || local.has_overflow();
            let waits = outbox.has_rest() || local.is_blocked(slot);
            ephemeral.retain(|index| {
                let Expected::Event {
                    room, is_excused, ..
                } = &mut expected[*index]
                else {
                    return false;
                };
                let is_latest = self.classes.of(*room).slow_consumer == SlowConsumer::Latest;
                *is_excused = is_pressed || waits && is_latest;
                !*is_excused
            });
        }
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
                let slow = &self.connections[member];
                assert_eq!(slow.socket.window, 0, "its socket takes no more");
                let pending_bytes = self.cores[core].local.outbox(overflow.slot).pending_bytes();
                let would_be = pending_bytes as usize + overflow.frame.len();
                let bytes_max = self.limits.outbox_bytes_max as usize + slow.allowed_bytes;
                assert!(pending_bytes > 0 && would_be > bytes_max);
                assert!(
                    self.is_firm(&overflow.frame, slow) || slow.has_rejoined,
                    "what can be skipped closes nobody"
                );
                self.cores[core]
                    .local
                    .drop_memberships(overflow.slot, &self.table);
                self.shut(member);
            }
        }
    }

    /// Returns whether frames must not be left out: what is replayed must not, whatever the room.
    fn is_firm(&self, frame: &SharedFrame, to: &Connection) -> bool {
        let (texts, _) = texts(frame);
        texts.iter().any(|text| match Item::of(text) {
            Item::Publication { room, .. } => {
                let (_, serial) = serial_in(text);
                self.way_of(&room) == SlowConsumer::Disconnect || to.is_replayed(serial)
            }
            // Of ephemeral events it is not known here.
            Item::Event { .. } | Item::Text(_) => true,
            Item::Gap { .. } => false,
        })
    }

    fn way_of(&self, room: &str) -> SlowConsumer {
        self.classes.of(room).slow_consumer
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
        if flushed.socket.flush(local, slot) {
            flushed.allowed_bytes = 0;
        }
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
        let mut all = self.connections.iter();
        let found = all.position(|it| it.id == id && it.open);
        found.expect("what a core names is open")
    }

    // What the model knows.

    const fn serial(&mut self) -> u32 {
        self.next_serial += 1;
        self.next_serial
    }

    fn life(&self, room: &'static str) -> LifeOf {
        let epoch = self.lives[room].epoch;
        LifeOf { room, epoch }
    }

    /// Returns how many members a core has on a wire, with those on their way.
    fn member_count_of(&self, room: &str, core: usize, wire: Wire) -> u32 {
        let is_here = |it: &&Connection| it.core == core && it.wire == wire;
        let of_the_room = |life: &LifeOf| life.room == room;
        let here = self.connections.iter().filter(is_here);
        let here: usize = here
            .map(|it| it.rooms.iter().filter(|life| of_the_room(life)).count())
            .sum();
        let log = self.cores[core].log.iter();
        let coming = log.filter(|entry| match entry {
            Entry::Attach {
                life, connection, ..
            } => of_the_room(life) && self.connections[*connection].wire == wire,
            _ => false,
        });
        u32::try_from(here + coming.count()).expect("there are few")
    }

    fn member_count(&self, room: &str) -> u32 {
        let cores = 0..self.cores.len();
        cores
            .flat_map(|core| [(core, Wire(0)), (core, KEPT)])
            .map(|(core, wire)| self.member_count_of(room, core, wire))
            .sum()
    }

    /// The cores that have members of a room, on whatever wire.
    fn listening(&self, room: &str) -> Vec<usize> {
        let listens = |core: &usize| {
            [Wire(0), KEPT]
                .iter()
                .any(|wire| self.member_count_of(room, *core, *wire) > 0)
        };
        (0..self.cores.len()).filter(listens).collect()
    }

    /// Returns whether a core with members of the room has too much to do.
    fn is_some_full(&self, room: &str) -> bool {
        let mut listening = self.listening(room).into_iter();
        listening.any(|core| is_full(&self.table, core))
    }

    // What must be so.

    fn check_backpressure(&self, backpressure: Backpressure, asked: &[usize]) {
        cores::check_backpressure(&self.table, backpressure, asked);
    }

    /// Returns what is so after every step.
    fn check(&mut self) {
        for room in ROOMS {
            self.check_room(room);
        }
        self.check_memory();
        let totals = self.table.totals();
        assert_eq!(totals.rooms, self.has_members.len());
        let forgotten_later = self.lives.len() - self.has_members.len();
        assert_eq!(totals.rooms_without_members, forgotten_later);
        assert_eq!(totals.publications, self.publication_count);
        for core in 0..self.cores.len() {
            self.note_pressure(core);
        }
        for index in 0..self.connections.len() {
            self.check_connection(index);
        }
    }

    /// A room is remembered as long as it must be, and no longer than it may.
    fn check_room(&mut self, room: &'static str) {
        let member_count = self.member_count(room);
        assert_eq!(self.table.member_count(room), member_count);
        if member_count == 0
            && self.has_members.remove(room)
            && let Some(life) = self.lives.get_mut(room)
        {
            life.leave(self.now_ms);
        }
        let observed = self.table.position(room);
        let Some(life) = self.lives.get(room) else {
            assert_eq!(observed, None, "{room} was never begun");
            return;
        };
        if observed.is_some() {
            assert_eq!(observed, Some(life.position()));
            let is_wanted = member_count > 0 || life.is_remembered() || life.may_be_remembered();
            assert!(is_wanted, "{room} is remembered for nothing");
            return;
        }
        assert_eq!(member_count, 0);
        let is_kept = self.is_memory_ample && life.is_remembered();
        assert!(!is_kept, "{room} is forgotten too early");
        self.lives.remove(room);
    }

    /// Returns what is held is what the limits say, or less if there is no memory; then what
    /// expires first went first.
    fn check_memory(&mut self) {
        let totals = self.table.totals();
        assert!(totals.history_bytes <= self.history_bytes_max, "{totals:?}");
        if self.is_memory_ample {
            assert_eq!(totals.evictions, 0);
        }
        let (mut last_gone, mut first_held) = (0, u64::MAX);
        for (room, life) in &mut self.lives {
            let all = PastLimits {
                publications_max: usize::MAX,
                bytes_max: usize::MAX,
            };
            let past = self.table.past(*room, Since::Last(u32::MAX), all);
            let recovery = past.and_then(|past| past.recovery);
            let first = recovery.expect("the room exists").first;
            if self.is_memory_ample {
                assert_eq!(first, life.first_offset(), "of {room}");
                continue;
            }
            // Memory is made for what is announced. If there is none for what it is, all that its
            // room had goes, and nothing of others.
            let is_own_fault = self.understated == Some(*room) && first > life.offset();
            for (offset, expires_ms) in life.expiries() {
                let serial = life.since(offset)[0].serial;
                if offset < first && is_own_fault {
                    continue;
                }
                if offset < first {
                    last_gone = last_gone.max(expires_ms);
                } else if serial <= self.step_serial {
                    first_held = first_held.min(expires_ms);
                }
            }
            life.evict(first);
        }
        if self.is_one_shard {
            assert!(
                last_gone <= first_held,
                "{last_gone} went before {first_held}"
            );
        }
    }

    fn check_connection(&self, index: usize) {
        let connection = &self.connections[index];
        let local = &self.cores[connection.core].local;
        let slot = local.slot_of(connection.id);
        let is_addressable = connection.is_addressable();
        assert_eq!(slot, is_addressable.then_some(connection.id.slot()));
        let Some(slot) = slot else { return };
        let mut rooms: Vec<&str> = local.rooms_of(slot).map(|room| &*room.name).collect();
        let mut expected: Vec<&str> = connection.rooms.iter().map(|life| life.room).collect();
        rooms.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rooms, expected);
        let outbox = local.outbox(slot);
        let bytes_max = self.limits.outbox_bytes_max as usize + connection.allowed_bytes;
        let bytes_max = outbox.bound(u32::try_from(bytes_max).expect("it is not much")) as usize;
        let beyond = if connection.has_skipped {
            // The newest may be over the bound, and a gap for each room.
            bytes_max + self.limits.rooms_per_connection_max * 120
        } else {
            0
        };
        assert!(
            outbox.pending_bytes() as usize <= bytes_max + beyond,
            "what waits has a bound"
        );
    }

    /// Returns what arrived at a connection is what was sent, or the beginning of it.
    fn check_received(&self, index: usize, is_complete: bool) -> u64 {
        let connection = &self.connections[index];
        let (texts, rest) = texts(&connection.socket.received);
        assert!(!is_complete || rest.is_empty(), "nothing is cut off");
        let mut items: Vec<Item> = texts.iter().map(|text| Item::of(text)).collect();
        let last = connection.last.clone().map(Item::Text);
        let is_shut = last.is_some() && items.last() == last.as_ref();
        assert!(!is_complete || last.is_none() || is_shut);
        if is_shut {
            items.pop();
        }
        // Who was shut may have missed what waited then.
        let is_all = is_complete && last.is_none();
        let (expected, Wire(wire)) = (&connection.expected, connection.wire);
        let way_of = |room: &str| self.way_of(room);
        expected::check(expected, &items, wire, is_all, way_of).publications
    }

    /// Lets everything arrive, then ends every connection, and looks at what is left: nothing.
    fn settle_down(&mut self) {
        for connection in 0..self.connections.len() {
            if self.connections[connection].open {
                self.make_writable(connection, 1 << 30);
            }
        }
        self.turn_until_quiet();
        self.check();
        let has_ended = self.has_ended;
        for connection in 0..self.connections.len() {
            if self.connections[connection].open {
                self.skipped_count += self.check_received(connection, true);
                self.end(connection);
            }
        }
        let counts = self.cores.iter().map(|core| core.local.counts());
        let (skipped, replayed) = counts.fold((0, 0), |(skipped, replayed), counts| {
            (skipped + counts.skipped, replayed + counts.replayed)
        });
        assert_eq!(replayed, self.replayed_count);
        assert!(skipped >= self.skipped_count);
        assert!(
            has_ended || skipped == self.skipped_count,
            "{skipped} were skipped"
        );
        self.turn_until_quiet();
        self.check();
        self.tick(BEGIN_MS);
        self.sweep();
        self.check();
        assert!(self.lives.is_empty());
        assert!(!self.table.keeps_something(), "all memory is given back");
        for room in ROOMS {
            let heard = self.heard.remove(room).unwrap_or_default();
            let begun_count = self.begun_counts.get(room).copied().unwrap_or(0);
            assert_eq!(heard, [true, false].repeat(begun_count));
        }
    }

    fn turn_until_quiet(&mut self) {
        loop {
            for core in 0..self.cores.len() {
                self.turn(core);
            }
            if is_quiet(&self.table, &self.cores) {
                return;
            }
        }
    }
}

impl Connection {
    /// Returns whether anything may still be sent to it.
    const fn is_addressable(&self) -> bool {
        self.open && self.last.is_none()
    }

    /// Returns whether it was replayed the publication with this serial number.
    fn is_replayed(&self, of: u32) -> bool {
        let is_it = |it: &Expected| match it {
            Expected::Publication {
                serial,
                is_replayed,
                ..
            } => *is_replayed && *serial == of,
            _ => false,
        };
        self.expected.iter().any(is_it)
    }
}

/// A number, and padding.
fn body(serial: u32, padding_len: usize) -> String {
    format!("{serial}.{}", "x".repeat(padding_len))
}

/// The offset and the serial number of a publication.
fn serial_in(text: &str) -> (u64, u32) {
    let Item::Publication { offset, body, .. } = Item::of(text) else {
        panic!("{text} is no publication");
    };
    let (serial, _) = body
        .split_once('.')
        .expect("a body is a number and padding");
    (
        offset,
        serial.parse().expect("a body is a number and padding"),
    )
}

fn static_name(name: &str) -> &'static str {
    let found = ROOMS.iter().find(|room| **room == name);
    found.expect("there are no others")
}

/// The wire whose frames histories keep.
const KEPT: Wire = Wire(1);

/// When a case begins; as long as that no class remembers anything.
const BEGIN_MS: u64 = 1_000_000_000;
