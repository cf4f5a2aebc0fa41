//! Members that come and go.

use std::convert::Infallible;

use super::{JoinRequest, RoomTable};
use crate::backpressure::Backpressure;
use crate::error::JoinError;
use crate::handle::RoomHandle;
use crate::id::ConnectionId;
use crate::key::{RoomKey, Space};
use crate::mailbox::{Command, Joined};
use crate::shard::{MemberCount, Room};
use crate::time::Moment;

impl RoomTable {
    /// Makes the connection a member of the room, and the room if it does not exist.
    ///
    /// Publications after this call reach the connection. Whether it is a member already, is at
    /// its limit, or is gone is decided by its core when the [`Command::Attach`] arrives there:
    /// joining twice is joining once.
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
        Ok(self.join_hashed(connection, named, None))
    }

    /// The same for a connection that is told the room's position, and given what was published since
    /// it left, as far as that is held: its core gets an [`Effect::Joined`](crate::Effect::Joined).
    ///
    /// What is replayed is what was published before this call, what it gets later is what was
    /// published after: no gap, no repeat. Costs a reference count a publication that is replayed.
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
        Ok(self.join_hashed(connection, named, Some(request)))
    }

    /// [`join`](Self::join) for a caller that cannot be held back.
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
            self.check_pressure(self.watcher(named.0))?;
        }
        Ok(self.join_hashed(connection, named, None))
    }

    fn join_hashed(
        &self,
        connection: ConnectionId,
        (hash, key): (u64, RoomKey<'_>),
        request: Option<JoinRequest>,
    ) -> Backpressure {
        let (core, wire) = (connection.core(), connection.wire());
        let (watcher, pushed) = {
            let mut shard = self.shard(hash).lock();
            let is_journaled = shard.is_journaled;
            let mut is_new = false;
            let Ok((room, _)) = shard.find_or_create(hash, key, |id, classes| {
                is_new = true;
                Ok::<_, Infallible>(self.draw(id, key, classes))
            });
            if is_new && is_journaled && room.class.history.is_on() {
                self.write_epoch(room);
            }
            let is_first = room.count_in(core, wire);
            let joined = request.map(|request| Box::new(joined(room, request)));
            let room = room.handle.clone();
            shard.peopled_count += usize::from(is_first);
            let watcher = (is_first && self.watches_rooms()).then(|| {
                let (space, name) = (room.space, room.name.clone());
                self.tell_watcher(Command::RoomCreated { space, name }, hash)
            });
            let attach = Command::Attach {
                connection,
                room,
                joined,
            };
            (watcher, self.mailbox(core).push(attach))
        };
        // The watcher counts too: who joins ever new rooms fills its mailbox.
        let watching = watcher.and_then(|watcher| watcher.wake(self.watcher(hash)).0);
        Backpressure(pushed.wake(core).0.or(watching))
    }

    /// Ends the connection's membership of the room, if there is one.
    ///
    /// What was published before still reaches it; what is published after does not.
    pub fn leave<'a>(&self, connection: ConnectionId, key: impl Into<RoomKey<'a>>) -> Backpressure {
        let key = key.into();
        let hash = self.hash_of(key);
        let core = connection.core();
        let pushed = {
            let shard = self.shard(hash).lock();
            let Some(room) = shard.find(hash, key) else {
                return Backpressure::default();
            };
            let room = room.handle.id;
            self.mailbox(core)
                .push(Command::Detach { connection, room })
        };
        pushed.wake(core)
    }

    /// Ends all memberships of the connection in rooms of a space.
    pub fn leave_all(&self, connection: ConnectionId, space: Space) -> Backpressure {
        self.send(connection, Command::DetachAll { connection, space })
    }

    /// Says whether the connection is to be closed when it leaves its last room of a space, by
    /// [`leave`](Self::leave), [`leave_all`](Self::leave_all) or [`dissolve`](Self::dissolve): then its
    /// core gets an [`Effect::LastRoomLeft`](crate::Effect::LastRoomLeft). Not at first, and forgotten
    /// with the connection. It holds for what is asked of the connection after this call.
    ///
    /// Its core keeps 8 bytes for each space for which it is so, and looks at the rooms of the connection
    /// when it leaves one.
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

    /// Counts one member less, and forgets the room with its last one unless it keeps something.
    ///
    /// Called once for each membership that ends and each `Attach` that is not accepted.
    pub(crate) fn release(&self, connection: ConnectionId, handle: &RoomHandle, now: Moment) {
        let one = MemberCount {
            core: connection.core(),
            wire: connection.wire(),
            count: 1,
        };
        self.release_members(one, handle, now);
    }

    /// The same for several members of one core and wire.
    pub(crate) fn release_members(&self, members: MemberCount, handle: &RoomHandle, now: Moment) {
        let pushed = {
            let mut shard = self.shard(handle.hash).lock();
            let was_last = shard.count_out(handle, members, now, &self.house());
            if !was_last || !self.watches_rooms() {
                return;
            }
            let (space, name) = (handle.space, handle.name.clone());
            self.tell_watcher(Command::RoomRemoved { space, name }, handle.hash)
        };
        pushed.wake_quietly();
    }
}

/// What who joins is told, and given.
fn joined(room: &Room, request: JoinRequest) -> Joined {
    let recovery = room.recover(request.since);
    let replay = recovery.map_or_else(Vec::new, |recovery| {
        room.publications_from(recovery.first).cloned().collect()
    });
    Joined {
        id: request.id,
        position: room.position(),
        recovery,
        replay,
    }
}
