//! Events as MessagePack.

use std::borrow::Cow;

use rmp_serde::{Deserializer, Serializer};
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::wire::protocol::{Protocol, ProtocolError};

/// Events as MessagePack, in binary messages: an array of the event's name and its data, or of its
/// name alone if there is no data. Structs are maps by the names of their fields.
///
/// In a browser, with the npm package `@msgpack/msgpack`: `socket.send(encode(["say", { text: "hi"
/// }]))`.
///
/// # Examples
///
/// ```
/// use throng::{MessagePack, Router};
///
/// let mut router = Router::new();
/// // For everybody who asks for no subprotocol:
/// router.set_protocol(MessagePack);
/// // Or for those who ask for it, beside JSON for the others:
/// router.serve_protocol("msgpack", MessagePack);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

/// Maximum depth to which data may nest, as in JSON.
const DEPTH_MAX: usize = proto::event::JSON_DEPTH_MAX;

/// Arrays of one and of two (`fixarray`).
const ARRAY_OF_1: u8 = 0x91;
const ARRAY_OF_2: u8 = 0x92;

/// `nil`.
const NIL: &[u8] = &[0xC0];

impl Protocol for MessagePack {
    fn unpack<'m>(&self, message: &'m [u8]) -> Result<(Cow<'m, str>, &'m [u8]), ProtocolError> {
        let (has_data, rest) = match message {
            [ARRAY_OF_1, rest @ ..] => (false, rest),
            [ARRAY_OF_2, rest @ ..] => (true, rest),
            _ => return Err("a message is an array of an event's name and its data".into()),
        };
        let (name, data) = split_name(rest).ok_or("the event's name is a string")?;
        if has_data == data.is_empty() {
            return Err("the array is longer or shorter than it says".into());
        }
        Ok((std::str::from_utf8(name)?.into(), data))
    }

    fn decode<'m, D>(&self, data: &'m [u8], seed: D) -> Result<D::Value, ProtocolError>
    where
        D: DeserializeSeed<'m>,
    {
        let data = if data.is_empty() { NIL } else { data };
        let mut deserializer = Deserializer::from_read_ref(data);
        deserializer.set_max_depth(DEPTH_MAX);
        Ok(seed.deserialize(&mut deserializer)?)
    }

    fn encode<T>(&self, event: &str, data: &T, message: &mut Vec<u8>) -> Result<(), ProtocolError>
    where
        T: Serialize + ?Sized,
    {
        let mut serializer = Serializer::new(message).with_struct_map();
        Ok((event, data).serialize(&mut serializer)?)
    }
}

/// Splits a string off (`fixstr`, `str 8`, `str 16`); no event's name is longer.
fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match bytes {
        [short @ 0xA0..=0xBF, rest @ ..] => (usize::from(short & 0x1F), rest),
        [0xD9, len, rest @ ..] => (usize::from(*len), rest),
        [0xDA, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Say<'a> {
        text: &'a str,
        times: u32,
    }

    fn written<T: Serialize + ?Sized>(event: &str, data: &T) -> Vec<u8> {
        let mut message = Vec::new();
        MessagePack.encode(event, data, &mut message).unwrap();
        message
    }

    #[test]
    fn an_event_comes_back_as_it_was_written() {
        let say = Say {
            text: "hi",
            times: 300,
        };
        let message = written("say", &say);
        assert_eq!(
            message,
            b"\x92\xA3say\x82\xA4text\xA2hi\xA5times\xCD\x01\x2C"
        );
        let (event, data) = MessagePack.unpack(&message).unwrap();
        assert_eq!(event, "say");
        let read: Say<'_> = MessagePack.decode(data, PhantomData).unwrap();
        assert_eq!(read, say);
    }

    #[test]
    fn names_of_every_length_are_read() {
        for len in [1, 31, 32, 64, 255, 256] {
            let name = "n".repeat(len);
            let message = written(&name, &());
            let (event, data) = MessagePack.unpack(&message).unwrap();
            assert_eq!((&*event, data), (&*name, NIL));
        }
    }

    #[test]
    fn an_event_without_data_has_nil() {
        let (event, data) = MessagePack.unpack(b"\x91\xA4poke").unwrap();
        assert_eq!((&*event, data), ("poke", &b""[..]));
        let nothing: Option<u8> = MessagePack.decode(data, PhantomData).unwrap();
        assert_eq!(nothing, None);
    }

    /// Reads the whole message as rmp-serde does: its name, if it is an event.
    fn name_by_rmp(message: &[u8]) -> Option<String> {
        let mut deserializer = Deserializer::from_read_ref(message);
        deserializer.set_max_depth(DEPTH_MAX);
        let with_data = <(String, IgnoredAny)>::deserialize(&mut deserializer);
        let with_data = with_data.map(|(name, _)| name);
        let alone = || rmp_serde::from_slice::<(String,)>(message).map(|(name,)| name);
        with_data.or_else(|_| alone()).ok()
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_event_only_if_it_is_one_to_rmp_too(
            head in proptest::sample::select(vec![0x91_u8, 0x92]),
            name in proptest::sample::select(vec![
                0xA0_u8, 0xA1, 0xA3, 0xBF, 0xD9, 0xDA, 0xDB, 0xC4,
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let message = [vec![head, name], rest].concat();
            if let Ok((event, data)) = MessagePack.unpack(&message) {
                let read = MessagePack.decode(data, PhantomData::<IgnoredAny>);
                if read.is_ok() {
                    prop_assert_eq!(name_by_rmp(&message), Some(event.into_owned()));
                }
            }
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,64}", text in ".*", times in any::<u32>()) {
            let say = Say { text: &text, times };
            let message = written(&name, &say);
            let (event, data) = MessagePack.unpack(&message).unwrap();
            prop_assert_eq!(&*event, &*name);
            prop_assert_eq!(MessagePack.decode(data, PhantomData::<Say<'_>>).unwrap(), say);
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let messages: [&[u8]; 8] = [
            b"",
            b"\x92",
            b"\x93\xA1a\xC0\xC0",
            b"\x92\xA1a",
            b"\x91\xA1a\xC0",
            b"\x92\xA5a",
            b"\x92\x01\xC0",
            b"\x92\xA1\xFF\xC0",
        ];
        for message in messages {
            assert!(MessagePack.unpack(message).is_err(), "{message:?}");
        }
        let deep = [vec![0x91; 100_000], NIL.to_vec()].concat();
        let read = MessagePack.decode(&deep, PhantomData::<IgnoredAny>);
        assert!(read.is_err(), "nests too deep");
    }
}
