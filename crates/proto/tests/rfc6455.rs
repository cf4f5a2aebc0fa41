//! RFC 6455, section by section: what is accepted, what is refused, and with which close code.
//!
//! Every stream is read whole, byte by byte, and by the naive reader, and all must say the same:
//! so the oracle of the other tests is held to the RFC too.

#[path = "support/naive.rs"]
mod naive;
#[path = "support/outcome.rs"]
mod outcome;
#[path = "support/pieces.rs"]
mod pieces;

use throng_proto::close::ClosePayloadError;
use throng_proto::{
    CloseCode, CloseFrame, DecodeError, FrameDecoder, Input, Limits, Message, MessageReader,
    OpCode, ReadError, Role, frame, mask,
};

use crate::outcome::{Outcome, Owned};
use crate::pieces::Pieces;

const LIMITS: Limits = Limits {
    message_len_max: 1 << 20,
    fragment_count_max: 8,
};
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn read_within(limits: Limits, role: Role, stream: &[u8]) -> Outcome {
    let whole = pieces::read(role, limits, stream, &[usize::MAX]);
    let by_bytes = pieces::read(role, limits, stream, &[1]);
    assert_eq!(whole, by_bytes, "whole, and byte by byte: {stream:02x?}");
    assert_eq!(
        whole,
        naive::read(role, limits, stream),
        "and naively: {stream:02x?}"
    );
    whole
}

fn read(role: Role, stream: &[u8]) -> Outcome {
    read_within(LIMITS, role, stream)
}

/// Expects that a client, to which nothing is masked, reads these messages and nothing wrong.
fn accept<const N: usize>(stream: &[u8], messages: [Owned; N]) {
    assert_eq!(
        read(Role::Client, stream),
        Outcome {
            messages: messages.into(),
            error: None
        }
    );
}

/// Expects that a client reads no message and refuses the stream.
fn refuse(stream: &[u8], error: impl Into<ReadError>) {
    let refused = Outcome {
        messages: Vec::new(),
        error: Some(error.into()),
    };
    assert_eq!(read(Role::Client, stream), refused, "{stream:02x?}");
}

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

fn binary(payload: &[u8]) -> Owned {
    Owned::Binary(payload.to_owned())
}

fn ping(payload: &[u8]) -> Owned {
    Owned::Ping(payload.to_owned())
}

fn pong(payload: &[u8]) -> Owned {
    Owned::Pong(payload.to_owned())
}

fn close(code: u16, reason: &str) -> Owned {
    Owned::Close(code, reason.to_owned())
}

/// An unmasked frame of under 126 bytes.
fn short(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short payload");
    [&[first, len], payload].concat()
}

mod section_5_1_overview {
    use super::*;

    #[test]
    fn an_unmasked_frame_from_a_client_is_refused() {
        let refused = read(Role::Server, b"\x81\x02hi");
        assert_eq!(refused.error, Some(DecodeError::Unmasked.into()));
    }

    #[test]
    fn an_unmasked_control_frame_from_a_client_is_refused() {
        for stream in [b"\x88\x00", b"\x89\x00", b"\x8A\x00"] {
            let refused = read(Role::Server, stream);
            assert_eq!(refused.error, Some(DecodeError::Unmasked.into()));
        }
    }

    #[test]
    fn a_masked_frame_from_a_server_is_refused() {
        refuse(b"\x81\x82\0\0\0\0hi", DecodeError::Masked);
        refuse(b"\x89\x80\0\0\0\0", DecodeError::Masked);
    }

    #[test]
    fn what_the_first_two_bytes_break_is_refused_without_waiting_for_more() {
        refuse(b"\x81\xFF", DecodeError::Masked);
        refuse(b"\xC1\x7F", DecodeError::ReservedBits);
        refuse(b"\x83\x7F", DecodeError::ReservedOpCode(3));
        refuse(b"\x09\x01", DecodeError::ControlFragmented);
        refuse(b"\x89\x7E", DecodeError::ControlTooLong);
    }
}

mod section_5_2_base_framing {
    use super::*;

    #[test]
    fn every_form_of_the_length_is_read_at_both_its_ends() {
        for (len, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7D"),
            (126, b"\x82\x7E\x00\x7E"),
            (65_535, b"\x82\x7E\xFF\xFF"),
            (65_536, b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let payload = vec![b'x'; len];
            let stream = [header, &payload].concat();
            accept(&stream, [binary(&payload)]);
            assert_eq!(
                &*frame::encode(OpCode::Binary, &payload),
                stream,
                "and written"
            );
        }
    }

    #[test]
    fn a_16_bit_length_of_what_7_bits_can_say_is_refused() {
        for len in [0, 1, 125] {
            refuse(&[0x82, 126, 0, len], DecodeError::NonMinimalLength);
        }
    }

    #[test]
    fn a_64_bit_length_of_what_16_bits_can_say_is_refused() {
        for len in [0_u64, 125, 126, 65_535] {
            let stream = [&[0x82, 127], &len.to_be_bytes()[..]].concat();
            refuse(&stream, DecodeError::NonMinimalLength);
        }
    }

    #[test]
    fn a_length_with_its_highest_bit_set_is_refused() {
        for len in [1 << 63, u64::MAX] {
            let stream = [&[0x82, 127], &len.to_be_bytes()[..]].concat();
            refuse(&stream, DecodeError::LengthOverflow);
        }
    }

    #[test]
    fn the_longest_length_there_is_breaks_no_rule_of_framing() {
        let mut stream = *b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFpart";
        let (part, consumed) = FrameDecoder::new(Role::Client).decode(&mut stream).unwrap();
        let part = part.unwrap();
        assert_eq!((part.header.payload_len, consumed), (u64::MAX >> 1, 14));
        assert_eq!(
            (part.first, part.last, &*part.payload),
            (true, false, &b"part"[..])
        );
    }

    #[test]
    fn a_masked_frames_length_takes_the_same_forms() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut stream = Vec::new();
            frame::encode_masked(OpCode::Binary, &payload, KEY, &mut stream);
            assert_eq!(read(Role::Server, &stream).messages, [binary(&payload)]);
        }
    }
}

mod section_5_3_masking {
    use super::*;

    #[test]
    fn byte_i_is_masked_with_byte_i_modulo_4_of_the_key() {
        let mut stream = vec![0x82, 0x80 | 9];
        stream.extend_from_slice(&KEY);
        stream.extend((0..9).map(|i| b'a' ^ KEY[i % 4]));
        assert_eq!(read(Role::Server, &stream).messages, [binary(b"aaaaaaaaa")]);
    }

    #[test]
    fn a_key_of_zeros_is_a_key() {
        assert_eq!(
            read(Role::Server, b"\x81\x82\0\0\0\0hi").messages,
            [text("hi")]
        );
    }

    #[test]
    fn each_frame_has_its_own_key() {
        let mut stream = Vec::new();
        frame::encode_masked(OpCode::Text, b"one", KEY, &mut stream);
        frame::encode_masked(OpCode::Text, b"two", [1, 2, 3, 4], &mut stream);
        assert_eq!(
            read(Role::Server, &stream).messages,
            [text("one"), text("two")]
        );
    }

    #[test]
    fn the_key_for_the_rest_of_a_payload_is_known_after_any_length() {
        assert_eq!(mask::rotate([0, 1, 2, 3], 5), [1, 2, 3, 0]);
        assert_eq!(mask::rotate([0, 1, 2, 3], usize::MAX), [3, 0, 1, 2]);
    }

    #[test]
    fn the_key_in_a_header_is_the_one_on_the_wire_in_every_part() {
        let mut stream = Vec::new();
        frame::encode_masked(OpCode::Text, b"hello", KEY, &mut stream);
        let mut decoder = FrameDecoder::new(Role::Server);
        let (first, rest) = stream.split_at_mut(7);
        for (bytes, payload) in [(first, b"h".as_slice()), (rest, b"ello")] {
            let (part, _) = decoder.decode(bytes).unwrap();
            let part = part.unwrap();
            assert_eq!(
                (part.header.masking_key, &*part.payload),
                (Some(KEY), payload)
            );
        }
    }
}

mod section_5_4_fragmentation {
    use super::*;

    #[test]
    fn fragments_are_put_together() {
        accept(b"\x01\x01a\x00\x01b\x80\x01c", [text("abc")]);
        accept(b"\x02\x01\xFF\x80\x01\xFE", [binary(b"\xFF\xFE")]);
    }

    #[test]
    fn fragments_may_be_empty() {
        accept(b"\x01\x00\x00\x00\x80\x00", [text("")]);
        accept(b"\x01\x00\x80\x01a", [text("a")]);
        accept(b"\x01\x01a\x80\x00", [text("a")]);
    }

    #[test]
    fn control_frames_between_fragments_come_first() {
        let stream = b"\x01\x01a\x89\x01p\x00\x01b\x8A\x00\x80\x01c";
        accept(stream, [ping(b"p"), pong(b""), text("abc")]);
    }

    #[test]
    fn a_close_frame_between_fragments_ends_the_stream() {
        accept(b"\x01\x01a\x88\x02\x03\xE8\x80\x01b", [close(1000, "")]);
    }

    #[test]
    fn a_continuation_of_nothing_is_refused() {
        refuse(b"\x80\x01a", ReadError::ContinuationUnexpected);
        refuse(b"\x00\x01a", ReadError::ContinuationUnexpected);
    }

    #[test]
    fn a_continuation_of_a_finished_message_is_refused() {
        for stream in [&b"\x81\x01a\x80\x01b"[..], b"\x01\x00\x80\x01a\x80\x01b"] {
            let read = read(Role::Client, stream);
            assert_eq!(read.messages, [text("a")]);
            assert_eq!(read.error, Some(ReadError::ContinuationUnexpected));
        }
    }

    #[test]
    fn a_new_message_inside_another_is_refused() {
        for first in [0x01, 0x02, 0x81, 0x82] {
            refuse(
                &[0x01, 1, b'a', first, 1, b'b'],
                ReadError::ContinuationExpected,
            );
        }
    }

    #[test]
    fn a_new_message_inside_another_is_refused_after_a_control_frame_too() {
        let read = read(Role::Client, b"\x01\x01a\x89\x00\x81\x01b");
        assert_eq!(read.messages, [ping(b"")]);
        assert_eq!(read.error, Some(ReadError::ContinuationExpected));
    }

    #[test]
    fn messages_follow_fragmented_ones() {
        let stream = b"\x01\x01a\x80\x01b\x82\x01c\x02\x01d\x80\x01e";
        accept(stream, [text("ab"), binary(b"c"), binary(b"de")]);
    }
}

mod section_5_5_control_frames {
    use super::*;

    #[test]
    fn a_fragmented_control_frame_is_refused() {
        for first in [0x08, 0x09, 0x0A] {
            refuse(&[first, 0], DecodeError::ControlFragmented);
        }
    }

    #[test]
    fn a_control_frame_of_125_bytes_is_accepted() {
        let payload = [b'p'; 125];
        accept(&short(0x89, &payload), [ping(&payload)]);
        accept(&short(0x8A, &payload), [pong(&payload)]);
        let reason = "r".repeat(123);
        let payload = [b"\x03\xE8", reason.as_bytes()].concat();
        accept(&short(0x88, &payload), [close(1000, &reason)]);
    }

    #[test]
    fn a_control_frame_of_over_125_bytes_is_refused() {
        for first in [0x88, 0x89, 0x8A] {
            refuse(&[first, 126, 0, 126], DecodeError::ControlTooLong);
            let huge = [&[first, 127], &65_536_u64.to_be_bytes()[..]].concat();
            refuse(&huge, DecodeError::ControlTooLong);
        }
    }

    #[test]
    fn a_control_frame_is_not_held_to_the_limits_for_messages() {
        let limits = Limits {
            message_len_max: 0,
            fragment_count_max: 1,
        };
        assert_eq!(
            read_within(limits, Role::Client, b"\x89\x02hi").messages,
            [ping(b"hi")]
        );
    }
}

mod section_5_5_1_close {
    use super::*;

    #[test]
    fn an_empty_close_frame_is_accepted_and_read_as_1005() {
        accept(b"\x88\x00", [close(1005, "")]);
    }

    #[test]
    fn a_close_frame_has_a_code_and_may_have_a_reason() {
        accept(b"\x88\x02\x03\xE9", [close(1001, "")]);
        accept(b"\x88\x05\x03\xE9bye", [close(1001, "bye")]);
    }

    #[test]
    fn a_close_frame_of_one_byte_is_refused() {
        refuse(
            b"\x88\x01\x03",
            ReadError::Close(ClosePayloadError::Truncated),
        );
    }

    #[test]
    fn a_close_reason_that_is_not_utf8_is_refused() {
        for reason in [&b"\xFF"[..], b"\xC3", b"\xED\xA0\x80", b"a\x80"] {
            let stream = short(0x88, &[b"\x03\xE8", reason].concat());
            refuse(&stream, ReadError::Close(ClosePayloadError::ReasonNotUtf8));
        }
    }
}

mod section_5_5_2_ping_and_5_5_3_pong {
    use super::*;

    #[test]
    fn a_pings_payload_is_handed_out_for_the_pong() {
        accept(b"\x89\x00\x89\x02\xFF\x00", [ping(b""), ping(b"\xFF\x00")]);
        assert_eq!(
            &*frame::encode(OpCode::Pong, b"\xFF\x00"),
            b"\x8A\x02\xFF\x00"
        );
    }

    #[test]
    fn a_pong_that_nobody_asked_for_is_accepted() {
        accept(b"\x8A\x02hi", [pong(b"hi")]);
    }
}

mod section_5_6_data_frames {
    use super::*;

    #[test]
    fn messages_may_be_empty() {
        accept(b"\x81\x00\x82\x00", [text(""), binary(b"")]);
    }

    #[test]
    fn binary_need_not_be_utf8() {
        accept(b"\x82\x02\xC3\x28", [binary(b"\xC3\x28")]);
        accept(b"\x02\x01\xC3\x80\x01\x28", [binary(b"\xC3\x28")]);
    }
}

/// The examples of the RFC, byte for byte.
mod section_5_7_examples {
    use super::*;

    #[test]
    fn a_single_frame_unmasked_text_message() {
        accept(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], [text("Hello")]);
        let encoded = frame::encode(OpCode::Text, b"Hello");
        assert_eq!(*encoded, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    }

    #[test]
    fn a_single_frame_masked_text_message() {
        let stream = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(Role::Server, &stream).messages, [text("Hello")]);
        let mut encoded = Vec::new();
        frame::encode_masked(
            OpCode::Text,
            b"Hello",
            [0x37, 0xfa, 0x21, 0x3d],
            &mut encoded,
        );
        assert_eq!(encoded, stream);
    }

    #[test]
    fn a_fragmented_unmasked_text_message() {
        accept(
            &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f],
            [text("Hello")],
        );
    }

    #[test]
    fn an_unmasked_ping_request_and_masked_ping_response() {
        accept(
            &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
            [ping(b"Hello")],
        );
        let response = [
            0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(Role::Server, &response).messages, [pong(b"Hello")]);
    }

    #[test]
    fn _256_bytes_of_binary_in_a_single_unmasked_frame() {
        let payload: Vec<u8> = (0..=255).collect();
        let stream = [&[0x82, 0x7E, 0x01, 0x00], &payload[..]].concat();
        accept(&stream, [binary(&payload)]);
    }

    #[test]
    fn _64_kib_of_binary_in_a_single_unmasked_frame() {
        let payload = vec![0x5A; 65_536];
        let header = [0x82, 0x7F, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00];
        accept(&[&header[..], &payload].concat(), [binary(&payload)]);
    }
}

mod section_5_8_extensibility {
    use super::*;

    #[test]
    fn each_reserved_bit_is_refused_on_every_kind_of_frame() {
        for bit in [0x10, 0x20, 0x40] {
            for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
                refuse(&[0x80 | bit | opcode, 0], DecodeError::ReservedBits);
            }
        }
    }

    #[test]
    fn each_reserved_opcode_is_refused() {
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            refuse(&[0x80 | opcode, 0], DecodeError::ReservedOpCode(opcode));
            refuse(&[opcode, 0], DecodeError::ReservedOpCode(opcode));
        }
    }
}

mod section_7_4_status_codes {
    use super::*;

    /// Returns whether a code may stand in a close frame, by the RFC and IANA's registry.
    fn may_be_sent(code: u16) -> bool {
        match code {
            0..=999 => false,         // not used
            1000..=1003 => true,      // defined
            1004..=1006 => false,     // reserved; "no status", "abnormal": not on the wire
            1007..=1011 => true,      // defined
            1012..=1014 => true,      // IANA: restart, try again later, bad gateway
            1015..=2999 => false,     // TLS: not on the wire; for later versions of the RFC
            3000..=4999 => true,      // registered by libraries; private
            5000..=u16::MAX => false, // outside of every range
        }
    }

    #[test]
    fn each_of_the_65536_codes_is_accepted_or_refused_as_the_registry_says() {
        for code in 0..=u16::MAX {
            let stream = short(0x88, &code.to_be_bytes());
            if may_be_sent(code) {
                accept(&stream, [close(code, "")]);
            } else {
                refuse(&stream, ReadError::Close(ClosePayloadError::Code(code)));
            }
            assert_eq!(CloseCode(code).is_sendable(), may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn a_close_code_of_1005_on_the_wire_is_refused() {
        refuse(
            b"\x88\x02\x03\xED",
            ReadError::Close(ClosePayloadError::Code(1005)),
        );
    }

    #[test]
    fn a_close_frame_is_never_written_with_a_code_that_must_not_be_sent() {
        for code in 0..=u16::MAX {
            let written = CloseFrame {
                code: CloseCode(code),
                reason: "why",
            }
            .encode();
            let read = CloseFrame::parse(&written).unwrap();
            let expected = if may_be_sent(code) {
                (code, "why")
            } else {
                (1005, "")
            };
            assert_eq!((read.code.0, read.reason), expected);
        }
    }

    #[test]
    fn the_codes_with_names_of_ours_are_sendable_except_the_two_that_are_never_sent() {
        for code in [
            CloseCode::NORMAL,
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL_ERROR,
            CloseCode::UNSUPPORTED,
            CloseCode::INVALID_PAYLOAD,
            CloseCode::TOO_BIG,
            CloseCode::INTERNAL_ERROR,
            CloseCode::SLOW_CONSUMER,
        ] {
            assert!(code.is_sendable(), "{code:?}");
        }
        assert!(!CloseCode::NO_STATUS.is_sendable());
        assert!(!CloseCode::ABNORMAL.is_sendable());
    }

    /// Returns what RFC 6455 section 7.4.1 says each error is closed with.
    ///
    /// Without a wildcard: a new error has to be given its code here, and a place in the list of
    /// the test below.
    fn expected_code(error: ReadError) -> u16 {
        match error {
            ReadError::Close(ClosePayloadError::Code(_) | ClosePayloadError::Truncated)
            | ReadError::ContinuationExpected
            | ReadError::ContinuationUnexpected
            | ReadError::Frame(
                DecodeError::ControlFragmented
                | DecodeError::ControlTooLong
                | DecodeError::LengthOverflow
                | DecodeError::Masked
                | DecodeError::NonMinimalLength
                | DecodeError::ReservedBits
                | DecodeError::ReservedOpCode(_)
                | DecodeError::Unmasked,
            ) => 1002,
            ReadError::Close(ClosePayloadError::ReasonNotUtf8) | ReadError::InvalidUtf8 => 1007,
            ReadError::MessageTooLarge { .. } | ReadError::TooManyFragments { .. } => 1009,
        }
    }

    #[test]
    fn every_error_has_the_close_code_of_the_rfc() {
        for error in [
            ReadError::Close(ClosePayloadError::Code(1005)),
            ReadError::Close(ClosePayloadError::ReasonNotUtf8),
            ReadError::Close(ClosePayloadError::Truncated),
            ReadError::ContinuationExpected,
            ReadError::ContinuationUnexpected,
            ReadError::Frame(DecodeError::ControlFragmented),
            ReadError::Frame(DecodeError::ControlTooLong),
            ReadError::Frame(DecodeError::LengthOverflow),
            ReadError::Frame(DecodeError::Masked),
            ReadError::Frame(DecodeError::NonMinimalLength),
            ReadError::Frame(DecodeError::ReservedBits),
            ReadError::Frame(DecodeError::ReservedOpCode(3)),
            ReadError::Frame(DecodeError::Unmasked),
            ReadError::InvalidUtf8,
            ReadError::MessageTooLarge { message_len_max: 1 },
            ReadError::TooManyFragments {
                fragment_count_max: 1,
            },
        ] {
            assert_eq!(
                error.close_code(),
                CloseCode(expected_code(error)),
                "{error}"
            );
        }
    }
}

mod section_8_1_utf8 {
    use super::*;

    /// Not UTF-8, and the byte (from 1) at which that is certain.
    const WRONG: [(&[u8], usize); 12] = [
        (b"\x80", 1),             // a continuation byte of nothing
        (b"\xC0\x80", 1),         // overlong, for C0 cannot begin anything else
        (b"\xC3\x28", 2),         // no continuation byte
        (b"\xE0\x80\x80", 2),     // overlong
        (b"\xE2\x82\x28", 3),     // cut short
        (b"\xED\xA0\x80", 2),     // a surrogate
        (b"\xF0\x80\x80\x80", 2), // overlong
        (b"\xF0\x9F\x98\x28", 4), // cut short
        (b"\xF4\x90\x80\x80", 2), // beyond U+10FFFF
        (b"\xF5\x80\x80\x80", 1), // F5 to FF begin nothing
        (b"\xFF", 1),
        (b"ok \xCE\xBA\xFF", 6),
    ];

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        for (wrong, _) in WRONG {
            refuse(&short(0x81, wrong), ReadError::InvalidUtf8);
        }
    }

    #[test]
    fn text_fails_with_the_byte_that_no_other_can_mend_in_a_frame_that_has_not_ended() {
        for (wrong, certain_at) in WRONG {
            let mut reader = Pieces::new(Role::Client, LIMITS);
            reader.feed(b"\x81\x7D");
            reader.feed(&wrong[..certain_at - 1]);
            assert_eq!(reader.outcome, Outcome::default(), "{wrong:02x?}");
            reader.feed(&wrong[certain_at - 1..certain_at]);
            assert_eq!(
                reader.outcome.error,
                Some(ReadError::InvalidUtf8),
                "{wrong:02x?}"
            );
        }
    }

    #[test]
    fn masked_text_fails_as_early() {
        let mut stream = Vec::new();
        frame::encode_masked(OpCode::Text, b"hello \xFF and more", KEY, &mut stream);
        let mut reader = Pieces::new(Role::Server, LIMITS);
        reader.feed(&stream[..6 + 6]);
        assert_eq!(reader.outcome, Outcome::default());
        reader.feed(&stream[6 + 6..6 + 7]);
        assert_eq!(reader.outcome.error, Some(ReadError::InvalidUtf8));
    }

    #[test]
    fn text_fails_in_the_fragment_that_breaks_it() {
        refuse(b"\x01\x01a\x00\x02\xC3\x28", ReadError::InvalidUtf8);
        refuse(b"\x01\x01\xC3\x00\x01\x28", ReadError::InvalidUtf8);
    }

    #[test]
    fn a_character_may_be_cut_between_fragments() {
        accept(
            b"\x01\x01\xF0\x00\x01\x9F\x00\x00\x00\x01\x98\x80\x01\x80",
            [text("😀")],
        );
    }

    #[test]
    fn a_character_may_be_cut_by_a_control_frame() {
        accept(
            b"\x01\x01\xC3\x89\x01\xFF\x80\x01\x9F",
            [ping(b"\xFF"), text("ß")],
        );
    }

    #[test]
    fn text_that_ends_inside_a_character_is_refused() {
        for start in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x98", b"ok\xC3"] {
            refuse(&short(0x81, start), ReadError::InvalidUtf8);
            let fragments = [short(0x01, start), short(0x80, b"")].concat();
            refuse(&fragments, ReadError::InvalidUtf8);
        }
    }

    #[test]
    fn the_next_text_begins_afresh() {
        accept(
            b"\x01\x01\xC3\x80\x01\x9F\x81\x02\xC3\x9F",
            [text("ß"), text("ß")],
        );
    }

    #[test]
    fn every_character_beside_the_surrogates_is_accepted() {
        let all: String = ('\0'..=char::MAX).collect();
        let limits = Limits {
            message_len_max: all.len(),
            fragment_count_max: 128,
        };
        let mut stream = Vec::new();
        let mut first = 0x01;
        // A prime, so that fragments are cut inside of characters; below 65,536 for the header.
        for chunk in all.as_bytes().chunks(65_521) {
            let len = u16::try_from(chunk.len()).unwrap().to_be_bytes();
            stream.extend_from_slice(&[first, 126, len[0], len[1]]);
            stream.extend_from_slice(chunk);
            first = 0x00;
        }
        stream.extend_from_slice(b"\x80\x00");
        let read = pieces::read(Role::Client, limits, &stream, &[1021]);
        assert_eq!((read.messages, read.error), (vec![text(&all)], None));
    }
}

/// Section 10.4: limits, and what they save.
mod section_10_4_limits {
    use super::*;

    const TEN_BYTES: Limits = Limits {
        message_len_max: 10,
        fragment_count_max: 3,
    };
    const TOO_LARGE: ReadError = ReadError::MessageTooLarge {
        message_len_max: 10,
    };

    fn refuse_within(limits: Limits, stream: &[u8], error: ReadError) {
        let read = read_within(limits, Role::Client, stream);
        assert_eq!(
            read,
            Outcome {
                messages: Vec::new(),
                error: Some(error)
            }
        );
    }

    #[test]
    fn a_message_as_large_as_the_limit_is_accepted() {
        let read = read_within(TEN_BYTES, Role::Client, b"\x82\x0A0123456789");
        assert_eq!(read.messages, [binary(b"0123456789")]);
        let read = read_within(TEN_BYTES, Role::Client, b"\x02\x0501234\x80\x0556789");
        assert_eq!(read.messages, [binary(b"0123456789")]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_from_its_header() {
        refuse_within(TEN_BYTES, b"\x82\x0B", TOO_LARGE);
        refuse_within(
            TEN_BYTES,
            b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            TOO_LARGE,
        );
    }

    #[test]
    fn a_message_over_the_limit_in_fragments_is_refused_from_the_header_of_the_one_too_many() {
        refuse_within(TEN_BYTES, b"\x02\x0501234\x80\x06", TOO_LARGE);
        refuse_within(TEN_BYTES, b"\x02\x0501234\x00\x0556789\x80\x01", TOO_LARGE);
        let mut longest = b"\x02\x0501234\x80\x7F".to_vec();
        longest.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
        refuse_within(TEN_BYTES, &longest, TOO_LARGE);
    }

    #[test]
    fn the_limit_holds_for_each_message_and_not_for_all() {
        let stream = b"\x82\x0801234567\x02\x0801234567\x80\x00\x82\x0801234567";
        let read = read_within(TEN_BYTES, Role::Client, stream);
        assert_eq!((read.messages.len(), read.error), (3, None));
    }

    #[test]
    fn a_message_of_more_fragments_than_the_limit_is_refused_from_its_header() {
        let read = read_within(TEN_BYTES, Role::Client, b"\x02\x01a\x00\x01b\x80\x01c");
        assert_eq!(read.messages, [binary(b"abc")]);
        let too_many = ReadError::TooManyFragments {
            fragment_count_max: 3,
        };
        refuse_within(TEN_BYTES, b"\x02\x00\x00\x00\x00\x00\x80\x00", too_many);
    }

    #[test]
    fn control_frames_are_no_fragments() {
        let stream = b"\x02\x00\x89\x00\x89\x00\x89\x00\x00\x00\x8A\x00\x80\x00";
        let read = read_within(TEN_BYTES, Role::Client, stream);
        assert_eq!((read.messages.len(), read.error), (5, None));
    }

    #[test]
    fn a_header_that_announces_much_takes_no_memory() {
        let limits = Limits {
            message_len_max: usize::MAX,
            fragment_count_max: 8,
        };
        let mut reader = Pieces::new(Role::Client, limits);
        reader.feed(b"\x82\x7F\x00\x00\x00\xFF\x00\x00\x00\x00");
        assert_eq!(
            (reader.pending_bytes(), &reader.outcome),
            (0, &Outcome::default())
        );
        reader.feed(b"0123456789");
        assert!(
            (10..100).contains(&reader.pending_bytes()),
            "{}",
            reader.pending_bytes()
        );
    }

    #[test]
    fn what_is_held_never_passes_the_limit_wherever_the_growth_lands() {
        // 60 % at once and then a byte: doubling would hold 120 %.
        let limits = Limits {
            message_len_max: 100_000,
            fragment_count_max: 8,
        };
        for arrived in [1_000, 50_000, 50_001, 60_000, 99_998] {
            let mut reader = Pieces::new(Role::Client, limits);
            reader.feed(b"\x82\x7F\x00\x00\x00\x00\x00\x01\x86\xA0");
            reader.feed(&vec![0; arrived]);
            reader.feed(&[0]);
            let pending = reader.pending_bytes();
            assert!(
                (arrived + 1..=100_000).contains(&pending),
                "{pending} after {arrived}"
            );
        }
    }

    #[test]
    fn the_memory_of_a_large_message_is_free_when_the_next_read_returns() {
        let mut stream = frame::encode(OpCode::Text, &[b'x'; 100_000]).to_vec();
        let (first, last) = stream.split_at_mut(50_000);
        let mut reader = MessageReader::new(Role::Client);
        assert_eq!(reader.read(&mut Input::new(first), &LIMITS), Ok(None));
        assert!(reader.pending_bytes() >= 49_000);

        let mut input = Input::new(last);
        let message = reader.read(&mut input, &LIMITS).unwrap().unwrap();
        assert!(matches!(message, Message::Text(text) if text.len() == 100_000));
        assert_eq!(reader.read(&mut input, &LIMITS), Ok(None));
        assert_eq!(reader.pending_bytes(), 0);
    }

    #[test]
    fn the_memory_of_a_control_frame_cut_in_two_is_free_when_the_next_read_returns() {
        let mut reader = MessageReader::new(Role::Client);
        assert_eq!(
            reader.read(&mut Input::new(&mut b"\x89\x02h".to_vec()), &LIMITS),
            Ok(None)
        );
        assert!(reader.pending_bytes() > 0);
        let mut end = *b"i";
        let mut input = Input::new(&mut end);
        assert_eq!(
            reader.read(&mut input, &LIMITS),
            Ok(Some(Message::Ping(b"hi")))
        );
        assert_eq!(reader.read(&mut input, &LIMITS), Ok(None));
        assert_eq!(reader.pending_bytes(), 0);
    }

    #[test]
    fn a_message_that_comes_whole_is_kept_nowhere() {
        let mut stream = frame::encode(OpCode::Text, &[b'x'; 10_000]).to_vec();
        let at = stream.as_ptr().addr() + 4;
        let mut reader = MessageReader::new(Role::Client);
        let mut input = Input::new(&mut stream);
        match reader.read(&mut input, &LIMITS).unwrap() {
            Some(Message::Text(text)) => assert_eq!(text.as_ptr().addr(), at, "borrowed"),
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.pending_bytes(), 0);
    }
}
