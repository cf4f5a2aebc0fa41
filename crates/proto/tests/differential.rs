//! The same streams read by tungstenite, which we did not write: both accept the same messages or
//! both refuse, except where [`Difference`] says why not.

#[path = "support/outcome.rs"]
mod outcome;
#[path = "support/pieces.rs"]
mod pieces;
#[path = "support/streams.rs"]
mod streams;

use std::io::{self, Read, Write};

use proptest::prelude::*;
use throng_proto::close::ClosePayloadError;
use throng_proto::{DecodeError, Limits, ReadError, Role};
use tungstenite::protocol::{self, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::outcome::{Outcome, Owned};
use crate::streams::{NARROW, WIDE, any_stream, config, conversation, piece_lens, role};

/// Cases in which tungstenite and `proto` are meant to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// A close frame with a code that must not be sent: tungstenite hands out the code 1002 in
    /// its place and counts the frame as a close, `proto` refuses it. Section 7.4 forbids the
    /// code; who has to close first is the same in both.
    CloseCode,
    /// The close code 1014 (bad gateway): registered with IANA after tungstenite's list was
    /// written, which takes it for one that must not be sent.
    CloseCodeBadGateway,
    /// A message of more fragments than the limit: tungstenite has no such limit.
    FragmentCount,
    /// A length in more bytes than it needs: tungstenite reads it. Section 5.2 says that "the
    /// minimal number of bytes MUST be used".
    NonMinimalLength,
    /// As above in a control frame, where `proto` sees that the length is not in the first two
    /// bytes, as section 5.5 wants it, before it sees the length.
    NonMinimalLengthOfControl,
}

impl Difference {
    /// The difference that explains why `proto` refuses, if this is one.
    fn of_refusal(error: ReadError, theirs_next: Option<&Owned>) -> Option<Self> {
        match error {
            ReadError::Close(ClosePayloadError::Code(_)) => Some(Self::CloseCode),
            ReadError::TooManyFragments { .. } => Some(Self::FragmentCount),
            ReadError::Frame(DecodeError::NonMinimalLength) => Some(Self::NonMinimalLength),
            // Only if the frame is one of up to 125 bytes indeed.
            ReadError::Frame(DecodeError::ControlTooLong) => {
                let short = match theirs_next? {
                    Owned::Ping(payload) | Owned::Pong(payload) => payload.len() <= 125,
                    Owned::Close(..) => true,
                    Owned::Binary(_) | Owned::Text(_) => false,
                };
                short.then_some(Self::NonMinimalLengthOfControl)
            }
            _ => None,
        }
    }
}

/// The end of tungstenite's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    /// It wants more bytes.
    Waiting,
    Refused,
}

fn tungstenite(
    role: Role,
    limits: Limits,
    stream: &[u8],
    piece_lens: &[usize],
) -> (Vec<Owned>, End) {
    let role = match role {
        Role::Client => protocol::Role::Client,
        Role::Server => protocol::Role::Server,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_len_max))
        .max_frame_size(Some(limits.message_len_max));
    let wire = Wire {
        rest: stream,
        piece_lens: piece_lens.iter().cycle(),
    };
    let mut socket = WebSocket::from_raw_socket(wire, role, Some(config));
    let mut messages = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(Message::Binary(payload)) => Owned::Binary(payload.to_vec()),
            Ok(Message::Close(Some(close))) => {
                Owned::Close(close.code.into(), close.reason.to_string())
            }
            Ok(Message::Close(None)) => Owned::Close(1005, String::new()),
            Ok(Message::Frame(frame)) => panic!("tungstenite never reads one: {frame}"),
            Ok(Message::Ping(payload)) => Owned::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Owned::Pong(payload.to_vec()),
            Ok(Message::Text(text)) => Owned::Text(text.to_string()),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, End::Waiting);
            }
            Err(_) => return (messages, End::Refused),
        };
        let closed = matches!(message, Owned::Close(..));
        messages.push(message);
        if closed {
            return (messages, End::Closed);
        }
    }
}

/// A socket that gives a stream in pieces, then blocks; what is written is lost.
struct Wire<'a> {
    rest: &'a [u8],
    piece_lens: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece_len = self.piece_lens.next().map_or(usize::MAX, |&len| len);
        let len = piece_len.min(self.rest.len()).min(buffer.len());
        buffer[..len].copy_from_slice(&self.rest[..len]);
        self.rest = &self.rest[len..];
        Ok(len)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares the two readers; returns the difference that was met, if one was.
fn compare(
    role: Role,
    limits: Limits,
    stream: &[u8],
    piece_lens: &[usize],
) -> Result<Option<Difference>, String> {
    let Outcome { messages, error } = pieces::read(role, limits, stream, piece_lens);
    // tungstenite looks at a frame when all of it is there, `proto` at what has arrived. So if
    // `proto` refuses, the rest of the frame follows, and tungstenite has to refuse that.
    let (theirs, end) = if error.is_some() {
        tungstenite(role, limits, &completed(stream, limits), piece_lens)
    } else {
        tungstenite(role, limits, stream, piece_lens)
    };
    let told = format!("{messages:?} {error:?}; tungstenite: {theirs:?} {end:?}");

    if let Some(error) = error {
        let Some(after) = theirs.strip_prefix(messages.as_slice()) else {
            return Err(told);
        };
        if after.is_empty() && end == End::Refused {
            return Ok(None);
        }
        return Difference::of_refusal(error, after.first())
            .map(Some)
            .ok_or(told);
    }
    if let (Some(Owned::Close(1014, _)), Some((Owned::Close(1002, _), before))) =
        (messages.last(), theirs.split_last())
    {
        let same = before == &messages[..messages.len() - 1];
        return same
            .then_some(Some(Difference::CloseCodeBadGateway))
            .ok_or(told);
    }
    let closed = matches!(messages.last(), Some(Owned::Close(..)));
    let expected = if closed { End::Closed } else { End::Waiting };
    if messages == theirs && end == expected {
        Ok(None)
    } else {
        Err(told)
    }
}

/// The stream with what its last frame lacks, as zeros; not much over what may be in a message.
fn completed(stream: &[u8], limits: Limits) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let mut frame_at = 0;
    while frame_at < stream.len() {
        let mut upto = |len: usize| {
            let end = frame_at + len;
            stream.resize(stream.len().max(end), 0);
            stream[frame_at..end].to_vec()
        };
        let second = upto(2)[1];
        let (length_len, short_len) = match second & 0x7F {
            126 => (2, 0),
            127 => (8, 0),
            len => (0, usize::from(len)),
        };
        let length = &upto(2 + length_len)[2..];
        let long_len = length
            .iter()
            .fold(short_len, |len, &byte| len << 8 | usize::from(byte));
        let key_len = if second & 0x80 == 0 { 0 } else { 4 };
        frame_at += upto(2 + length_len + key_len + long_len.min(limits.message_len_max + 1)).len();
    }
    stream
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_a_peer_sends_is_read_by_both(
        (role, sent, piece_lens) in
            role().prop_flat_map(|role| (Just(role), conversation(role), piece_lens()))
    ) {
        let difference = compare(role, WIDE, &sent.bytes, &piece_lens);
        let none = matches!(difference, Ok(None | Some(Difference::CloseCodeBadGateway)));
        prop_assert!(none, "{difference:?}");
    }

    #[test]
    fn any_stream_is_accepted_by_both_or_refused_by_both(
        (role, stream, piece_lens) in
            role().prop_flat_map(|role| (Just(role), any_stream(role), piece_lens()))
    ) {
        for limits in [NARROW, Limits { message_len_max: 4_000, ..NARROW }] {
            let compared = compare(role, limits, &stream, &piece_lens);
            prop_assert!(compared.is_ok(), "{compared:?}");
        }
    }
}

/// One stream for each difference, so that one which is gone is found out.
#[test]
fn each_difference_is_there() {
    for (stream, difference) in [
        (&b"\x88\x02\x03\xED"[..], Difference::CloseCode),
        (b"\x88\x02\x03\xF6", Difference::CloseCodeBadGateway),
        (
            b"\x02\x00\x00\x00\x00\x00\x80\x00",
            Difference::FragmentCount,
        ),
        (b"\x82\x7E\x00\x01a", Difference::NonMinimalLength),
        (b"\x89\x7E\x00\x01a", Difference::NonMinimalLengthOfControl),
    ] {
        let compared = compare(Role::Client, NARROW, stream, &[usize::MAX]);
        assert_eq!(compared, Ok(Some(difference)));
    }
}

/// So that the comparison cannot succeed by never getting anywhere.
#[test]
fn a_fault_that_both_know_is_no_difference() {
    for stream in [
        &b"\x80\x01a"[..],
        b"\x81\x02\xC3\x28",
        b"\xC1\x00",
        b"\x81\x80\0\0\0\0",
    ] {
        assert_eq!(
            compare(Role::Client, NARROW, stream, &[usize::MAX]),
            Ok(None)
        );
        assert_eq!(
            tungstenite(Role::Client, NARROW, stream, &[1]),
            (Vec::new(), End::Refused)
        );
    }
}
