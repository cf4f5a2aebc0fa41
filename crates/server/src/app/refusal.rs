//! Why an event was not carried out, and how its sender is told.

use proto::event::{EncodeError, ParseError};
use rooms::{NameError, Overloaded};
use serde::{Serialize, Serializer};

use super::error::{EmitError, JoinError, PublishError};
use crate::code::Code;

/// Why an event was not carried out; sent back as an `error` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: RefusalCode,
    message: String,
    retry_after_ms: Option<u32>,
}

/// The code of a [`Refusal`]: the engine's, or one of the application's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalCode(Either);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Either {
    Engine(Code),
    Application(&'static str),
}

impl RefusalCode {
    /// Returns the code as it stands in an `error` event.
    pub const fn as_str(self) -> &'static str {
        match self.0 {
            Either::Engine(code) => code.as_str(),
            Either::Application(text) => text,
        }
    }

    /// Returns the engine's code, unless it is one of the application's own.
    pub(crate) const fn engine(self) -> Option<Code> {
        match self.0 {
            Either::Engine(code) => Some(code),
            Either::Application(_) => None,
        }
    }
}

impl From<Code> for RefusalCode {
    fn from(code: Code) -> Self {
        Self(Either::Engine(code))
    }
}

impl From<&'static str> for RefusalCode {
    /// Makes a code of the application's own, or the engine's that has this text.
    fn from(text: &'static str) -> Self {
        Self(Code::from_text(text).map_or(Either::Application(text), Either::Engine))
    }
}

impl Refusal {
    /// Makes a refusal with a code for programs and a sentence for people.
    ///
    /// The code is one of the engine's, or a text of the application's own.
    pub fn new(code: impl Into<RefusalCode>, message: impl Into<String>) -> Self {
        let code = code.into();
        Self {
            code,
            message: message.into(),
            retry_after_ms: code.engine().and_then(Code::retry_after_ms),
        }
    }

    /// Says that another attempt may succeed after so many milliseconds.
    #[must_use]
    pub const fn retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Returns the code.
    pub const fn code(&self) -> RefusalCode {
        self.code
    }
}

impl From<EmitError> for Refusal {
    fn from(error: EmitError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        EmitError::from(error).into()
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        JoinError::from(error).into()
    }
}

impl From<Overloaded> for Refusal {
    fn from(error: Overloaded) -> Self {
        JoinError::from(error).into()
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::new(Code::BadData, error.to_string())
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

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
        map.serialize_entry("code", self.refusal.code.as_str())?;
        map.serialize_entry("message", &self.refusal.message)?;
        if let Some(retry_after_ms) = self.refusal.retry_after_ms {
            map.serialize_entry("retry_after_ms", &retry_after_ms)?;
        }
        map.end()
    }
}
