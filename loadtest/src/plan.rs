//! Who is in which room, who publishes where: the scenario laid out over numbered connections.
//!
//! Connections are numbered room by room, so a room's members are a range, and so are its streams.
//! A *stream* is what one publisher says in one room; its publications are numbered from zero and
//! every member of the room must receive them all, in that order.
//!
//! A plan can be [split](Plan::split) over threads. Rooms, streams and publishers keep their
//! numbers, of which the first two are on the wire; each part numbers its own connections from
//! zero. All streams of one publisher are in one part, so that its window is in one place.

use std::ops::Range;
use std::sync::Arc;

use crate::scenario::{Group, Pacing};

/// A connection, which is a member of one room. Also its place in the driver's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u32);

/// A room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RoomId(pub(crate) u32);

/// What one publisher says in one room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// How many connections the parts before this one have.
    pub(crate) connections_before: u32,
    /// Which part this is.
    pub(crate) thread: usize,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    /// What its members join. Unlike that of any other run, so that nobody else's members or
    /// history are met.
    pub(crate) name: Arc<str>,
    /// Its place in the scenario's groups.
    pub(crate) group: usize,
    /// The numbers of its members in this part.
    pub(crate) members: Range<u32>,
    /// Whether its first member is in this part.
    pub(crate) begins_here: bool,
    /// How many other parts have members of it.
    pub(crate) other_parts: u32,
    /// Its streams' numbers.
    pub(crate) streams: Range<u32>,
}

/// One publisher in one room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) room: RoomId,
    /// The connection that its publications go out on.
    pub(crate) home: Home,
    /// Its place in the plan's publishers.
    pub(crate) publisher: usize,
}

/// Where a stream is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// On this connection of this part.
    Here(MemberId),
    /// In another part, whose thread this is.
    Thread(u32),
}

/// What publishes, in one room or in several by turns.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    /// Its rooms.
    pub(crate) streams: Vec<StreamId>,
    /// How many of its publications may be under way; none in an open loop.
    pub(crate) window: u32,
    /// Whether it publishes in this part.
    pub(crate) is_here: bool,
}

/// Where a group's publishers are, and when they publish.
#[derive(Clone, Debug)]
pub(crate) struct PlannedGroup {
    pub(crate) publishers: Range<usize>,
    pub(crate) pacing: Pacing,
    pub(crate) urgent: bool,
}

/// From so many rooms to a thread on, a group's rooms are not split: they are spread evenly enough
/// whole, and the threads then have nothing to tell each other.
const WHOLE_ROOMS_PER_THREAD: usize = 8;

impl Plan {
    /// Lays out the groups; `run` makes the rooms' names unlike those of other runs.
    pub(crate) fn new(groups: &[Group], run: u32) -> Self {
        let mut plan = Self::default();
        for group in groups {
            plan.add(group, run);
        }
        plan
    }

    /// Returns for each member whether it publishes.
    pub(crate) fn publishing_members(&self) -> Vec<bool> {
        let mut publishes = vec![false; self.connections() as usize];
        for stream in &self.streams {
            if let Home::Here(member) = stream.home {
                publishes[member.index()] = true;
            }
        }
        publishes
    }

    /// Returns how many connections there are.
    pub(crate) fn connections(&self) -> u32 {
        self.rooms.last().map_or(0, |room| room.members.end)
    }

    /// Makes one part for each of `threads`, with about as many members each.
    ///
    /// A room has members in several parts unless there are many rooms.
    pub(crate) fn split(&self, threads: usize) -> Vec<Self> {
        let mut before = 0;
        let part = |thread| {
            let part = self.part(thread, threads, before);
            before += part.connections();
            part
        };
        (0..threads).map(part).collect()
    }

    fn part(&self, thread: usize, threads: usize, connections_before: u32) -> Self {
        let mut part = Self {
            publishers: self.publishers.clone(),
            groups: self.groups.clone(),
            connections_before,
            thread,
            ..Self::default()
        };
        for (index, group) in self.groups.iter().enumerate() {
            let rooms = self.rooms_of(index);
            for room in rooms.clone() {
                let spread = spread(room - rooms.start, rooms.len(), group, threads);
                part.add_part_of_room(&self.rooms[room], &spread, self);
            }
        }
        for publisher in &mut part.publishers {
            let stream = &part.streams[publisher.streams[0].index()];
            publisher.is_here = matches!(stream.home, Home::Here(_));
        }
        part
    }

    fn add_part_of_room(&mut self, room: &Room, spread: &Spread, whole: &Self) {
        let first = self.connections();
        let count = room.members.end - room.members.start;
        let here = spread.count(count, self.thread);
        for stream in &whole.streams[room.streams.start as usize..room.streams.end as usize] {
            let lane = stream.lane(room);
            let thread = spread.thread(lane);
            let home = if thread == self.thread {
                Home::Here(MemberId(first + spread.count(lane, self.thread)))
            } else {
                Home::Thread(spread.part(thread))
            };
            self.streams.push(Stream { home, ..*stream });
        }
        self.rooms.push(Room {
            name: Arc::clone(&room.name),
            group: room.group,
            members: first..first + here,
            begins_here: spread.first == self.thread,
            other_parts: spread.parts(count) - u32::from(here > 0),
            streams: room.streams.clone(),
        });
    }

    /// Returns the places of a group's rooms.
    fn rooms_of(&self, group: usize) -> Range<usize> {
        let start = self.rooms.partition_point(|room| room.group < group);
        start..self.rooms.partition_point(|room| room.group <= group)
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
                is_here: true,
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
                home: Home::Here(MemberId(first_member + lane)),
                publisher,
            });
        }
        self.rooms.push(Room {
            name: format!("load-{run:08x}-{}", id.0).into(),
            group: self.groups.len(),
            members: first_member..first_member + group.members_per_room,
            begins_here: true,
            other_parts: 0,
            streams: first_stream..first_stream + streams,
        });
    }
}

impl Stream {
    /// Returns the place of its publisher among the members of its room, in a plan that is not
    /// split.
    fn lane(&self, room: &Room) -> u32 {
        match self.home {
            Home::Here(member) => member.0 - room.members.start,
            Home::Thread(_) => 0,
        }
    }
}

/// Spreads the members of a group's `room`th room.
///
/// A publisher that serves several rooms serves the first member of each, so these must be
/// together.
fn spread(room: usize, rooms: usize, group: &PlannedGroup, threads: usize) -> Spread {
    let classes = group.publishers.len().min(rooms);
    Spread {
        first: room % classes % threads,
        threads,
        whole: classes >= threads * WHOLE_ROOMS_PER_THREAD,
    }
}

/// Which thread has each member of one room.
#[derive(Clone, Copy, Debug)]
struct Spread {
    /// That of its first member.
    first: usize,
    threads: usize,
    /// Whether all the others are there too.
    whole: bool,
}

impl Spread {
    /// Returns the thread of a room's `place`th member, counted from zero.
    fn thread(&self, place: u32) -> usize {
        if self.whole {
            self.first
        } else {
            (self.first + place as usize) % self.threads
        }
    }

    /// Returns how many of a room's first `places` members a thread has.
    fn count(&self, places: u32, thread: usize) -> u32 {
        if self.whole {
            return if thread == self.first { places } else { 0 };
        }
        let offset = (thread + self.threads - self.first) % self.threads;
        share(places, self.part(self.threads), self.part(offset))
    }

    /// Returns how many threads have any of `members`.
    fn parts(&self, members: u32) -> u32 {
        if self.whole {
            1
        } else {
            members.min(self.part(self.threads))
        }
    }

    fn part(&self, number: usize) -> u32 {
        u32::try_from(number).expect("the command line allows 256 threads")
    }
}

/// Returns how many of `total` the `index`th of `parts` gets when they are spread evenly.
fn share(total: u32, parts: u32, index: u32) -> u32 {
    total / parts + u32::from(index < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rooms: u32, members_per_room: u32, publishers: u32, window: u32) -> Group {
        Group::alike(
            rooms,
            members_per_room,
            publishers,
            Pacing::Closed { window },
        )
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
        let homes = (0..3).map(|member| Home::Here(MemberId(member)));
        assert!(plan.streams.iter().map(|stream| stream.home).eq(homes));
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
            (plan.streams[4].room, plan.streams[4].home),
            (RoomId(4), Home::Here(MemberId(40)))
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
        assert_eq!(&*plan.rooms[2].name, "load-00000abc-2");
    }

    /// Every member, publisher and turn of a plan is in exactly one of its parts.
    #[test]
    fn the_parts_of_a_plan_are_the_plan() {
        let shapes = [
            (1, 5, 1, 2),
            (1, 1, 1, 3),
            (7, 3, 2, 2),
            (3, 10, 8, 3),
            (40, 4, 40, 2),
            (100, 2, 30, 3),
        ];
        for (rooms, members, publishers, threads) in shapes {
            let plan = Plan::new(&[group(rooms, members, publishers, publishers)], 0);
            let parts = plan.split(threads);
            let connections: u32 = parts.iter().map(Plan::connections).sum();
            assert_eq!(connections, rooms * members, "{rooms} x {members}");
            let last = parts.last().unwrap();
            assert_eq!(last.connections_before + last.connections(), connections);
            for (index, room) in plan.rooms.iter().enumerate() {
                let here = parts.iter().map(|part| part.rooms[index].members.clone());
                let here: Vec<u32> = here.map(|range| range.end - range.start).collect();
                assert_eq!(here.iter().sum::<u32>(), members);
                let having: u32 = here.iter().map(|&here| u32::from(here > 0)).sum();
                for part in &parts {
                    let others = having - u32::from(!part.rooms[index].members.is_empty());
                    assert_eq!(part.rooms[index].other_parts, others);
                    assert_eq!(part.rooms[index].name, room.name);
                }
                let begin = parts.iter().filter(|part| part.rooms[index].begins_here);
                assert_eq!(begin.count(), 1);
            }
            check_streams(&plan, &parts);
        }
    }

    fn check_streams(plan: &Plan, parts: &[Plan]) {
        for (number, _) in (0..).zip(&plan.streams) {
            let id = StreamId(number);
            let here: Vec<_> = parts
                .iter()
                .filter(|part| matches!(part.streams[id.index()].home, Home::Here(_)))
                .collect();
            let [part] = here[..] else {
                panic!("stream {number} is published in {} parts", here.len());
            };
            let stream = &part.streams[id.index()];
            let Home::Here(member) = stream.home else {
                unreachable!()
            };
            assert!(part.rooms[stream.room.index()].members.contains(&member.0));
            assert!(part.publishers[stream.publisher].streams.contains(&id));
            assert!(part.publishers[stream.publisher].is_here);
            for other in parts.iter().filter(|other| other.thread != part.thread) {
                let home = other.streams[id.index()].home;
                assert!(matches!(home, Home::Thread(thread) if thread as usize == part.thread));
                assert!(!other.publishers[stream.publisher].is_here);
            }
        }
    }

    #[test]
    fn a_big_room_is_split_and_many_small_ones_are_not() {
        let parts = Plan::new(&[group(1, 101, 2, 2)], 0).split(2);
        let members = parts.iter().map(|part| part.rooms[0].members.len());
        assert!(members.eq([51, 50]));
        let parts = Plan::new(&[group(100, 4, 100, 100)], 0).split(2);
        for part in parts {
            assert!(
                part.rooms
                    .iter()
                    .all(|room| room.other_parts == u32::from(room.members.is_empty()))
            );
            assert_eq!(part.connections(), 200);
        }
    }
}
