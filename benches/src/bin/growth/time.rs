//! Time and allocations of what a core does, at each size: the least of several rounds.
//!
//! A round is a batch as a turn under load has it: pushed one by one, applied at once. Who takes
//! part is drawn at random, so that what is touched is as cold as it would be.

use proto::{OpCode, SharedFrame, frame};
use rooms::ConnectionId;

use benches::Core;

use crate::memory::{ROOMS_OF_A_CONNECTION, room_name};
use crate::meter::Cost;
use crate::series::{Chart, Line, Sizes};

/// Measures so many rooms of one member each.
pub(crate) fn with_rooms(sizes: &Sizes, rounds: usize) -> Chart {
    let names: Vec<String> = (0..sizes.max() + BATCH).map(room_name).collect();
    let (names, new_names) = names.split_at(sizes.max());
    let mut core = Core::alone(SHARD_COUNT);
    let mut visitors: Vec<ConnectionId> = (0..BATCH).map(|_| core.open()).collect();
    let mut costs = Costs::new(&["publish", "join", "leave", "create", "remove"]);
    let mut built = 0;
    for size in &sizes.rows {
        for name in &names[built..*size] {
            core.open_in(name);
            // A room's first publication alone allocates; see the memory of rooms published to.
            publish(&mut core, &[name]);
        }
        built = *size;
        for _ in 0..rounds {
            let chosen = draw(&names[..built]);
            let new: Vec<&str> = new_names.iter().map(String::as_str).collect();
            costs.add(0, *size, publish(&mut core, &chosen));
            costs.add(1, *size, join(&mut core, &visitors, &chosen));
            costs.add(2, *size, leave(&mut core, &visitors, &chosen));
            costs.add(3, *size, join(&mut core, &visitors, &new));
            costs.add(4, *size, leave(&mut core, &visitors, &new));
            close(&mut core, &visitors);
            open(&mut core, &mut visitors);
        }
        assert_eq!(core.table.room_count(), built);
    }
    Chart {
        title: "Time, by rooms".to_owned(),
        size: "rooms",
        unit: "ns",
        lines: costs.lines(),
        rows: sizes.rows.clone(),
        note: costs.allocations(),
    }
}

/// Measures so many members of one room.
pub(crate) fn with_members(sizes: &Sizes, rounds: usize) -> Chart {
    let mut core = Core::alone(SHARD_COUNT);
    let mut members: Vec<ConnectionId> = Vec::new();
    let rooms = ["tea"; BATCH];
    let mut costs = Costs::new(&["deliver", "leave", "join", "close", "open"]);
    for size in &sizes.rows {
        while members.len() < *size {
            members.push(core.open_in("tea"));
        }
        for _ in 0..rounds {
            fastrand::shuffle(&mut members);
            let (leaving, others) = members.split_at_mut(BATCH);
            let closing = &mut others[..BATCH];
            costs.add(1, *size, leave(&mut core, leaving, &rooms));
            join(&mut core, leaving, &rooms);
            costs.add(3, *size, close(&mut core, closing));
            costs.add(4, *size, open(&mut core, closing));
            costs.add(2, *size, join(&mut core, closing, &rooms));
            costs.add(0, *size, fan_out(&mut core, *size));
        }
        assert_eq!(core.table.member_count("tea") as usize, members.len());
    }
    Chart {
        title: "Time, by members of one room".to_owned(),
        size: "members",
        unit: "ns",
        lines: costs.lines(),
        rows: sizes.rows.clone(),
        note: costs.allocations(),
    }
}

/// Measures connections that are in so many rooms.
pub(crate) fn with_memberships(rounds: usize) -> Chart {
    let mut costs = Costs::new(&["join the last", "leave any"]);
    for room_count in ROOMS_OF_A_CONNECTION {
        let mut core = Core::alone(SHARD_COUNT);
        let names: Vec<String> = (0..room_count).map(room_name).collect();
        let connections: Vec<ConnectionId> = (0..BATCH).map(|_| core.open()).collect();
        for name in &names {
            core.open_in(name);
            for connection in &connections {
                core.join(*connection, name);
            }
            core.turn();
        }
        for _ in 0..rounds {
            let chosen = draw(&names);
            costs.add(1, room_count, leave(&mut core, &connections, &chosen));
            costs.add(0, room_count, join(&mut core, &connections, &chosen));
        }
        assert_eq!(core.local.membership_count(), room_count * (BATCH + 1));
    }
    let mut lines = costs.lines();
    lines.iter_mut().for_each(|line| line.plotted = false);
    Chart {
        title: "Time, by rooms of a connection".to_owned(),
        size: "rooms of a connection",
        unit: "ns",
        lines,
        rows: ROOMS_OF_A_CONNECTION.to_vec(),
        note: costs.allocations(),
    }
}

/// Costs of operations at each size.
struct Costs {
    names: &'static [&'static str],
    /// An operation, a size, and the least so far.
    least: Vec<(usize, usize, Cost)>,
}

impl Costs {
    const fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            least: Vec::new(),
        }
    }

    fn add(&mut self, operation: usize, size: usize, cost: Cost) {
        let same = |(o, s, _): &&mut (usize, usize, Cost)| (*o, *s) == (operation, size);
        match self.least.iter_mut().find(same) {
            Some((_, _, least)) => *least = least.least(cost),
            None => self.least.push((operation, size, cost)),
        }
    }

    /// Returns one line per operation.
    fn lines(&self) -> Vec<Line> {
        let names = self.names.iter().enumerate();
        names
            .map(|(operation, name)| Line {
                points: self
                    .of(operation)
                    .map(|(size, cost)| (size, cost.ns))
                    .collect(),
                ..Line::new(*name)
            })
            .collect()
    }

    /// Says how often each operation allocates at the largest size.
    fn allocations(&self) -> String {
        let names = self.names.iter().enumerate();
        let counts: Vec<String> = names
            .filter_map(|(operation, name)| {
                let (_, cost) = self.of(operation).last()?;
                Some(format!("{name} {:.2}", cost.allocations))
            })
            .collect();
        format!("Allocations in the last row: {}.", counts.join(", "))
    }

    fn of(&self, operation: usize) -> impl Iterator<Item = (usize, Cost)> {
        let all = self.least.iter();
        all.filter(move |(found, _, _)| *found == operation)
            .map(|(_, size, cost)| (*size, *cost))
    }
}

/// Publications, and their fan-out to whoever is there.
fn publish(core: &mut Core, rooms: &[&str]) -> Cost {
    let frame = frame_of_64();
    let cost = Cost::of(rooms.len(), || {
        for room in rooms {
            core.table.emit(*room, frame.clone());
        }
        core.turn();
    });
    assert!(core.flush() >= rooms.len() * frame.len());
    cost
}

/// Publishes once to everybody, and returns the cost of each delivery, up to the emptied outbox.
fn fan_out(core: &mut Core, member_count: usize) -> Cost {
    let frame = frame_of_64();
    let mut flushed_bytes = 0;
    let cost = Cost::of(member_count, || {
        core.table.emit("tea", frame.clone());
        core.turn();
        flushed_bytes = core.flush();
    });
    assert_eq!(flushed_bytes, member_count * frame.len());
    cost
}

/// Joins from each connection the room beside it.
fn join(core: &mut Core, connections: &[ConnectionId], rooms: &[&str]) -> Cost {
    Cost::of(rooms.len(), || {
        for (connection, room) in connections.iter().zip(rooms) {
            core.join(*connection, room);
        }
        assert_eq!(core.turn(), rooms.len());
    })
}

/// Leaves from each connection the room beside it.
fn leave(core: &mut Core, connections: &[ConnectionId], rooms: &[&str]) -> Cost {
    Cost::of(rooms.len(), || {
        for (connection, room) in connections.iter().zip(rooms) {
            core.table.leave(*connection, *room);
        }
        assert_eq!(core.turn(), rooms.len());
    })
}

fn close(core: &mut Core, connections: &[ConnectionId]) -> Cost {
    Cost::of(connections.len(), || {
        for connection in connections {
            core.local.close(connection.slot(), &core.table);
        }
    })
}

/// Others come in their place.
fn open(core: &mut Core, connections: &mut [ConnectionId]) -> Cost {
    Cost::of(connections.len(), || {
        for connection in connections {
            *connection = core.open();
        }
    })
}

/// Draws a batch of any.
fn draw(from: &[String]) -> Vec<&str> {
    let one = |_| from[fastrand::usize(..from.len())].as_str();
    (0..BATCH).map(one).collect()
}

pub(crate) fn frame_of_64() -> SharedFrame {
    frame::encode(OpCode::Text, &[b'x'; 64])
}

/// As many operations as a busy turn has.
const BATCH: usize = 256;

/// Shards that the server has for one core.
const SHARD_COUNT: usize = 4;
