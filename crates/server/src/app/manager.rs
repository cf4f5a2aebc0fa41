//! Rooms by name.

use std::sync::Arc;

use rooms::{ConnectionId, Overloaded, RoomKey, Space, StreamPosition};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::app::connection::Connection;
use crate::app::error::{EmitError, JoinError, PublishError};
use crate::app::question;
use crate::engine::{Engine, Gate, Sent};
use crate::wire::position::Position;

/// Rooms by name: who is in them, and what is sent to them. Cheap to clone, usable from any thread.
///
/// A room exists while it has members. [`Server::rooms`](crate::Server::rooms) is the manager that
/// clients of throng.v1 join rooms of by themselves, and the one whose rooms have
/// [histories](crate::RoomClass); [`Server::room_manager`](crate::Server::room_manager) makes
/// others. Managers do not see each other's rooms: two of one name are two rooms.
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
    space: Space,
    gate: Arc<Gate>,
}

/// The outcome of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Number of members of the room.
    pub member_count: u32,
    /// Its place in the room's stream; none if nobody was there and the room keeps no history.
    pub position: Option<StreamPosition>,
    /// It was published before with the same key, and was not published again: the position is the
    /// first one's.
    pub duplicate: bool,
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.position.map(Position::from);
        let mut receipt = serializer.serialize_struct("Receipt", 3)?;
        receipt.serialize_field("member_count", &self.member_count)?;
        receipt.serialize_field("position", &position)?;
        receipt.serialize_field("duplicate", &self.duplicate)?;
        receipt.end()
    }
}

/// A publication before it goes out: see [`RoomManager::publish`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishOptions<'a> {
    /// In whose name; none is the application's own.
    pub from: Option<ConnectionId>,
    /// The key that identifies a repeat, 1 to 64 bytes, for as long as the room's class says.
    pub key: Option<&'a str>,
}

impl RoomManager {
    /// Returns the manager of the rooms that clients join by themselves.
    pub(crate) fn default_of(engine: Arc<Engine>) -> Self {
        let gate = engine.gate.clone();
        Self {
            engine,
            space: Space::DEFAULT,
            gate,
        }
    }

    /// Returns a manager with rooms of its own.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let space = engine.new_space();
        Self {
            engine,
            space,
            gate: Arc::default(),
        }
    }

    const fn key<'a>(&self, room: &'a str) -> RoomKey<'a> {
        RoomKey::new(self.space, room)
    }

    pub(crate) const fn space(&self) -> Space {
        self.space
    }

    /// Makes the connection a member of the room. Does not wait; joining twice is joining once.
    ///
    /// Events emitted to the room after this call reach the connection. A connection that is in as
    /// many rooms as it may be, those of all managers counted, is sent an `error` event with code
    /// `too_many_rooms` instead.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing changed.
    ///
    /// # Panics
    ///
    /// If the connection is another server's; so do all that take one.
    pub fn join<S>(&self, connection: &Connection<S>, room: &str) -> Result<(), JoinError> {
        let (engine, id, room) = (self.own(connection), connection.id(), self.key(room));
        self.gate
            .pass(|| engine.join(id, room), || _ = engine.leave(id, room))
    }

    /// Ends the connection's membership of the room, if there is one. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing changed.
    pub fn leave<S>(&self, connection: &Connection<S>, room: &str) -> Result<(), Overloaded> {
        self.own(connection).leave(connection.id(), self.key(room))
    }

    /// Ends all memberships of the connection in rooms of this manager. Does not wait. Costs in
    /// proportion to their number.
    ///
    /// A connection that closes leaves its rooms by itself.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing changed.
    pub fn leave_all<S>(&self, connection: &Connection<S>) -> Result<(), Overloaded> {
        self.own(connection).leave_all(connection.id(), self.space)
    }

    /// Says whether the connection is closed, with 1000, when it leaves the last room of this
    /// manager that it is in. It is not at first. golem's `CloseConnectionOnLastRoomLeft`.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing changed.
    pub fn close_with_last_room<S>(
        &self,
        connection: &Connection<S>,
        on: bool,
    ) -> Result<(), Overloaded> {
        self.own(connection)
            .close_with_last_room(connection.id(), self.space, on)
    }

    /// Returns the engine, which is the connection's too: its id would be somebody else's in
    /// another.
    fn own<S>(&self, connection: &Connection<S>) -> &Engine {
        assert!(
            Arc::ptr_eq(&self.engine, &connection.peer.engine),
            "the connection belongs to another server"
        );
        &self.engine
    }

    /// Sends an event to all members of a room; returns how many there are. Does not wait.
    ///
    /// It has no place in the room's history: who is not there does not get it. For what should not
    /// be missed there is [`publish`](Self::publish). Costs one encoding for each protocol that
    /// members speak and one message to each core with members, however many they are.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit<T>(&self, room: &str, event: &str, data: &T) -> Result<u32, EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.emit_as((room, event), Sent::default(), data)
    }

    /// Sends an event to all members of a room but this one, such as who caused it; returns how
    /// many members there are, that one counted.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit_except<S, T>(
        &self,
        except: &Connection<S>,
        room: &str,
        event: &str,
        data: &T,
    ) -> Result<u32, EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.own(except);
        let sent = Sent {
            except: Some(except.id()),
            ..Sent::default()
        };
        self.emit_as((room, event), sent, data)
    }

    fn emit_as<T: Serialize + ?Sized>(
        &self,
        (room, event): (&str, &str),
        sent: Sent<'_>,
        data: &T,
    ) -> Result<u32, EmitError> {
        self.engine.check_event(event)?;
        self.engine.emit((self.key(room), event), sent, data)
    }

    /// Publishes to a room: the publication gets the room's next offset and is kept as long as the
    /// room's [class](crate::RoomClass) says, so that members who lost their connection get it when
    /// they are back. Members that do not speak throng.v1 get it as an event `msg`. Does not wait.
    ///
    /// Rooms of a manager that is not the [default](crate::Server::rooms) keep nothing.
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
        let PublishOptions { from, key } = options;
        let sent = Sent {
            from,
            key,
            ..Sent::default()
        };
        let published = self.engine.publish(self.key(room), sent, data, None)?;
        Ok(Receipt {
            member_count: published.member_count,
            position: published.position,
            duplicate: published.duplicate,
        })
    }

    /// Returns the position of a room's stream: behind its last publication. None if the room does
    /// not exist.
    pub fn position(&self, room: &str) -> Option<StreamPosition> {
        self.engine.table.position(self.key(room))
    }

    /// Returns the number of members of a room.
    pub fn member_count(&self, room: &str) -> u32 {
        self.engine.table.member_count(self.key(room))
    }

    /// Returns the members of a room, with what the application keeps for them. Asks the cores that
    /// have some, and takes memory for all of them.
    ///
    /// All are members at one moment; some may be gone when they are looked at.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers.
    ///
    /// # Panics
    ///
    /// If `S` is not what the [router](crate::Router) keeps for each connection.
    ///
    /// # Cancel safety
    ///
    /// What the cores answer then goes nowhere.
    pub async fn members<S>(&self, room: &str) -> Result<Vec<Connection<S>>, Overloaded>
    where
        S: Send + Sync + 'static,
    {
        let answers = question::members(&self.engine, self.key(room))?;
        Ok(question::connections(&self.engine, answers).await)
    }

    /// Returns the names of the rooms of this manager that a connection is in; none if it is gone.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers.
    ///
    /// # Cancel safety
    ///
    /// What its core answers then goes nowhere.
    pub async fn rooms_of<S>(
        &self,
        connection: &Connection<S>,
    ) -> Result<Vec<Arc<str>>, Overloaded> {
        let answer = question::rooms_of(self.own(connection), connection.id(), self.space)?;
        Ok(answer.await.unwrap_or_default())
    }

    /// Lets everybody leave a room, which ends by that. Who joins after this call is a member. Does
    /// not wait.
    ///
    /// What is published before still reaches the members. What the room keeps of its history stays
    /// as long as its class says.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nobody left.
    pub fn destroy(&self, room: &str) -> Result<(), Overloaded> {
        self.engine.dissolve(self.key(room))
    }

    /// Destroys all rooms of this manager, for good: whoever joins one from now on is refused, with
    /// [`JoinError::Stopped`]. It cannot be undone, and holds for all clones.
    ///
    /// Costs a look at every room of the server.
    pub fn stop(&self) {
        self.gate.close();
        self.engine.dissolve_space(self.space);
    }

    /// Calls `hook` with the name of each room that begins to exist, on a core's thread: it must
    /// not block. For one name, created and removed alternate.
    pub fn on_created(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        let hook = (self.space, Arc::new(hook) as _);
        self.engine.room_hooks.write().created.push(hook);
        self.engine.table.watch_rooms();
    }

    /// Calls `hook` with the name of each room that lost its last member. See
    /// [`on_created`](Self::on_created).
    pub fn on_removed(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        let hook = (self.space, Arc::new(hook) as _);
        self.engine.room_hooks.write().removed.push(hook);
        self.engine.table.watch_rooms();
    }
}
