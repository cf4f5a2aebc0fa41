//! Writes what rooms are sent, for each of the engine's own wires.

use proto::SharedFrame;
use proto::event::{EncodeError, EventEncoder, write_json};
use rooms::{Publication, Wire, WireSet};
use serde::Serialize;
use smallvec::SmallVec;

use super::parts::Parts;
use super::{OWN, THRONG, golem, throng_v1};

/// The parts that frames for a room are put together from, written before its shard is locked.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    encoder: EventEncoder,
    /// The JSON of the room's name and of the data, one behind the other.
    json: Vec<u8>,
    room_len: usize,
    at_ms: u64,
}

/// A draft over this is given back after what needed it.
const DRAFT_KEPT_MAX: usize = 256 * 1024;

impl Draft {
    /// Writes the parts.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Data`] if the data cannot be written as JSON.
    pub(crate) fn write<T>(&mut self, room: &str, at_ms: u64, data: &T) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        if self.json.capacity() > DRAFT_KEPT_MAX {
            self.json = Vec::new();
        }
        self.json.clear();
        write_json(&mut self.json, room)?;
        self.room_len = self.json.len();
        self.at_ms = at_ms;
        write_json(&mut self.json, data)
    }

    /// Begins without any parts: nobody is likely to need them.
    pub(crate) fn clear(&mut self) {
        self.json.clear();
    }

    /// Returns the length of the data's JSON, in bytes.
    pub(crate) const fn data_len(&self) -> usize {
        self.json.len() - self.room_len
    }

    /// Returns what was written, under an event's name that is one, from a connection or from the
    /// application.
    pub(crate) fn as_event<'a>(&'a mut self, event: &'a str, from: Option<&'a str>) -> Message<'a> {
        Message {
            draft: self,
            event,
            from,
            frames: SmallVec::new(),
        }
    }
}

/// Something that is sent to a room, or to everybody.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    draft: &'a mut Draft,
    event: &'a str,
    from: Option<&'a str>,
    /// The frames for wires that are not the engine's own, as far as they were written.
    frames: SmallVec<[(Wire, SharedFrame); 2]>,
}

impl Message<'_> {
    /// Returns the event's name.
    pub(super) const fn event(&self) -> &str {
        self.event
    }

    /// Adds the frame for a wire that is not the engine's own.
    pub(super) fn add(&mut self, wire: Wire, frame: SharedFrame) {
        self.frames.push((wire, frame));
    }

    /// Writes the parts of the engine's own wires, which are needed after all. An event has no
    /// time.
    pub(super) fn write<T>(&mut self, room: &str, data: &T) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        self.draft.write(room, 0, data)
    }

    fn frame(&self, wire: Wire) -> Option<&SharedFrame> {
        let mut frames = self.frames.iter();
        frames.find_map(|(written, frame)| (*written == wire).then_some(frame))
    }
}

impl Publication for Message<'_> {
    fn wires(&self) -> WireSet {
        // If it was written, there is a room's name in it at least.
        let own = OWN.iter().filter(|_| !self.draft.json.is_empty());
        let written = self.frames.iter().map(|(wire, _)| wire);
        own.chain(written).copied().collect()
    }

    fn encode(&mut self, wire: Wire, offset: Option<u64>) -> SharedFrame {
        if let Some(frame) = self.frame(wire) {
            return frame.clone();
        }
        let Draft {
            encoder,
            json,
            room_len,
            at_ms,
        } = &mut *self.draft;
        let (room, data) = json.split_at(*room_len);
        let parts = Parts {
            room,
            data,
            from: self.from,
            at_ms: *at_ms,
        };
        let encoded = match wire {
            THRONG => throng_v1::write_to_room(encoder, self.event, &parts, offset),
            _ => golem::write_to_room(encoder, self.event, &parts),
        };
        encoded.expect("the event's name was checked when the message was made")
    }
}

/// An event for every connection, written before, on every wire: there is no room in it.
#[derive(Debug)]
pub(crate) struct Broadcast(pub(super) Vec<(Wire, SharedFrame)>);

impl Publication for Broadcast {
    fn wires(&self) -> WireSet {
        self.0.iter().map(|(wire, _)| *wire).collect()
    }

    fn encode(&mut self, wire: Wire, _: Option<u64>) -> SharedFrame {
        let found = self.0.iter().find(|(written, _)| *written == wire);
        let (_, frame) = found.expect("it is asked only for the wires that it has");
        frame.clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::GOLEM;

    use super::*;

    fn written(wire: Wire, offset: Option<u64>, from: Option<&str>) -> String {
        let mut draft = Draft::default();
        draft.write("a \"b\"", 1_732_270_000_000, &[1, 2]).unwrap();
        let frame = draft.as_event("msg", from).encode(wire, offset);
        String::from_utf8(frame[2..].to_vec()).unwrap()
    }

    #[test]
    fn a_publication_has_its_envelope_on_the_wire_that_has_one() {
        assert_eq!(written(GOLEM, Some(58), Some("me")), "msg [1,2]");
        assert_eq!(
            written(THRONG, Some(58), Some("me")),
            r#"msg {"room":"a \"b\"","offset":58,"from":"me","at":1732270000000,"msg":[1,2]}"#
        );
        assert_eq!(
            written(THRONG, Some(58), None),
            r#"msg {"room":"a \"b\"","offset":58,"at":1732270000000,"msg":[1,2]}"#
        );
    }

    #[test]
    fn an_event_has_neither_offset_nor_time() {
        assert_eq!(written(GOLEM, None, Some("me")), "msg [1,2]");
        assert_eq!(
            written(THRONG, None, Some("me")),
            r#"msg {"room":"a \"b\"","from":"me","data":[1,2]}"#
        );
    }
}
