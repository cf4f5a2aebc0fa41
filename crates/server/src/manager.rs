//! Rooms by name.

use std::sync::Arc;

use proto::event::EncodeError;
use rooms::{JoinError, PublishError};
use serde::Serialize;
use thiserror::Error;

use crate::connection::Connection;
use crate::engine::{self, Engine};

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

/// An event that did not go out to a room. Nobody got it.
#[derive(Debug, Error)]
pub enum EmitError {
    /// The data or the name cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The engine has more to do than it may keep: try again later. Only for threads that are not
    /// the engine's own; a connection whose handler publishes too fast is not read from instead.
    #[error(transparent)]
    Overloaded(#[from] PublishError),
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
    /// [`JoinError`] for a name that no room can have; nothing changed.
    pub fn join(&self, connection: &Connection, room: &str) -> Result<(), JoinError> {
        engine::note(self.engine.table.join(connection.id, room)?);
        Ok(())
    }

    /// Ends the connection's membership of the room, if there is one. Does not wait.
    pub fn leave(&self, connection: &Connection, room: &str) {
        engine::note(self.engine.table.leave(connection.id, room));
    }

    /// Ends all memberships of the connection. Does not wait. Costs in proportion to their number.
    ///
    /// A connection that closes leaves its rooms by itself.
    pub fn leave_all(&self, connection: &Connection) {
        engine::note(self.engine.table.leave_all(connection.id));
    }

    /// Sends an event to all members of a room; returns how many there are. Does not wait.
    ///
    /// Costs one encoding and one message to each core with members, however many they are.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit<T>(&self, room: &str, event: &str, data: &T) -> Result<u32, EmitError>
    where
        T: Serialize + ?Sized,
    {
        let frame = engine::encode(event, data)?;
        if !engine::is_on_core() {
            return Ok(self.engine.table.try_publish(room, frame)?.member_count);
        }
        let published = self.engine.table.publish(room, frame);
        engine::note(published.backpressure);
        Ok(published.member_count)
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
