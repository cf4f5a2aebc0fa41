//! What all cores and all handles share, and how a handle knows on which core it is used.

use std::cell::{Cell, RefCell};
use std::fmt;

use parking_lot::RwLock;
use proto::SharedFrame;
use proto::event::{EncodeError, EventEncoder};
use rooms::{Backpressure, ConnectionId, CoreId, Disconnect, JoinError, Overloaded, RoomTable};
use serde::Serialize;
use std::sync::Arc;

use crate::panics;

/// Shared by the cores and by every [`Connection`](crate::Connection) and
/// [`RoomManager`](crate::RoomManager).
pub(crate) struct Engine {
    pub(crate) table: Arc<RoomTable>,
    pub(crate) room_hooks: RwLock<RoomHooks>,
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
        }
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

    /// Publishes to a room; returns how many members it has.
    pub(crate) fn publish(&self, room: &str, frame: SharedFrame) -> Result<u32, Overloaded> {
        if !self.is_on_core() {
            return Ok(self.table.try_publish(room, frame)?.member_count);
        }
        let published = self.table.publish(room, frame);
        note(published.backpressure);
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
    /// The full mailbox that the handler under way ran into, if it did.
    static FULL: Cell<Option<CoreId>> = const { Cell::new(None) };
    static ENCODER: RefCell<EventEncoder> = RefCell::default();
}

/// Remembers that a mailbox is full, for the core to look at after the handler.
fn note(Backpressure(full): Backpressure) {
    if full.is_some() {
        FULL.set(full);
    }
}

/// The full mailbox that was noted since the last call.
#[inline]
pub(crate) fn take_full() -> Option<CoreId> {
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
