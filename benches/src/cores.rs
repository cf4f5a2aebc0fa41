//! Cores without sockets: a table, the members of one core, and a socket that takes everything.

use std::sync::Arc;

use proto::SharedFrame;
use rooms::{Classes, Command, ConnectionId, CoreId, Effect, FlushQueue, LocalLimits, LocalRooms};
use rooms::{Outgoing, Published, RoomClass, RoomTable, TableConfig, Wire};

/// One core's state, and the table that it shares with the others.
#[derive(Debug)]
pub struct Core {
    /// Which core it is.
    pub id: CoreId,
    /// All cores' rooms.
    pub table: Arc<RoomTable>,
    /// This core's members.
    pub local: LocalRooms,
    /// Commands taken out of the mailbox; kept for its memory.
    commands: Vec<Command>,
}

/// Returns a table for so many cores and shards, otherwise with the server's limits.
pub fn table(core_count: usize, shard_count: usize) -> Arc<RoomTable> {
    Arc::new(RoomTable::new(TableConfig {
        core_count,
        shard_count,
        name_len_max: 255,
        mailbox_bytes_max: 16 << 20,
        watch_rooms: false,
        ..TableConfig::default()
    }))
}

/// A wire whose frames no history keeps, and the one whose frames they keep.
pub const WIRES: [Wire; 2] = [Wire(0), Wire(1)];

impl Core {
    /// Returns a core of its own, whose rooms retain what rooms retain by default.
    pub fn keeping() -> Self {
        let table = RoomTable::new(TableConfig {
            shard_count: 1,
            classes: Classes::new(Vec::new(), RoomClass::default()),
            wires: WIRES.to_vec(),
            history_wire: WIRES[1],
            ..TableConfig::default()
        });
        Self::of(Arc::new(table), 0)
    }

    /// Publishes to a room, where it is kept if the room keeps anything.
    ///
    /// # Panics
    ///
    /// If the table refuses it.
    pub fn publish(&self, room: &str, mut frame: SharedFrame, key: Option<&str>) -> Published {
        let outgoing = Outgoing {
            except: None,
            payload_len: frame.len(),
            publication: &mut frame,
            key,
            at: rooms::Moment(1),
            answer: None,
        };
        let published = self.table.publish(room, outgoing);
        published.expect("a good name, a good key, any size")
    }

    /// Returns a core of its own, with a table of so many shards.
    pub fn alone(shard_count: usize) -> Self {
        Self::of(table(1, shard_count), 0)
    }

    /// Returns one of the cores of a table.
    pub fn of(table: Arc<RoomTable>, id: u8) -> Self {
        let limits = LocalLimits {
            rooms_per_connection_max: usize::MAX,
            ..LocalLimits::default()
        };
        let id = CoreId(id);
        Self {
            id,
            table,
            local: LocalRooms::new(id, limits),
            commands: Vec::new(),
        }
    }

    /// Takes in a connection.
    ///
    /// # Panics
    ///
    /// If all 16 million slots are taken.
    pub fn open(&mut self) -> ConnectionId {
        self.open_on(WIRES[0])
    }

    /// Takes in a connection on some wire.
    ///
    /// # Panics
    ///
    /// If all 16 million slots are taken.
    pub fn open_on(&mut self, wire: Wire) -> ConnectionId {
        let open = self.local.open_on(wire);
        open.expect("there are 16 million slots")
    }

    /// Takes in a connection and makes it a member of a room.
    pub fn open_in(&mut self, room: &str) -> ConnectionId {
        let connection = self.open();
        self.join(connection, room);
        self.turn();
        connection
    }

    /// Asks for a membership. It begins with the next [`turn`](Self::turn).
    ///
    /// # Panics
    ///
    /// If no room can have the name.
    pub fn join(&self, connection: ConnectionId, room: &str) {
        let joined = self.table.join(connection, room);
        joined.expect("a name of 1 to 255 bytes");
    }

    /// Applies what is in the mailbox and fans out; returns how many commands there were.
    pub fn turn(&mut self) -> usize {
        let count = self.apply();
        self.local.fan_out();
        count
    }

    /// Applies what is in the mailbox; returns how many commands there were. Who asked for a replay
    /// gets it, without an answer.
    ///
    /// # Panics
    ///
    /// If a command asks for something else beyond the tables, as no bench does.
    pub fn apply(&mut self) -> usize {
        self.table.mailbox(self.id).drain(&mut self.commands);
        let count = self.commands.len();
        for command in self.commands.drain(..) {
            match self.local.apply(command, &self.table) {
                None => {}
                Some(Effect::Joined {
                    connection,
                    room,
                    joined,
                    ..
                }) => self.local.replay(connection.slot(), &room, &joined),
                Some(effect) => panic!("nobody asked for {effect:?}"),
            }
        }
        count
    }

    /// Empties every outbox, as sockets would that take everything; returns how many bytes.
    pub fn flush(&mut self) -> usize {
        let mut flushed_bytes = 0;
        for queue in [FlushQueue::Prompt, FlushQueue::Bulk] {
            while let Some(slot) = self.local.next_to_flush(queue) {
                let pending_bytes = self.local.outbox(slot).pending_bytes() as usize;
                self.local.advance(slot, pending_bytes);
                flushed_bytes += pending_bytes;
            }
        }
        flushed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_reaches_each_member_once() {
        let mut core = Core::alone(4);
        for _ in 0..3 {
            core.open_in("tea");
        }
        core.open_in("coffee");
        core.table.emit("tea", SharedFrame::from(&b"hot"[..]));
        assert_eq!((core.turn(), core.flush()), (1, 9));
        assert_eq!((core.turn(), core.flush()), (0, 0));
    }
}
