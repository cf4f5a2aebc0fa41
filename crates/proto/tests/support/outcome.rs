//! What a reader makes of a stream, as a value that two readers can be compared by.

use throng_proto::ReadError;

/// A message with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Binary(Vec<u8>),
    Close(u16, String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Text(String),
}

/// The outcome of a stream: its messages, then the error that ends it, if one does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) messages: Vec<Owned>,
    pub(crate) error: Option<ReadError>,
}

impl Outcome {
    /// Returns whether a close frame or an error has ended the stream.
    pub(crate) fn is_over(&self) -> bool {
        self.error.is_some() || matches!(self.messages.last(), Some(Owned::Close(..)))
    }
}
