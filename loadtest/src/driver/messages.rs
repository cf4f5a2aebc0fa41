//! What the server's messages mean: deliveries, probes, complaints, pings, goodbyes.
//!
//! There are two recipients, by what the deliveries of a wire look like, with [`Heard`] in common:
//! [`Plain`], and [`Enveloped`](super::enveloped::Enveloped) where publications have offsets.

use std::time::Duration;

use proto::{CloseFrame, OpCode};

use crate::inbox::Recipient;
use crate::ledger::Ledger;
use crate::payload::Stamp;
use crate::plan::{MemberId, StreamId};
use crate::wire::throng::{self, Ack};
use crate::wire::{DeliveryShape, Meaning, Wire};

use super::Outcome;

/// The stream of publications that only find out who is in a room; its numbers are rooms.
pub(super) const PROBES: StreamId = StreamId(u32::MAX);

/// From here on, streams are those of visitors; the book's are far below.
pub(super) const VISITS_FIRST: u32 = 1 << 31;

/// How a server ended a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Goodbye {
    /// That of its close frame, if there was one.
    pub(super) code: Option<u16>,
    pub(super) reason: String,
    /// How long the client is not to come back, if the server said so.
    pub(super) pause: Option<Duration>,
}

impl Goodbye {
    /// Reads a close frame.
    pub(super) fn of(payload: &[u8]) -> Self {
        match CloseFrame::parse(payload) {
            Ok(close) => {
                let said = format!("it said {} {}", close.code.0, close.reason);
                Self {
                    code: Some(close.code.0),
                    reason: said.trim_end().to_owned(),
                    pause: throng::pause(close.code.0, close.reason),
                }
            }
            Err(error) => Self::without_pause(format!("it sent a {error}")),
        }
    }

    /// Describes an end without a word about coming back.
    pub(super) fn without_pause(reason: String) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

/// What the messages of one read of one connection came to.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) member: MemberId,
    pub(super) now_ns: u64,
    pub(super) wire: &'a Wire,
    pub(super) ledger: &'a mut Ledger,
    pub(super) outcome: &'a mut Outcome,
    /// What is to be done about it.
    pub(super) tidings: Tidings,
}

/// What a driver has to do about the messages of a read.
#[derive(Debug, Default)]
pub(super) struct Tidings {
    /// What pings, and messages that the wire answers, want back; none allocates nothing.
    pub(super) replies: Vec<(OpCode, Vec<u8>)>,
    /// Why the server said goodbye.
    pub(super) closed: Option<Goodbye>,
    /// Whether a probe of the member's room was there.
    pub(super) probed: bool,
    /// Whether the message was there after which members join.
    pub(super) welcomed: bool,
    /// Publications of visitors; they are in no book.
    pub(super) from_visitors: u64,
    /// Whether a membership began, and all that was published before it is there.
    pub(super) caught_up: bool,
    /// What was acknowledged.
    pub(super) acks: Vec<Ack>,
    /// Requests that were refused and may be sent again, and after which time.
    pub(super) put_off: Vec<(u64, Duration)>,
    /// How long not to come back, from when the connection will have ended.
    pub(super) drain: Option<Duration>,
}

impl Tidings {
    pub(super) fn reply(&mut self, opcode: OpCode, payload: &[u8]) {
        self.replies.push((opcode, payload.to_vec()));
    }

    /// Takes what no delivery says on a wire without positions; returns what it means.
    pub(super) fn take_unusual<'w>(&mut self, wire: &'w Wire, start: &[u8]) -> Meaning<'w> {
        let meaning = wire.meaning(start);
        if let Meaning::Answer(text) = meaning {
            self.reply(OpCode::Text, text.as_bytes());
        }
        self.welcomed |= wire.is_welcome(start);
        meaning
    }
}

impl Heard<'_> {
    #[cold]
    fn message_unusual(&mut self, start: &[u8]) {
        match self.tidings.take_unusual(self.wire, start) {
            Meaning::Complaint => self.outcome.complain(start),
            Meaning::Misdelivery => self.ledger.deliver_unreadable(),
            Meaning::Answer(_) | Meaning::Other => {}
        }
    }

    /// Takes what is not in the book.
    #[cold]
    pub(super) fn unbooked(&mut self, stamp: Stamp) {
        if stamp.stream != PROBES {
            self.tidings.from_visitors += 1;
        } else if stamp.number == self.ledger.room_of(self.member).0 {
            self.tidings.probed = true;
        } else {
            self.ledger.deliver_unreadable();
        }
    }
}

/// Takes messages whose deliveries are a payload between texts.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    pub(super) heard: Heard<'a>,
    pub(super) shape: &'a DeliveryShape,
}

impl Recipient for Plain<'_> {
    #[inline]
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let heard = &mut self.heard;
        let stamp = self.shape.letters(start).and_then(Stamp::read);
        if stamp.is_some() && !self.shape.is_whole(start, message_bytes) {
            heard.ledger.deliver_truncated();
        }
        match stamp {
            Some(stamp) if stamp.stream.0 >= VISITS_FIRST => heard.unbooked(stamp),
            Some(stamp) => heard.ledger.deliver(heard.member, stamp, heard.now_ns),
            None => heard.message_unusual(start),
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        self.heard.tidings.reply(OpCode::Pong, payload);
    }

    fn close(&mut self, payload: &[u8]) {
        self.heard.tidings.closed = Some(Goodbye::of(payload));
    }
}
