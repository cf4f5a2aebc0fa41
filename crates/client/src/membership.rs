//! One room, as far as this client is or wants to be in it. Pure.
//!
//! - A room is wanted from `join` until `leave` or a refusal. Every new connection joins it again,
//!   from the position that was reached.
//! - At most one request about it is under way: what is wanted next waits for the answer.
//! - The application gets publications by rising offset, each once. What is left out is told first,
//!   as a gap; nothing is left out in silence.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::exchange::{Asked, Exchange};
use crate::feed::{Feed, StreamError};
use crate::notice::{Notices, Violation};
use crate::position::Position;
use crate::publication::{
    Emission, Gap, GapReason, Joined, Json, Publication, Recovery, RoomEvent,
};
use crate::refused::{Closed, Refused};
use crate::wire::{Emitted, GapFields, JoinedFields, Msg, Request};

/// From where to join a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// So many of the last publications come first, as far as the server has them.
    Last(u64),
    /// Publications from now on.
    #[default]
    Now,
    /// Publications after this position come first, as far as the server has it.
    Since(Position),
}

/// The reason why a room was not joined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The connection is closed. If the server closed it, the room stays wanted:
    /// [`Connection::reconnect`](crate::Connection::reconnect) joins it.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// [`Room::leave`](crate::Room::leave) came first.
    #[error("the room was left before it was joined")]
    Left,
    /// The server does not take us in. The room is no longer wanted.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// The progress of a room on this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked.
    Idle,
    /// It is a member.
    Joined,
    /// `join` is under way, with this as `since`.
    Joining {
        since: Option<Position>,
        is_abandoned: bool,
    },
    /// `leave` is under way.
    Leaving,
    /// The server asks to be asked again then.
    PutOff(Instant),
}

/// One room's state.
#[derive(Debug)]
pub(crate) struct Membership {
    name: Arc<str>,
    state: State,
    is_wanted: bool,
    /// The amount to be replayed while there is no position.
    last: Option<u64>,
    /// Up to where the application has everything that it will get.
    position: Option<Position>,
    /// Publications that are missing right before the next one.
    gap: Option<Gap>,
    /// The last membership since the room was wanted.
    joined: Option<Joined>,
    joiners: Vec<oneshot::Sender<Result<Joined, JoinError>>>,
    leavers: Vec<oneshot::Sender<()>>,
    feeds: Vec<Feed<RoomEvent>>,
}

impl Membership {
    pub(crate) const fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: State::Idle,
            is_wanted: false,
            last: None,
            position: None,
            gap: None,
            joined: None,
            joiners: Vec::new(),
            leavers: Vec::new(),
            feeds: Vec::new(),
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    pub(crate) const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Returns whether nobody would notice if it were forgotten. Streams that nobody reads are.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.feeds.retain(|feed| !feed.is_closed());
        !self.is_wanted && self.state == State::Idle && self.feeds.is_empty()
    }

    /// Returns when it is to be asked for again, if the server put it off.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self.state {
            State::PutOff(until) => Some(until),
            _ => None,
        }
    }

    pub(crate) fn add_feed(&mut self, feed: Feed<RoomEvent>) {
        self.feeds.push(feed);
    }

    // ---- What the application asks ----

    /// Wants the room. The answer comes when it is a member; at once if it is.
    pub(crate) fn join(
        &mut self,
        start: Start,
        exchange: &mut Exchange,
    ) -> oneshot::Receiver<Result<Joined, JoinError>> {
        let (joiner, answer) = oneshot::channel();
        if let (State::Joined, Some(joined)) = (&self.state, &self.joined) {
            // Nobody may wait any more.
            _ = joiner.send(Ok(joined.clone()));
            return answer;
        }
        self.joiners.push(joiner);
        if !self.is_wanted {
            self.is_wanted = true;
            self.joined = None;
            (self.last, self.position) = match start {
                Start::Last(count) => (Some(count), None),
                Start::Now => (None, None),
                Start::Since(position) => (None, Some(position)),
            };
            self.advance(exchange);
        }
        answer
    }

    /// Wants the room no more. The answer comes when the server has seen that.
    pub(crate) fn leave(&mut self, exchange: &mut Exchange) -> oneshot::Receiver<()> {
        let (leaver, answer) = oneshot::channel();
        if self.is_wanted {
            self.forget(&JoinError::Left);
            self.feeds.clear();
            match &mut self.state {
                State::Joining { is_abandoned, .. } => *is_abandoned = true,
                State::PutOff(_) => self.state = State::Idle,
                _ => self.advance(exchange),
            }
        }
        if self.state != State::Idle {
            self.leavers.push(leaver);
        }
        answer
    }

    // ---- What becomes of the connection ----

    /// Asks for what is wanted, if nothing is under way.
    pub(crate) fn advance(&mut self, exchange: &mut Exchange) {
        if !exchange.is_open() {
            return;
        }
        match self.state {
            State::Idle if self.is_wanted => self.ask_in(exchange),
            State::Joined if !self.is_wanted => {
                let asked = Asked::Leave(self.name.clone());
                let request = Request {
                    room: Some(&self.name),
                    ..Request::default()
                };
                // It is no longer than the `join` that was taken.
                self.state = match exchange.ask(asked, "leave", request) {
                    Ok(_) => State::Leaving,
                    Err(_) => State::Idle,
                };
            }
            _ => {}
        }
    }

    fn ask_in(&mut self, exchange: &mut Exchange) {
        let since = self.position.clone();
        let request = Request {
            room: Some(&self.name),
            since: since.as_ref(),
            last: self.last.filter(|_| since.is_none()),
            ..Request::default()
        };
        match exchange.ask(Asked::Join(self.name.clone()), "join", request) {
            Ok(_) => {
                self.state = State::Joining {
                    since,
                    is_abandoned: false,
                }
            }
            Err(refused) => self.fail(&refused),
        }
    }

    /// Asks again if it was put off until now.
    pub(crate) fn resume(&mut self, now: Instant, exchange: &mut Exchange) {
        if matches!(self.state, State::PutOff(until) if until <= now) {
            self.state = State::Idle;
            self.advance(exchange);
        }
    }

    /// Forgets the connection, and with it the membership.
    pub(crate) fn lose(&mut self) {
        self.state = State::Idle;
        self.leavers.clear();
    }

    /// Settles what waits: the connection does not come back by itself. The room stays wanted.
    pub(crate) fn close(&mut self, closed: &Closed) {
        self.settle(&closed.clone().into());
        self.end_feeds(&closed.clone().into());
    }

    /// Ends everything: the connection never comes back, as the application wished.
    pub(crate) fn end(&mut self, closed: &Closed) {
        self.lose();
        self.forget(&closed.clone().into());
        self.feeds.clear();
    }

    // ---- What the server says ----

    /// Takes the answer to `join`.
    pub(crate) fn begin(
        &mut self,
        fields: &JoinedFields,
        exchange: &mut Exchange,
        notices: &mut Notices,
    ) {
        let State::Joining {
            since,
            is_abandoned,
        } = std::mem::replace(&mut self.state, State::Joined)
        else {
            return;
        };
        if is_abandoned {
            self.advance(exchange);
            return;
        }
        let position = fields.position.clone();
        let end = position.offset.saturating_add(1);
        let first = fields.first.filter(|_| !fields.already).unwrap_or(end);
        let makes_sense = (1..=end).contains(&first);
        if !makes_sense {
            notices.violated(Violation::Nonsense, &format!("joined with first = {first}"));
        }
        let first = if makes_sense { first } else { end };
        let recovered = makes_sense && fields.recovered.unwrap_or(false);
        let gap = since
            .as_ref()
            .filter(|_| !fields.already)
            .and_then(|since| {
                let recovery = Recovery {
                    position: &position,
                    recovered,
                    first,
                };
                recovery.missing(&self.name, since)
            });
        // In the same epoch a replay may begin before what we have, and we drop what we have.
        let kept = since
            .as_ref()
            .filter(|since| gap.is_none() && since.epoch == position.epoch);
        let reached = kept.map_or(first - 1, |since| since.offset);
        self.position = Some(Position {
            epoch: position.epoch.clone(),
            offset: reached,
        });
        let joined = Joined {
            room: self.name.clone(),
            position,
            reached,
            recovered: since.map(|_| recovered || fields.already),
            again: self.joined.is_some(),
        };
        self.joined = Some(joined.clone());
        for joiner in self.joiners.drain(..) {
            // Nobody may wait any more.
            _ = joiner.send(Ok(joined.clone()));
        }
        self.tell(&RoomEvent::Joined(joined));
        if let Some(gap) = gap {
            self.miss(gap);
        }
    }

    /// Takes the answer to `leave`.
    pub(crate) fn left(&mut self, exchange: &mut Exchange) {
        if self.state == State::Leaving {
            self.lose();
            self.advance(exchange);
        }
    }

    /// Takes an error in answer to `join` or `leave`.
    pub(crate) fn refuse(&mut self, refused: &Refused, now: Instant, exchange: &mut Exchange) {
        let State::Joining { is_abandoned, .. } = self.state else {
            self.left(exchange);
            return;
        };
        self.lose();
        if is_abandoned {
            self.advance(exchange);
        } else if let Some(pause) = refused.retry_after {
            self.state = State::PutOff(now + pause);
        } else {
            self.fail(refused);
        }
    }

    /// Takes a publication.
    pub(crate) fn publish(&mut self, msg: &Msg<'_>, notices: &mut Notices) {
        let Some(Position { epoch, offset }) = self.live_position("msg", notices) else {
            return;
        };
        let expected = offset.saturating_add(1);
        // The application has it.
        if msg.offset < expected {
            return;
        }
        self.position = Some(Position {
            epoch: epoch.clone(),
            offset: msg.offset,
        });
        if msg.offset > expected {
            let offsets = expected..=msg.offset - 1;
            self.miss(Gap::known(&self.name, GapReason::Jump, &epoch, offsets));
        }
        let publication = Publication::new(&self.name, &epoch, msg, self.gap.take());
        self.tell(&RoomEvent::Publication(publication));
    }

    /// Takes a gap: the server left something out.
    pub(crate) fn skip(&mut self, fields: &GapFields, notices: &mut Notices) {
        let Some(Position { epoch, offset }) = self.live_position("gap", notices) else {
            return;
        };
        let expected = offset.saturating_add(1);
        if fields.to < expected {
            return;
        }
        self.position = Some(Position {
            epoch: epoch.clone(),
            offset: fields.to,
        });
        if fields.from > expected {
            let offsets = expected..=fields.from - 1;
            self.miss(Gap::known(&self.name, GapReason::Jump, &epoch, offsets));
        }
        let offsets = fields.from.max(expected)..=fields.to;
        self.miss(Gap::known(&self.name, GapReason::Slow, &epoch, offsets));
    }

    /// Takes an ephemeral event.
    pub(crate) fn emit(&mut self, event: &str, emitted: Emitted<'_>) {
        if self.state == State::Joined && self.is_wanted {
            self.tell(&RoomEvent::Emission(Emission {
                room: Some(self.name.clone()),
                event: event.to_owned(),
                from: emitted.from,
                data: Json::of(emitted.data),
            }));
        }
    }

    /// Returns where a member is; `None` if it is none, or has just left.
    fn live_position(&self, event: &str, notices: &mut Notices) -> Option<Position> {
        match self.state {
            State::Joined => self.position.clone(),
            State::Leaving => None,
            _ => {
                let what = format!("{event} of {:?}, where we are not", self.name);
                notices.violated(Violation::Unasked, &what);
                None
            }
        }
    }

    // ---- What the application is told ----

    fn miss(&mut self, gap: Gap) {
        self.gap = Some(match self.gap.take() {
            Some(before) => before.joined_with(gap.clone()),
            None => gap.clone(),
        });
        self.tell(&RoomEvent::Gap(gap));
    }

    fn tell(&mut self, event: &RoomEvent) {
        let position = match event {
            RoomEvent::Publication(publication) => Some(&publication.position),
            _ => None,
        };
        let may_skip = matches!(event, RoomEvent::Emission(_));
        self.feeds
            .retain_mut(|feed| feed.push(event.clone(), position, may_skip));
    }

    /// Gives the room up: another attempt would be no different.
    fn fail(&mut self, refused: &Refused) {
        self.forget(&refused.clone().into());
        self.end_feeds(&refused.clone().into());
    }

    fn forget(&mut self, error: &JoinError) {
        self.is_wanted = false;
        self.position = None;
        self.gap = None;
        self.settle(error);
    }

    fn settle(&mut self, error: &JoinError) {
        for joiner in self.joiners.drain(..) {
            // Nobody may wait any more.
            _ = joiner.send(Err(error.clone()));
        }
    }

    fn end_feeds(&mut self, error: &StreamError) {
        for feed in self.feeds.drain(..) {
            feed.end(error.clone());
        }
    }
}
