//! A text with places for the room's name and the payload.

use std::fmt::{self, Display, Formatter};

use serde::Deserialize;

/// The text in its parts, so that a publication is put together without a search.
///
/// Braces that are not one of the two places stand for themselves: JSON is full of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(from = "String")]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Payload,
    Room,
    Text(String),
}

const ROOM: &str = "{room}";
const PAYLOAD: &str = "{payload}";

impl Template {
    /// Takes a text apart.
    pub(crate) fn parse(mut text: &str) -> Self {
        let mut parts = Vec::new();
        while let Some((at, place, part)) = first_place(text) {
            if at > 0 {
                parts.push(Part::Text(text[..at].to_owned()));
            }
            parts.push(part);
            text = &text[at + place.len()..];
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        Self { parts }
    }

    /// Writes the text with its places filled.
    pub(super) fn write(&self, room: &str, payload: impl Fn(&mut Vec<u8>), out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Payload => payload(out),
                Part::Room => out.extend_from_slice(room.as_bytes()),
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            }
        }
    }

    /// Returns the text for a room; none if there is nothing to say.
    pub(crate) fn message(&self, room: &str) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        self.write(room, |_| {}, &mut message);
        (!message.is_empty()).then_some(message)
    }

    pub(super) fn has_room(&self) -> bool {
        self.parts.contains(&Part::Room)
    }

    pub(super) fn has_payload(&self) -> bool {
        self.parts.contains(&Part::Payload)
    }

    /// Returns what it begins with whatever the room is.
    pub(super) fn constant_start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Returns its length without what fills the places.
    pub(super) fn bytes_min(&self) -> usize {
        let text = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Payload | Part::Room => 0,
        };
        self.parts.iter().map(text).sum()
    }
}

fn first_place(text: &str) -> Option<(usize, &'static str, Part)> {
    let room = text.find(ROOM).map(|at| (at, ROOM, Part::Room));
    let payload = text.find(PAYLOAD).map(|at| (at, PAYLOAD, Part::Payload));
    room.into_iter().chain(payload).min_by_key(|(at, ..)| *at)
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl Display for Template {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| {
            f.write_str(match part {
                Part::Payload => PAYLOAD,
                Part::Room => ROOM,
                Part::Text(text) => text,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let mut out = Vec::new();
        let payload = |out: &mut Vec<u8>| out.extend_from_slice(b"\"hi\"");
        Template::parse(text).write("tea", payload, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_and_other_braces_stand() {
        assert_eq!(
            filled(r#"{"to":"{room}","m":{payload}}"#),
            r#"{"to":"tea","m":"hi"}"#
        );
        assert_eq!(filled("{room}{room}{payload}"), "teatea\"hi\"");
        assert_eq!(filled("{rooms} {} {payload"), "{rooms} {} {payload");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn a_template_is_shown_as_it_was_given() {
        for text in ["", "a {room} b {payload} c", "{payload}{room}", "{"] {
            assert_eq!(Template::parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_constant_is_known() {
        let template = Template::parse("[\"{room}\",");
        assert_eq!(
            (template.constant_start(), template.bytes_min()),
            ("[\"", 4)
        );
        assert_eq!(Template::parse("{room}: ").constant_start(), "");
    }
}
