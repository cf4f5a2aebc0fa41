//! Members that come and go.

use std::convert::Infallible;

use super::{JoinRequest, RoomTable};
use crate::backpressure::Backpressure;
use crate::error::JoinError;
use crate::handle::RoomHandle;
use crate::history::Stream;
use crate::id::ConnectionId;
use crate::key::{Named, RoomKey, Space};
use crate::mailbox::{Command, Joined};
use crate::members::MemberCount;
use crate::time::Moment;

impl RoomTable {
    /// Makes the connection a member of the room, and creates the room if it does not exist.
    ///
    /// Publications after this call reach the connection. Its core decides when the
    /// [`Command::Attach`] arrives there: the connection may be a member already, at its limit of
    /// rooms, or gone. Joining twice is joining once.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing has changed.
    pub fn join<'a>(
        &self,
        connection: ConnectionId,
        key: impl Into<RoomKey<'a>>,
    ) -> Result<Backpressure, JoinError> {
        let named = self.check_name(key.into())?;
        Ok(self.join_named(connection, named, None))
    }

    /// Makes the connection a member, tells it the room's position, and replays what it missed, as
    /// far as that is retained: its core gets an [`Effect::Joined`](crate::Effect::Joined).
    ///
    /// The replay has what was published before this call; what is published after is delivered: no
    /// gap, no repeat. Costs a reference count for each publication that is replayed.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing has changed.
    pub fn join_since<'a>(
        &self,
        connection: ConnectionId,
        key: impl Into<RoomKey<'a>>,
        request: JoinRequest,
    ) -> Result<Backpressure, JoinError> {
        let named = self.check_name(key.into())?;
        Ok(self.join_named(connection, named, Some(request)))
    }

    /// [Joins](Self::join) for a caller that cannot pause.
    ///
    /// # Errors
    ///
    /// [`JoinError`], also [`JoinError::Overloaded`]; nothing has changed.
    pub fn try_join<'a>(
        &self,
        connection: ConnectionId,
        key: impl Into<RoomKey<'a>>,
    ) -> Result<Backpressure, JoinError> {
        let named = self.check_name(key.into())?;
        self.check_pressure(connection.core())?;
        if self.watches_rooms() {
            self.check_pressure(self.watcher(named.hash))?;
        }
        Ok(self.join_named(connection, named, None))
    }

    fn join_named(
        &self,
        connection: ConnectionId,
        named: Named<'_>,
        request: Option<JoinRequest>,
    ) -> Backpressure {
        let (core, wire) = (connection.core(), connection.wire());
        let (watcher, pushed) = {
            let mut shard = self.shard(named.hash).lock();
            let mut is_new = false;
            let Ok((room, histories)) = shard.find_or_create(named, |id, classes| {
                is_new = true;
                Ok::<_, Infallible>(self.new_room(id, named.key, classes))
            });
            if is_new {
                histories.write_epoch(&room.stream);
            }
            let is_first = room.members.count_in(core, wire);
            let joined = request.map(|request| Box::new(joined(&room.stream, request)));
            let room = room.stream.handle.clone();
            shard.peopled_count += usize::from(is_first);
            let watcher = (is_first && self.watches_rooms()).then(|| {
                let (space, name) = (room.space, room.name.clone());
                self.tell_watcher(Command::RoomCreated { space, name }, named.hash)
            });
            let attach = Command::Attach {
                connection,
                room,
                joined,
            };
            (watcher, self.mailbox(core).push(attach))
        };
        // The watcher counts too: a connection that joins ever new rooms fills its mailbox.
        let watching = watcher.and_then(|watcher| watcher.wake(self.watcher(named.hash)).0);
        Backpressure(pushed.wake(core).0.or(watching))
    }

    /// Ends the connection's membership of the room, if there is one.
    ///
    /// What was published before still reaches it; what is published after does not.
    pub fn leave<'a>(&self, connection: ConnectionId, key: impl Into<RoomKey<'a>>) -> Backpressure {
        let named = self.named(key);
        let core = connection.core();
        let pushed = {
            let shard = self.shard(named.hash).lock();
            let Some(room) = shard.find(named) else {
                return Backpressure::default();
            };
            let room = room.stream.handle.id;
            self.mailbox(core)
                .push(Command::Detach { connection, room })
        };
        pushed.wake(core)
    }

    /// Ends all memberships of the connection in rooms of a space.
    pub fn leave_all(&self, connection: ConnectionId, space: Space) -> Backpressure {
        self.send(connection, Command::DetachAll { connection, space })
    }

    /// Sets whether the connection is to be closed when it leaves its last room of a space, by
    /// [`leave`](Self::leave), [`leave_all`](Self::leave_all) or [`dissolve`](Self::dissolve). Its
    /// core then gets an [`Effect::LastRoomLeft`](crate::Effect::LastRoomLeft).
    ///
    /// Off at first. Takes effect for everything that is asked of the connection after this call.
    /// For each space where it is on, the core keeps 8 bytes, and looks at the rooms of the
    /// connection when it leaves one.
    pub fn close_with_last_room(
        &self,
        connection: ConnectionId,
        space: Space,
        on: bool,
    ) -> Backpressure {
        let command = Command::CloseWithLastRoom {
            connection,
            space,
            on,
        };
        self.send(connection, command)
    }

    /// Counts one member less. The room goes with its last member, unless its history stays.
    ///
    /// Called once for each membership that ends and each `Attach` that a core rejects.
    pub(crate) fn release(&self, connection: ConnectionId, handle: &RoomHandle, now: Moment) {
        let one = MemberCount {
            core: connection.core(),
            wire: connection.wire(),
            count: 1,
        };
        self.release_members(one, handle, now);
    }

    /// Counts several members of one core and wire less.
    pub(crate) fn release_members(&self, members: MemberCount, handle: &RoomHandle, now: Moment) {
        let pushed = {
            let mut shard = self.shard(handle.hash).lock();
            let was_last = shard.count_out(handle, members, now);
            if !was_last || !self.watches_rooms() {
                return;
            }
            let (space, name) = (handle.space, handle.name.clone());
            self.tell_watcher(Command::RoomRemoved { space, name }, handle.hash)
        };
        pushed.wake_quietly();
    }
}

/// Returns what a new member is told, and given.
fn joined(stream: &Stream, request: JoinRequest) -> Joined {
    let recovery = stream.recover(request.since);
    let replay = recovery.map_or_else(Vec::new, |recovery| {
        let missed = stream.publications_from(recovery.first);
        missed.cloned().collect()
    });
    Joined {
        id: request.id,
        position: stream.position(),
        recovery,
        replay,
    }
}
