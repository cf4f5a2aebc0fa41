//! The messages of a wire with positions: publications in their envelopes, greetings and answers.

use std::time::Duration;

use proto::OpCode;

use super::messages::{Heard, VISITS_FIRST};
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

    /// At a member that was away. What it is sent may be in the name of a connection that ended long ago.
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
        if !self.seat.was_greeted() && !matches!(said, Said::Hello(_)) {
            self.book.add_wrong("a message before hello", start);
        }
        let understood = match said {
            Said::Ack(ack) => self.ack(ack),
            Said::Complaint { id, retry_after } => {
                self.complain(id.zip(retry_after), start);
                Ok(())
            }
            Said::Drain(pause) => {
                self.heard.tidings.drain = Some(pause);
                Ok(())
            }
            Said::Gap { first, last } => self.seat.pass_over((first, last), self.book),
            Said::Hello(name) => {
                self.book.name(self.heard.member, name);
                self.seat.greet()
            }
            Said::Joined(joined) => {
                self.heard.ledger.come_back(self.heard.member);
                let joined = self.seat.join(&joined, self.book);
                self.heard.tidings.caught_up |= self.seat.is_caught_up();
                joined
            }
            Said::Other => Ok(()),
            Said::Publication => {
                self.heard.ledger.deliver_unreadable();
                self.book
                    .note(|| format!("unreadable: {}", String::from_utf8_lossy(start)));
                Ok(())
            }
            Said::Wrong(what) => Err(what),
        };
        if let Err(what) = understood {
            self.book.add_wrong(what, start);
        }
    }

    /// A publication comes before its acknowledgement.
    fn ack(&mut self, ack: Ack) -> Result<(), &'static str> {
        let position = ack.position.clone();
        let is_duplicate = ack.duplicate;
        self.heard.tidings.acks.push(ack);
        // Its publisher is in the room, so that it had an offset.
        let position = position.ok_or("an ack without a position")?;
        match self.seat.has_passed(&position, self.book) {
            Some(true) => Ok(()),
            Some(false) => Err("an ack in front of its publication"),
            // What was published before a restart keeps the epoch from then.
            None if is_duplicate => Ok(()),
            None => Err("an ack of another epoch"),
        }
    }

    /// What may be asked again is no fault.
    fn complain(&mut self, put_off: Option<(u64, Duration)>, message: &[u8]) {
        match put_off {
            Some(put_off) if put_off.0 >= throng::FIRST_PUBLICATION_ID => {
                self.heard.tidings.put_off.push(put_off);
            }
            _ => self.heard.errors.add(message),
        }
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
        self.heard.reply(OpCode::Pong, payload);
    }

    fn close(&mut self, payload: &[u8]) {
        self.heard.close(payload);
    }
}
