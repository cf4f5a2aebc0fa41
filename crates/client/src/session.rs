//! What outlives the connections of one client: its rooms, publications and questions. Pure: events
//! go in, requests come out, and time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backoff::PAUSE_MAX;
use crate::exchange::{Asked, EMITS_BYTES_MAX, Exchange};
use crate::feed::{Feed, StreamError};
use crate::histories::{self, Histories, HistoryError};
use crate::membership::{JoinError, Membership, Start};
use crate::notice::{Notice, Notices, Violation};
use crate::options::Options;
use crate::outbox::Outbox;
use crate::outcome::Outcome;
use crate::publication::{Emission, Joined, Json, RoomEvent};
use crate::refused::{Closed, Refused};
use crate::wire::{Event, Hello, RefusedFields, Request, read};

/// One client, as long as it wants to be there.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) notices: Notices,
    exchange: Exchange,
    rooms: BTreeMap<Arc<str>, Membership>,
    outbox: Outbox,
    histories: Histories,
    /// By number; they end with the connection.
    pings: HashMap<u64, oneshot::Sender<()>>,
    last_ping: u64,
    /// Why the connection does not come back by itself; `None` while it does.
    closed: Option<Closed>,
    /// It never comes back.
    is_over: bool,
    /// The time that the server asks to stay away after the close that it has announced.
    drain_pause: Duration,
}

impl Session {
    pub(crate) fn new(options: Options, key_prefix: String) -> Self {
        Self {
            notices: Notices::default(),
            exchange: Exchange::default(),
            rooms: BTreeMap::new(),
            outbox: Outbox::new(options, key_prefix),
            histories: Histories::default(),
            pings: HashMap::new(),
            last_ping: 0,
            closed: None,
            is_over: false,
            drain_pause: Duration::ZERO,
        }
    }

    pub(crate) const fn hello(&self) -> Option<&Hello> {
        self.exchange.hello()
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) const fn unacknowledged(&self) -> usize {
        self.outbox.count()
    }

    pub(crate) fn find(&self, room: &str) -> Option<&Membership> {
        self.rooms.get(room)
    }

    pub(crate) fn wanted(&self) -> Vec<Arc<str>> {
        let wanted = self.rooms.iter().filter(|(_, room)| room.is_wanted());
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets the room if nobody would notice.
    pub(crate) fn release(&mut self, name: &str) {
        if self.rooms.get_mut(name).is_some_and(Membership::is_idle) {
            self.rooms.remove(name);
        }
    }

    // ---- What the application asks ----

    pub(crate) fn join(
        &mut self,
        name: &Arc<str>,
        start: Start,
    ) -> oneshot::Receiver<Result<Joined, JoinError>> {
        if let Some(closed) = &self.closed {
            let (sender, answer) = oneshot::channel();
            // The receiver is here.
            _ = sender.send(Err(closed.clone().into()));
            return answer;
        }
        let room = self.rooms.entry(name.clone());
        let room = room.or_insert_with(|| Membership::new(name.clone()));
        let answer = room.join(start, &mut self.exchange);
        self.release(name);
        answer
    }

    pub(crate) fn leave(&mut self, name: &str) -> Option<oneshot::Receiver<()>> {
        let answer = self.rooms.get_mut(name)?.leave(&mut self.exchange);
        self.release(name);
        Some(answer)
    }

    /// Takes a publication. Returns its number, or none if it has failed.
    pub(crate) fn publish(
        &mut self,
        room: &Arc<str>,
        key: Option<&str>,
        data: Box<RawValue>,
        outcome: oneshot::Sender<Outcome>,
        now: Instant,
    ) -> Option<u64> {
        let failed = match &self.closed {
            Some(closed) => Err((outcome, closed.clone().into())),
            None => self.outbox.take(room, key, data, outcome),
        };
        match failed {
            Ok(number) => {
                self.outbox
                    .advance(room, now, &mut self.exchange, &mut self.notices);
                Some(number)
            }
            Err((outcome, error)) => {
                // The receiver is with whoever calls.
                _ = outcome.send(Err(error));
                None
            }
        }
    }

    pub(crate) fn withdraw(&mut self, room: &Arc<str>, number: u64, now: Instant) {
        self.outbox.withdraw(room, number);
        self.outbox
            .advance(room, now, &mut self.exchange, &mut self.notices);
    }

    /// Emits an event, if it can go out now.
    pub(crate) fn emit(
        &mut self,
        room: &str,
        event: &str,
        data: &RawValue,
    ) -> Result<(), EmitFailed> {
        if !self.exchange.is_open() {
            return Err(EmitFailed::Away);
        }
        if self.exchange.outgoing_bytes() > EMITS_BYTES_MAX {
            return Err(EmitFailed::Busy);
        }
        let (to, event) = (Some(room), Some(event));
        let request = Request {
            to,
            event,
            data: Some(data),
            ..Request::default()
        };
        self.exchange
            .send("emit", request)
            .map_err(EmitFailed::Refused)
    }

    pub(crate) fn history(
        &mut self,
        room: &Arc<str>,
        start: Start,
        limit: Option<u64>,
    ) -> Result<oneshot::Receiver<histories::Answer>, HistoryError> {
        match &self.closed {
            Some(closed) => Err(closed.clone().into()),
            None => Ok(self
                .histories
                .ask(room.clone(), (start, limit), &mut self.exchange)),
        }
    }

    /// Asks whether the server is there; `None` without a connection, or if too many such questions
    /// wait.
    pub(crate) fn ping(&mut self) -> Option<oneshot::Receiver<()>> {
        if !self.exchange.is_open() || self.pings.len() >= PINGS_MAX {
            return None;
        }
        let (ping, answer) = oneshot::channel();
        self.last_ping += 1;
        self.exchange
            .ask(Asked::Ping(self.last_ping), "ping", Request::default())
            .ok()?;
        self.pings.insert(self.last_ping, ping);
        Some(answer)
    }

    /// Adds a stream of a room, which has ended if the connection has.
    pub(crate) fn add_feed(&mut self, name: &Arc<str>, feed: Feed<RoomEvent>) {
        match &self.closed {
            None => {
                let room = self.rooms.entry(name.clone());
                room.or_insert_with(|| Membership::new(name.clone()))
                    .add_feed(feed);
            }
            Some(closed) if !self.is_over => feed.end(StreamError::Closed(closed.clone())),
            Some(_) => {}
        }
    }

    pub(crate) fn add_notices(&mut self, feed: Feed<Notice>) {
        if !self.is_over {
            self.notices.add_feed(feed);
        }
    }

    // ---- What becomes of the connection ----

    /// Begins with a connection whose server has greeted. Rooms first: whoever publishes to a room
    /// that it is in wants to see that.
    pub(crate) fn open(&mut self, hello: Hello, now: Instant) {
        self.drain_pause = Duration::ZERO;
        self.exchange.open(hello);
        let names: Vec<Arc<str>> = self.rooms.keys().cloned().collect();
        for name in names {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.advance(&mut self.exchange);
            }
            self.release(&name);
        }
        self.outbox.open(now, &mut self.exchange, &mut self.notices);
        self.histories.open(&mut self.exchange);
    }

    /// Forgets the connection. Returns the pause that the server asked for with `drain`.
    pub(crate) fn lose(&mut self) -> Duration {
        self.exchange.lose();
        self.rooms.values_mut().for_each(Membership::lose);
        self.rooms.retain(|_, room| !room.is_idle());
        self.outbox.lose();
        self.pings.clear();
        std::mem::take(&mut self.drain_pause)
    }

    /// Settles what waits: the server does not want us back. What is wanted stays wanted, should
    /// somebody try again.
    pub(crate) fn close(&mut self, closed: &Closed) {
        self.closed = Some(closed.clone());
        self.rooms.values_mut().for_each(|room| room.close(closed));
        self.outbox.close(closed);
        self.histories.close(closed);
    }

    /// Takes requests again: somebody tries another connection.
    pub(crate) fn reopen(&mut self) {
        self.closed = None;
    }

    /// Ends for good. Everything that waits is settled.
    pub(crate) fn end(&mut self) {
        if self.is_over {
            return;
        }
        let closed = Closed::by_application();
        self.is_over = true;
        self.rooms.values_mut().for_each(|room| room.end(&closed));
        self.close(&closed);
        self.rooms.clear();
        self.pings.clear();
        self.exchange.lose();
    }

    /// Takes the next message to send.
    pub(crate) fn next_outgoing(&mut self) -> Option<String> {
        self.exchange.next_outgoing()
    }

    /// Returns when there may be something to send though nothing happens until then.
    pub(crate) fn due(&self) -> Option<Instant> {
        let rooms = self.rooms.values().filter_map(Membership::due);
        rooms
            .chain(self.histories.due())
            .chain(self.outbox.due())
            .min()
    }

    /// Sends again what was put off until now, and gives up what has waited too long.
    pub(crate) fn resume(&mut self, now: Instant) {
        for room in self.rooms.values_mut() {
            room.resume(now, &mut self.exchange);
        }
        self.outbox
            .resume(now, &mut self.exchange, &mut self.notices);
        self.histories.resume(now, &mut self.exchange);
    }

    /// Returns when the next publication has waited too long.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        self.outbox.expiry()
    }

    /// Gives up publications that have waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.outbox.expire(now, &mut self.notices);
    }

    // ---- What the server says ----

    /// Reads a message of the server, after the greeting.
    pub(crate) fn handle(&mut self, text: &str, now: Instant) {
        let Some(event) = read(text) else {
            return self.notices.violated(Violation::Data, text);
        };
        match event {
            Event::Ack(ack) => match self.exchange.answered(ack.id) {
                Some(Asked::Publish { room, number }) => {
                    self.outbox
                        .acknowledge(&room, number, ack.position, ack.duplicate);
                    self.outbox
                        .advance(&room, now, &mut self.exchange, &mut self.notices);
                }
                _ => self.unasked(text),
            },
            Event::Drain(drain) => {
                self.drain_pause = Duration::from_millis(drain.after_ms).min(PAUSE_MAX);
            }
            Event::Emitted(event, emitted) => self.emitted(event, emitted),
            Event::Error(fields) => self.refuse(fields, now),
            Event::Gap(gap) => match self.rooms.get_mut(&*gap.room) {
                Some(room) => room.skip(&gap, &mut self.notices),
                None => self.unasked(text),
            },
            Event::Hello(_) => self.notices.violated(Violation::Greeting, text),
            Event::History(fields) => match self.exchange.answered(fields.id) {
                Some(Asked::History(number)) => self.histories.answer(number, fields),
                _ => self.unasked(text),
            },
            Event::Joined(joined) => {
                let room = match self.exchange.answered(joined.id) {
                    Some(Asked::Join(name)) => self.rooms.get_mut(&name),
                    _ => None,
                };
                match room {
                    Some(room) => room.begin(&joined, &mut self.exchange, &mut self.notices),
                    None => self.unasked(text),
                }
            }
            Event::Left(answer) => match self.exchange.answered(answer.id) {
                Some(Asked::Leave(name)) => {
                    if let Some(room) = self.rooms.get_mut(&name) {
                        room.left(&mut self.exchange);
                    }
                    self.release(&name);
                }
                _ => self.unasked(text),
            },
            Event::Msg(msg) => match self.rooms.get_mut(&*msg.room) {
                Some(room) => room.publish(&msg, &mut self.notices),
                None => self.unasked(text),
            },
            Event::Pong(answer) => match self.exchange.answered(answer.id) {
                Some(Asked::Ping(number)) => {
                    if let Some(ping) = self.pings.remove(&number) {
                        // Nobody may wait any more.
                        _ = ping.send(());
                    }
                }
                _ => self.unasked(text),
            },
            Event::Unknown => {}
        }
    }

    fn unasked(&mut self, text: &str) {
        self.notices.violated(Violation::Unasked, text);
    }

    fn emitted(&mut self, event: &str, emitted: crate::wire::Emitted<'_>) {
        match &emitted.room {
            Some(name) => {
                if let Some(room) = self.rooms.get_mut(&**name) {
                    room.emit(event, emitted);
                }
            }
            None if emitted.data.is_some() => self.notices.tell(&Notice::Emission(Emission {
                room: None,
                event: event.to_owned(),
                from: emitted.from,
                data: Json::of(emitted.data),
            })),
            None => {}
        }
    }

    fn refuse(&mut self, fields: RefusedFields, now: Instant) {
        let refused = fields.refused;
        self.notices.tell(&Notice::Refused(refused.clone()));
        match self.exchange.answered(fields.id) {
            Some(Asked::History(number)) => self.histories.refuse(number, refused, now),
            Some(Asked::Join(name) | Asked::Leave(name)) => {
                if let Some(room) = self.rooms.get_mut(&name) {
                    room.refuse(&refused, now, &mut self.exchange);
                }
                self.release(&name);
            }
            Some(Asked::Publish { room, number }) => {
                self.outbox
                    .refuse((&room, number), refused, now, &mut self.notices);
                self.outbox
                    .advance(&room, now, &mut self.exchange, &mut self.notices);
            }
            Some(Asked::Ping(number)) => _ = self.pings.remove(&number),
            None => {}
        }
    }
}

/// The most pings that wait for their answers: one is enough.
const PINGS_MAX: usize = 16;

/// The reason why an event was not emitted.
#[derive(Debug)]
pub(crate) enum EmitFailed {
    Away,
    Busy,
    Refused(Refused),
}
