//! JSON on its way through a relay: read as `Json`, written again, and compared by serde_json.

use serde_json::Value;
use throng_proto::event::{EventEncoder, JsonParser, split};
use throng_proto::{Input, Json, Limits, Message, MessageReader, Role};

/// Returns what a member is sent when another sends this JSON; none if it is not JSON.
///
/// # Panics
///
/// If what was read cannot be written, or not be read again.
pub(crate) fn relay(parser: &mut JsonParser, json: &mut [u8]) -> Option<Vec<u8>> {
    let value: Json<'_> = parser.parse(json).ok()?;
    let frame = EventEncoder::default()
        .encode("msg", &value)
        .expect("what was read can be written");
    let mut bytes = frame.to_vec();
    let limits = Limits {
        message_len_max: bytes.len(),
        fragment_count_max: 1,
    };
    let mut reader = MessageReader::new(Role::Client);
    let mut input = Input::new(&mut bytes);
    let Ok(Some(Message::Text(text))) = reader.read(&mut input, &limits) else {
        panic!("one whole text is a message: {frame:02x?}")
    };
    let (name, json) = split(text).expect("an event was written");
    assert_eq!(name, "msg");
    Some(json.to_vec())
}

/// Returns whether two values mean the same: for serde_json `-0` is a floating-point number and not
/// `0`.
pub(crate) fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(name, a)| theirs.get(name).is_some_and(|b| same(a, b)))
        }
        (Value::Number(ours), Value::Number(theirs)) if theirs.as_f64() == Some(0.0) => {
            ours.as_f64() == Some(0.0)
        }
        (ours, theirs) => ours == theirs,
    }
}
