//! The messages of a wire with positions: publications in their envelopes, greetings and answers.

use proto::OpCode;

use super::messages::{Goodbye, Heard, VISITS_FIRST};
use crate::inbox::Recipient;
use crate::payload::Stamp;
use crate::positions::{PositionBook, Seat, Standing};
use crate::wire::throng::{self, Ack, Said};
use crate::wire::{Envelope, EnvelopeShape};

/// Takes the messages of one read of one connection.
#[derive(Debug)]
pub(super) struct Enveloped<'a> {
    pub(super) heard: Heard<'a>,
    pub(super) shape: &'a EnvelopeShape,
    pub(super) seat: &'a mut Seat,
    pub(super) book: &'a mut PositionBook,
    /// The name of the member's room.
    pub(super) room: &'a str,
}

impl Enveloped<'_> {
    #[inline]
    fn deliver(&mut self, envelope: &Envelope<'_>, stamp: Stamp) {
        let standing = self.seat.take(envelope.offset, self.book);
        let heard = &mut self.heard;
        if !envelope.is_whole {
            heard.ledger.deliver_truncated();
        }
        if standing != Standing::Live || self.seat.was_away() {
            return self.deliver_after_return(standing, stamp);
        }
        if stamp.stream.0 >= VISITS_FIRST {
            return heard.unbooked(stamp);
        }
        if !self.book.is_from(stamp.stream, envelope.from) {
            self.book.add_wrong_sender();
        }
        heard.ledger.deliver(heard.member, stamp, heard.now_ns);
    }

    /// Takes a delivery to a member that was away. It may be in the name of a connection that ended
    /// long ago.
    #[inline(never)]
    fn deliver_after_return(&mut self, standing: Standing, stamp: Stamp) {
        let heard = &mut self.heard;
        let is_live = standing == Standing::Live;
        self.book.tally.replayed += u64::from(!is_live);
        heard.tidings.caught_up |= !is_live && self.seat.is_caught_up();
        if stamp.stream.0 >= VISITS_FIRST {
            return heard.unbooked(stamp);
        }
        heard
            .ledger
            .deliver_after_return(heard.member, stamp, is_live, heard.now_ns);
    }

    #[cold]
    fn message_unusual(&mut self, start: &[u8]) {
        let said = throng::understand(start, self.room);
        let heard = &mut self.heard;
        match &said {
            Said::Hello(name) => self.book.name(heard.member, *name),
            Said::Joined(_) => heard.ledger.come_back(heard.member),
            _ => {}
        }
        self.seat.hear(&said, start, self.book);
        match said {
            Said::Ack(ack) => self.ack(ack, start),
            // What may be asked again is no fault.
            Said::Complaint {
                id: Some(id),
                retry_after: Some(after),
            } if id >= throng::FIRST_PUBLICATION_ID => {
                heard.tidings.put_off.push((id, after));
            }
            Said::Complaint { .. } => heard.outcome.complain(start),
            Said::Drain(pause) => heard.tidings.drain = Some(pause),
            Said::Joined(_) => heard.tidings.caught_up |= self.seat.is_caught_up(),
            Said::Publication => {
                heard.ledger.deliver_unreadable();
                let said = || format!("unreadable: {}", String::from_utf8_lossy(start));
                self.book.tally.first_fault.note(said);
            }
            _ => {}
        }
    }

    /// Takes an acknowledgement: its publication must have come before it.
    fn ack(&mut self, ack: Ack, start: &[u8]) {
        // Its publisher is in the room, so that it had an offset.
        let passed = match &ack.position {
            None => Err("an ack without a position"),
            Some(position) => match self.seat.has_passed(position, self.book) {
                Some(true) => Ok(()),
                Some(false) => Err("an ack in front of its publication"),
                // What was published before a restart keeps the epoch from then.
                None if ack.duplicate => Ok(()),
                None => Err("an ack of another epoch"),
            },
        };
        if let Err(what) = passed {
            self.book.add_wrong(what, start);
        }
        self.heard.tidings.acks.push(ack);
    }
}

impl Recipient for Enveloped<'_> {
    #[inline]
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        if let Some(envelope) = self.shape.read(start, message_bytes)
            && let Some(stamp) = Stamp::read(envelope.letters)
        {
            return self.deliver(&envelope, stamp);
        }
        self.message_unusual(start);
    }

    fn ping(&mut self, payload: &[u8]) {
        self.heard.tidings.reply(OpCode::Pong, payload);
    }

    fn close(&mut self, payload: &[u8]) {
        self.heard.tidings.closed = Some(Goodbye::of(payload));
    }
}
