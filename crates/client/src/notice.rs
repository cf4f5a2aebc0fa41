//! What a connection tells beside its rooms: its state, refusals, what the server should not say.

use thiserror::Error;

use crate::feed::Feed;
use crate::outcome::Unpublished;
use crate::publication::Emission;
use crate::refused::Refused;
use crate::status::Status;

/// Something that a connection tells.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The server's application sent something that is of no room.
    Emission(Emission),
    /// The server refused a request. If it says when to ask again, the client does so by itself.
    Refused(Refused),
    /// The connection's state is another.
    Status(Status),
    /// A publication failed, and nobody waits for its outcome.
    Unpublished(Unpublished),
    /// The server said what throng.v1 does not allow. The client did not use it.
    Violation {
        /// The breach.
        kind: Violation,
        /// The server's words, shortened.
        text: String,
    },
}

/// A breach of throng.v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A binary message.
    #[error("a binary message")]
    Binary,
    /// Data that is not JSON, or lacks a field.
    #[error("data that cannot be read")]
    Data,
    /// The first message is not `hello`, or a later one is.
    #[error("no greeting, or a second one")]
    Greeting,
    /// Values that contradict each other.
    #[error("values that contradict each other")]
    Nonsense,
    /// An answer that nothing waits for, or an event of a room that was not joined.
    #[error("what nobody asked for")]
    Unasked,
}

/// The streams of notices.
#[derive(Debug, Default)]
pub(crate) struct Notices(Vec<Feed<Notice>>);

impl Notices {
    pub(crate) fn add_feed(&mut self, feed: Feed<Notice>) {
        self.0.retain(|feed| !feed.is_closed());
        self.0.push(feed);
    }

    pub(crate) fn tell(&mut self, notice: &Notice) {
        self.0
            .retain_mut(|feed| feed.push(notice.clone(), None, false));
    }

    pub(crate) fn violated(&mut self, kind: Violation, text: &str) {
        let text = text.chars().take(TEXT_CHARS_MAX).collect();
        self.tell(&Notice::Violation { kind, text });
    }

    /// Ends all streams.
    pub(crate) fn end(&mut self) {
        self.0.clear();
    }
}

/// Enough of a message to see what it is.
const TEXT_CHARS_MAX: usize = 200;
