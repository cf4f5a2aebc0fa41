//! What one connection receives: bytes to messages, of which only the beginning is kept.
//!
//! A text message that arrived in one piece, which is nearly every one, is handed on from the read
//! buffer. Only what was cut, by a read or by fragments, is put together, up to
//! [`MESSAGE_KEPT_MAX`] bytes.

use proto::{DecodeError, FrameDecoder, FramePart, OpCode, Role};

/// How much of a message anybody looks at: a stamp, a server's answer, or the beginning of an
/// error's text.
const MESSAGE_KEPT_MAX: usize = 1024;

/// What takes the messages.
pub(crate) trait Recipient {
    /// Takes a text or binary message of `message_bytes`, or its first [`MESSAGE_KEPT_MAX`] or
    /// more.
    fn message(&mut self, start: &[u8], message_bytes: u64);
    /// Takes a ping, which wants its bytes back.
    fn ping(&mut self, payload: &[u8]);
    /// Takes the server's goodbye.
    fn close(&mut self, payload: &[u8]);
}

/// The receiving half of one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    decoder: FrameDecoder,
    /// Whether the decoder stands between two frames.
    between_frames: bool,
    /// The start of a message that is not all there.
    message: Vec<u8>,
    /// How long that message is, as far as it was there.
    message_bytes: u64,
    /// A control frame that is not all there; it may stand between fragments of a message.
    control: Vec<u8>,
    /// What stands between the messages of a frame, where one may have several.
    separator: Option<u8>,
}

impl Inbox {
    /// Begins a stream whose frames have one message each, or one a line.
    pub(crate) fn new(has_lines: bool) -> Self {
        let decoder = FrameDecoder::new(Role::Client);
        Self {
            decoder,
            between_frames: true,
            message: Vec::new(),
            message_bytes: 0,
            control: Vec::new(),
            separator: has_lines.then_some(b'\n'),
        }
    }

    /// Takes all bytes of one read.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the connection cannot go on.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        recipient: &mut impl Recipient,
    ) -> Result<(), DecodeError> {
        let mut position = 0;
        while position < bytes.len() {
            if self.between_frames
                && let Some((header_bytes, text)) = whole_text(&bytes[position..])
            {
                match self.separator {
                    None => recipient.message(text, text.len() as u64),
                    Some(separator) => receive_lines(text, separator, recipient),
                }
                position += header_bytes + text.len();
                continue;
            }
            let (part, consumed) = self.decoder.decode(&mut bytes[position..])?;
            position += consumed;
            self.between_frames = part.as_ref().is_some_and(|part| part.last);
            let Some(part) = part else { continue };
            let is_text = part.header.fin && part.header.opcode == OpCode::Text;
            if part.first && part.last && is_text && self.separator.is_none() {
                recipient.message(part.payload, part.header.payload_len);
            } else {
                let message = (&mut self.message, &mut self.message_bytes);
                let separator = self.separator;
                Self::receive_part(message, &mut self.control, separator, &part, recipient);
            }
        }
        Ok(())
    }

    #[cold]
    fn receive_part(
        (message, message_bytes): (&mut Vec<u8>, &mut u64),
        control: &mut Vec<u8>,
        separator: Option<u8>,
        part: &FramePart<'_>,
        recipient: &mut impl Recipient,
    ) {
        let opcode = part.header.opcode;
        if !opcode.is_control() {
            let mut lines = part
                .payload
                .split(|byte| Some(*byte) == separator)
                .peekable();
            while let Some(line) = lines.next() {
                *message_bytes += line.len() as u64;
                let kept = line.len().min(MESSAGE_KEPT_MAX - message.len());
                message.extend_from_slice(&line[..kept]);
                if lines.peek().is_some() || part.last && part.header.fin {
                    recipient.message(message, std::mem::take(message_bytes));
                    message.clear();
                }
            }
            return;
        }
        // The decoder refuses control frames of over 125 bytes.
        control.extend_from_slice(part.payload);
        if part.last {
            match opcode {
                OpCode::Close => recipient.close(control),
                OpCode::Ping => recipient.ping(control),
                _ => {}
            }
            control.clear();
        }
    }
}

/// Hands on the messages of one frame.
fn receive_lines(text: &[u8], separator: u8, recipient: &mut impl Recipient) {
    for line in text.split(|&byte| byte == separator) {
        recipient.message(line, line.len() as u64);
    }
}

/// A header without an extended length, and one with one of two bytes.
const SHORT_HEADER_BYTES: usize = 2;
const MEDIUM_HEADER_BYTES: usize = 4;

/// Returns the text of the frame in front and the length of its header, if it is whole and of one
/// of the two shorter forms, as nearly all are here.
///
/// It saves most of the decoder's 17 ns, which were a third of a delivery.
#[inline]
fn whole_text(bytes: &[u8]) -> Option<(usize, &[u8])> {
    const WHOLE_TEXT: u8 = 0x81;
    const MEDIUM: u8 = 126;
    match bytes {
        [WHOLE_TEXT, len @ 0..=125, rest @ ..] => {
            let text = rest.get(..usize::from(*len))?;
            Some((SHORT_HEADER_BYTES, text))
        }
        [WHOLE_TEXT, MEDIUM, high, low, rest @ ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            // A length that would have fitted into the short form is the decoder's to refuse.
            let text = rest.get(..len).filter(|_| len >= usize::from(MEDIUM))?;
            Some((MEDIUM_HEADER_BYTES, text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was received, as a transcript.
    #[derive(Default)]
    struct Transcript(Vec<String>);

    impl Recipient for Transcript {
        fn message(&mut self, start: &[u8], message_bytes: u64) {
            let start = String::from_utf8_lossy(start);
            self.0.push(format!("message {message_bytes} {start}"));
        }

        fn ping(&mut self, payload: &[u8]) {
            self.0
                .push(format!("ping {}", String::from_utf8_lossy(payload)));
        }

        fn close(&mut self, payload: &[u8]) {
            self.0.push(format!("close {}", payload.len()));
        }
    }

    #[test]
    fn the_same_is_received_at_any_cut() {
        let bytes =
            b"\x81\x03one\x89\x01p\x01\x02tw\x89\x00\x80\x01o\x8A\x00\x81\x05three\x88\x02\x03\xE8";
        for read_bytes in 1..=bytes.len() {
            let (mut inbox, mut transcript) = (Inbox::new(false), Transcript::default());
            for read in bytes.chunks(read_bytes) {
                inbox.receive(&mut read.to_vec(), &mut transcript).unwrap();
            }
            let expected = [
                "message 3 one",
                "ping p",
                "ping ",
                "message 3 two",
                "message 5 three",
                "close 2",
            ];
            assert_eq!(transcript.0, expected, "{read_bytes} bytes to a read");
        }
    }

    #[test]
    fn the_lines_of_a_frame_are_messages_at_any_cut() {
        let long = "x".repeat(2000);
        let text = format!("one\ntwo\n{long}\nfour");
        let mut bytes = proto::frame::encode(OpCode::Text, text.as_bytes()).to_vec();
        bytes.extend_from_slice(b"\x01\x06five\ns\x80\x02ix");
        for read_bytes in (1..=bytes.len()).step_by(7) {
            let (mut inbox, mut transcript) = (Inbox::new(true), Transcript::default());
            for read in bytes.chunks(read_bytes) {
                inbox.receive(&mut read.to_vec(), &mut transcript).unwrap();
            }
            let [one, two, three, four, five, six] = &transcript.0[..] else {
                panic!(
                    "{} messages at {read_bytes} bytes to a read",
                    transcript.0.len()
                );
            };
            assert!(three.starts_with("message 2000 xxx"), "{three}");
            let others = [one, two, four, five, six];
            let expected = ["message 3 one", "message 3 two", "message 4 four"];
            assert_eq!(others[..3], expected, "{read_bytes} bytes to a read");
            assert_eq!(others[3..], ["message 4 five", "message 3 six"]);
        }
    }

    #[test]
    fn frames_of_every_length_are_received_whole() {
        for bytes in [0, 125, 126, 127, 65_535, 65_536] {
            let mut frames = proto::frame::encode(OpCode::Text, &vec![b'x'; bytes]).to_vec();
            frames.extend_from_slice(b"\x81\x03end");
            let (mut inbox, mut transcript) = (Inbox::new(false), Transcript::default());
            inbox.receive(&mut frames, &mut transcript).unwrap();
            let expected = format!("message {bytes} {}", "x".repeat(bytes));
            assert!(transcript.0[0] == expected, "{bytes}");
            assert_eq!(transcript.0[1..], ["message 3 end"]);
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_it_takes_is_refused() {
        let mut frame = b"\x81\x7E\x00\x03one".to_vec();
        let received = Inbox::new(false).receive(&mut frame, &mut Transcript::default());
        assert!(received.is_err());
    }

    #[test]
    fn a_long_cut_message_is_kept_in_part() {
        let frame = proto::frame::encode(OpCode::Text, &[b'x'; 70_000]);
        let (mut inbox, mut transcript) = (Inbox::new(false), Transcript::default());
        for read in frame.chunks(1000) {
            inbox.receive(&mut read.to_vec(), &mut transcript).unwrap();
        }
        assert_eq!(
            transcript.0,
            [format!("message 70000 {}", "x".repeat(MESSAGE_KEPT_MAX))]
        );
    }
}
