//! What outlives the connections of one client: its rooms, its publications, its record. Pure: texts go
//! in and come out, and time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Acknowledged, Key, Record, SharedRecord};

use super::membership::Membership;
use super::outbox::Outbox;
use super::wire::{Ack, Content, Event, Publish, Refused, read, write};

/// What a client is to do, and what it may take for granted.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number, which its keys begin with.
    pub number: u32,
    /// The rooms that it is to be in.
    pub rooms: Vec<u32>,
    /// How many bytes it publishes beside the key.
    pub pad_bytes: usize,
    /// Whether a member has its own publications before they are acknowledged. In rooms that skip
    /// publications for slow members it may be told of the gap later.
    pub own_before_ack: bool,
}

/// One client, as long as it wants to be there.
#[derive(Debug)]
pub struct Session {
    task: Task,
    pad: String,
    memberships: Vec<Membership>,
    outbox: Outbox,
    record: SharedRecord,
    is_greeted: bool,
}

impl Session {
    /// A client that was not connected yet.
    pub fn new(task: Task, record: SharedRecord) -> Self {
        Self {
            pad: "x".repeat(task.pad_bytes),
            memberships: task
                .rooms
                .iter()
                .map(|room| Membership::new(*room))
                .collect(),
            outbox: Outbox::default(),
            record,
            is_greeted: false,
            task,
        }
    }

    /// Takes a publication to be sent until it is acknowledged; false if too many wait.
    pub fn publish(&mut self, room: u32) -> bool {
        let is_taken = self.outbox.take(room).is_some();
        self.record.lock().taken_count += u64::from(is_taken);
        is_taken
    }

    /// There is a connection, and the server has greeted.
    pub fn open(&mut self) {
        self.is_greeted = true;
        self.record.lock().connection_count += 1;
    }

    /// The connection is gone.
    pub fn lose(&mut self) {
        self.is_greeted = false;
        self.outbox.lose();
        self.memberships.iter_mut().for_each(Membership::lose);
    }

    /// The next request to send, if there is one: memberships first, so that nothing that is published is
    /// missed for want of asking.
    pub fn next_request(&mut self, now: Instant) -> Option<String> {
        if !self.is_greeted {
            return None;
        }
        for (id, membership) in (0..).zip(&mut self.memberships) {
            if let Some(request) = membership.next_request(id, now) {
                return Some(request);
            }
        }
        let (number, room) = self.outbox.next_unsent(now)?;
        let membership = self.memberships.iter().find(|of| of.room() == room)?;
        let key = self.key(number).to_string();
        let publish = Publish {
            id: FIRST_PUBLICATION_ID + u64::from(number),
            to: membership.name(),
            msg: Content {
                key: &key,
                room,
                pad: &self.pad,
            },
            key: &key,
        };
        Some(write("msg", &publish))
    }

    /// When there may be another request though nothing happens until then.
    pub fn next_due(&self) -> Option<Instant> {
        let put_off = self
            .memberships
            .iter()
            .filter_map(Membership::put_off_until);
        put_off.chain(self.outbox.put_off_until()).min()
    }

    /// Reads a message of the server.
    pub fn handle(&mut self, text: &str, now: Instant) {
        let record = self.record.clone();
        let record = &mut *record.lock();
        match read(text) {
            Ok(event) => self.handle_event(event, now, record),
            Err(error) => record.complain(format!("{error}: {text}")),
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant, record: &mut Record) {
        match event {
            Event::Ack(ack) => self.acknowledge(ack, record),
            Event::Error(refused) => self.refuse(&refused, now, record),
            Event::Gap(gap) => {
                if let Some(membership) = self.membership(&gap.room, record) {
                    membership.gap(&gap, record);
                }
            }
            Event::Joined(joined) => {
                if let Some(membership) = self.membership(&joined.room, record) {
                    membership.join(&joined, record);
                }
            }
            Event::Msg(msg) => {
                let key = msg
                    .msg
                    .get("key")
                    .and_then(|key| key.as_str()?.parse().ok());
                let Some(key) = key else {
                    record.complain(format!("nobody of this run published {}", msg.msg));
                    return;
                };
                if let Some(membership) = self.membership(&msg.room, record) {
                    membership.publication(msg.offset, key, record);
                }
            }
            Event::Hello(_) => record.complain("a second hello".to_owned()),
            Event::Drain | Event::Other => {}
        }
    }

    fn membership(&mut self, name: &str, record: &mut Record) -> Option<&mut Membership> {
        let found = self.memberships.iter_mut().find(|of| of.name() == name);
        if found.is_none() {
            record.complain(format!("something of {name}, where we are not"));
        }
        found
    }

    fn acknowledge(&mut self, ack: Ack, record: &mut Record) {
        let number = number_of(ack.id);
        let settled = number.and_then(|number| Some((number, self.outbox.settle(number)?)));
        let Some((number, room)) = settled else {
            record.complain(format!("an ack that was not asked for: {ack:?}"));
            return;
        };
        let Some(membership) = self.memberships.iter().find(|of| of.room() == room) else {
            return;
        };
        let position = ack
            .position
            .map(|place| record.place(room, &place.epoch, place.offset));
        let key = self.key(number);
        let live = membership
            .live_position()
            .filter(|_| self.task.own_before_ack);
        if let (Some(own), Some(position)) = (live, &position)
            && own.epoch == position.epoch
            && own.offset < position.offset
        {
            record.complain(format!(
                "{key} was acknowledged before its publisher had it"
            ));
        }
        record.acknowledged.push(Acknowledged {
            key,
            room,
            position,
            duplicate: ack.duplicate,
        });
    }

    fn refuse(&mut self, refused: &Refused, now: Instant, record: &mut Record) {
        let retry_at = refused
            .retry_after_ms
            .map(|after| now + Duration::from_millis(after).clamp(RETRY_MIN, RETRY_MAX));
        let Some(id) = refused.id else {
            record.complain(format!("refused, and nobody knows what: {refused:?}"));
            return;
        };
        match (number_of(id), retry_at) {
            (Some(number), Some(until)) => {
                record.put_off_count += 1;
                self.outbox.put_off(number, until);
            }
            (Some(number), None) => {
                if self.outbox.settle(number).is_some() {
                    record.refused.push(self.key(number));
                }
                record.complain(format!(
                    "{} was refused: {}",
                    self.key(number),
                    refused.code
                ));
            }
            (None, Some(until)) => {
                let index = usize::try_from(id).unwrap_or(usize::MAX);
                if let Some(membership) = self.memberships.get_mut(index) {
                    membership.put_off(until);
                }
            }
            (None, None) => record.complain(format!("a join was refused: {refused:?}")),
        }
    }

    const fn key(&self, number: u32) -> Key {
        Key {
            client: self.task.number,
            number,
        }
    }
}

/// Ids below are those of joins, by the place of the room among the client's.
const FIRST_PUBLICATION_ID: u64 = 1_000_000;

/// The number of the publication that has this id; none if it is no publication's.
fn number_of(id: u64) -> Option<u32> {
    u32::try_from(id.checked_sub(FIRST_PUBLICATION_ID)?).ok()
}

/// What is put off is not asked for again before this, so that 0 does not mean all the time.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// A wrong figure must not mean for ever.
const RETRY_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Entry, Position};

    struct Client {
        session: Session,
        record: SharedRecord,
        now: Instant,
    }

    impl Client {
        /// A client of room 1 that was told to be at this place.
        fn joined_at(offset: u64) -> Self {
            let record: SharedRecord = SharedRecord::default();
            let task = Task {
                number: 1,
                rooms: vec![1],
                pad_bytes: 0,
                own_before_ack: true,
            };
            let session = Session::new(task, record.clone());
            let now = Instant::now();
            let mut client = Self {
                session,
                record,
                now,
            };
            client.reconnect();
            assert_eq!(client.sends(), [r#"join {"id":0,"room":"faults:1"}"#]);
            client.hears(&format!(
                r#"joined {{"id":0,"room":"faults:1","position":{{"epoch":"a","offset":{offset}}}}}"#
            ));
            client
        }

        fn reconnect(&mut self) {
            self.session.lose();
            self.session.open();
        }

        fn hears(&mut self, text: &str) {
            self.session.handle(text, self.now);
        }

        fn hears_publications(&mut self, offsets: impl IntoIterator<Item = u64>) {
            for offset in offsets {
                self.hears(&format!(
                    r#"msg {{"room":"faults:1","offset":{offset},"at":1,"msg":{{"key":"c2-{offset}"}}}}"#
                ));
            }
        }

        fn sends(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.session.next_request(self.now)).collect()
        }

        /// What the application was handed and told, in short.
        fn told(&self) -> Vec<String> {
            let record = self.record.lock();
            let entries = record.rooms[&1].entries.iter();
            let told = entries.map(|entry| match entry {
                Entry::Joined {
                    position,
                    recovered,
                    ..
                } => format!("joined {}{} {recovered:?}", position.epoch, position.offset),
                Entry::Missing { epoch, from, to } => format!("missing {epoch}{from}-{to}"),
                Entry::MissingUnknown => "missing ?".to_owned(),
                Entry::Publication {
                    position: Position { epoch, offset },
                    ..
                } => format!("{epoch}{offset}"),
            });
            told.collect()
        }

        fn complaints(&self) -> Vec<String> {
            self.record.lock().complaints.clone()
        }
    }

    #[test]
    fn who_comes_back_asks_from_where_it_was_and_is_handed_each_once() {
        let mut client = Client::joined_at(4);
        client.hears_publications([5, 6]);
        client.reconnect();
        let since = r#"join {"id":0,"room":"faults:1","since":{"epoch":"a","offset":6}}"#;
        assert_eq!(client.sends(), [since]);
        client.hears(
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"a","offset":8},"recovered":true,"first":6}"#,
        );
        client.hears_publications([6, 7, 8, 9]);

        let told = [
            "joined a4 None",
            "a5",
            "a6",
            "joined a8 Some(true)",
            "a7",
            "a8",
            "a9",
        ];
        assert_eq!(client.told(), told);
        assert_eq!(client.record.lock().rooms[&1].repeated_count, 1);
        assert_eq!(client.complaints(), [""; 0]);
    }

    #[test]
    fn what_is_not_held_any_more_is_told_with_its_offsets() {
        let mut client = Client::joined_at(4);
        client.reconnect();
        client.sends();
        client.hears(
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"a","offset":9},"recovered":false,"first":8}"#,
        );
        client.hears_publications([8, 9]);

        let told = [
            "joined a4 None",
            "joined a9 Some(false)",
            "missing a5-7",
            "a8",
            "a9",
        ];
        assert_eq!(client.told(), told);
        assert_eq!(client.complaints(), [""; 0]);
    }

    #[test]
    fn another_epoch_is_taken_over_recovered_or_not() {
        let mut client = Client::joined_at(4);
        client.reconnect();
        client.sends();
        client.hears(
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"b","offset":2},"recovered":false,"first":1}"#,
        );
        client.hears_publications([1, 2]);
        client.reconnect();
        let since = r#"join {"id":0,"room":"faults:1","since":{"epoch":"b","offset":2}}"#;
        assert_eq!(client.sends(), [since]);
        client.hears(
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"c","offset":9},"recovered":true,"first":9}"#,
        );
        client.hears_publications([9]);

        let told = [
            "joined a4 None",
            "joined b2 Some(false)",
            "missing ?",
            "b1",
            "b2",
            "joined c9 Some(true)",
            "c9",
        ];
        assert_eq!(client.told(), told);
        assert_eq!(client.complaints(), [""; 0]);
    }

    #[test]
    fn a_gap_is_told_and_a_hole_without_one_is_complained_of() {
        let mut client = Client::joined_at(0);
        client.hears(r#"gap {"room":"faults:1","from":1,"to":3}"#);
        client.hears_publications([4]);
        assert_eq!(client.complaints(), [""; 0]);
        client.hears_publications([6]);
        assert_eq!(
            client.told(),
            ["joined a0 None", "missing a1-3", "a4", "a6"]
        );
        assert_eq!(client.complaints().len(), 1);
        client.hears(r#"gap {"room":"faults:1","from":8,"to":9}"#);
        assert_eq!(client.complaints().len(), 2);
    }

    #[test]
    fn a_publication_is_sent_with_its_key_until_it_is_acknowledged() {
        let mut client = Client::joined_at(0);
        assert!(client.session.publish(1));
        let publish = r#"msg {"id":1000001,"to":"faults:1","msg":{"key":"c1-1","room":1,"pad":""},"key":"c1-1"}"#;
        assert_eq!(client.sends(), [publish]);
        assert_eq!(client.sends(), [""; 0]);
        client.reconnect();
        let again = client.sends();
        assert_eq!((again.len(), &*again[1]), (2, publish));
        client.hears(
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"a","offset":1},"recovered":true,"first":1}"#,
        );
        client.hears(r#"msg {"room":"faults:1","offset":1,"at":1,"msg":{"key":"c1-1","pad":""}}"#);
        client.hears(
            r#"ack {"id":1000001,"room":"faults:1","position":{"epoch":"a","offset":1},"duplicate":true}"#,
        );

        let record = client.record.lock();
        assert_eq!(record.complaints, [""; 0]);
        assert_eq!(
            (record.unanswered_count(), record.acknowledged.len()),
            (0, 1)
        );
        assert!(record.acknowledged[0].duplicate);
    }

    #[test]
    fn an_ack_that_comes_before_the_publication_is_complained_of() {
        let mut client = Client::joined_at(0);
        client.session.publish(1);
        client.sends();
        client.hears(r#"ack {"id":1000001,"room":"faults:1","position":{"epoch":"a","offset":1}}"#);
        assert_eq!(client.complaints().len(), 1);
    }

    #[test]
    fn what_is_put_off_is_asked_for_again_and_what_is_refused_is_not() {
        let mut client = Client::joined_at(0);
        client.session.publish(1);
        client.sends();
        client.hears(
            r#"error {"id":1000001,"event":"msg","code":"overloaded","retry_after_ms":500}"#,
        );
        assert_eq!(client.sends(), [""; 0]);
        client.now = client.session.next_due().unwrap();
        assert_eq!(client.sends().len(), 1);
        client.hears(r#"error {"id":1000001,"event":"msg","code":"too_large"}"#);
        assert_eq!(client.complaints().len(), 1);
        assert_eq!(client.record.lock().unanswered_count(), 0);
        client.reconnect();
        assert_eq!(client.sends().len(), 1, "the join alone");
        client.hears(r#"error {"id":0,"event":"join","code":"overloaded","retry_after_ms":500}"#);
        assert_eq!(client.sends(), [""; 0]);
        client.now = client.session.next_due().unwrap();
        assert_eq!(client.sends().len(), 1);
    }

    #[test]
    fn nonsense_is_complained_of_and_survived() {
        let mut client = Client::joined_at(0);
        for text in [
            "",
            "msg",
            "msg {",
            "hello {}",
            r#"msg {"room":"faults:1","offset":1,"msg":null}"#,
            r#"msg {"room":"other","offset":1,"msg":{"key":"c1-1"}}"#,
            r#"ack {"id":5,"room":"faults:1"}"#,
            r#"joined {"id":0,"room":"faults:1","position":{"epoch":"a","offset":0}}"#,
        ] {
            let before = client.record.lock().complaint_count;
            client.hears(text);
            assert_eq!(client.record.lock().complaint_count, before + 1, "{text}");
        }
    }
}
