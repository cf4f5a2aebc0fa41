//! Rooms by name.

use std::sync::Arc;

use proto::event::EncodeError;
use rooms::{EventKind, JoinError, Lacks, Overloaded, StreamPosition};
use serde::Serialize;
use thiserror::Error;

use crate::connection::Connection;
use crate::engine::Engine;

/// The rooms of a server: cheap to clone, usable from any thread.
///
/// A room exists while it has members. Made by [`Server::rooms`](crate::Server::rooms).
///
/// # Examples
///
/// ```
/// use throng::{Config, Server};
///
/// let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
/// let server = Server::bind(config)?;
/// let rooms = server.rooms();
/// rooms.on_created(|name| println!("{name} began"));
///
/// // From any thread, for example one that reads a price feed:
/// let reached = rooms.emit("prices", "tick", &[101.5, 101.7])?;
/// assert_eq!(reached, 0, "nobody has joined");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RoomManager {
    engine: Arc<Engine>,
}

/// An event that did not go out. Nobody got it.
#[derive(Debug, Error)]
pub enum EmitError {
    /// The data or the name cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The engine has more to do than it may keep: try again later. Only for threads that are not
    /// the engine's own; a connection whose handler publishes too fast is not read from instead.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// There is no frame of it for a wire that a member speaks.
    #[error(transparent)]
    Lacks(#[from] Lacks),
}

impl From<rooms::EmitError> for EmitError {
    fn from(error: rooms::EmitError) -> Self {
        match error {
            rooms::EmitError::Lacks(error) => error.into(),
            rooms::EmitError::Overloaded(error) => error.into(),
        }
    }
}

/// A publication that did not go out. Nobody got it.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The data cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The room does not take it.
    #[error(transparent)]
    Refused(#[from] rooms::PublishError),
}

/// What came of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How many members the room has.
    pub member_count: u32,
    /// Its place in the room's stream; none if nobody was there and the room keeps no history.
    pub position: Option<StreamPosition>,
    /// It was published before with the same key, and was not published again: the position is the
    /// first one's.
    pub duplicate: bool,
}

/// A publication before it goes out: see [`RoomManager::publish`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishOptions<'a> {
    /// In whose name; none is the application's own.
    pub from: Option<&'a Connection>,
    /// What a repeat of it is recognised by, 1 to 64 bytes, for as long as the room's class says.
    pub key: Option<&'a str>,
}

impl RoomManager {
    pub(crate) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Makes the connection a member of the room. Does not wait; joining twice is joining once.
    ///
    /// Events emitted to the room after this call reach the connection. A connection that is in
    /// as many rooms as it may be is sent an `error` event with code `too_many_rooms` instead.
    ///
    /// # Errors
    ///
    /// [`JoinError`] for a name that no room can have, and [`JoinError::Overloaded`] on a thread
    /// that is not the engine's; nothing changed.
    ///
    /// # Panics
    ///
    /// If the connection is another server's; so do the next two.
    pub fn join(&self, connection: &Connection, room: &str) -> Result<(), JoinError> {
        self.own(connection).join(connection.id, room)
    }

    /// Ends the connection's membership of the room, if there is one. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] on a thread that is not the engine's; nothing changed.
    pub fn leave(&self, connection: &Connection, room: &str) -> Result<(), Overloaded> {
        self.own(connection).leave(connection.id, room)
    }

    /// Ends all memberships of the connection. Does not wait. Costs in proportion to their number.
    ///
    /// A connection that closes leaves its rooms by itself.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] on a thread that is not the engine's; nothing changed.
    pub fn leave_all(&self, connection: &Connection) -> Result<(), Overloaded> {
        self.own(connection).leave_all(connection.id)
    }

    /// The engine, which is the connection's too: its id would be somebody else's in another.
    fn own(&self, connection: &Connection) -> &Engine {
        assert!(
            Arc::ptr_eq(&self.engine, &connection.engine),
            "the connection belongs to another server"
        );
        &self.engine
    }

    /// Sends an event to all members of a room; returns how many there are. Does not wait.
    ///
    /// It has no place in the room's history: who is not there does not get it. For what should not be
    /// missed there is [`publish`](Self::publish). Costs one encoding for each wire and one message to each
    /// core with members, however many they are.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit<T>(&self, room: &str, event: &str, data: &T) -> Result<u32, EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.engine
            .emit(EventKind::Lasting, room, event, None, data)
    }

    /// Publishes to a room: the publication gets the room's next offset and is kept as long as the room's
    /// [class](crate::RoomClass) says, so that members who lost their connection get it when they are back.
    /// Members on golem's wire get it as an event `msg`. Does not wait.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nobody got it.
    pub fn publish<T>(
        &self,
        room: &str,
        data: &T,
        options: PublishOptions<'_>,
    ) -> Result<Receipt, PublishError>
    where
        T: Serialize + ?Sized,
    {
        let from = options.from.map(|connection| connection.id);
        let published = self.engine.publish(room, from, data, options.key, None)?;
        Ok(Receipt {
            member_count: published.member_count,
            position: published.position,
            duplicate: published.duplicate,
        })
    }

    /// Where a room's stream is: behind its last publication. None if the room does not exist.
    pub fn position(&self, room: &str) -> Option<StreamPosition> {
        self.engine.table.position(room)
    }

    /// How many members the room has.
    pub fn member_count(&self, room: &str) -> u32 {
        self.engine.table.member_count(room)
    }

    /// Calls `hook` with the name of each room that begins to exist, on a core's thread: it must
    /// not block. For one name, created and removed alternate.
    pub fn on_created(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.engine.room_hooks.write().created.push(Arc::new(hook));
        self.engine.table.watch_rooms();
    }

    /// Calls `hook` with the name of each room that lost its last member. See
    /// [`on_created`](Self::on_created).
    pub fn on_removed(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.engine.room_hooks.write().removed.push(Arc::new(hook));
        self.engine.table.watch_rooms();
    }
}
