//! What is asked of a core, in order, by other threads and by itself.

use std::sync::Arc;
use std::task::Waker;

use proto::SharedFrame;
use smallvec::SmallVec;

use crate::class::SlowConsumer;
use crate::disconnect::Disconnect;
use crate::id::{ConnectionId, CoreId, RoomId, Wire};
use crate::position::StreamPosition;
use crate::publication::EventKind;
use crate::sync::Mutex;
use crate::table::Backpressure;

/// A room as its members' cores know it: enough to find it in the table again.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    /// Which life of the room.
    pub id: RoomId,
    /// The hash of the name, computed once.
    pub(crate) hash: u64,
    /// The room's name.
    pub name: Arc<str>,
    /// What happens to members that are too slow.
    pub(crate) slow_consumer: SlowConsumer,
}

/// What a `Deliver` brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event without a place in the room's stream.
    Event(EventKind),
    /// The publication with this offset.
    Publication(u64),
}

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

/// How far a history reaches back to where somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The offset of the first publication that is replayed; one past the position if none is.
    pub first: u64,
    /// Whether nothing is missing before it. None if it was not asked from a position on.
    pub recovered: Option<bool>,
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
    /// Make the connection a member. The table has counted it already.
    Attach {
        /// Who joins.
        connection: ConnectionId,
        /// What it joins.
        room: RoomHandle,
        /// What it is told, if it asked.
        joined: Option<Box<Joined>>,
    },
    /// Close the connection after what it was sent before.
    Close {
        /// Whom to close.
        connection: ConnectionId,
        /// What to tell it.
        disconnect: Disconnect,
    },
    /// Send these frames to every member on this core that speaks the wire.
    Deliver {
        /// To which room.
        room: RoomId,
        /// To which members of it.
        wire: Wire,
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
    /// End all memberships of the connection.
    DetachAll {
        /// Who leaves.
        connection: ConnectionId,
    },
    /// Send these frames to one connection.
    Direct {
        /// To whom.
        connection: ConnectionId,
        /// The frames, encoded.
        frame: SharedFrame,
    },
    /// Close every connection and take no new ones.
    Drain,
    /// A room began to exist. Sent to one core, the same for every life of a name.
    RoomCreated {
        /// The room's name.
        name: Arc<str>,
    },
    /// A room ended. Sent to the core that was told of its creation.
    RoomRemoved {
        /// The room's name.
        name: Arc<str>,
    },
}

impl Command {
    /// What the command counts for against the mailbox's bound, in bytes: what it keeps alive.
    fn cost(&self) -> usize {
        let kept_len = match self {
            Self::Answer { frame, .. }
            | Self::Deliver { frame, .. }
            | Self::Direct { frame, .. } => frame.len(),
            // The frames of a replay are the history's.
            Self::Attach { joined, .. } => joined.as_ref().map_or(0, |joined| {
                size_of::<Joined>() + joined.replay.len() * size_of::<SharedFrame>()
            }),
            Self::Close { disconnect, .. } => disconnect.reason.len(),
            Self::RoomCreated { name } | Self::RoomRemoved { name } => name.len(),
            Self::Detach { .. } | Self::DetachAll { .. } | Self::Drain => 0,
        };
        size_of::<Self>() + kept_len
    }
}

/// The commands that one core has not yet taken, in the order they were pushed.
///
/// Bounded in bytes by *backpressure*, not by refusal: [`push`](Self::push) always takes the
/// command and says whether the mailbox is now over its bound. A connection that got this answer
/// is not read from until the mailbox has been drained, so what lies above the bound is at most
/// one message a connection. Callers that have no socket to stop reading from ask first
/// ([`RoomTable::check_pressure`](crate::RoomTable::check_pressure)) and are refused.
///
/// # Examples
///
/// ```
/// use rooms::{Command, Mailbox};
///
/// let mailbox = Mailbox::new(1 << 20);
/// mailbox.push(Command::Drain).wake_quietly();
///
/// let mut commands = Vec::new();
/// mailbox.drain(&mut commands);
/// assert!(matches!(commands[..], [Command::Drain]));
/// ```
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    pending_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    commands: Vec<Command>,
    pending_bytes: usize,
    /// The owner, while it waits for a command.
    owner: Option<Waker>,
    /// Those who wait for the mailbox to be drained.
    stalled: SmallVec<[Waker; 2]>,
}

/// What came of a push. Wake when no lock is held.
#[derive(Debug)]
#[must_use = "the owner sleeps until it is woken"]
pub struct Pushed {
    owner: Option<Waker>,
    /// The mailbox is over its bound: stop reading from whoever caused this.
    pub full: bool,
}

impl Pushed {
    /// Wakes the owner, if it waits, and says whether `core`, the owner, has too much to do.
    pub fn wake(self, core: CoreId) -> Backpressure {
        let full = self.full;
        self.wake_quietly();
        Backpressure(full.then_some(core))
    }

    /// Wakes the owner, if it waits.
    pub fn wake_quietly(self) {
        if let Some(owner) = self.owner {
            owner.wake();
        }
    }
}

impl Mailbox {
    /// An empty mailbox that is full from `pending_bytes_max` bytes on.
    pub fn new(pending_bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            pending_bytes_max,
        }
    }

    /// Appends a command.
    pub fn push(&self, command: Command) -> Pushed {
        let mut inner = self.inner.lock();
        inner.pending_bytes += command.cost();
        inner.commands.push(command);
        Pushed {
            owner: inner.owner.take(),
            full: inner.pending_bytes >= self.pending_bytes_max,
        }
    }

    /// Moves all commands into `into`, which must be empty and whose memory is used for the next
    /// ones. Only the owner calls this.
    pub fn drain(&self, into: &mut Vec<Command>) {
        debug_assert!(into.is_empty());
        let stalled = {
            let mut inner = self.inner.lock();
            std::mem::swap(&mut inner.commands, into);
            inner.pending_bytes = 0;
            std::mem::take(&mut inner.stalled)
        };
        for waker in stalled {
            waker.wake();
        }
    }

    /// Whether a command is there; if not, `owner` is woken by the next push.
    pub fn poll_ready(&self, owner: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if !inner.commands.is_empty() {
            return true;
        }
        inner.owner = Some(owner.clone());
        false
    }

    /// Forgets the waker of [`poll_ready`](Self::poll_ready): the owner is up and will drain the
    /// mailbox anyway, so waking it for what it asks of itself would be a turn for nothing.
    pub fn awake(&self) {
        self.inner.lock().owner = None;
    }

    /// Whether the mailbox is over its bound.
    pub fn is_full(&self) -> bool {
        self.inner.lock().pending_bytes >= self.pending_bytes_max
    }

    /// Whether the mailbox is over its bound; if so, `stalled` is woken when it has been drained.
    pub fn poll_full(&self, stalled: &Waker) -> bool {
        let mut inner = self.inner.lock();
        let full = inner.pending_bytes >= self.pending_bytes_max;
        if full && !inner.stalled.iter().any(|waker| waker.will_wake(stalled)) {
            inner.stalled.push(stalled.clone());
        }
        full
    }

    /// What the commands that were not taken count for, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.inner.lock().pending_bytes
    }
}
