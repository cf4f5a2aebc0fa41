//! Requests on the connection that there is now, and what waits for their answers. Pure.
//!
//! An answer belongs to its connection: when that is lost, all requests are forgotten, and what
//! still wants an answer asks again on the next one.
//!
//! What is queued to be sent is bounded by what may wait for an answer (a request a room,
//! `publishes_max`, [`QUESTIONS_MAX`](crate::histories::QUESTIONS_MAX)), and for requests without
//! one by [`EMITS_BYTES_MAX`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::refused::Refused;
use crate::wire::{Hello, Request, write};

/// The purpose of a request, by which its answer is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    History(u64),
    Join(Arc<str>),
    Leave(Arc<str>),
    Ping(u64),
    Publish { room: Arc<str>, number: u64 },
}

/// Requests by their ids.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    hello: Option<Hello>,
    last_id: u64,
    waiting: HashMap<u64, Asked>,
    outgoing: VecDeque<String>,
    outgoing_bytes: usize,
}

/// Events are not emitted while more than this waits to be written to the socket.
pub(crate) const EMITS_BYTES_MAX: usize = 1 << 20;

impl Exchange {
    /// Returns the server's greeting; `None` without a connection.
    pub(crate) const fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Returns whether what is asked now goes out.
    pub(crate) const fn is_open(&self) -> bool {
        self.hello.is_some()
    }

    pub(crate) const fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    /// Begins with a connection.
    pub(crate) fn open(&mut self, hello: Hello) {
        *self = Self {
            hello: Some(hello),
            ..Self::default()
        };
    }

    /// Forgets the connection and everything that was asked on it.
    pub(crate) fn lose(&mut self) {
        *self = Self::default();
    }

    /// Asks, on a connection that is open. Returns the request's id.
    ///
    /// # Errors
    ///
    /// If the message is larger than the server takes: it would close the connection, again and
    /// again. Nothing has happened then.
    pub(crate) fn ask(
        &mut self,
        asked: Asked,
        event: &str,
        request: Request<'_>,
    ) -> Result<u64, Refused> {
        let id = self.last_id + 1;
        self.send(
            event,
            Request {
                id: Some(id),
                ..request
            },
        )?;
        self.last_id = id;
        self.waiting.insert(id, asked);
        Ok(id)
    }

    /// Sends a request, on a connection that is open. Without an id it is not answered.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub(crate) fn send(&mut self, event: &str, request: Request<'_>) -> Result<(), Refused> {
        let limits = self.hello.as_ref().map(|hello| &hello.limits);
        let room = request.to.or(request.room).unwrap_or_default();
        let refuse = |code, message| Err(Refused::here(code, message, event, room));
        if let Some(limits) = limits
            && request.event.is_none()
        {
            if let Some(max) = limits.room_name_bytes.filter(|max| room.len() > *max) {
                return refuse("bad_room", format!("a room's name is at most {max} bytes"));
            }
            let key_bytes = request.key.map_or(0, str::len);
            if let Some(max) = limits.key_bytes.filter(|max| key_bytes > *max) {
                return refuse("bad_key", format!("a key is at most {max} bytes"));
            }
        }
        let text = write(event, &request);
        let max = limits.and_then(|limits| limits.message_bytes);
        if let Some(max) = max.filter(|max| text.len() > *max) {
            let message = format!("a message of {} bytes; the server takes {max}", text.len());
            return refuse("too_large", message);
        }
        self.outgoing_bytes += text.len();
        self.outgoing.push_back(text);
        Ok(())
    }

    /// Takes what an answer with this id is for; `None` if nothing waits for it.
    pub(crate) fn answered(&mut self, id: Option<u64>) -> Option<Asked> {
        self.waiting.remove(&id?)
    }

    /// Takes the next message to send.
    pub(crate) fn next_outgoing(&mut self) -> Option<String> {
        let text = self.outgoing.pop_front()?;
        self.outgoing_bytes -= text.len();
        Some(text)
    }
}
