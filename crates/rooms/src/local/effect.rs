//! Effects of commands beyond a core's tables.

use std::any::Any;
use std::sync::Arc;

use crate::disconnect::Disconnect;
use crate::handle::RoomHandle;
use crate::id::{ConnectionId, RoomId};
use crate::key::Space;
use crate::mailbox::Joined;

/// The part of a command that the owner of the core's sockets must do.
#[derive(Debug)]
pub enum Effect {
    /// Answer the application's question. Dropping it refuses to.
    Ask {
        /// The room whose [members](super::LocalRooms::members_of) it is about, if it is about
        /// some.
        room: Option<RoomId>,
        /// The question.
        question: Box<dyn Any + Send>,
    },
    /// Send what is queued, then close.
    Close {
        /// The connection to close.
        connection: ConnectionId,
        /// The reason to tell it.
        disconnect: Disconnect,
    },
    /// Close every connection and take no new ones.
    Drain,
    /// A connection that asked to be told is a member. The answer comes next, then
    /// [`LocalRooms::replay`](super::LocalRooms::replay).
    Joined {
        /// The connection that joined.
        connection: ConnectionId,
        /// The room that it joined.
        room: RoomHandle,
        /// The answer, and the replay.
        joined: Box<Joined>,
        /// True if it was a member before: nothing has changed, and nothing is replayed.
        already: bool,
    },
    /// The connection is a member of as many rooms as it may be.
    JoinRefused {
        /// The connection that wanted to join.
        connection: ConnectionId,
        /// The room that it wanted to join.
        room: RoomHandle,
        /// The request's mark, if it had one.
        id: Option<u64>,
    },
    /// These connections have left their last room of a space with which they are to be
    /// [closed](crate::RoomTable::close_with_last_room): one, or several if the room was dissolved.
    LastRoomLeft {
        /// The connections to close, each once, at least one. They are open, and are not shut.
        connections: Vec<ConnectionId>,
    },
    /// A room was created.
    RoomCreated {
        /// The room's space.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// A room was removed.
    RoomRemoved {
        /// The room's space.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// Report what waits for the connections.
    Survey,
}
