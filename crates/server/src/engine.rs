//! What all cores and all handles share, and how a handle knows on which core it is used.

use std::cell::{Cell, RefCell};
use std::fmt;

use parking_lot::RwLock;
use proto::SharedFrame;
use proto::event::{EVENT_NAME_LEN_MAX, EncodeError, EventEncoder};
use rooms::{
    Acknowledge, Backpressure, ConnectionId, Disconnect, EventKind, Full, JoinError, JoinRequest,
    Outgoing, Overloaded, Published, RoomTable,
};
use serde::Serialize;
use std::sync::Arc;

use crate::clock;
use crate::manager::{EmitError, PublishError};
use crate::name::{ConnectionName, Naming};
use crate::panics;
use crate::wire::{Draft, PUBLICATION};

/// Shared by the cores and by every [`Connection`](crate::Connection) and
/// [`RoomManager`](crate::RoomManager).
pub(crate) struct Engine {
    pub(crate) table: Arc<RoomTable>,
    pub(crate) room_hooks: RwLock<RoomHooks>,
    naming: Naming,
}

/// Who wants to hear of rooms. Read once a room's birth or death, never for a message.
#[derive(Default)]
pub(crate) struct RoomHooks {
    pub(crate) created: Vec<RoomHook>,
    pub(crate) removed: Vec<RoomHook>,
}

/// A function that is given a room's name.
pub(crate) type RoomHook = Arc<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(table: Arc<RoomTable>) -> Self {
        Self {
            table,
            room_hooks: RwLock::new(RoomHooks::default()),
            naming: Naming::new(),
        }
    }

    /// What a connection is called on the wire.
    pub(crate) fn name_of(&self, connection: ConnectionId) -> ConnectionName {
        self.naming.name(connection)
    }

    /// Whether this thread is one of this engine's cores: what it publishes too fast is held back
    /// by not reading from its connections. Any other thread is refused at the bound.
    pub(crate) fn is_on_core(&self) -> bool {
        ON_CORE_OF.get() == self.address()
    }

    /// Says that this thread is one of this engine's cores.
    pub(crate) fn enter_core(&self) {
        ON_CORE_OF.set(self.address());
    }

    /// What tells this engine from others in the process, while it lives.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.table).addr()
    }

    pub(crate) fn join(&self, connection: ConnectionId, room: &str) -> Result<(), JoinError> {
        if self.is_on_core() {
            note(self.table.join(connection, room)?);
        } else {
            self.table.try_join(connection, room)?;
        }
        Ok(())
    }

    /// Joins and is told. Only a core's thread calls this.
    pub(crate) fn join_since(
        &self,
        connection: ConnectionId,
        room: &str,
        request: JoinRequest,
    ) -> Result<(), JoinError> {
        note(self.table.join_since(connection, room, request)?);
        Ok(())
    }

    pub(crate) fn leave(&self, connection: ConnectionId, room: &str) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.leave(connection, room))
    }

    pub(crate) fn leave_all(&self, connection: ConnectionId) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.leave_all(connection))
    }

    pub(crate) fn direct(
        &self,
        connection: ConnectionId,
        frame: SharedFrame,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.direct(connection, frame))
    }

    pub(crate) fn close(
        &self,
        connection: ConnectionId,
        disconnect: Disconnect,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.close(connection, disconnect))
    }

    pub(crate) fn answer(
        &self,
        connection: ConnectionId,
        frame: SharedFrame,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.answer(connection, frame))
    }

    /// Publishes to a room, in a connection's name or the application's. Who publishes is answered, if
    /// there is an answer.
    pub(crate) fn publish<T: Serialize + ?Sized>(
        &self,
        room: &str,
        from: Option<ConnectionId>,
        data: &T,
        key: Option<&str>,
        answer: Option<&mut dyn Acknowledge>,
    ) -> Result<Published, PublishError> {
        let name = from.map(|id| self.name_of(id));
        let published = with_draft(|draft| {
            draft.write(room, now_ms(), data)?;
            let (payload_len, at_ms) = (draft.data_len(), draft.at_ms());
            let name = name.as_ref().map(ConnectionName::as_str);
            let mut message = draft.as_event(PUBLICATION, name);
            let outgoing = Outgoing {
                publication: &mut message,
                payload_len,
                except: None,
                key,
                at_ms,
                answer: match (from, answer) {
                    (Some(from), Some(answer)) => Some((from, answer as &mut dyn Acknowledge)),
                    _ => None,
                },
            };
            let published = if self.is_on_core() {
                self.table.publish(room, outgoing)?
            } else {
                self.table.try_publish(room, outgoing)?
            };
            Ok::<_, PublishError>(published)
        })?;
        if self.is_on_core() {
            note(published.backpressure);
        }
        Ok(published)
    }

    /// Sends an event to a room; returns how many members it has.
    pub(crate) fn emit<T: Serialize + ?Sized>(
        &self,
        kind: EventKind,
        room: &str,
        event: &str,
        from: Option<ConnectionId>,
        data: &T,
    ) -> Result<u32, EmitError> {
        if event.is_empty() || event.len() > EVENT_NAME_LEN_MAX || event.contains(' ') {
            return Err(EncodeError::Name.into());
        }
        let name = from.map(|id| self.name_of(id));
        let published = with_draft(|draft| {
            // An event has no time.
            draft.write(room, 0, data)?;
            let message = draft.as_event(event, name.as_ref().map(ConnectionName::as_str));
            if self.is_on_core() {
                Ok(self.table.emit_as(kind, room, None, message)?)
            } else {
                Ok::<_, EmitError>(self.table.try_emit_as(kind, room, None, message)?)
            }
        })?;
        if self.is_on_core() {
            note(published.backpressure);
        }
        Ok(published.member_count)
    }

    /// Asks something of the connection's core: from a core always, from elsewhere unless it has
    /// more to do than it may keep.
    fn ask(
        &self,
        connection: ConnectionId,
        ask: impl FnOnce(&RoomTable) -> Backpressure,
    ) -> Result<(), Overloaded> {
        if self.is_on_core() {
            note(ask(&self.table));
            return Ok(());
        }
        self.table.check_pressure(connection.core())?;
        ask(&self.table);
        Ok(())
    }

    pub(crate) fn room_created(&self, name: &str) {
        let hooks = self.room_hooks.read().created.clone();
        tell(&hooks, name);
    }

    pub(crate) fn room_removed(&self, name: &str) {
        let hooks = self.room_hooks.read().removed.clone();
        tell(&hooks, name);
    }
}

/// Calls each hook; one that panics keeps the name from no other.
fn tell(hooks: &[RoomHook], name: &str) {
    for hook in hooks {
        _ = panics::catch("a hook for rooms", None, || hook(name));
    }
}

thread_local! {
    /// The engine that this thread is a core of; 0 is none.
    static ON_CORE_OF: Cell<usize> = const { Cell::new(0) };
    /// The full queue that the handler under way ran into, if it did.
    static FULL: Cell<Option<Full>> = const { Cell::new(None) };
    /// The time of day as of this turn of a core; 0 on other threads.
    static TURN_MS: Cell<u64> = const { Cell::new(0) };
    static ENCODER: RefCell<EventEncoder> = RefCell::default();
    static DRAFT: RefCell<Draft> = RefCell::default();
}

/// Says what time it is in this turn of a core.
pub(crate) fn set_turn_ms(unix_ms: u64) {
    TURN_MS.set(unix_ms);
}

/// The time of day, in Unix milliseconds; on a core as of the turn's beginning.
fn now_ms() -> u64 {
    match TURN_MS.get() {
        0 => clock::unix_ms(),
        turn_ms => turn_ms,
    }
}

/// Remembers that a queue is full, for the core to look at after the handler.
fn note(Backpressure(full): Backpressure) {
    if full.is_some() {
        FULL.set(full);
    }
}

/// The full queue that was noted since the last call.
#[inline]
pub(crate) fn take_full() -> Option<Full> {
    FULL.take()
}

/// Encodes an event with this thread's buffer, or with a new one inside a `Serialize` that emits.
pub(crate) fn encode<T: Serialize + ?Sized>(
    event: &str,
    data: &T,
) -> Result<SharedFrame, EncodeError> {
    ENCODER.with(|encoder| match encoder.try_borrow_mut() {
        Ok(mut encoder) => encoder.encode(event, data),
        Err(_) => EventEncoder::default().encode(event, data),
    })
}

/// Encodes an event whose data `write` puts together as JSON.
pub(crate) fn encode_written(
    event: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<SharedFrame, EncodeError> {
    // Rare and large: its memory is its own.
    let mut json = Vec::new();
    write(&mut json)?;
    EventEncoder::default().encode_pieces(event, &[&json])
}

/// Writes something with this thread's draft, or with a new one inside a `Serialize` that publishes.
fn with_draft<R>(write: impl FnOnce(&mut Draft) -> R) -> R {
    DRAFT.with(|draft| match draft.try_borrow_mut() {
        Ok(mut draft) => write(&mut draft),
        Err(_) => write(&mut Draft::default()),
    })
}
