//! The server's side of the network: cores that read, apply, fan out and flush as the real one
//! does.

use std::collections::BTreeMap;
use std::io::IoSlice;

use proto::SharedFrame;
use throng_rooms::{
    Acknowledge, Command, ConnectionId, CoreId, Effect, FlushQueue, JoinRequest, LocalLimits,
    LocalRooms, Moment, Outgoing, RoomTable, Slot, StreamPosition, Wire,
};

use crate::frames::{Said, frame};
use crate::link::{Link, Request};
use crate::{KEPT, name};

pub(crate) struct Server {
    pub(crate) table: RoomTable,
    pub(crate) cores: Vec<Core>,
    /// All that was published, in its order.
    pub(crate) stream: Stream,
    pub(crate) event_count: u64,
}

/// All that was published, by room, epoch and offset.
pub(crate) type Stream = BTreeMap<(usize, (u64, u64)), String>;

pub(crate) struct Core {
    id: CoreId,
    local: LocalRooms,
    /// By slot.
    sockets: BTreeMap<Slot, Socket>,
    commands: Vec<Command>,
}

pub(crate) struct Socket {
    pub(crate) id: ConnectionId,
    pub(crate) link: Link,
    /// It has been sent its last frame, at this time.
    closing_since_ms: Option<u64>,
}

/// The time that a client has to read that it is closed, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 2000;

struct Ack<'a> {
    room: usize,
    key: &'a str,
}

impl Acknowledge for Ack<'_> {
    fn acknowledge(&mut self, position: Option<StreamPosition>, _: bool) -> SharedFrame {
        let position = position.expect("rooms keep what is published to them");
        let (epoch, offset) = (position.epoch.0, position.offset);
        // Epochs are random: with one length they change nothing of what fits where.
        let text = format!("ack {} {} {epoch:020} {offset}", self.room, self.key);
        frame(&text)
    }

    fn refuse(&mut self) -> SharedFrame {
        panic!("nothing is written down here");
    }
}

impl Server {
    pub(crate) fn new(table: RoomTable, core_count: u8, limits: LocalLimits) -> Self {
        let core = |id| Core {
            id: CoreId(id),
            local: LocalRooms::new(CoreId(id), limits),
            sockets: BTreeMap::new(),
            commands: Vec::new(),
        };
        Self {
            table,
            cores: (0..core_count).map(core).collect(),
            stream: Stream::new(),
            event_count: 0,
        }
    }

    pub(crate) fn accept(&mut self, core: usize, wire: Wire, link: Link) -> ConnectionId {
        let core = &mut self.cores[core];
        let id = core.local.open_on(wire);
        let id = id.expect("there are 16 million slots");
        let closing_since_ms = None;
        let socket = Socket {
            id,
            link,
            closing_since_ms,
        };
        core.sockets.insert(id.slot(), socket);
        id
    }

    /// The link of a connection that the server has not forgotten.
    pub(crate) fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        let core = &mut self.cores[id.core().index()];
        let socket = core.sockets.get_mut(&id.slot())?;
        (socket.id == id).then_some(&mut socket.link)
    }

    /// Returns what each core does in a turn.
    pub(crate) fn turn(&mut self, now_ms: u64) {
        for core in 0..self.cores.len() {
            self.cores[core].local.set_now(Moment(now_ms));
            self.read(core, now_ms);
            self.cores[core].apply(&self.table);
            let late = !self.cores[core].local.fan_out_some(FAN_OUT_WORK);
            self.cores[core].resolve_overflow(now_ms, &self.table);
            self.table.mailbox(self.cores[core].id).set_late(late);
            self.cores[core].flush();
            self.cores[core].end_lost(now_ms, &self.table);
        }
    }

    pub(crate) fn sweep(&self, now_ms: u64) {
        for core in &self.cores {
            self.table.sweep(core.id, Moment(now_ms));
        }
    }

    fn read(&mut self, core: usize, now_ms: u64) {
        let slots: Vec<Slot> = self.cores[core].sockets.keys().copied().collect();
        for slot in slots {
            loop {
                let socket = self.cores[core].sockets.get_mut(&slot);
                let socket = socket.expect("reading ends none");
                let Some(request) = socket.link.arrived(now_ms) else {
                    break;
                };
                let (id, is_open) = (socket.id, socket.closing_since_ms.is_none());
                if is_open {
                    self.handle(id, request, now_ms);
                }
            }
        }
    }

    fn handle(&mut self, id: ConnectionId, request: Request, now_ms: u64) {
        match request {
            Request::Emit { kind, room } => {
                let (room, body) = (&name(room), "steam");
                let emitted = self.table.emit_as(kind, room, None, Said { room, body });
                emitted.expect("it lacks no frame");
                self.event_count += 1;
            }
            Request::Join { room, since } if id.wire() == KEPT => {
                let request = JoinRequest {
                    id: Some(room as u64),
                    since,
                };
                let joined = self.table.join_since(id, &name(room), request);
                joined.expect("the name is a good one");
            }
            Request::Join { room, .. } => {
                let joined = self.table.join(id, &name(room));
                joined.expect("the name is a good one");
            }
            Request::Leave { room } => {
                self.table.leave(id, &name(room));
                self.table.direct(id, frame(&format!("left {room}")));
            }
            Request::Publish { room, key, body } => {
                let (room_name, body) = (&name(room), &body);
                let mut said = Said {
                    room: room_name,
                    body,
                };
                let outgoing = Outgoing {
                    publication: &mut said,
                    except: None,
                    payload_len: body.len(),
                    key: Some(&key),
                    at: Moment(now_ms),
                    answer: Some((id, &mut Ack { room, key: &key })),
                };
                let published = self.table.publish(room_name, outgoing);
                let published = published.expect("nothing is refused");
                let position = published.position.expect("rooms keep what is published");
                let place = (room, (position.epoch.0, position.offset));
                if published.duplicate {
                    assert_eq!(self.stream.get(&place), Some(body));
                } else {
                    assert_eq!(self.stream.insert(place, body.clone()), None);
                }
            }
        }
    }
}

impl Core {
    fn apply(&mut self, table: &RoomTable) {
        let mut commands = std::mem::take(&mut self.commands);
        table.mailbox(self.id).drain(&mut commands);
        for command in commands.drain(..) {
            match self.local.apply(command, table) {
                None => {}
                Some(Effect::Joined {
                    connection,
                    room,
                    joined,
                    already,
                }) => {
                    assert!(!already, "clients join what they are not in");
                    let recovery = joined.recovery.map(|r| (r.first, r.recovered));
                    let (first, recovered) = recovery.unwrap_or((joined.position.offset + 1, None));
                    let answer = format!(
                        "joined {} {:020} {} {first} {}",
                        joined.id.unwrap_or_default(),
                        joined.position.epoch.0,
                        joined.position.offset,
                        recovered.unwrap_or(true),
                    );
                    let slot = connection.slot();
                    self.local.push(slot, &frame(&answer), FlushQueue::Prompt);
                    self.local.replay(slot, &room, &joined);
                }
                Some(effect) => panic!("nobody asked for {effect:?}"),
            }
        }
        self.commands = commands;
    }

    fn resolve_overflow(&mut self, now_ms: u64, table: &RoomTable) {
        while self.local.has_overflow() {
            for overflow in self.local.take_overflow(usize::MAX) {
                let slot = overflow.slot;
                if self.sockets[&slot].closing_since_ms.is_some() {
                    continue;
                }
                self.flush_now(slot);
                if !self.local.push_again(&overflow) {
                    self.local.drop_memberships(slot, table);
                    self.local.shut(slot, &frame("slow"), table);
                    let socket = self.sockets.get_mut(&slot);
                    socket.expect("it is open").closing_since_ms = Some(now_ms);
                }
            }
        }
    }

    fn flush(&mut self) {
        // A socket that takes something again is flushed first.
        let blocked: Vec<Slot> = self.local.blocked_slots().collect();
        for slot in blocked {
            if self.sockets[&slot].link.window() > 0 {
                self.local.set_blocked(slot, false);
            }
        }
        for queue in [FlushQueue::Prompt, FlushQueue::Bulk] {
            while let Some(slot) = self.local.next_to_flush(queue) {
                self.flush_now(slot);
            }
        }
    }

    fn flush_now(&mut self, slot: Slot) {
        let link = &mut self.sockets.get_mut(&slot).expect("it is open").link;
        while !self.local.outbox(slot).is_empty() {
            let window = link.window();
            let mut slices = [IoSlice::new(&[]); 4];
            let count = self.local.outbox(slot).slices(&mut slices, usize::MAX);
            let shown = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied());
            let taken: Vec<u8> = shown.take(window).collect();
            if taken.is_empty() {
                self.local.set_blocked(slot, true);
                return;
            }
            link.write(&taken);
            self.local.advance(slot, taken.len());
        }
    }

    /// Forgets connections whose links are gone, and those that were closed and do not go.
    fn end_lost(&mut self, now_ms: u64, table: &RoomTable) {
        let is_over = |socket: &Socket| {
            let closing = socket.closing_since_ms;
            socket.link.is_noticed(now_ms)
                || closing.is_some_and(|since_ms| since_ms + CLOSE_TIMEOUT_MS <= now_ms)
        };
        let over = self.sockets.iter().filter(|(_, socket)| is_over(socket));
        let over: Vec<Slot> = over.map(|(slot, _)| *slot).collect();
        for slot in over {
            self.sockets.remove(&slot);
            self.local.close(slot, table);
        }
    }

    pub(crate) fn is_quiet(&self, table: &RoomTable) -> bool {
        let pending_bytes = table.mailbox(self.id).pending_bytes();
        let is_quiet = |socket: &Socket| {
            socket.link.is_quiet() && self.local.outbox(socket.id.slot()).is_empty()
        };
        pending_bytes == 0 && self.sockets.values().all(is_quiet)
    }
}

/// The amount of a core fans out in a turn: so little that some is left, often.
const FAN_OUT_WORK: usize = 8;
