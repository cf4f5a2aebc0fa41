//! What the server's messages mean: deliveries, probes, complaints, pings, goodbyes.

use proto::CloseFrame;

use crate::inbox::Recipient;
use crate::ledger::Ledger;
use crate::payload::{STAMP_BYTES, Stamp};
use crate::plan::{MemberId, StreamId};

/// The stream of publications that only find out who is in a room; its numbers are rooms.
pub(super) const PROBES: StreamId = StreamId(u32::MAX);

/// From here on, streams are those of visitors; the book's are far below.
pub(super) const VISITS_FIRST: u32 = 1 << 31;

/// What stands before a stamp.
const DELIVERY: &[u8; 5] = b"msg \"";

/// How long the delivery of a payload of so many bytes is.
pub(super) const fn delivery_bytes(payload_bytes: usize) -> u64 {
    // The payload's quote stands in the prefix already.
    (DELIVERY.len() - 1 + payload_bytes) as u64
}

const COMPLAINT: &[u8] = b"error";

/// Complaints of the server, as `error` events.
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
    /// How long a delivery must be.
    delivery_bytes: u64,
    ledger: &'a mut Ledger,
    errors: &'a mut ServerErrors,
    /// What pings want back; none allocates nothing.
    pub(super) pongs: Option<Vec<Vec<u8>>>,
    /// Why the server said goodbye.
    pub(super) closed: Option<String>,
    /// Whether a probe of the member's room was there.
    pub(super) probed: bool,
    /// Publications of visitors; they are in no book.
    pub(super) from_visitors: u64,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(
        member: MemberId,
        now_ns: u64,
        delivery_bytes: u64,
        ledger: &'a mut Ledger,
        errors: &'a mut ServerErrors,
    ) -> Self {
        Self {
            member,
            now_ns,
            delivery_bytes,
            ledger,
            errors,
            pongs: None,
            closed: None,
            probed: false,
            from_visitors: 0,
        }
    }

    #[cold]
    fn message_unusual(&mut self, start: &[u8]) {
        if start.starts_with(COMPLAINT) {
            self.errors.count += 1;
            let text = String::from_utf8_lossy(start);
            self.errors
                .first_text
                .get_or_insert_with(|| text.chars().take(200).collect());
        } else if start.starts_with(b"msg ") {
            self.ledger.deliver_unreadable();
        }
        // Other events are the server's own business.
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
        let stamp = prefixed(start).and_then(Stamp::read);
        if message_bytes != self.delivery_bytes && stamp.is_some() {
            self.ledger.deliver_truncated();
        }
        match stamp {
            Some(stamp) if stamp.stream.0 >= VISITS_FIRST => self.unbooked(stamp),
            Some(stamp) => self.ledger.deliver(self.member, stamp, self.now_ns),
            None => self.message_unusual(start),
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        self.pongs.get_or_insert_default().push(payload.to_vec());
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

/// The letters of a stamp in the message that delivers it.
#[inline]
pub(super) fn prefixed(message: &[u8]) -> Option<&[u8; STAMP_BYTES]> {
    let (prefix, rest) = message.split_first_chunk()?;
    if prefix != DELIVERY {
        None
    } else {
        rest.first_chunk()
    }
}
