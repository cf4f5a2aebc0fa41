//! Commands to a core, in order, from other threads and from itself.

use std::any::Any;
use std::sync::Arc;

use proto::SharedFrame;

use crate::delivery::Delivery;
use crate::disconnect::Disconnect;
use crate::handle::RoomHandle;
use crate::id::{Audience, ConnectionId, RoomId, Wire};
use crate::key::Space;
use crate::position::StreamPosition;
use crate::queue::{Queue, Weigh};
use crate::recovery::Recovery;

/// The answer to a join, and the replay.
#[derive(Debug)]
pub struct Joined {
    /// The request's mark, for the answer.
    pub id: Option<u64>,
    /// The room's position as the membership begins: what comes later is delivered.
    pub position: StreamPosition,
    /// The reach of the replay, if one was asked for.
    pub recovery: Option<Recovery>,
    /// The publications from the recovery's first up to the position.
    pub replay: Vec<SharedFrame>,
}

/// One command to a core.
#[derive(Debug)]
pub enum Command {
    /// Send these frames to one connection, behind the publications of this turn: answers that need
    /// not come before what other rooms receive, such as acknowledgements.
    Answer {
        /// The receiver.
        connection: ConnectionId,
        /// The encoded frames.
        frame: SharedFrame,
    },
    /// Answer a question of the application about the core's connections. The mailbox is a log, so
    /// the answer is as of this place in it. Dropping the question refuses it.
    Ask {
        /// The room whose members it is about, if it is about some.
        room: Option<RoomId>,
        /// The question, which only the application understands.
        question: Box<dyn Any + Send>,
    },
    /// Make the connection a member. The table has counted it already.
    Attach {
        /// The connection that joins.
        connection: ConnectionId,
        /// The room.
        room: RoomHandle,
        /// The answer, if it asked for one.
        joined: Option<Box<Joined>>,
    },
    /// Send these frames to every open connection on this core, whatever rooms it is in.
    Broadcast {
        /// The frame of each wire; all cores share the list.
        frames: Arc<[(Wire, SharedFrame)]>,
    },
    /// Close the connection after everything that it was sent before.
    Close {
        /// The connection to close.
        connection: ConnectionId,
        /// The reason to tell it.
        disconnect: Disconnect,
    },
    /// Report when the connection leaves its last room of a space, or stop reporting it.
    CloseWithLastRoom {
        /// The connection.
        connection: ConnectionId,
        /// The space.
        space: Space,
        /// True to report it.
        on: bool,
    },
    /// Send these frames to members on this core.
    Deliver {
        /// The room.
        room: RoomId,
        /// The members of it.
        to: Audience,
        /// The publication or event, encoded for the wire.
        frame: SharedFrame,
        /// The kind of the frame.
        delivery: Delivery,
    },
    /// End the connection's membership, if it is a member.
    Detach {
        /// The connection that leaves.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
    },
    /// End all memberships of the connection in rooms of a space.
    DetachAll {
        /// The connection that leaves.
        connection: ConnectionId,
        /// The space.
        space: Space,
    },
    /// Send these frames to one connection.
    Direct {
        /// The receiver.
        connection: ConnectionId,
        /// The encoded frames.
        frame: SharedFrame,
    },
    /// End all memberships of the room on this core, on every wire.
    Dissolve {
        /// The room.
        room: RoomId,
    },
    /// Close every connection and take no new ones.
    Drain,
    /// Note that a room was created. Sent to one core, the same for every life of a name.
    RoomCreated {
        /// The room's space.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// Note that a room was removed. Sent to the core that was told of its creation.
    RoomRemoved {
        /// The room's space.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// Report what waits for the connections.
    Survey,
}

/// The commands that one core has not yet taken.
///
/// # Examples
///
/// ```
/// use throng_rooms::{Command, Mailbox};
///
/// let mailbox = Mailbox::new(1 << 20);
/// mailbox.push(Command::Drain).wake_quietly();
///
/// let mut commands = Vec::new();
/// mailbox.drain(&mut commands);
/// assert!(matches!(commands[..], [Command::Drain]));
/// ```
pub type Mailbox = Queue<Command>;

impl Weigh for Command {
    fn cost(&self) -> usize {
        let kept_len = match self {
            Self::Answer { frame, .. }
            | Self::Deliver { frame, .. }
            | Self::Direct { frame, .. } => frame.len(),
            // The frames of a replay are the history's.
            Self::Attach { joined, .. } => joined.as_ref().map_or(0, |joined| {
                size_of::<Joined>() + joined.replay.len() * size_of::<SharedFrame>()
            }),
            Self::Ask { question, .. } => size_of_val(&**question),
            Self::Broadcast { frames } => frames.iter().map(|(_, frame)| frame.len()).sum(),
            Self::Close { disconnect, .. } => disconnect.reason.len(),
            Self::RoomCreated { name, .. } | Self::RoomRemoved { name, .. } => name.len(),
            Self::CloseWithLastRoom { .. }
            | Self::Detach { .. }
            | Self::DetachAll { .. }
            | Self::Dissolve { .. }
            | Self::Drain
            | Self::Survey => 0,
        };
        size_of::<Self>() + kept_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_to_members_makes_no_command_larger() {
        struct Attach {
            _connection: ConnectionId,
            _room: RoomHandle,
            _joined: Option<Box<Joined>>,
        }
        // A mailbox holds them by value.
        assert_eq!(size_of::<Command>(), size_of::<Attach>());
    }
}
