//! The codes of what the engine refuses.

use std::fmt;

/// Declares the codes, each with its text.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why the engine refuses something, as clients, metrics and logs are told.
        ///
        /// Codes are part of the protocol: one keeps its text and its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// Every code, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the code as it stands in an `error` event.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// The data of an event or request is not what it should be.
    BadData = "bad_data",
    /// The name of an event is none.
    BadEvent = "bad_event",
    /// The key of a publication is empty or too long.
    BadKey = "bad_key",
    /// A message is no event.
    BadMessage = "bad_message",
    /// No room can have this name.
    BadRoom = "bad_room",
    /// A binary message came where events are text.
    Binary = "binary",
    /// Something cannot be written in the protocol that is spoken.
    NotEncodable = "not_encodable",
    /// The server has more to do than it may keep.
    Overloaded = "overloaded",
    /// The name of an event is the protocol's own.
    ReservedEvent = "reserved_event",
    /// The rooms were stopped.
    Stopped = "stopped",
    /// The disk does not take publications at present.
    Storage = "storage",
    /// A text message came where events are binary.
    Text = "text",
    /// A publication is larger than its room allows.
    TooLarge = "too_large",
    /// The connection is in as many rooms as it may be.
    TooManyRooms = "too_many_rooms",
    /// Nothing handles this event.
    UnknownEvent = "unknown_event",
}

impl Code {
    /// Returns after how many milliseconds another attempt may succeed; none if it will not.
    pub const fn retry_after_ms(self) -> Option<u32> {
        match self {
            // A mailbox is drained every turn.
            Self::Overloaded => Some(500),
            // Somewhat longer than the server itself waits for the disk.
            Self::Storage => Some(2000),
            _ => None,
        }
    }

    /// Returns the code with this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_found_by_their_text() {
        let texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_text(code.as_str()), Some(*code));
            assert_eq!(*code as usize, index);
        }
        assert_eq!(Code::from_text("refused"), None);
    }
}
