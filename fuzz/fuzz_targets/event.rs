//! Any bytes as a text message: splitting and parsing never panic, what is relayed is JSON and
//! means what was sent, and what is refused is not JSON to serde_json either.
#![no_main]

#[path = "../../crates/proto/tests/support/relay.rs"]
mod relay;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use throng_proto::event::{EVENT_NAME_LEN_MAX, JsonParser, find_id, split};

use crate::relay::{relay, same};

/// serde_json refuses what nests 128 deep, `proto` what nests deeper. Text with fewer opening
/// brackets than that nests less deep for sure.
const OPENING_BRACKETS_MAX: usize = 127;

thread_local! {
    // One for all inputs: what one leaves behind in it must not change how the next is read.
    static PARSER: RefCell<JsonParser> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let mut text = input.to_vec();
    let Ok((name, json)) = split(&mut text) else {
        return;
    };
    assert!((1..=EVENT_NAME_LEN_MAX).contains(&name.len()) && !name.contains(' '));
    assert!(input.starts_with(name.as_bytes()) && input.ends_with(json));

    let id = find_id(json, usize::MAX);
    let theirs = match serde_json::from_slice::<Value>(json) {
        // No text is no data, which is read as null.
        Err(_) if json.is_empty() => Some(Value::Null),
        theirs => theirs.ok(),
    };
    // Of several fields of this name, serde_json keeps the last, and the first is found.
    if let (Some(id), Some(Value::Object(fields))) = (id, &theirs) {
        assert!(fields.contains_key("id") && id < 1 << 53);
    }
    let opening_brackets = json
        .iter()
        .filter(|&&byte| matches!(byte, b'[' | b'{'))
        .count();
    let relayed = PARSER.with_borrow_mut(|parser| relay(parser, json));
    if opening_brackets > OPENING_BRACKETS_MAX {
        return;
    }
    let ours = relayed.map(|json| serde_json::from_slice::<Value>(&json).expect("JSON comes out"));
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => assert!(same(&ours, &theirs), "{ours} is not {theirs}"),
        (ours, theirs) => assert_eq!(ours.is_some(), theirs.is_some(), "{ours:?}, {theirs:?}"),
    }
});
