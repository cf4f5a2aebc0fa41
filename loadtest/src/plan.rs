//! Who is in which room, who publishes where: the scenario laid out over numbered connections.
//!
//! Connections are numbered room by room, so a room's members are a range, and so are its streams.
//! A *stream* is what one publisher says in one room; its publications are numbered from zero and
//! every member of the room must receive them all, in that order.

use std::ops::Range;

use crate::scenario::{Group, Pacing};

/// A connection, which is a member of one room. Also its place in the driver's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemberId(pub(crate) u32);

/// A room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoomId(pub(crate) u32);

/// What one publisher says in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamId(pub(crate) u32);

impl MemberId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl RoomId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl StreamId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The whole layout.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rooms: Vec<Room>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) groups: Vec<PlannedGroup>,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    /// What its members join. Unlike that of any other run, so that nobody else's members or
    /// history are met.
    pub(crate) name: String,
    /// Its place in the scenario's groups.
    pub(crate) group: usize,
    /// Its members' numbers.
    pub(crate) members: Range<u32>,
    /// Its streams' numbers.
    pub(crate) streams: Range<u32>,
}

/// One publisher in one room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) room: RoomId,
    /// The connection that its publications go out on.
    pub(crate) member: MemberId,
    /// Its place in the plan's publishers.
    pub(crate) publisher: usize,
}

/// What publishes, in one room or in several by turns.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its rooms.
    pub(crate) streams: Vec<StreamId>,
    /// How many of its publications may be under way; none in an open loop.
    pub(crate) window: u32,
}

/// Where a group's publishers are, and when they publish.
#[derive(Clone, Debug)]
pub(crate) struct PlannedGroup {
    pub(crate) publishers: Range<usize>,
    pub(crate) pacing: Pacing,
    pub(crate) urgent: bool,
}

impl Plan {
    /// Lays out the groups; `run` makes the rooms' names unlike those of other runs.
    pub(crate) fn new(groups: &[Group], run: u32) -> Self {
        let mut plan = Self::default();
        for group in groups {
            plan.add(group, run);
        }
        plan
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> u32 {
        self.rooms.last().map_or(0, |room| room.members.end)
    }

    fn add(&mut self, group: &Group, run: u32) {
        let first_publisher = self.publishers.len();
        self.publishers
            .extend((0..group.publishers).map(|publisher| Publisher {
                streams: Vec::new(),
                window: match group.pacing {
                    Pacing::Closed { window } => share(window, group.publishers, publisher),
                    Pacing::Open { .. } => 0,
                },
            }));
        for room in 0..group.rooms {
            self.add_room(group, room, first_publisher, run);
        }
        self.groups.push(PlannedGroup {
            publishers: first_publisher..self.publishers.len(),
            pacing: group.pacing,
            urgent: group.urgent,
        });
    }

    /// Adds the group's room `room`. Its publishers are its first members; when there are fewer
    /// publishers than rooms, its one publisher serves other rooms too, over their connections.
    fn add_room(&mut self, group: &Group, room: u32, first_publisher: usize, run: u32) {
        let id =
            RoomId(u32::try_from(self.rooms.len()).expect("the command line allows 1,000,000"));
        let first_member = self.connections();
        let first_stream = self.rooms.last().map_or(0, |last| last.streams.end);
        let streams = share(group.publishers, group.rooms, room).max(1);
        for lane in 0..streams {
            let publisher = first_publisher
                + if group.publishers < group.rooms {
                    room % group.publishers
                } else {
                    room + lane * group.rooms
                } as usize;
            self.publishers[publisher]
                .streams
                .push(StreamId(first_stream + lane));
            self.streams.push(Stream {
                room: id,
                member: MemberId(first_member + lane),
                publisher,
            });
        }
        self.rooms.push(Room {
            name: format!("load-{run:08x}-{}", id.0),
            group: self.groups.len(),
            members: first_member..first_member + group.members_per_room,
            streams: first_stream..first_stream + streams,
        });
    }
}

/// How many of `total` the `index`th of `parts` gets when they are spread evenly.
fn share(total: u32, parts: u32, index: u32) -> u32 {
    total / parts + u32::from(index < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rooms: u32, members_per_room: u32, publishers: u32, window: u32) -> Group {
        let pacing = Pacing::Closed { window };
        Group {
            rooms,
            members_per_room,
            publishers,
            pacing,
            urgent: false,
        }
    }

    #[test]
    fn a_window_is_spread_evenly_over_the_publishers() {
        let plan = Plan::new(&[group(1, 100, 3, 16)], 0);
        let windows: Vec<_> = plan
            .publishers
            .iter()
            .map(|publisher| publisher.window)
            .collect();
        assert_eq!(windows, [6, 5, 5]);
        let members: Vec<_> = plan.streams.iter().map(|stream| stream.member.0).collect();
        assert_eq!(members, [0, 1, 2]);
    }

    #[test]
    fn few_publishers_serve_many_rooms_by_turns() {
        let plan = Plan::new(&[group(5, 10, 2, 2)], 0);
        assert_eq!(
            plan.publishers[0].streams,
            [StreamId(0), StreamId(2), StreamId(4)]
        );
        assert_eq!(plan.publishers[1].streams, [StreamId(1), StreamId(3)]);
        assert_eq!(
            (plan.streams[4].room, plan.streams[4].member),
            (RoomId(4), MemberId(40))
        );
    }

    #[test]
    fn many_publishers_are_spread_over_the_rooms() {
        let plan = Plan::new(&[group(2, 10, 5, 5)], 0);
        assert_eq!(
            (plan.rooms[0].streams.clone(), plan.rooms[1].streams.clone()),
            (0..3, 3..5)
        );
        let publishers: Vec<_> = plan.streams.iter().map(|stream| stream.publisher).collect();
        assert_eq!(publishers, [0, 2, 4, 1, 3]);
        assert!(
            plan.publishers
                .iter()
                .all(|publisher| publisher.streams.len() == 1)
        );
    }

    #[test]
    fn groups_follow_each_other() {
        let plan = Plan::new(&[group(1, 10, 1, 1), group(2, 100, 2, 4)], 0xABC);
        assert_eq!(plan.connections(), 210);
        assert_eq!(plan.groups[1].publishers, 1..3);
        assert_eq!(
            (plan.rooms[2].group, plan.rooms[2].members.clone()),
            (1, 110..210)
        );
        assert_eq!(plan.rooms[2].name, "load-00000abc-2");
    }
}
