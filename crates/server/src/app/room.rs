//! A room without a name.

use std::sync::Arc;

use rooms::Overloaded;
use serde::Serialize;

use crate::app::connection::Connection;
use crate::app::error::{EmitError, JoinError};
use crate::app::manager::RoomManager;
use crate::engine::Engine;

/// One room that nobody can name, and so nobody can join but by this handle: a game, a document,
/// everybody who watches. Cheap to clone, usable from any thread. Made by
/// [`Server::room`](crate::Server::room).
///
/// It costs nothing while nobody is in it, and ends with its members: there is nothing to clean up.
///
/// # Examples
///
/// ```
/// use throng::{Config, Connection, Router, Server};
///
/// let config = Config { listen: vec!["127.0.0.1:0".parse()?], cores: 1, ..Config::default() };
/// let server = Server::bind(config)?;
/// let lobby = server.room();
/// let mut router = Router::new();
/// let joined = lobby.clone();
/// router.on("join", move |conn: &Connection| joined.join(conn));
/// router.on("msg", move |_: &Connection, text: String| lobby.emit("msg", &text));
/// # server.stop().drain();
/// server.serve(router)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Room {
    manager: RoomManager,
    /// The name that clients of throng.v1 see.
    name: Arc<str>,
}

impl Room {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let manager = RoomManager::new(engine);
        let name = format!("room-{}", manager.space().0);
        Self {
            manager,
            name: name.into(),
        }
    }

    /// Makes the connection a member: see [`RoomManager::join`].
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing changed.
    pub fn join<S>(&self, connection: &Connection<S>) -> Result<(), JoinError> {
        self.manager.join(connection, &self.name)
    }

    /// Ends the connection's membership, if it is a member.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] outside of handlers; nothing changed.
    pub fn leave<S>(&self, connection: &Connection<S>) -> Result<(), Overloaded> {
        self.manager.leave(connection, &self.name)
    }

    /// Sends an event to all members; returns how many there are. See [`RoomManager::emit`].
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<u32, EmitError> {
        self.manager.emit(&self.name, event, data)
    }

    /// Sends an event to all members but this one: see [`RoomManager::emit_except`].
    ///
    /// # Errors
    ///
    /// [`EmitError`]; nobody got the event.
    pub fn emit_except<S, T>(
        &self,
        except: &Connection<S>,
        event: &str,
        data: &T,
    ) -> Result<u32, EmitError>
    where
        T: Serialize + ?Sized,
    {
        self.manager.emit_except(except, &self.name, event, data)
    }

    /// Returns the number of members.
    pub fn member_count(&self) -> u32 {
        self.manager.member_count(&self.name)
    }

    /// Returns the members, with what the application keeps for them: see [`RoomManager::members`].
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
    pub async fn members<S>(&self) -> Result<Vec<Connection<S>>, Overloaded>
    where
        S: Send + Sync + 'static,
    {
        self.manager.members(&self.name).await
    }

    /// Lets everybody leave, for good: see [`RoomManager::stop`].
    pub fn stop(&self) {
        self.manager.stop();
    }
}
