//! What all cores and all handles share, and how a handle knows on which core it is used.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;

use parking_lot::RwLock;
use proto::SharedFrame;
use proto::event::{EncodeError, is_name};
use rooms::{
    Acknowledge, Backpressure, ConnectionId, CoreId, Disconnect, EventKind, Full, JoinRequest,
    Moment, Outgoing, Overloaded, Published, RoomKey, RoomTable, Space, Wire,
};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::app::error::{EmitError, JoinError, PublishError};
use crate::clock::{self, AgeClock};
use crate::panics;
use crate::wire::draft::Draft;
use crate::wire::languages::Languages;
use crate::wire::name::{ConnectionName, Naming};
use crate::wire::{AnyWire, PUBLICATION, Spoken as _};

/// Shared by the cores and by every [`Connection`](crate::Connection) and
/// [`RoomManager`](crate::RoomManager).
pub(crate) struct Engine {
    pub(crate) table: Arc<RoomTable>,
    /// The clock by which what its rooms keep ages.
    pub(crate) clock: AgeClock,
    pub(crate) room_hooks: RwLock<RoomHooks>,
    /// The default manager's.
    pub(crate) gate: Arc<Gate>,
    space_count: AtomicU64,
    naming: Naming,
    /// The languages in use; known when serving begins.
    languages: OnceLock<Arc<Languages>>,
    /// Those until then. Nobody is connected yet.
    languages_before: Languages,
}

/// The hooks for the beginning and the end of rooms. Read once a room's birth or death, never for a
/// message.
#[derive(Default)]
pub(crate) struct RoomHooks {
    pub(crate) created: Vec<(Space, RoomHook)>,
    pub(crate) removed: Vec<(Space, RoomHook)>,
}

/// The way in which something is sent to a room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) kind: EventKind,
    /// In whose name; none is the application's own.
    pub(crate) from: Option<ConnectionId>,
    /// Which member is not sent it.
    pub(crate) except: Option<ConnectionId>,
    /// The key that identifies a repeat.
    pub(crate) key: Option<&'a str>,
}

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            kind: EventKind::Lasting,
            from: None,
            except: None,
            key: None,
        }
    }
}

/// The gate to a manager's rooms: they can be joined until they are stopped.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicBool);

impl Gate {
    /// Joins, if it is open. What is joined while it closes is left again: either the join sees the
    /// closing, or what ends all memberships behind the closing sees the join.
    pub(crate) fn pass(
        &self,
        join: impl FnOnce() -> Result<(), rooms::JoinError>,
        leave: impl FnOnce(),
    ) -> Result<(), JoinError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(JoinError::Stopped);
        }
        join()?;
        if self.0.load(Ordering::SeqCst) {
            leave();
            return Err(JoinError::Stopped);
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The caller of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// A core at its own work: what its connections publish too fast is held back by not reading
    /// from them.
    Core,
    /// Another thread, or other work on a core's thread, such as an answer over HTTP: nothing can
    /// be held back, so it is refused at the bound.
    Outside,
}

impl Caller {
    /// Takes note that a queue is full, for the core to look at after the handler. Nobody is held
    /// back for what somebody else has asked.
    fn note(self, Backpressure(full): Backpressure) {
        if self == Self::Core && full.is_some() {
            FULL.set(full);
        }
    }
}

/// A function that is given a room's name.
pub(crate) type RoomHook = Arc<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(table: Arc<RoomTable>, clock: AgeClock) -> Self {
        Self {
            table,
            clock,
            room_hooks: RwLock::new(RoomHooks::default()),
            gate: Arc::default(),
            space_count: AtomicU64::new(0),
            naming: Naming::new(),
            languages: OnceLock::new(),
            languages_before: Languages::new(),
        }
    }

    /// Returns the name of a connection on the wire.
    pub(crate) fn name_of(&self, connection: ConnectionId) -> ConnectionName {
        self.naming.name(connection)
    }

    /// Returns who asks: one of this engine's cores that does its own work, or anybody else.
    fn caller(&self) -> Caller {
        match ON_CORE_OF.get() == self.address() {
            true => Caller::Core,
            false => Caller::Outside,
        }
    }

    /// Says that this thread does a core's work now, until what is returned is dropped: what else
    /// runs on a core's thread, such as an answer over HTTP, cannot be held back by not reading
    /// from a connection.
    pub(crate) fn enter_core(&self) -> OnCore {
        OnCore {
            before: ON_CORE_OF.replace(self.address()),
        }
    }

    /// Says what is spoken, before anybody speaks.
    pub(crate) fn speak(&self, languages: Arc<Languages>) {
        languages.wires().for_each(|wire| self.table.add_wire(wire));
        _ = self.languages.set(languages);
    }

    /// Returns what is spoken with the connections of a wire.
    pub(crate) fn wire(&self, wire: Wire) -> AnyWire<'_> {
        self.languages().wire(wire)
    }

    fn languages(&self) -> &Languages {
        let languages = self.languages.get();
        languages.map_or(&self.languages_before, |languages| languages)
    }

    /// Returns an address that tells this engine from others in the process, while it lives.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.table).addr()
    }

    pub(crate) fn join(
        &self,
        connection: ConnectionId,
        room: RoomKey<'_>,
    ) -> Result<(), rooms::JoinError> {
        match self.caller() {
            caller @ Caller::Core => caller.note(self.table.join(connection, room)?),
            Caller::Outside => _ = self.table.try_join(connection, room)?,
        }
        Ok(())
    }

    /// Joins a room of the default manager, and is told. Only a core's thread calls this.
    pub(crate) fn join_since(
        &self,
        connection: ConnectionId,
        room: &str,
        request: JoinRequest,
    ) -> Result<(), JoinError> {
        self.gate.pass(
            || {
                self.caller()
                    .note(self.table.join_since(connection, room, request)?);
                Ok(())
            },
            || _ = self.leave(connection, room.into()),
        )
    }

    pub(crate) fn leave(
        &self,
        connection: ConnectionId,
        room: RoomKey<'_>,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.leave(connection, room))
    }

    pub(crate) fn leave_all(
        &self,
        connection: ConnectionId,
        space: Space,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| table.leave_all(connection, space))
    }

    pub(crate) fn close_with_last_room(
        &self,
        connection: ConnectionId,
        space: Space,
        on: bool,
    ) -> Result<(), Overloaded> {
        self.ask(connection, |table| {
            table.close_with_last_room(connection, space, on)
        })
    }

    /// Lets everybody leave a room.
    pub(crate) fn dissolve(&self, room: RoomKey<'_>) -> Result<(), Overloaded> {
        match self.caller() {
            caller @ Caller::Core => caller.note(self.table.dissolve(room)),
            Caller::Outside => _ = self.table.try_dissolve(room)?,
        }
        Ok(())
    }

    /// Lets everybody leave all rooms of a space.
    pub(crate) fn dissolve_space(&self, space: Space) {
        self.caller().note(self.table.dissolve_space(space));
    }

    pub(crate) fn direct(
        &self,
        connection: ConnectionId,
        frame: SharedFrame,
    ) -> Result<(), Overloaded> {
        note_answer(connection, frame.len());
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
        note_answer(connection, frame.len());
        self.ask(connection, |table| table.answer(connection, frame))
    }

    /// Returns the time; on one of its cores as of the turn's beginning.
    fn now(&self, caller: Caller) -> Now {
        match TURN.get() {
            // Another server's core has another clock.
            Some(turn) if caller == Caller::Core => turn,
            _ => Now {
                unix_ms: clock::unix_ms(),
                age: self.clock.now(),
            },
        }
    }

    /// Publishes to a room, in a connection's name or the application's. Who publishes is answered,
    /// if there is an answer.
    pub(crate) fn publish<T: Serialize + ?Sized>(
        &self,
        room: RoomKey<'_>,
        sent: Sent<'_>,
        data: &T,
        mut answer: Option<&mut dyn Acknowledge>,
    ) -> Result<Published, PublishError> {
        let Sent { from, key, .. } = sent;
        let name = from.map(|id| self.name_of(id));
        let caller = self.caller();
        let published = with_draft(|draft| {
            let now = self.now(caller);
            draft.write(room.name, now.unix_ms, data)?;
            let payload_len = draft.data_len();
            let name = name.as_ref().map(ConnectionName::as_str);
            let mut message = draft.as_event(PUBLICATION, name);
            loop {
                let answer = answer.as_deref_mut();
                let outgoing = Outgoing {
                    publication: &mut message,
                    // Who is left out of an offset would take it for lost.
                    except: None,
                    payload_len,
                    key,
                    at: now.age,
                    answer: match (from, answer) {
                        (Some(from), Some(answer)) => Some((from, answer as &mut dyn Acknowledge)),
                        _ => None,
                    },
                };
                let published = if caller == Caller::Core {
                    self.table.publish(room, outgoing)
                } else {
                    self.table.try_publish(room, outgoing)
                };
                match published {
                    Ok(published) => return Ok(published),
                    Err(error) => match PublishError::of_table(error) {
                        Ok(error) => return Err(error),
                        Err(lacks) => {
                            let languages = self.languages();
                            languages.write_lacking(lacks.0, &mut message, (room.name, data))?;
                        }
                    },
                }
            }
        })?;
        caller.note(published.backpressure);
        Ok(published)
    }

    /// Sends an event to a room; returns how many members it has.
    pub(crate) fn emit<T: Serialize + ?Sized>(
        &self,
        (room, event): (RoomKey<'_>, &str),
        sent: Sent<'_>,
        data: &T,
    ) -> Result<u32, EmitError> {
        let Sent {
            kind, from, except, ..
        } = sent;
        if !is_name(event) {
            return Err(EncodeError::Name.into());
        }
        let name = from.map(|id| self.name_of(id));
        let caller = self.caller();
        let published = with_draft(|draft| {
            match self.languages().has_own() {
                // An event has no time.
                true => draft.write(room.name, 0, data)?,
                false => draft.clear(),
            }
            let mut message = draft.as_event(event, name.as_ref().map(ConnectionName::as_str));
            loop {
                let published = if caller == Caller::Core {
                    let published = self.table.emit_as(kind, room, except, &mut message);
                    published.map_err(rooms::EmitError::from)
                } else {
                    self.table.try_emit_as(kind, room, except, &mut message)
                };
                match published {
                    Ok(published) => return Ok(published),
                    Err(rooms::EmitError::Overloaded(error)) => {
                        return Err(EmitError::Overloaded(error));
                    }
                    Err(rooms::EmitError::Lacks(lacks)) => {
                        let languages = self.languages();
                        languages.write_lacking(lacks.0, &mut message, (room.name, data))?;
                    }
                }
            }
        })?;
        caller.note(published.backpressure);
        Ok(published.member_count)
    }

    /// Sends an event to every connection.
    pub(crate) fn broadcast<T>(&self, event: &str, data: &T) -> Result<(), EmitError>
    where
        T: Serialize + ?Sized,
    {
        let message = self.languages().broadcast(event, data)?;
        // It has the frames of all wires, so that is the one error that there is.
        let caller = self.caller();
        if caller == Caller::Core {
            caller.note(self.table.broadcast(message).unwrap_or_default());
        } else if let Err(rooms::EmitError::Overloaded(error)) = self.table.try_broadcast(message) {
            return Err(error.into());
        }
        Ok(())
    }

    /// Checks that the application may send an event of this name to many: throng.v1's own would
    /// not be understood by its clients, if there may be any.
    ///
    /// # Errors
    ///
    /// [`EmitError::Reserved`].
    pub(crate) fn check_event(&self, event: &str) -> Result<(), EmitError> {
        let mut spoken = self.languages().spoken();
        spoken.try_for_each(|wire| wire.check_event(event))
    }

    /// Asks each core that has members of a room about them.
    pub(crate) fn ask_members(
        &self,
        room: RoomKey<'_>,
        make: impl FnMut(CoreId) -> Box<dyn Any + Send>,
    ) -> Result<(), Overloaded> {
        let caller = self.caller();
        if caller == Caller::Core {
            let (_, backpressure) = self.table.ask_members(room, make);
            caller.note(backpressure);
        } else {
            self.table.try_ask_members(room, make)?;
        }
        Ok(())
    }

    /// Asks a core about its connections.
    pub(crate) fn ask_core(
        &self,
        core: CoreId,
        question: Box<dyn Any + Send>,
    ) -> Result<(), Overloaded> {
        match self.caller() {
            caller @ Caller::Core => caller.note(self.table.ask(core, question)),
            Caller::Outside => self.table.try_ask(core, question)?,
        }
        Ok(())
    }

    /// Asks something of the connection's core: from a core always, from elsewhere unless it has
    /// more to do than it may keep.
    fn ask(
        &self,
        connection: ConnectionId,
        ask: impl FnOnce(&RoomTable) -> Backpressure,
    ) -> Result<(), Overloaded> {
        let caller = self.caller();
        if caller == Caller::Outside {
            self.table.check_pressure(connection.core())?;
        }
        caller.note(ask(&self.table));
        Ok(())
    }

    pub(crate) fn room_created(&self, space: Space, name: &str) {
        let hooks = of_space(&self.room_hooks.read().created, space);
        tell(&hooks, name);
    }

    pub(crate) fn room_removed(&self, space: Space, name: &str) {
        let hooks = of_space(&self.room_hooks.read().removed, space);
        tell(&hooks, name);
    }

    /// Returns a space that nobody has yet.
    pub(crate) fn new_space(&self) -> Space {
        Space(1 + self.space_count.fetch_add(1, Ordering::Relaxed))
    }
}

fn of_space(hooks: &[(Space, RoomHook)], space: Space) -> Vec<RoomHook> {
    let hooks = hooks.iter().filter(|(of, _)| *of == space);
    hooks.map(|(_, hook)| hook.clone()).collect()
}

/// Calls each hook; one that panics keeps the name from no other.
fn tell(hooks: &[RoomHook], name: &str) {
    for hook in hooks {
        _ = panics::catch("a hook for rooms", None, || hook(name));
    }
}

thread_local! {
    /// The engine that this thread does a core's work of; 0 is none.
    static ON_CORE_OF: Cell<usize> = const { Cell::new(0) };
    /// The connection whose message is handled, and how many bytes it was answered with.
    static ANSWERED: Cell<Option<(ConnectionId, usize)>> = const { Cell::new(None) };
    /// The full queue that the handler under way ran into, if it did.
    static FULL: Cell<Option<Full>> = const { Cell::new(None) };
    /// The time of day as of this turn of a core; 0 on other threads.
    static TURN: Cell<Option<Now>> = const { Cell::new(None) };
    static DRAFT: RefCell<Draft> = RefCell::default();
}

/// This thread does a core's work, until this is dropped.
#[derive(Debug)]
pub(crate) struct OnCore {
    before: usize,
}

impl Drop for OnCore {
    fn drop(&mut self) {
        ON_CORE_OF.set(self.before);
        if self.before == 0 {
            TURN.set(None);
        }
    }
}

/// The time on both clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    unix_ms: u64,
    age: Moment,
}

/// Says what time it is in this turn of a core, on the clock that what its rooms keep ages by.
/// Reads the time of day.
pub(crate) fn begin_turn(age: Moment) {
    let unix_ms = clock::unix_ms();
    TURN.set(Some(Now { unix_ms, age }));
}

/// Counts what this connection is answered with from now on.
#[inline]
pub(crate) fn begin_answers(connection: ConnectionId) {
    ANSWERED.set(Some((connection, 0)));
}

/// Returns the bytes of answers to the connection since the last call.
#[inline]
pub(crate) fn take_answered() -> usize {
    ANSWERED.take().map_or(0, |(_, len)| len)
}

#[inline]
fn note_answer(to: ConnectionId, len: usize) {
    if let Some((connection, answered)) = ANSWERED.get()
        && connection == to
    {
        ANSWERED.set(Some((connection, answered + len)));
    }
}

/// Returns the full queue that was noted since the last call.
#[inline]
pub(crate) fn take_full() -> Option<Full> {
    FULL.take()
}

/// Writes something with this thread's draft, or with a new one inside a `Serialize` that
/// publishes.
fn with_draft<R>(write: impl FnOnce(&mut Draft) -> R) -> R {
    DRAFT.with(|draft| match draft.try_borrow_mut() {
        Ok(mut draft) => write(&mut draft),
        Err(_) => write(&mut Draft::default()),
    })
}
