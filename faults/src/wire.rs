//! What a server says on the wire, seen without the client that it is for: what comes twice, and
//! what comes in the wrong place.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use throng_client::Direction;

use crate::record::{SharedRecord, room_number};

/// Watches one client's connections, one after the other.
#[derive(Debug)]
pub(crate) struct Wire {
    record: SharedRecord,
    /// Whether a member has its own publications before they are acknowledged.
    own_before_ack: bool,
    rooms: HashMap<String, Reached>,
}

/// How far the wire has come in a room.
#[derive(Debug)]
struct Reached {
    epoch: String,
    /// The last publication that came, or was said to be missing.
    offset: u64,
    /// Whether the client is a member on this connection.
    is_joined: bool,
}

/// The fields of all events that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    room: String,
    position: Option<Place>,
    recovered: bool,
    first: Option<u64>,
    offset: u64,
    to: u64,
    from: Value,
    event: String,
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Place {
    epoch: String,
    offset: u64,
}

impl Wire {
    pub(crate) fn new(record: SharedRecord, own_before_ack: bool) -> Self {
        Self {
            record,
            own_before_ack,
            rooms: HashMap::new(),
        }
    }

    /// Looks at a message before the client does.
    pub(crate) fn see(&mut self, direction: Direction, text: &str) {
        if direction == Direction::Sent {
            return;
        }
        let (event, data) = text.split_once(' ').unwrap_or((text, "{}"));
        // What cannot be read, the client complains of.
        let fields: Fields = serde_json::from_str(data).unwrap_or_default();
        match event {
            "ack" => self.ack(&fields),
            "error" if fields.event == "msg" && fields.retry_after_ms.is_some() => {
                self.record.lock().put_off_count += 1;
            }
            "gap" => self.gap(&fields),
            "hello" => self
                .rooms
                .values_mut()
                .for_each(|room| room.is_joined = false),
            "joined" => self.joined(fields),
            "msg" => self.msg(&fields),
            _ => {}
        }
    }

    fn joined(&mut self, fields: Fields) {
        let Fields {
            room,
            position,
            recovered,
            first,
            ..
        } = fields;
        let Some(Place { epoch, offset }) = position else {
            return;
        };
        let before = self
            .rooms
            .remove(&room)
            .filter(|of| recovered && of.epoch == epoch);
        // Whoever comes back goes on from where it was, unless it is told otherwise.
        let replayed_from = first.unwrap_or(offset + 1) - 1;
        let offset = before.map_or(replayed_from, |before| before.offset);
        self.rooms.insert(
            room,
            Reached {
                epoch,
                offset,
                is_joined: true,
            },
        );
    }

    fn msg(&mut self, fields: &Fields) {
        let Some(reached) = self.rooms.get_mut(&fields.room) else {
            return;
        };
        if fields.offset > reached.offset {
            reached.offset = fields.offset;
        } else if let Some(room) = room_number(&fields.room) {
            self.record.lock().repeated(room);
        }
    }

    fn gap(&mut self, fields: &Fields) {
        let Some(reached) = self.rooms.get_mut(&fields.room) else {
            return;
        };
        let expected = reached.offset + 1;
        if fields.from.as_u64() != Some(expected) || fields.to < expected {
            let complaint = format!("a gap where {expected} was to come: {fields:?}");
            self.record.lock().complain(complaint);
        }
        reached.offset = reached.offset.max(fields.to);
    }

    fn ack(&self, fields: &Fields) {
        let (Some(position), Some(reached)) = (&fields.position, self.rooms.get(&fields.room))
        else {
            return;
        };
        let is_live = self.own_before_ack && reached.is_joined && reached.epoch == position.epoch;
        if is_live && reached.offset < position.offset {
            let complaint = format!(
                "{}:{} was acknowledged before its publisher had it",
                position.epoch, position.offset
            );
            self.record.lock().complain(complaint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A member at offset 4, whose wire says this; what is complained of and how often something
    /// came again.
    fn seen(texts: &[&str]) -> (Vec<String>, u64) {
        let record = SharedRecord::default();
        let mut wire = Wire::new(Arc::clone(&record), true);
        let joined = r#"joined {"id":1,"room":"faults:1","position":{"epoch":"a","offset":4}}"#;
        for text in ["hello {}", joined].iter().chain(texts) {
            wire.see(Direction::Received, text);
        }
        let record = record.lock();
        (
            record.complaints.clone(),
            record.rooms.values().map(|room| room.repeated_count).sum(),
        )
    }

    const FIVE: &str = r#"msg {"room":"faults:1","offset":5,"at":1,"from":"you","msg":{}}"#;
    const ACK: &str = r#"ack {"id":2,"room":"faults:1","position":{"epoch":"a","offset":5}}"#;

    #[test]
    fn what_comes_again_on_the_wire_is_counted() {
        let joined = |epoch, recovered| {
            let position = format!(r#""position":{{"epoch":"{epoch}","offset":5}}"#);
            let rest = format!(r#""recovered":{recovered},"first":5"#);
            format!(r#"joined {{"id":1,"room":"faults:1",{position},{rest}}}"#)
        };
        let back = joined("a", true);
        assert_eq!(seen(&[FIVE, "hello {}", &back, FIVE]), (vec![], 1));
        let new = joined("b", false);
        assert_eq!(seen(&[FIVE, "hello {}", &new, FIVE]), (vec![], 0));
    }

    #[test]
    fn an_ack_that_comes_before_the_publication_is_complained_of() {
        assert_eq!(seen(&[FIVE, ACK]).0.len(), 0);
        assert_eq!(seen(&[ACK, FIVE]).0.len(), 1);
        // Whoever is not a member yet is acknowledged all the same.
        assert_eq!(seen(&["hello {}", ACK]).0.len(), 0);
    }

    #[test]
    fn a_gap_in_the_wrong_place_is_complained_of() {
        let gap = |from, to| format!(r#"gap {{"room":"faults:1","from":{from},"to":{to}}}"#);
        assert_eq!(seen(&[&gap(5, 6)]).0.len(), 0);
        for (from, to) in [(4, 6), (6, 7), (5, 4)] {
            assert_eq!(seen(&[&gap(from, to)]).0.len(), 1, "{from} to {to}");
        }
    }

    #[test]
    fn what_an_overloaded_server_puts_off_is_counted() {
        let record = SharedRecord::default();
        let mut wire = Wire::new(Arc::clone(&record), true);
        let error = r#"error {"id":2,"event":"msg","code":"storage","retry_after_ms":5}"#;
        wire.see(Direction::Received, error);
        wire.see(Direction::Sent, error);
        assert_eq!(record.lock().put_off_count, 1);
    }
}
