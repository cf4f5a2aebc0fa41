//! A client that comes back: it remembers where it was in each room, sends again what was not
//! acknowledged, and does not believe anything that does not follow.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use throng_rooms::{ConnectionId, Epoch, EventKind, Since, StreamPosition, Wire};

use crate::frames::texts;
use crate::items::Item;
use crate::link::{Link, Request};
use crate::server::{Server, Stream};
use crate::{Class, KEPT, class_of, name};

pub(crate) struct Client {
    number: usize,
    pub(crate) wire: Wire,
    pub(crate) rooms: BTreeMap<usize, View>,
    pub(crate) connection: Option<ConnectionId>,
    /// When it opens a connection again.
    back_at_ms: u64,
    /// The bytes that have arrived and are not a whole frame yet.
    partial: Vec<u8>,
    /// The publications that it wants to send, in order: the first is on its way.
    unacknowledged: VecDeque<(usize, String, String)>,
    said_count: u64,
    pub(crate) counts: Counts,
}

/// The events of a run, to know that it was worth it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) missed: u64,
    /// Gaps in rooms that leave nothing out and have long histories.
    pub(crate) missed_long: u64,
    pub(crate) comebacks: u64,
    pub(crate) recoveries: u64,
    pub(crate) closed_slow: u64,
}

impl Counts {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            missed: self.missed + other.missed,
            missed_long: self.missed_long + other.missed_long,
            comebacks: self.comebacks + other.comebacks,
            recoveries: self.recoveries + other.recoveries,
            closed_slow: self.closed_slow + other.closed_slow,
        }
    }
}

/// A client's view of a room.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The epoch, and the offset that must come next.
    pub(crate) next: Option<(u64, u64)>,
    /// Publications that come next are of this membership.
    is_member: bool,
    /// It has asked to join, and not been answered.
    is_joining: bool,
    /// It has left, and comes back at this time.
    away_until_ms: Option<u64>,
}

impl Client {
    pub(crate) fn new(number: usize, wire: Wire, rooms: impl Iterator<Item = usize>) -> Self {
        Self {
            number,
            wire,
            rooms: rooms.map(|room| (room, View::default())).collect(),
            connection: None,
            back_at_ms: 0,
            partial: Vec::new(),
            unacknowledged: VecDeque::new(),
            said_count: 0,
            counts: Counts::default(),
        }
    }

    /// Opens a connection if it is time, and asks for all that it has missed.
    pub(crate) fn come_back(&mut self, server: &mut Server, rng: &mut Rng, now_ms: u64) {
        if self.connection.is_some() || self.back_at_ms > now_ms {
            return;
        }
        let core = rng.usize(..server.cores.len());
        let rate = if rng.u8(..5) == 0 {
            rng.usize(20..100)
        } else {
            10_000
        };
        let id = server.accept(core, self.wire, Link::new(rate));
        self.connection = Some(id);
        self.partial.clear();
        self.counts.comebacks += 1;
        let link = server.link(id).expect("it was opened just now");
        for (room, view) in &mut self.rooms {
            if view.away_until_ms.is_none() {
                link.send(view.join(*room, self.wire), now_ms);
            }
        }
        for (room, key, body) in &self.unacknowledged {
            link.send(publish(*room, key, body), now_ms);
        }
    }

    /// The connection is gone; the client waits before it opens another.
    pub(crate) fn lose(&mut self, back_at_ms: u64) {
        self.connection = None;
        self.back_at_ms = back_at_ms;
        for view in self.rooms.values_mut() {
            view.is_member = false;
            view.is_joining = false;
            if self.wire != KEPT {
                // It cannot ask for what it missed.
                view.next = None;
            }
        }
    }

    /// Comes back at once, for good.
    pub(crate) fn stop_waiting(&mut self, now_ms: u64) {
        self.back_at_ms = self.back_at_ms.min(now_ms);
        for view in self.rooms.values_mut() {
            view.away_until_ms = view.away_until_ms.map(|_| now_ms);
        }
    }

    /// Leaves a room for a while, or comes back to one.
    pub(crate) fn wander(&mut self, server: &mut Server, rng: &mut Rng, now_ms: u64, leaves: bool) {
        let link = self.connection.and_then(|id| server.link(id));
        let Some(link) = link else { return };
        for (room, view) in &mut self.rooms {
            if view.away_until_ms.is_some_and(|at_ms| at_ms <= now_ms) && !view.is_member {
                view.away_until_ms = None;
                if !view.is_joining {
                    link.send(view.join(*room, self.wire), now_ms);
                }
            } else if leaves && view.is_member && self.wire == KEPT && rng.u32(..4000) == 0 {
                view.away_until_ms = Some(now_ms + rng.u64(50..1000));
                link.send(Request::Leave { room: *room }, now_ms);
            }
        }
    }

    /// Says something that nobody has said.
    pub(crate) fn say(&mut self, server: &mut Server, rng: &mut Rng, now_ms: u64) {
        let rooms: Vec<usize> = self.rooms.keys().copied().collect();
        let room = rooms[rng.usize(..rooms.len())];
        let kind = rng.choice([EventKind::Lasting, EventKind::Ephemeral]);
        if let Some(link) = self.connection.and_then(|id| server.link(id))
            && let Some(kind) = kind.filter(|_| rng.bool())
        {
            link.send(Request::Emit { kind, room }, now_ms);
        }
        self.said_count += 1;
        let key = format!("{}-{}", self.number, self.said_count);
        let body = format!("{key}.{}", "x".repeat(rng.usize(..60)));
        if let Some(link) = self.connection.and_then(|id| server.link(id)) {
            link.send(publish(room, &key, &body), now_ms);
        }
        self.unacknowledged.push_back((room, key, body));
    }

    pub(crate) fn is_done(&self) -> bool {
        let is_in = |view: &View| view.is_member || self.wire != KEPT && !view.is_joining;
        self.unacknowledged.is_empty()
            && self.connection.is_some()
            && self.rooms.values().all(is_in)
    }

    /// Takes what has arrived. Returns whether the server ends the connection.
    pub(crate) fn receive(&mut self, bytes: &[u8], stream: &Stream) -> bool {
        self.partial.extend_from_slice(bytes);
        let partial = std::mem::take(&mut self.partial);
        let (texts, rest) = texts(&partial);
        self.partial = rest.to_vec();
        for text in &texts {
            if text == "slow" {
                self.counts.closed_slow += 1;
                return true;
            }
            match Item::of(text) {
                Item::Publication {
                    wire,
                    room,
                    offset,
                    body,
                } => {
                    assert_eq!(Wire(wire), self.wire);
                    self.take_publication(number_of(&room), offset, &body, stream);
                }
                Item::Gap { room, first, last } => self.take_gap(number_of(&room), first, last),
                Item::Event { wire, .. } => assert_eq!(Wire(wire), self.wire),
                Item::Text(text) => self.take_answer(&text),
            }
        }
        false
    }

    fn take_publication(&mut self, room: usize, offset: u64, body: &str, stream: &Stream) {
        let who = self.number;
        let view = self.rooms.get_mut(&room).expect("it joined no other");
        if self.wire != KEPT {
            // It is not told where it begins.
            view.next.get_or_insert((0, offset));
        } else {
            assert!(view.is_member, "{who} is no member of {room}");
        }
        let (epoch, next) = view.next.as_mut().expect("it is a member");
        assert_eq!(offset, *next, "{who} in {room}");
        if self.wire == KEPT {
            let said = stream.get(&(room, (*epoch, offset)));
            assert_eq!(
                said.map(String::as_str),
                Some(body),
                "{who} in {room}/{offset}"
            );
        }
        *next += 1;
        self.counts.received += 1;
    }

    fn take_gap(&mut self, room: usize, first: u64, last: u64) {
        assert!(
            matches!(class_of(room), Class::Latest | Class::Skip),
            "{room}"
        );
        let view = self.rooms.get_mut(&room).expect("it joined no other");
        if self.wire != KEPT {
            view.next.get_or_insert((0, first));
        }
        let (_, next) = view.next.as_mut().expect("it is a member");
        assert_eq!(first, *next, "{} in {room}", self.number);
        assert!(first <= last);
        *next = last + 1;
        self.counts.missed += last + 1 - first;
    }

    fn take_answer(&mut self, text: &str) {
        let (kind, fields) = text.split_once(' ').expect("an answer has fields");
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |index: usize| fields[index].parse::<u64>().expect("a number");
        match kind {
            "joined" => {
                let room = usize::try_from(number(0)).expect("there are few");
                let recovered = fields[4] == "true";
                self.take_joined(room, (number(1), number(2)), number(3), recovered);
            }
            "left" => {
                let room = usize::try_from(number(0)).expect("there are few");
                let view = self.rooms.get_mut(&room).expect("it joined no other");
                view.is_member = false;
            }
            "ack" => {
                let room = usize::try_from(number(0)).expect("there are few");
                self.take_ack(room, fields[1], (number(2), number(3)));
            }
            _ => panic!("nobody sends {text}"),
        }
    }

    fn take_joined(&mut self, room: usize, position: (u64, u64), first: u64, recovered: bool) {
        let view = self.rooms.get_mut(&room).expect("it joined no other");
        assert!(view.is_joining && !view.is_member);
        (view.is_joining, view.is_member) = (false, true);
        let (epoch, offset) = position;
        assert!(first <= offset + 1);
        match view.next {
            Some((known, next)) if known == epoch => {
                assert!(next <= offset + 1, "{} was never there", self.number);
                assert_eq!(recovered, first == next, "{} in {room}", self.number);
                assert!(first >= next);
                self.counts.missed += first - next;
                if class_of(room) == Class::Long {
                    self.counts.missed_long += first - next;
                }
                self.counts.recoveries += u64::from(recovered && first <= offset);
            }
            Some(_) => assert!(!recovered, "another stream follows none"),
            None => assert_eq!(first, offset + 1, "it asked for nothing"),
        }
        view.next = Some((epoch, first));
    }

    /// Returns what it said has a place: it has seen it there by now, if it was a member then.
    fn take_ack(&mut self, room: usize, key: &str, (epoch, offset): (u64, u64)) {
        let is_it = |(_, known, _): &(usize, String, String)| known == key;
        if let Some(index) = self.unacknowledged.iter().position(is_it) {
            self.unacknowledged.remove(index);
        }
        let view = &self.rooms[&room];
        if let Some((known, next)) = view.next.filter(|_| view.is_member && self.wire == KEPT)
            && known == epoch
        {
            assert!(
                next > offset,
                "{} is told before it sees {key}",
                self.number
            );
        }
    }
}

impl View {
    fn join(&mut self, room: usize, wire: Wire) -> Request {
        self.is_joining = wire == KEPT;
        let since = match self.next {
            Some((epoch, next)) if wire == KEPT => Since::Position(StreamPosition {
                epoch: Epoch(epoch),
                offset: next - 1,
            }),
            _ => Since::Now,
        };
        Request::Join { room, since }
    }
}

fn publish(room: usize, key: &str, body: &str) -> Request {
    Request::Publish {
        room,
        key: key.to_owned(),
        body: body.to_owned(),
    }
}

fn number_of(room: &str) -> usize {
    let digits = room.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = digits.parse().expect("a room's name ends with its number");
    assert_eq!(name(number), room);
    number
}
