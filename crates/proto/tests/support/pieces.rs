//! Feeds the real reader a stream in pieces, and watches its memory while it does.

use throng_proto::{Input, Limits, Message, MessageReader, Role};

use crate::outcome::{Outcome, Owned};

/// The bytes that a control frame cut in two may hold beyond the limit for messages: 125, and
/// what a growing vector reserves ahead.
const CONTROL_SLACK: usize = 256;

/// A reader and what it has read so far.
pub(crate) struct Pieces {
    reader: MessageReader,
    limits: Limits,
    pub(crate) outcome: Outcome,
}

impl Pieces {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        Self {
            reader: MessageReader::new(role),
            limits,
            outcome: Outcome::default(),
        }
    }

    /// Reads all of one piece, unless a close frame or an error has ended the stream.
    ///
    /// # Panics
    ///
    /// If the reader holds more bytes than its limits allow.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        let mut piece = piece.to_vec();
        let mut input = Input::new(&mut piece);
        while !self.outcome.is_over() {
            match self.reader.read(&mut input, &self.limits) {
                Ok(Some(message)) => self.outcome.messages.push(owned(message)),
                Ok(None) => {
                    assert!(input.is_empty(), "no message, and input left");
                    break;
                }
                Err(error) => self.outcome.error = Some(error),
            }
            self.check_memory();
        }
        self.check_memory();
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.reader.pending_bytes()
    }

    fn check_memory(&self) {
        let (pending, max) = (self.pending_bytes(), self.limits.message_len_max);
        assert!(
            pending <= max.saturating_add(CONTROL_SLACK),
            "{pending} bytes pending, {max} allowed"
        );
    }
}

/// Reads `stream` in pieces of these lengths, over and over until its end.
pub(crate) fn read(role: Role, limits: Limits, stream: &[u8], piece_lens: &[usize]) -> Outcome {
    let mut pieces = Pieces::new(role, limits);
    let mut rest = stream;
    for &len in piece_lens.iter().cycle() {
        let (piece, after) = rest.split_at(len.max(1).min(rest.len()));
        pieces.feed(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    pieces.outcome
}

fn owned(message: Message<'_>) -> Owned {
    match message {
        Message::Binary(payload) => Owned::Binary(payload.to_vec()),
        Message::Close(frame) => Owned::Close(frame.code.0, frame.reason.to_owned()),
        Message::Ping(payload) => Owned::Ping(payload.to_vec()),
        Message::Pong(payload) => Owned::Pong(payload.to_vec()),
        Message::Text(payload) => {
            Owned::Text(String::from_utf8(payload.to_vec()).expect("text is UTF-8"))
        }
    }
}
