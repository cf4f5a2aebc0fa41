//! Publications that are not acknowledged yet. Pure.
//!
//! - Each has a key, the same for every sending: the server delivers it once, however often it is
//!   sent within the time that it remembers keys. After half of that time nothing is sent again.
//! - A room's publications stand in a lane, in the order of the calls. Only the first few of a lane
//!   may be under way.
//! - Count and bytes are bounded over all lanes; what is beyond is refused at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::exchange::{Asked, Exchange};
use crate::notice::{Notice, Notices};
use crate::options::Options;
use crate::outcome::{Ack, Outcome, PublishError, Unpublished};
use crate::position::Position;
use crate::refused::{Closed, Refused};
use crate::wire::Request;

/// One publication, from the call until its outcome is known.
#[derive(Debug)]
struct Entry {
    number: u64,
    key: Arc<str>,
    data: Box<RawValue>,
    outcome: oneshot::Sender<Outcome>,
    first_sent_at: Option<Instant>,
    /// Sent on this connection.
    is_under_way: bool,
    /// A sending was lost without an answer: the server may have it.
    is_doubtful: bool,
    /// The server's last refusal.
    refused: Option<Refused>,
}

/// One room's publications, by rising number.
#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<Entry>,
    put_off_until: Option<Instant>,
}

/// The publications of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    options: Options,
    key_prefix: String,
    lanes: BTreeMap<Arc<str>, Lane>,
    count: usize,
    bytes: usize,
    last_number: u64,
}

impl Outbox {
    pub(crate) const fn new(options: Options, key_prefix: String) -> Self {
        Self {
            options,
            key_prefix,
            lanes: BTreeMap::new(),
            count: 0,
            bytes: 0,
            last_number: 0,
        }
    }

    /// Returns how many publications wait for their acknowledgement.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Takes a publication. Returns its number.
    ///
    /// # Errors
    ///
    /// If too much waits already.
    pub(crate) fn take(
        &mut self,
        room: &Arc<str>,
        key: Option<&str>,
        data: Box<RawValue>,
        outcome: oneshot::Sender<Outcome>,
    ) -> Result<u64, (oneshot::Sender<Outcome>, PublishError)> {
        let Options {
            publishes_max,
            publish_bytes_max,
            ..
        } = self.options;
        if self.count >= publishes_max {
            return Err((outcome, PublishError::FullCount { max: publishes_max }));
        }
        let bytes = data.get().len();
        if self.bytes.saturating_add(bytes) > publish_bytes_max {
            return Err((
                outcome,
                PublishError::FullBytes {
                    max: publish_bytes_max,
                },
            ));
        }
        self.count += 1;
        self.bytes += bytes;
        self.last_number += 1;
        let number = self.last_number;
        let key = match key {
            Some(key) => key.into(),
            None => format!("{}-{number}", self.key_prefix).into(),
        };
        let entry = Entry {
            number,
            key,
            data,
            outcome,
            first_sent_at: None,
            is_under_way: false,
            is_doubtful: false,
            refused: None,
        };
        self.lanes
            .entry(room.clone())
            .or_default()
            .entries
            .push_back(entry);
        Ok(number)
    }

    /// Begins with a connection: sends what waits, and again what was not acknowledged.
    pub(crate) fn open(&mut self, now: Instant, exchange: &mut Exchange, notices: &mut Notices) {
        let rooms: Vec<Arc<str>> = self.lanes.keys().cloned().collect();
        for room in rooms {
            self.advance(&room, now, exchange, notices);
        }
    }

    /// Sends what may be under way in a room and is not.
    pub(crate) fn advance(
        &mut self,
        room: &Arc<str>,
        now: Instant,
        exchange: &mut Exchange,
        notices: &mut Notices,
    ) {
        let mut ahead = 0;
        while ahead < self.options.publishes_in_flight_max && exchange.is_open() {
            let Some(lane) = self.lanes.get_mut(room) else {
                return;
            };
            if lane.put_off_until.is_some_and(|until| until > now) {
                return;
            }
            lane.put_off_until = None;
            let Some(entry) = lane.entries.get_mut(ahead) else {
                return;
            };
            // Timers may come late, as after a sleep of the machine; a repeat must not.
            let is_late = entry.is_late(now, &self.options);
            if !entry.is_under_way && !is_late {
                match entry.send(room, now, exchange) {
                    Ok(()) => {}
                    Err(refused) => {
                        entry.refused = Some(refused);
                        let number = entry.number;
                        self.fail(room, number, notices);
                        continue;
                    }
                }
            }
            ahead += 1;
        }
    }

    /// Sends again what was put off until now, and gives up what has waited too long.
    pub(crate) fn resume(&mut self, now: Instant, exchange: &mut Exchange, notices: &mut Notices) {
        self.expire(now, notices);
        self.open(now, exchange, notices);
    }

    /// Gives up what has waited too long.
    pub(crate) fn expire(&mut self, now: Instant, notices: &mut Notices) {
        let entries = self
            .lanes
            .iter()
            .flat_map(|(room, lane)| lane.entries.iter().map(move |entry| (room, entry)));
        let late = entries.filter(|(_, entry)| entry.is_late(now, &self.options));
        let late: Vec<_> = late
            .map(|(room, entry)| (room.clone(), entry.number))
            .collect();
        for (room, number) in late {
            self.fail(&room, number, notices);
        }
    }

    /// Returns when the next will have waited too long.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        let entries = self.lanes.values().flat_map(|lane| &lane.entries);
        let sent = entries.filter_map(|entry| entry.first_sent_at).min()?;
        Some(sent + self.options.publish_timeout)
    }

    /// Returns when there is something to do though nothing happens until then.
    pub(crate) fn due(&self) -> Option<Instant> {
        let put_off = self.lanes.values().filter_map(|lane| lane.put_off_until);
        put_off.chain(self.expiry()).min()
    }

    /// Settles a publication that the server has taken.
    pub(crate) fn acknowledge(
        &mut self,
        room: &Arc<str>,
        number: u64,
        position: Option<Position>,
        is_duplicate: bool,
    ) {
        if let Some(entry) = self.remove(room, number) {
            let key = entry.key;
            // Nobody may wait any more.
            _ = entry.outcome.send(Ok(Ack {
                key,
                position,
                is_duplicate,
            }));
        }
    }

    /// Puts off a publication that the server does not take now, or gives it up.
    pub(crate) fn refuse(
        &mut self,
        (room, number): (&Arc<str>, u64),
        refused: Refused,
        now: Instant,
        notices: &mut Notices,
    ) {
        let Some(lane) = self.lanes.get_mut(room) else {
            return;
        };
        let Some(index) = lane.index(number) else {
            return;
        };
        let entry = &mut lane.entries[index];
        entry.is_under_way = false;
        let pause = refused.retry_after;
        entry.refused = Some(refused);
        match pause {
            Some(pause) => lane.put_off_until = Some(now + pause),
            None => self.fail(room, number, notices),
        }
    }

    /// Withdraws it: if it was not sent yet, it never is.
    pub(crate) fn withdraw(&mut self, room: &Arc<str>, number: u64) {
        if let Some(entry) = self.remove(room, number) {
            let error = match entry.is_known_unsent() {
                true => PublishError::Withdrawn,
                false => PublishError::Unknown { key: entry.key },
            };
            // Nobody may wait any more.
            _ = entry.outcome.send(Err(error));
        }
    }

    /// Forgets the connection: what was under way is to be sent again.
    pub(crate) fn lose(&mut self) {
        for entry in self.lanes.values_mut().flat_map(|lane| &mut lane.entries) {
            entry.is_doubtful |= entry.is_under_way;
            entry.is_under_way = false;
        }
    }

    /// Settles everything: the connection does not come back by itself.
    pub(crate) fn close(&mut self, closed: &Closed) {
        for entry in std::mem::take(&mut self.lanes)
            .into_values()
            .flat_map(|lane| lane.entries)
        {
            let error = match entry.is_known_unsent() {
                true => closed.clone().into(),
                false => PublishError::Unknown { key: entry.key },
            };
            // Nobody may wait any more.
            _ = entry.outcome.send(Err(error));
        }
        (self.count, self.bytes) = (0, 0);
    }

    /// Gives it up: with the server's refusal, unless an earlier sending may have arrived.
    fn fail(&mut self, room: &Arc<str>, number: u64, notices: &mut Notices) {
        let Some(entry) = self.remove(room, number) else {
            return;
        };
        let is_known = entry.is_known_unsent();
        let error = match entry.refused {
            Some(refused) if is_known => refused.into(),
            _ => PublishError::Unknown {
                key: entry.key.clone(),
            },
        };
        if let Err(Err(error)) = entry.outcome.send(Err(error)) {
            let (room, key) = (room.clone(), entry.key);
            notices.tell(&Notice::Unpublished(Unpublished { room, key, error }));
        }
    }

    fn remove(&mut self, room: &Arc<str>, number: u64) -> Option<Entry> {
        let lane = self.lanes.get_mut(room)?;
        let entry = lane.entries.remove(lane.index(number)?)?;
        if lane.entries.is_empty() {
            self.lanes.remove(room);
        }
        self.count -= 1;
        self.bytes -= entry.data.get().len();
        Some(entry)
    }
}

impl Lane {
    fn index(&self, number: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&number, |entry| entry.number)
            .ok()
    }
}

impl Entry {
    fn send(
        &mut self,
        room: &Arc<str>,
        now: Instant,
        exchange: &mut Exchange,
    ) -> Result<(), Refused> {
        let asked = Asked::Publish {
            room: room.clone(),
            number: self.number,
        };
        let request = Request {
            to: Some(room),
            msg: Some(&self.data),
            key: Some(&self.key),
            ..Request::default()
        };
        exchange.ask(asked, "msg", request)?;
        self.is_under_way = true;
        self.first_sent_at.get_or_insert(now);
        Ok(())
    }

    fn is_late(&self, now: Instant, options: &Options) -> bool {
        let sent = self.first_sent_at;
        sent.is_some_and(|sent| now.duration_since(sent) >= options.publish_timeout)
    }

    /// Returns whether the server certainly has not got it.
    const fn is_known_unsent(&self) -> bool {
        !self.is_doubtful && !self.is_under_way
    }
}
