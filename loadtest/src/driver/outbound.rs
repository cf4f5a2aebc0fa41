//! Publications that want to be acknowledged, until they are.
//!
//! What was not acknowledged when a connection was lost is sent again on the next one, with the
//! same key, so that it is published once whatever became of it before. It holds what the
//! publishers' rates bring while they are away, and a few more.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Driver;
use crate::clock::to_ns;
use crate::payload::Stamp;
use crate::plan::MemberId;
use crate::wire::throng::{self, Ack};

/// What the publishers of a thread are waiting for.
#[derive(Debug)]
pub(super) struct Outbound {
    /// What tells the keys of this run from those of others.
    run: u32,
    next_id: u64,
    /// By publisher, in the order in which it was published: each publication with its id.
    waiting: HashMap<MemberId, VecDeque<(u64, Stamp)>>,
    /// What was refused for now: when to send it again, and whose it is.
    put_off: Vec<(u64, MemberId, u64)>,
}

impl Outbound {
    fn new() -> Self {
        Self {
            run: fastrand::u32(..),
            next_id: throng::FIRST_PUBLICATION_ID,
            waiting: HashMap::new(),
            put_off: Vec::new(),
        }
    }

    /// Books a publication; returns its id.
    fn add(&mut self, member: MemberId, stamp: Stamp) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let waiting = self.waiting.entry(member).or_default();
        waiting.push_back((id, stamp));
        id
    }

    /// Returns the text by which a server knows a publication that it has had.
    fn key(&self, stamp: Stamp) -> String {
        format!("{:x}-{:x}-{:x}", self.run, stamp.stream.0, stamp.number)
    }

    /// Takes an acknowledgement; false if nothing of this id waited for it.
    fn acknowledge(&mut self, member: MemberId, id: u64) -> bool {
        let Some(waiting) = self.waiting.get_mut(&member) else {
            return false;
        };
        let place = waiting.binary_search_by_key(&id, |(id, _)| *id);
        place.is_ok_and(|place| waiting.remove(place).is_some())
    }

    /// Returns how many publications were not acknowledged so far.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Takes what was put off until now.
    fn take_due(&mut self, now_ns: u64) -> Vec<(MemberId, u64)> {
        let is_due = |it: &mut (u64, MemberId, u64)| it.0 <= now_ns;
        let due = self.put_off.extract_if(.., is_due);
        due.map(|(_, member, id)| (member, id)).collect()
    }
}

impl Driver<'_> {
    /// Lets publications want to be acknowledged from now on; the wire must have positions.
    pub(crate) fn ask_for_acks(&mut self) {
        self.outbound = Some(Outbound::new());
    }

    /// Publishes something that is to be acknowledged: now, or when the publisher is back.
    pub(super) fn send_acknowledged(&mut self, member: MemberId, stamp: Stamp) {
        if let Some(outbound) = &mut self.outbound {
            let id = outbound.add(member, stamp);
            self.write_acknowledged(member, |waiting| waiting == id);
        }
    }

    /// Sends again what was not acknowledged on the connection before.
    pub(super) fn send_again(&mut self, member: MemberId) {
        self.write_acknowledged(member, |_| true);
    }

    /// Sends what was refused and may be sent again by now. On a connection that is new it is sent
    /// with everything else.
    pub(super) fn send_put_off(&mut self, now_ns: u64) {
        let outbound = self.outbound.as_mut();
        for (member, id) in outbound.map(|it| it.take_due(now_ns)).unwrap_or_default() {
            self.write_acknowledged(member, |waiting| waiting == id);
        }
    }

    /// Takes what the server acknowledged of a member's publications, or put off.
    pub(super) fn take_acks(
        &mut self,
        member: MemberId,
        acks: &[Ack],
        put_off: &[(u64, Duration)],
    ) {
        for ack in acks {
            let outbound = self.outbound.as_mut();
            if outbound.is_some_and(|outbound| outbound.acknowledge(member, ack.id)) {
                self.book.tally.acknowledged += 1;
                self.book.tally.duplicates += u64::from(ack.duplicate);
            } else {
                self.book.add_wrong("an ack that nobody waits for", b"ack");
            }
        }
        let now_ns = self.clock.now_ns();
        if let Some(outbound) = &mut self.outbound {
            let again = put_off.iter();
            let again = again.map(|(id, after)| (now_ns + to_ns(*after), member, *id));
            outbound.put_off.extend(again);
        }
    }

    /// Writes those of a member's publications that wait and are wanted, if it is there.
    fn write_acknowledged(&mut self, member: MemberId, is_wanted: impl Fn(u64) -> bool) {
        let Some(outbound) = &self.outbound else {
            return;
        };
        let connection = &mut self.connections[member.index()];
        if !connection.has_joined {
            return;
        }
        let room = &self.plan.rooms[self.ledger.room_of(member).index()].name;
        let waiting = outbound.waiting.get(&member).into_iter().flatten();
        for &(id, stamp) in waiting.filter(|(id, _)| is_wanted(*id)) {
            self.message.clear();
            let named = (id, &*outbound.key(stamp));
            throng::publish(room, named, stamp, self.payload_bytes, &mut self.message);
            connection.push(proto::OpCode::Text, &self.message);
        }
        self.list(member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StreamId;

    fn stamp(number: u32) -> Stamp {
        Stamp {
            stream: StreamId(u32::MAX / 2),
            number,
            due_ns: 0,
        }
    }

    #[test]
    fn what_is_acknowledged_waits_no_longer_and_nothing_else_does() {
        let (mut outbound, member) = (Outbound::new(), MemberId(3));
        let ids: Vec<_> = (0..3)
            .map(|number| outbound.add(member, stamp(number)))
            .collect();
        assert!(outbound.acknowledge(member, ids[1]));
        assert!(!outbound.acknowledge(member, ids[1]), "once");
        assert!(
            !outbound.acknowledge(MemberId(4), ids[0]),
            "it is another's"
        );
        let waiting: Vec<_> = outbound.waiting[&member]
            .iter()
            .map(|(id, _)| *id)
            .collect();
        assert_eq!((outbound.len(), waiting), (2, vec![ids[0], ids[2]]));
    }

    #[test]
    fn what_is_put_off_comes_when_it_is_due() {
        let mut outbound = Outbound::new();
        outbound.put_off = vec![(20, MemberId(1), 7), (10, MemberId(2), 8)];
        assert_eq!(outbound.take_due(9), []);
        assert_eq!(outbound.take_due(10), [(MemberId(2), 8)]);
        assert_eq!(outbound.take_due(99), [(MemberId(1), 7)]);
    }

    #[test]
    fn keys_fit_and_differ() {
        let outbound = Outbound::new();
        let key = outbound.key(stamp(u32::MAX));
        assert!(key.len() <= 64, "{key}");
        assert_ne!(key, outbound.key(stamp(0)));
        assert_ne!(key, Outbound::new().key(stamp(u32::MAX)));
    }
}
