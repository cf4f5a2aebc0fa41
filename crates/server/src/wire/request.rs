//! What a connection may ask of the engine, whichever wire it speaks.

use std::borrow::Cow;

use proto::Json;
use rooms::Since;

/// The most publications of one answer to `history`.
pub(crate) const HISTORY_PUBLICATIONS_MAX: u32 = 1000;

/// The most bytes of publications in one answer to `history`: a quarter of what may wait for a
/// connection by default. One publication is given however large it is.
pub(crate) const HISTORY_BYTES_MAX: usize = 256 * 1024;

/// A request of a connection to the engine.
#[derive(Debug, PartialEq)]
pub(crate) enum Request<'m> {
    /// Sends an event to who is in a room now.
    Emit {
        room: Cow<'m, str>,
        event: Cow<'m, str>,
        data: Json<'m>,
    },
    /// Reads what a room keeps.
    History {
        room: Cow<'m, str>,
        since: Since,
        limit: Option<u32>,
    },
    /// Becomes a member of a room.
    Join { room: Cow<'m, str>, since: Since },
    /// Ends a membership.
    Leave { room: Cow<'m, str> },
    /// Asks for a sign of life.
    Ping,
    /// Publishes to a room.
    Publish {
        room: Cow<'m, str>,
        data: Json<'m>,
        key: Option<Cow<'m, str>>,
    },
}

/// An action that a connection wants to do, as [hooks](crate::Router::before) are asked.
///
/// Looking back is [`History`](Self::History) whichever way it is asked: by the request `history`,
/// or by a join with `since` or `last`, for which hooks are asked twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Sends an event of its own choice to who is in a room now.
    Emit {
        /// The room.
        room: &'a str,
        /// The event's name.
        event: &'a str,
    },
    /// Reads what was published to a room before.
    History {
        /// The room.
        room: &'a str,
    },
    /// Becomes a member of a room.
    Join {
        /// The room.
        room: &'a str,
    },
    /// Ends its membership of a room.
    Leave {
        /// The room.
        room: &'a str,
    },
    /// Asks whether the server is there.
    Ping,
    /// Publishes to a room.
    Publish {
        /// The room.
        room: &'a str,
    },
    /// Sends an event of the application's, which a [handler](crate::Router::on) takes.
    Request {
        /// The event's name.
        event: &'a str,
    },
}

impl<'a> Action<'a> {
    /// Returns the name of the action, such as `join`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Emit { .. } => "emit",
            Self::History { .. } => "history",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Ping => "ping",
            Self::Publish { .. } => "publish",
            Self::Request { .. } => "request",
        }
    }

    /// Returns the room that the action is about. Which rooms an application's own event is about,
    /// only its handler knows.
    pub const fn room(&self) -> Option<&'a str> {
        match self {
            Self::Emit { room, .. }
            | Self::History { room }
            | Self::Join { room }
            | Self::Leave { room }
            | Self::Publish { room } => Some(room),
            Self::Ping | Self::Request { .. } => None,
        }
    }
}

impl Request<'_> {
    /// Returns what hooks are asked: one action, or two for a join that looks back.
    pub(crate) fn actions(&self) -> impl Iterator<Item = Action<'_>> {
        let (first, second) = match self {
            Self::Emit { room, event, .. } => (Action::Emit { room, event }, None),
            Self::History { room, .. } => (Action::History { room }, None),
            Self::Join {
                room,
                since: Since::Now,
            } => (Action::Join { room }, None),
            Self::Join { room, .. } => (Action::Join { room }, Some(Action::History { room })),
            Self::Leave { room } => (Action::Leave { room }, None),
            Self::Ping => (Action::Ping, None),
            Self::Publish { room, .. } => (Action::Publish { room }, None),
        };
        [first].into_iter().chain(second)
    }
}
