//! Messages to events to values.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use proto::Json;
use proto::event::{JsonParser, split};

use benches::Relay;
use benches::chat::{Msg, RoomRequest, client_frames, msg_text};

#[divan::bench]
fn split_name_from_json(bencher: Bencher<'_, '_>) {
    let mut text = msg_text("tea", 64).into_bytes();
    let (name, json) = split(&mut text).expect("an event of ours");
    assert_eq!((name, json.len()), ("msg", 64 + 21));
    bencher.bench_local(|| {
        let (name, json) = split(black_box(&mut text)).expect("an event of ours");
        (name.len(), json.len())
    });
}

/// Parses a struct whose strings borrow from the message.
#[divan::bench]
fn parse_typed(bencher: Bencher<'_, '_>) {
    let mut parser = JsonParser::default();
    let mut read = |json: &mut [u8]| {
        let request: RoomRequest<'_> = parser.parse(json).expect("JSON of ours");
        request.name.len()
    };
    let json = br#"{"name":"the lobby"}"#;
    assert_eq!(read(&mut json.to_vec()), "the lobby".len());
    bencher
        .counter(BytesCount::new(json.len()))
        // Parsing is in place, and scrambles what it has read.
        .with_inputs(|| json.to_vec())
        .bench_local_refs(|json| read(json));
}

/// Parses any value, borrowed: what the chat reads of a `msg` with a string of so many bytes.
#[divan::bench(args = [16, 64, 1024, 16 * 1024])]
fn parse_msg(bencher: Bencher<'_, '_>, payload_len: usize) {
    let mut parser = JsonParser::default();
    let mut read = |json: &mut [u8]| {
        let Msg { to, msg } = parser.parse(json).expect("JSON of ours");
        let Json::String(text) = msg else {
            panic!("a string was sent, not {msg:?}");
        };
        to.len() + text.len()
    };
    let text = msg_text("tea", payload_len);
    let json = &text.as_bytes()["msg ".len()..];
    assert_eq!(read(&mut json.to_vec()), "tea".len() + payload_len);
    bencher
        .counter(BytesCount::new(json.len()))
        .with_inputs(|| json.to_vec())
        .bench_local_refs(|json| read(json));
}

/// Parses a value with fields, as applications send them.
#[divan::bench]
fn parse_object(bencher: Bencher<'_, '_>) {
    let mut parser = JsonParser::default();
    let mut read = |json: &mut [u8]| {
        let value: Json<'_> = parser.parse(json).expect("JSON of ours");
        let Json::Object(fields) = value else {
            panic!("an object was sent, not {value:?}");
        };
        fields.len()
    };
    assert_eq!(read(&mut OBJECT.to_vec()), 5);
    bencher
        .counter(BytesCount::new(OBJECT.len()))
        .with_inputs(|| OBJECT.to_vec())
        .bench_local_refs(|json| read(json));
}

/// Does everything between `recv` and the table for one read of so many messages of 64 bytes.
#[divan::bench(args = [1, 16, 250])]
fn relay(bencher: Bencher<'_, '_>, count: usize) {
    let bytes = client_frames(&msg_text("tea", 64), count);
    let mut relay = Relay::default();
    let mut published_bytes = 0;
    let published_count = relay.read(&mut bytes.clone(), |_, frame| {
        published_bytes += frame.len();
    });
    let frame_len = 2 + r#"msg """#.len() + 64;
    assert_eq!(
        (published_count, published_bytes),
        (count, count * frame_len)
    );
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| relay.read(bytes, |_, frame| drop(black_box(frame))));
}

const OBJECT: &[u8] = b"{\"id\":48213,\"at\":1716540921.125,\"from\":\"alice\",\
    \"tags\":[\"a\",\"b\",\"c\"],\"body\":{\"x\":-3,\"y\":null}}";
