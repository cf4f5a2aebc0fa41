//! What all cores and all handles share, and how a handle knows on which core it is used.

use std::cell::{Cell, RefCell};
use std::fmt;

use parking_lot::RwLock;
use proto::SharedFrame;
use proto::event::{EncodeError, EventEncoder};
use rooms::{Backpressure, CoreId, RoomTable};
use serde::Serialize;
use std::sync::Arc;

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

    pub(crate) fn room_created(&self, name: &str) {
        let hooks = self.room_hooks.read().created.clone();
        hooks.iter().for_each(|hook| hook(name));
    }

    pub(crate) fn room_removed(&self, name: &str) {
        let hooks = self.room_hooks.read().removed.clone();
        hooks.iter().for_each(|hook| hook(name));
    }
}

thread_local! {
    /// Whether this thread is a core's.
    static ON_CORE: Cell<bool> = const { Cell::new(false) };
    /// The full mailbox that the handler under way ran into, if it did.
    static FULL: Cell<Option<CoreId>> = const { Cell::new(None) };
    static ENCODER: RefCell<EventEncoder> = RefCell::default();
}

/// Says that this thread is a core's: its publishers are held back instead of refused.
pub(crate) fn enter_core() {
    ON_CORE.set(true);
}

/// Whether this thread is a core's.
pub(crate) fn is_on_core() -> bool {
    ON_CORE.get()
}

/// Remembers that a mailbox is full, for the core to look at after the handler.
pub(crate) fn note(Backpressure(full): Backpressure) {
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
