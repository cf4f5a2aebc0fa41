//! What a frame's text says, for those who check what arrived.

/// One text that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event, which has no offset.
    Event {
        wire: u8,
        room: String,
        body: String,
    },
    /// Publications that were not sent, from the first to the last offset.
    Gap { room: String, first: u64, last: u64 },
    /// A publication.
    Publication {
        wire: u8,
        room: String,
        offset: u64,
        body: String,
    },
    /// Anything that is for one connection alone.
    Text(String),
}

impl Item {
    /// Reads a text as it is written by `Said`, or by the engine if it is a gap.
    pub(crate) fn of(text: &str) -> Self {
        Self::said(text)
            .or_else(|| Self::gap(text))
            .unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    fn said(text: &str) -> Option<Self> {
        let (wire, said) = text.split_once(':')?;
        let wire = wire.parse().ok()?;
        let (place, body) = said.split_once(' ')?;
        let (room, offset) = place.split_once('/')?;
        let (room, body) = (room.to_owned(), body.to_owned());
        Some(match offset {
            "-" => Self::Event { wire, room, body },
            offset => Self::Publication {
                wire,
                room,
                offset: offset.parse().ok()?,
                body,
            },
        })
    }

    fn gap(text: &str) -> Option<Self> {
        let fields = text.strip_prefix(r#"gap {"room":""#)?.strip_suffix('}')?;
        let (room, fields) = fields.split_once(r#"","from":"#)?;
        let (first, last) = fields.split_once(r#","to":"#)?;
        Some(Self::Gap {
            room: room.to_owned(),
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    }
}
