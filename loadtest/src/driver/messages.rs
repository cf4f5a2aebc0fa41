//! What the server's messages mean: deliveries, probes, complaints, pings, goodbyes.

use proto::{CloseFrame, OpCode};

use crate::inbox::Recipient;
use crate::ledger::Ledger;
use crate::payload::Stamp;
use crate::plan::{MemberId, StreamId};
use crate::wire::{DeliveryShape, Meaning, Wire};

/// The stream of publications that only find out who is in a room; its numbers are rooms.
pub(super) const PROBES: StreamId = StreamId(u32::MAX);

/// From here on, streams are those of visitors; the book's are far below.
pub(super) const VISITS_FIRST: u32 = 1 << 31;

/// Complaints of the server, as its wire writes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerErrors {
    pub(crate) count: u64,
    pub(crate) first_text: Option<String>,
}

/// The messages of one read of one connection.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    member: MemberId,
    now_ns: u64,
    wire: &'a Wire,
    shape: &'a DeliveryShape,
    ledger: &'a mut Ledger,
    errors: &'a mut ServerErrors,
    /// What pings, and messages that the wire answers, want back; none allocates nothing.
    pub(super) replies: Option<Vec<(OpCode, Vec<u8>)>>,
    /// Why the server said goodbye.
    pub(super) closed: Option<String>,
    /// Whether a probe of the member's room was there.
    pub(super) probed: bool,
    /// Whether the message was there after which members join.
    pub(super) welcomed: bool,
    /// Publications of visitors; they are in no book.
    pub(super) from_visitors: u64,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(
        member: MemberId,
        now_ns: u64,
        (wire, shape): (&'a Wire, &'a DeliveryShape),
        ledger: &'a mut Ledger,
        errors: &'a mut ServerErrors,
    ) -> Self {
        Self {
            member,
            now_ns,
            wire,
            shape,
            ledger,
            errors,
            replies: None,
            closed: None,
            probed: false,
            welcomed: false,
            from_visitors: 0,
        }
    }

    #[cold]
    fn message_unusual(&mut self, start: &[u8]) {
        match self.wire.meaning(start) {
            Meaning::Answer(text) => self.reply(OpCode::Text, text.as_bytes()),
            Meaning::Complaint => {
                self.errors.count += 1;
                let text = String::from_utf8_lossy(start);
                self.errors
                    .first_text
                    .get_or_insert_with(|| text.chars().take(200).collect());
            }
            Meaning::Misdelivery => self.ledger.deliver_unreadable(),
            Meaning::Other => {}
        }
        let greeting = self.wire.join_after();
        self.welcomed |= greeting.is_some_and(|greeting| start.starts_with(greeting.as_bytes()));
    }

    fn reply(&mut self, opcode: OpCode, payload: &[u8]) {
        let reply = (opcode, payload.to_vec());
        self.replies.get_or_insert_default().push(reply);
    }

    /// What is not in the book.
    #[cold]
    fn unbooked(&mut self, stamp: Stamp) {
        if stamp.stream != PROBES {
            self.from_visitors += 1;
        } else if stamp.number == self.ledger.room_of(self.member).0 {
            self.probed = true;
        } else {
            self.ledger.deliver_unreadable();
        }
    }
}

impl Recipient for Incoming<'_> {
    #[inline]
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let stamp = self.shape.letters(start).and_then(Stamp::read);
        if message_bytes != self.shape.message_bytes && stamp.is_some() {
            self.ledger.deliver_truncated();
        }
        match stamp {
            Some(stamp) if stamp.stream.0 >= VISITS_FIRST => self.unbooked(stamp),
            Some(stamp) => self.ledger.deliver(self.member, stamp, self.now_ns),
            None => self.message_unusual(start),
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        self.reply(OpCode::Pong, payload);
    }

    fn close(&mut self, payload: &[u8]) {
        self.closed = Some(match CloseFrame::parse(payload) {
            Ok(close) => format!("it said {} {}", close.code.0, close.reason)
                .trim_end()
                .to_owned(),
            Err(error) => format!("it sent a {error}"),
        });
    }
}
