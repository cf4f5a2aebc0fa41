//! What holds for every stream of bytes, wherever it is cut, and for every JSON value.

#[path = "support/frames.rs"]
mod frames;
#[path = "support/naive.rs"]
mod naive;
#[path = "support/outcome.rs"]
mod outcome;
#[path = "support/pieces.rs"]
mod pieces;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/streams.rs"]
mod streams;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use throng_proto::event::{EventEncoder, JSON_DEPTH_MAX, JsonParser, find_id, split};
use throng_proto::{Role, mask};

use crate::frames::Frames;
use crate::outcome::{Outcome, Owned};
use crate::pieces::Pieces;
use crate::relay::{relay, same};
use crate::streams::{NARROW, WIDE, any_stream, config, conversation, piece_lens, role};

/// A stream, the role of its reader, and where it is cut.
fn cut_stream() -> impl Strategy<Value = (Role, Vec<u8>, Vec<usize>)> {
    role().prop_flat_map(|role| (Just(role), any_stream(role), piece_lens()))
}

/// An object's fields in their order, repeated ones too.
struct Fields(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// An object with an `id` somewhere or nowhere, and the same text without its end.
fn object_with_id() -> impl Strategy<Value = String> {
    let name = prop_oneof!["id", "[a-z]{0,3}", r#"i\"d"#, r#"\{"#];
    let value = prop_oneof![
        "[0-9]{1,18}",
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?(e[0-9])?",
        r#""[a-z,:{}\[\] ]{0,6}""#,
        Just(r#"{"id":1,"a":[{}]}"#.to_owned()),
        Just(r#"["id",{"id":2}]"#.to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
    ];
    let space = "[ \n]{0,1}";
    let field = (name, value, space).prop_map(|(name, value, space)| {
        let name = serde_json::to_string(&name).unwrap_or_default();
        format!("{space}{name}{space}:{space}{value}{space}")
    });
    vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

proptest! {
    #![proptest_config(config())]

    // The first field of this name decides; what stands behind it need not be JSON.
    #[test]
    fn an_id_is_found_where_a_parser_finds_it(json in object_with_id(), broken in "[^\"]{0,4}") {
        let Ok(value) = serde_json::from_str::<Fields>(&json) else {
            // Digits that are no number of JSON's.
            return Ok(());
        };
        let first = value.0.iter().position(|(name, _)| name == "id");
        let expected = first.and_then(|index| {
            value.0[index].1.as_u64().filter(|id| *id < 1 << 53)
        });
        prop_assert_eq!(find_id(json.as_bytes(), usize::MAX), expected, "{}", json);
        let leading = expected.filter(|_| first == Some(0));
        prop_assert_eq!(find_id(json.as_bytes(), 1), leading, "{}", json);
        if let Some(id) = leading {
            let behind = json.split_inclusive([',', '}']).next().unwrap_or_default();
            let broken = format!("{behind}{broken}");
            prop_assert_eq!(find_id(broken.as_bytes(), 1), Some(id), "{}", broken);
        }
    }

    #[test]
    fn looking_for_an_id_in_anything_ends(json in vec(any::<u8>(), 0..64)) {
        _ = find_id(&json, usize::MAX);
    }

    #[test]
    fn what_a_peer_sends_is_what_is_read(
        (role, sent, piece_lens) in
            role().prop_flat_map(|role| (Just(role), conversation(role), piece_lens()))
    ) {
        let read = pieces::read(role, WIDE, &sent.bytes, &piece_lens);
        prop_assert_eq!(read, Outcome { messages: sent.messages, error: None });
    }

    // Exactly the same, errors too: a message that came whole and one that came in pieces are
    // checked by different code, but each error is decided by the bytes up to it and not by how
    // they came. Failing fast changes when an error shows, never which.
    #[test]
    fn where_a_stream_is_cut_changes_nothing((role, stream, piece_lens) in cut_stream()) {
        for limits in [NARROW, WIDE] {
            let whole = pieces::read(role, limits, &stream, &[usize::MAX]);
            let cut = pieces::read(role, limits, &stream, &piece_lens);
            prop_assert_eq!(whole, cut);
        }
    }

    #[test]
    fn the_reader_and_the_naive_one_agree((role, stream, piece_lens) in cut_stream()) {
        for limits in [NARROW, WIDE] {
            let read = pieces::read(role, limits, &stream, &piece_lens);
            prop_assert_eq!(read, naive::read(role, limits, &stream));
        }
    }

    // Nothing is known late: not a message, and not an error.
    #[test]
    fn after_each_byte_the_reader_knows_what_the_naive_one_knows(
        (role, stream, _) in cut_stream()
    ) {
        let mut pieces = Pieces::new(role, NARROW);
        for (before, byte) in stream.iter().enumerate().take(400) {
            pieces.feed(&[*byte]);
            prop_assert_eq!(&pieces.outcome, &naive::read(role, NARROW, &stream[..=before]));
        }
    }

    #[test]
    fn a_frame_has_one_header_in_all_its_parts((role, stream, piece_lens) in cut_stream()) {
        let whole = Frames::read(role, &stream, &[usize::MAX]);
        prop_assert_eq!(whole, Frames::read(role, &stream, &piece_lens));
    }

    #[test]
    fn masking_is_the_formula_of_the_rfc(
        key: [u8; 4], payload in vec(any::<u8>(), 0..100), skipped in 0..16_usize
    ) {
        // Somewhere in a larger buffer, for alignment must not matter.
        let mut masked = payload.clone();
        let skipped = skipped.min(masked.len());
        mask::apply(mask::rotate(key, skipped), &mut masked[skipped..]);
        for (i, byte) in masked.into_iter().enumerate().skip(skipped) {
            prop_assert_eq!(byte, payload[i] ^ key[i % 4]);
        }
    }

    // At most 16 characters, which are at most the 64 bytes that a name may have.
    #[test]
    fn an_event_is_split_into_what_it_was_made_of(name in "[^ ]{1,16}", value in json()) {
        let frame = EventEncoder::default().encode(&name, &value);
        let frame = frame.expect("a name of up to 64 bytes");
        let read = pieces::read(Role::Client, WIDE, &frame, &[usize::MAX]);
        let Some(Owned::Text(text)) = read.messages.first() else { panic!("{read:?}") };
        let mut text = text.clone().into_bytes();
        let (split_name, json) = split(&mut text).expect("an event was written");
        prop_assert_eq!(split_name, name);
        prop_assert_eq!(serde_json::from_slice::<Value>(json).expect("JSON"), value);
    }

    #[test]
    fn json_is_relayed_with_its_meaning(value in json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        let text = text.expect("a value can be written");
        let relayed = relay_text(&text).expect("JSON is relayed");
        let relayed: Value = serde_json::from_str(&relayed).expect("JSON comes out");
        prop_assert_eq!(relayed, value);
    }

    #[test]
    fn json_and_what_is_not_json_are_told_apart_as_by_serde_json(
        value in json(),
        changes in vec((any::<prop::sample::Index>(), change()), 0..4)
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        for (at, change) in changes {
            let at = at.index(text.len() + 1);
            text.splice(at..(at + change.removed).min(text.len()), change.inserted.chars());
        }
        let text: String = text.into_iter().collect();
        let theirs = serde_json::from_str::<Value>(&text).ok();
        // Without any text there is no data, which is read as null; serde_json refuses it.
        let theirs = if text.is_empty() { Some(Value::Null) } else { theirs };
        let ours = relay_text(&text).map(|text| serde_json::from_str::<Value>(&text));
        match (ours, theirs) {
            (Some(Ok(ours)), Some(theirs)) => {
                prop_assert!(same(&ours, &theirs), "{ours} is not {theirs}");
            }
            (None, None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} and {theirs:?} for {text}"),
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1000..1000_i64).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number,
        3 => "[\\PC\"\\\\\n\t\0]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec(("\\PC{0,6}", inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A change to JSON text: so many characters replaced by these.
#[derive(Clone, Debug)]
struct Change {
    removed: usize,
    inserted: &'static str,
}

fn change() -> impl Strategy<Value = Change> {
    let inserted = prop::sample::select(vec![
        "",
        " ",
        "\n",
        "\0",
        ",",
        ":",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        "\\u",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\u0000",
        "0",
        "-",
        "-0",
        "1",
        "9",
        "99999999999999999999",
        ".",
        ".5",
        "e",
        "E+",
        "e400",
        "e-400",
        "true",
        "null",
        "nul",
        "\"a\":1,",
        "\u{7f}",
        "\u{1f}",
        "\u{feff}",
        "€",
    ]);
    (0..3_usize, inserted).prop_map(|(removed, inserted)| Change { removed, inserted })
}

#[test]
fn json_may_nest_as_deep_as_the_constant_says_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| {
            let inner = if open == "[" { "" } else { "1" };
            format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        assert_eq!(
            relay_text(&nested(JSON_DEPTH_MAX)),
            Some(nested(JSON_DEPTH_MAX))
        );
        assert_eq!(relay_text(&nested(JSON_DEPTH_MAX + 1)), None);
    }
}

fn relay_text(text: &str) -> Option<String> {
    let relayed = relay(&mut JsonParser::default(), &mut text.as_bytes().to_vec())?;
    Some(String::from_utf8(relayed).expect("text comes out"))
}
