//! A table and its cores, for tests that read as transcripts.
//!
//! A socket takes nothing before it is read from. Until then everything waits in its outbox, which
//! is offered to a socket only where an outbox that is full asks for it.

use std::collections::HashMap;
use std::io::IoSlice;

use throng_rooms::{
    Classes, Command, ConnectionId, CoreId, Effect, EventKind, FlushQueue, JoinRequest, Joined,
    LocalLimits, LocalRooms, Outgoing, PublishError, Published, RoomClass, RoomTable, Since,
    StreamPosition, TableConfig, Wire,
};

use crate::frames::{Said, frame, texts};

/// A wire whose frames no history keeps.
pub(crate) const PLAIN: Wire = Wire(0);

/// The wire whose frames histories keep.
pub(crate) const KEPT: Wire = Wire(1);

pub(crate) struct House {
    pub(crate) table: RoomTable,
    pub(crate) cores: Vec<LocalRooms>,
    pub(crate) now_ms: u64,
    /// The bytes that sockets were sent and that are not read yet.
    sent: HashMap<ConnectionId, Vec<u8>>,
    /// The connections that were closed because they were too slow.
    pub(crate) closed: Vec<ConnectionId>,
    /// The connections to close for having left their last room, as often as that was reported.
    pub(crate) left: Vec<ConnectionId>,
}

impl House {
    /// Every room is of this class, and one core has all members.
    pub(crate) fn of(class: RoomClass) -> Self {
        Self::with(config_of(class), LocalLimits::default())
    }

    pub(crate) fn with(config: TableConfig, limits: LocalLimits) -> Self {
        let core_count = u8::try_from(config.core_count).expect("there are at most 256");
        let cores = (0..core_count).map(|core| LocalRooms::new(CoreId(core), limits));
        Self {
            table: RoomTable::new(config),
            cores: cores.collect(),
            now_ms: NOON_MS,
            sent: HashMap::new(),
            closed: Vec::new(),
            left: Vec::new(),
        }
    }

    pub(crate) fn open(&mut self, core: usize, wire: Wire) -> ConnectionId {
        let open = self.cores[core].open_on(wire);
        open.expect("there are 16 million slots")
    }

    /// A connection on the wire of histories, at home in the only core, that is a member of a room.
    pub(crate) fn open_in(&mut self, room: &str) -> ConnectionId {
        let connection = self.open(0, KEPT);
        let joined = self.table.join(connection, room);
        joined.expect("the name is a good one");
        self.turn();
        connection
    }

    /// Joins, and is told.
    pub(crate) fn join(&self, connection: ConnectionId, room: &str, since: Since) {
        let request = JoinRequest { id: None, since };
        let joined = self.table.join_since(connection, room, request);
        joined.expect("the name is a good one");
    }

    /// The connection is gone without a word.
    pub(crate) fn cut(&mut self, connection: ConnectionId) {
        let core = &mut self.cores[connection.core().index()];
        core.set_now(throng_rooms::Moment(self.now_ms));
        core.close(connection.slot(), &self.table);
    }

    pub(crate) fn publish(&self, room: &str, body: &str) -> Published {
        self.try_publish(room, body, None)
            .expect("it is not refused")
    }

    pub(crate) fn publish_keyed(&self, room: &str, body: &str, key: &str) -> Published {
        self.try_publish(room, body, Some(key))
            .expect("it is not refused")
    }

    pub(crate) fn try_publish(
        &self,
        room: &str,
        body: &str,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        let outgoing = Outgoing {
            publication: &mut Said { room, body },
            except: None,
            payload_len: body.len(),
            key,
            at: throng_rooms::Moment(self.now_ms),
            answer: None,
        };
        self.table.publish(room, outgoing)
    }

    pub(crate) fn emit(&self, kind: EventKind, room: &str, body: &str) {
        let emitted = self.table.emit_as(kind, room, None, Said { room, body });
        emitted.expect("it lacks no frame");
    }

    /// Returns where the room's stream is.
    pub(crate) fn position(&self, room: &str) -> StreamPosition {
        self.table.position(room).expect("the room exists")
    }

    /// The first and the last offset that are held of a room; if none is, the last comes first.
    pub(crate) fn held(&self, room: &str) -> (u64, u64) {
        let limits = throng_rooms::PastLimits {
            publications_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let past = self.table.past(room, Since::Last(u32::MAX), limits);
        let past = past.expect("the room exists");
        let recovery = past.recovery.expect("it was asked for");
        (recovery.first, past.position.offset)
    }

    /// Every core carries out what it was asked and fans out.
    pub(crate) fn turn(&mut self) {
        for core in 0..self.cores.len() {
            self.apply(core);
            self.cores[core].fan_out();
            self.resolve_overflow(core);
        }
    }

    /// Carries out what a core was asked, without fanning out.
    pub(crate) fn apply(&mut self, core: usize) {
        let mut commands: Vec<Command> = Vec::new();
        let id = CoreId(u8::try_from(core).expect("there are at most 256"));
        self.table.mailbox(id).drain(&mut commands);
        self.cores[core].set_now(throng_rooms::Moment(self.now_ms));
        for command in commands {
            match self.cores[core].apply(command, &self.table) {
                None => {}
                Some(Effect::Joined {
                    connection,
                    room,
                    joined,
                    already,
                }) => {
                    let answer = frame(&answer_of(&room.name, &joined, already));
                    let local = &mut self.cores[core];
                    local.push(connection.slot(), &answer, FlushQueue::Prompt);
                    if !already {
                        local.replay(connection.slot(), &room, &joined);
                    }
                }
                Some(Effect::LastRoomLeft { connections }) => self.left.extend(connections),
                Some(effect) => panic!("nobody asked for {effect:?}"),
            }
        }
    }

    /// Returns what a full outbox holds is offered to its socket, which takes nothing if it is
    /// blocked.
    fn resolve_overflow(&mut self, core: usize) {
        for overflow in self.cores[core].take_overflow(usize::MAX) {
            let slot = overflow.slot;
            if !self.cores[core].is_blocked(slot) {
                self.flush(self.cores[core].id_of(slot));
            }
            if self.cores[core].push_again(&overflow) {
                continue;
            }
            let connection = self.cores[core].id_of(slot);
            if !self.closed.contains(&connection) {
                self.closed.push(connection);
                self.cores[core].shut(slot, &frame("bye"), &self.table);
            }
        }
    }

    /// The socket takes no more.
    pub(crate) fn block(&mut self, connection: ConnectionId) {
        self.cores[connection.core().index()].set_blocked(connection.slot(), true);
    }

    fn flush(&mut self, connection: ConnectionId) {
        let core = &mut self.cores[connection.core().index()];
        let sent = self.sent.entry(connection).or_default();
        loop {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = core
                .outbox(connection.slot())
                .slices(&mut slices, usize::MAX);
            if count == 0 {
                return;
            }
            let before = sent.len();
            slices[..count]
                .iter()
                .for_each(|slice| sent.extend_from_slice(slice));
            let taken = sent.len() - before;
            core.advance(connection.slot(), taken);
        }
    }

    /// Everything that was sent to a connection and not read yet. Its socket takes everything
    /// again.
    pub(crate) fn read(&mut self, connection: ConnectionId) -> Vec<String> {
        let core = &mut self.cores[connection.core().index()];
        core.set_blocked(connection.slot(), false);
        self.flush(connection);
        let sent = self.sent.remove(&connection).unwrap_or_default();
        let (texts, rest) = texts(&sent);
        assert!(rest.is_empty(), "nothing is cut off");
        texts
    }

    /// Returns what a connection hears, in one line.
    pub(crate) fn hear(&mut self, connection: ConnectionId) -> String {
        self.read(connection).join(", ")
    }

    pub(crate) fn pending_bytes(&self, connection: ConnectionId) -> u32 {
        let core = &self.cores[connection.core().index()];
        core.outbox(connection.slot()).pending_bytes()
    }

    /// Lets time go by; every core looks at what has expired.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        for core in 0..self.cores.len() {
            self.cores[core].set_now(throng_rooms::Moment(self.now_ms));
            let id = CoreId(u8::try_from(core).expect("there are at most 256"));
            self.table.sweep(id, throng_rooms::Moment(self.now_ms));
        }
    }
}

/// Returns how the answer to a join reads.
fn answer_of(room: &str, joined: &Joined, already: bool) -> String {
    let offset = joined.position.offset;
    let mut answer = format!("joined {room} at {offset}");
    if already {
        answer += " already";
    } else if let Some(recovery) = joined.recovery {
        answer += &format!(" from {}", recovery.first);
        match recovery.recovered {
            None => {}
            Some(true) => answer += " recovered",
            Some(false) => answer += " not recovered",
        }
    }
    answer
}

/// One core, one shard, every room of this class.
pub(crate) fn config_of(class: RoomClass) -> TableConfig {
    TableConfig {
        shard_count: 1,
        mailbox_bytes_max: 1 << 30,
        classes: Classes::new(Vec::new(), class),
        history_wire: KEPT,
        ..TableConfig::default()
    }
}

/// Some time of day, in Unix milliseconds.
const NOON_MS: u64 = 1_700_000_000_000;
