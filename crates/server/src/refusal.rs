//! Why an event was not carried out, and how its sender is told.

use proto::event::ParseError;
use rooms::{NameError, Overloaded};
use serde::{Serialize, Serializer};

use crate::manager::{EmitError, JoinError, PublishError};

/// Why an event was not carried out; sent back as an `error` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: &'static str,
    message: String,
    retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with a code for programs and a sentence for people.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// The same, for what may succeed if it is tried again after so many milliseconds.
    #[must_use]
    pub const fn retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The code.
    pub const fn code(&self) -> &'static str {
        self.code
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::new("bad_data", error.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Overloaded(error) => error.into(),
            JoinError::Name(error) => error.into(),
            JoinError::Stopped => Self::new("stopped", error.to_string()),
        }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new("bad_room", error.to_string())
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        use rooms::PublishError as Refused;
        let error = match error {
            PublishError::Encode(error) => return error.into(),
            PublishError::Refused(error) => error,
        };
        match error {
            Refused::Key { .. } => Self::new("bad_key", error.to_string()),
            // What a publication lacks is written before it is given up.
            Refused::Lacks(error) => Self::new("not_encodable", error.to_string()),
            Refused::Name(error) => error.into(),
            Refused::Overloaded(error) => error.into(),
            Refused::NoMemory => {
                Self::new("overloaded", error.to_string()).retry_after_ms(OVERLOADED_RETRY_MS)
            }
            Refused::Storage => {
                Self::new("storage", error.to_string()).retry_after_ms(STORAGE_RETRY_MS)
            }
            Refused::TooLarge { .. } => Self::new("too_large", error.to_string()),
        }
    }
}

impl From<Overloaded> for Refusal {
    fn from(error: Overloaded) -> Self {
        Self::new("overloaded", error.to_string()).retry_after_ms(OVERLOADED_RETRY_MS)
    }
}

impl From<EmitError> for Refusal {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Encode(error) => Self::new("not_encodable", error.to_string()),
            EmitError::Reserved => Self::new("reserved_event", error.to_string()),
            EmitError::Overloaded(error) => error.into(),
        }
    }
}

impl From<proto::event::EncodeError> for Refusal {
    fn from(error: proto::event::EncodeError) -> Self {
        EmitError::from(error).into()
    }
}

/// After how long a mailbox that was full is worth another attempt: it is drained every turn.
const OVERLOADED_RETRY_MS: u32 = 500;

/// After how long a disk that refused is worth another attempt: somewhat longer than the server's own.
const STORAGE_RETRY_MS: u32 = 2000;

/// The data of an `error` event.
#[derive(Debug)]
pub(crate) struct ErrorEvent<'a> {
    pub(crate) id: Option<u64>,
    pub(crate) event: Option<&'a str>,
    pub(crate) room: Option<&'a str>,
    pub(crate) refusal: &'a Refusal,
}

impl Serialize for ErrorEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.id {
            map.serialize_entry("id", &id)?;
        }
        if let Some(event) = self.event {
            map.serialize_entry("event", event)?;
        }
        if let Some(room) = self.room {
            map.serialize_entry("room", room)?;
        }
        map.serialize_entry("code", self.refusal.code)?;
        map.serialize_entry("message", &self.refusal.message)?;
        if let Some(retry_after_ms) = self.refusal.retry_after_ms {
            map.serialize_entry("retry_after_ms", &retry_after_ms)?;
        }
        map.end()
    }
}
