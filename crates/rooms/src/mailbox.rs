//! What is asked of a core, in order, by other threads and by itself.

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

/// What a connection that joins is told, and given.
#[derive(Debug)]
pub struct Joined {
    /// The request's mark, for the answer.
    pub id: Option<u64>,
    /// The room's position as the membership begins: what comes later is delivered.
    pub position: StreamPosition,
    /// What it asked to be replayed, if it did.
    pub recovery: Option<Recovery>,
    /// The publications from the recovery's first up to the position.
    pub replay: Vec<SharedFrame>,
}

/// One thing that a core is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Send these frames to one connection, behind the publications of this turn: answers that need not
    /// come before what other rooms get, such as acknowledgements.
    Answer {
        /// To whom.
        connection: ConnectionId,
        /// The frames, encoded.
        frame: SharedFrame,
    },
    /// What the application wants to know of a core's connections. Its mailbox is a log, so the answer is
    /// as of this place in it. To drop a question is to refuse it.
    Ask {
        /// Of which room's members, if it is about those.
        room: Option<RoomId>,
        /// The question, which only who asks and who answers understand.
        question: Box<dyn Any + Send>,
    },
    /// Make the connection a member. The table has counted it already.
    Attach {
        /// Who joins.
        connection: ConnectionId,
        /// What it joins.
        room: RoomHandle,
        /// What it is told, if it asked.
        joined: Option<Box<Joined>>,
    },
    /// Send these frames to every connection on this core that is open, whatever rooms it is in.
    Broadcast {
        /// One for each wire; all cores have the same list.
        frames: Arc<[(Wire, SharedFrame)]>,
    },
    /// Close the connection after what it was sent before.
    Close {
        /// Whom to close.
        connection: ConnectionId,
        /// What to tell it.
        disconnect: Disconnect,
    },
    /// Say when the connection leaves its last room of a space, or do not any more.
    CloseWithLastRoom {
        /// Which connection.
        connection: ConnectionId,
        /// Whose rooms.
        space: Space,
        /// Whether to say so.
        on: bool,
    },
    /// Send these frames to members on this core.
    Deliver {
        /// To which room.
        room: RoomId,
        /// To which members of it.
        to: Audience,
        /// The publication or event, encoded for the wire.
        frame: SharedFrame,
        /// What it is.
        delivery: Delivery,
    },
    /// End the connection's membership, if it is a member.
    Detach {
        /// Who leaves.
        connection: ConnectionId,
        /// What it leaves.
        room: RoomId,
    },
    /// End all memberships of the connection in rooms of a space.
    DetachAll {
        /// Who leaves.
        connection: ConnectionId,
        /// Whose rooms.
        space: Space,
    },
    /// Send these frames to one connection.
    Direct {
        /// To whom.
        connection: ConnectionId,
        /// The frames, encoded.
        frame: SharedFrame,
    },
    /// End all memberships of the room on this core, on every wire.
    Dissolve {
        /// What everybody leaves.
        room: RoomId,
    },
    /// Close every connection and take no new ones.
    Drain,
    /// A room began to exist. Sent to one core, the same for every life of a name.
    RoomCreated {
        /// Whose room it is.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// A room ended. Sent to the core that was told of its creation.
    RoomRemoved {
        /// Whose room it was.
        space: Space,
        /// The room's name.
        name: Arc<str>,
    },
    /// Say what waits for the connections.
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
