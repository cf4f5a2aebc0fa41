//! One room, as far as one client is or wants to be in it. Pure.
//!
//! The application is handed publications by rising offset, each once. What is left out is told it
//! first.

use tokio::time::Instant;

use crate::record::{Key, Position, Record, room_name};

use super::wire::{Gap, Join, Joined, Place, write};

/// A room that a client wants to be in.
#[derive(Debug)]
pub(super) struct Membership {
    room: u32,
    name: String,
    /// Up to where the application has all that it will get.
    position: Option<Position>,
    state: State,
}

/// How far it is on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The request is under way.
    Asked,
    /// It is a member.
    Joined,
    /// The server asks to be asked later.
    PutOff(Instant),
    /// It is to be asked for.
    Wanted,
}

impl Membership {
    pub(super) fn new(room: u32) -> Self {
        Self {
            room,
            name: room_name(room),
            position: None,
            state: State::Wanted,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn room(&self) -> u32 {
        self.room
    }

    /// Where it is, if it is a member on this connection.
    pub(super) fn live_position(&self) -> Option<&Position> {
        let is_joined = self.state == State::Joined;
        self.position.as_ref().filter(|_| is_joined)
    }

    /// The connection is gone.
    pub(super) const fn lose(&mut self) {
        self.state = State::Wanted;
    }

    /// When it is to be asked for again, if the server put it off.
    pub(super) const fn put_off_until(&self) -> Option<Instant> {
        match self.state {
            State::PutOff(until) => Some(until),
            _ => None,
        }
    }

    /// The server asks to be asked again then.
    pub(super) const fn put_off(&mut self, until: Instant) {
        self.state = State::PutOff(until);
    }

    /// The request to join, if it is time for one.
    pub(super) fn next_request(&mut self, id: u64, now: Instant) -> Option<String> {
        let is_due = match self.state {
            State::Wanted => true,
            State::PutOff(until) => until <= now,
            State::Asked | State::Joined => false,
        };
        if !is_due {
            return None;
        }
        self.state = State::Asked;
        let since = self.position.as_ref().map(|position| Place {
            epoch: position.epoch.to_string(),
            offset: position.offset,
        });
        let join = Join {
            id,
            room: &self.name,
            since,
        };
        Some(write("join", &join))
    }

    /// The answer to the request.
    pub(super) fn join(&mut self, joined: &Joined, record: &mut Record) {
        if self.state != State::Asked || joined.already {
            record.complain(format!("joined that was not asked for: {joined:?}"));
            return;
        }
        self.state = State::Joined;
        let position = Position::new(&joined.position.epoch, joined.position.offset);
        let Some(since) = self.position.take() else {
            self.position = Some(position.clone());
            record.join(self.room, position.clone(), None, position.offset);
            return;
        };
        let (Some(recovered), Some(first)) = (joined.recovered, joined.first) else {
            record.complain(format!("joined without what was asked for: {joined:?}"));
            self.position = Some(since);
            return;
        };
        let is_same = since.epoch == position.epoch;
        let before_replay = first.saturating_sub(1);
        // A replay may begin before what we have, and what we have is passed over.
        let reached = if is_same && recovered {
            since.offset
        } else {
            before_replay
        };
        record.join(self.room, position.clone(), Some(recovered), reached);
        if !recovered && is_same && reached >= since.offset {
            record.missing(self.room, &position.epoch, since.offset + 1, reached);
        } else if !recovered {
            // In another epoch, or behind where we were, nobody knows how much is missing.
            record.missing_unknown(self.room);
        }
        self.position = Some(Position {
            offset: reached,
            ..position
        });
    }

    /// A publication.
    pub(super) fn publication(&mut self, offset: u64, key: Key, record: &mut Record) {
        let room = self.room;
        let Some(position) = self.position_if_joined(record) else {
            return;
        };
        let expected = position.offset + 1;
        if offset < expected {
            record.repeated(room);
            return;
        }
        if offset > expected {
            record.complain(format!(
                "in room {room} offset {offset} came where {expected} was to come, without a gap"
            ));
        }
        position.offset = offset;
        record.publication(room, position.clone(), key);
    }

    /// Publications that this client was not sent.
    pub(super) fn gap(&mut self, gap: &Gap, record: &mut Record) {
        let room = self.room;
        let Some(position) = self.position_if_joined(record) else {
            return;
        };
        let expected = position.offset + 1;
        if gap.from != expected || gap.to < gap.from {
            record.complain(format!("a gap where {expected} was to come: {gap:?}"));
        }
        if gap.to >= expected {
            position.offset = gap.to;
            record.missing(room, &position.epoch, gap.from.max(expected), gap.to);
        }
    }

    fn position_if_joined(&mut self, record: &mut Record) -> Option<&mut Position> {
        if self.state != State::Joined {
            record.complain(format!("something of room {} before joined", self.room));
            return None;
        }
        self.position.as_mut()
    }
}
