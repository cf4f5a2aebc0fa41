//! Carries out what connections ask of the engine, whichever wire they speak.

use proto::SharedFrame;
use rooms::{Acknowledge, EventKind, JoinRequest, PastLimits, Since, StreamPosition};

use super::connection::Peer;
use super::error::PublishError;
use super::refusal::{ErrorEvent, Refusal};
use crate::engine::Sent;
use crate::wire::request::{HISTORY_BYTES_MAX, HISTORY_PUBLICATIONS_MAX, Request};
use crate::wire::{Ack, Answer, AnyWire, Spoken as _};

/// Publications in one answer to `history` if the client does not say.
const HISTORY_LIMIT: u32 = 100;

/// Carries out a request, and answers it if it has an id or its answer is what was asked for.
///
/// # Errors
///
/// [`Refusal`]; nothing was done.
pub(crate) fn carry_out(
    peer: &Peer,
    id: Option<u64>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    let engine = &peer.engine;
    match request {
        Request::Emit { room, event, data } => {
            let sent = Sent {
                kind: EventKind::Ephemeral,
                from: Some(peer.id),
                ..Sent::default()
            };
            engine.emit(((&**room).into(), event), sent, data)?;
            if let Some(id) = id {
                let room = Some(&**room);
                let ack = Ack {
                    id,
                    room,
                    ..Ack::default()
                };
                peer.acknowledge(&Answer::Ack(ack))?;
            }
        }
        Request::History { room, since, limit } => history(peer, id, room, (*since, *limit))?,
        Request::Join { room, since } => {
            let since = *since;
            engine.join_since(peer.id, room, JoinRequest { id, since })?;
        }
        Request::Leave { room } => {
            engine.leave(peer.id, (&**room).into())?;
            peer.answer(&Answer::Left { id, room })?;
        }
        Request::Ping => peer.answer(&Answer::Pong { id })?,
        Request::Publish { room, data, key } => {
            let sent = Sent {
                from: Some(peer.id),
                key: key.as_deref(),
                ..Sent::default()
            };
            let wire = peer.wire();
            let mut answer = id.map(|id| Publisher { wire, id, room });
            let answer = answer.as_mut().map(|answer| answer as &mut dyn Acknowledge);
            engine.publish((&**room).into(), sent, data, answer)?;
        }
    }
    Ok(())
}

fn history(
    peer: &Peer,
    id: Option<u64>,
    room: &str,
    (since, limit): (Since, Option<u32>),
) -> Result<(), Refusal> {
    let limit = limit.unwrap_or(HISTORY_LIMIT);
    let limit = limit.clamp(1, HISTORY_PUBLICATIONS_MAX);
    let (since, limit) = match since {
        Since::Now => (Since::Last(limit), limit),
        Since::Last(count) => {
            let count = count.min(HISTORY_PUBLICATIONS_MAX);
            (Since::Last(count), count)
        }
        position @ Since::Position(_) => (position, limit),
    };
    let limits = PastLimits {
        publications_max: limit as usize,
        bytes_max: HISTORY_BYTES_MAX,
    };
    let past = peer.engine.table.past(room, since, limits);
    let past = past.as_ref();
    Ok(peer.answer(&Answer::History { id, room, past })?)
}

/// Whoever waits to be told what became of its publication.
struct Publisher<'a> {
    wire: AnyWire<'a>,
    id: u64,
    room: &'a str,
}

impl Acknowledge for Publisher<'_> {
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame {
        let ack = Ack {
            id: self.id,
            room: Some(self.room),
            position,
            duplicate,
            ..Ack::default()
        };
        let frame = self.wire.answer(&Answer::Ack(ack)).ok().flatten();
        frame.expect("a wire with ids has answers, of numbers and strings")
    }

    fn refuse(&mut self) -> SharedFrame {
        let refusal = Refusal::from(PublishError::Storage);
        let data = ErrorEvent {
            id: Some(self.id),
            event: Some("msg"),
            room: Some(self.room),
            refusal: &refusal,
        };
        let frame = self.wire.event("error", &data);
        frame.expect("numbers and strings are always writable")
    }
}
