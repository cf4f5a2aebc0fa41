//! Handlers that are async and wait for something.
//!
//! Each is a task of the core's runtime. Its connection is not read from meanwhile, so there is at
//! most one for each connection, and its events are handled in order. What it asks for while it is
//! polled counts as a handler's: it is not refused at a full mailbox, but polled again only when
//! that has been drained.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use rooms::{ConnectionId, Full, Slot};
use tokio::task::{AbortHandle, JoinSet};

use super::Core;
use super::disconnects::panicked_disconnect;
use super::lines::Waits;
use super::share::Line;
use super::socket::Phase;
use crate::app::connection::Peer;
use crate::app::handler::{Handling, Output};
use crate::app::refusal::Refusal;
use crate::engine::{self, Engine};
use crate::panics::{self, Panicked};
use crate::wire::{Ack, Answer};

/// An event that is handled: its name, and the id by which its sender knows the answer.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: Box<str>,
    pub(super) id: Option<u64>,
}

/// The handlers of one core that are under way.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    tasks: JoinSet<Ended>,
    /// By slot; the connection is open.
    under_way: HashMap<Slot, UnderWay, ahash::RandomState>,
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct UnderWay {
    abort: AbortHandle,
    /// The connection is to be closed as a drain closes them when the handler is done; after how
    /// many milliseconds its client is to come back.
    drain_after_ms: Option<u64>,
}

/// A handler that is done.
#[derive(Debug)]
struct Ended {
    connection: ConnectionId,
    event: Event,
    result: Result<Result<Output, Refusal>, Panicked>,
    /// The full queue that its last step found.
    full: Option<Full>,
}

impl Handlers {
    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Lets a handler go on, which has been polled once and found that it must wait.
    fn begin(
        &mut self,
        engine: Arc<Engine>,
        connection: ConnectionId,
        event: Event,
        handling: Handling,
        full: Option<Full>,
    ) {
        let run = run(engine, connection, event, handling, full);
        let under_way = UnderWay {
            abort: self.tasks.spawn(run),
            drain_after_ms: None,
        };
        self.under_way.insert(connection.slot(), under_way);
    }

    /// Drops the handler of a connection that is closed, if one is under way.
    pub(super) fn abort(&mut self, slot: Slot) {
        if let Some(under_way) = self.under_way.remove(&slot) {
            under_way.abort.abort();
        }
    }

    /// Says that the connection is to be closed when its handler is done; false if none is under
    /// way.
    pub(super) fn drain_later(&mut self, slot: Slot, after_ms: u64) -> bool {
        let under_way = self.under_way.get_mut(&slot);
        under_way
            .map(|under_way| under_way.drain_after_ms = Some(after_ms))
            .is_some()
    }

    /// Returns whether some are done; if not, the task is woken when one is.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        // One that was dropped says nothing.
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            self.ended.extend(ended);
        }
        !self.ended.is_empty()
    }

    fn take_ended(&mut self) -> Vec<Ended> {
        while let Some(ended) = self.tasks.try_join_next() {
            self.ended.extend(ended);
        }
        std::mem::take(&mut self.ended)
    }
}

/// Runs a handler to its end, on its core's thread.
async fn run(
    engine: Arc<Engine>,
    connection: ConnectionId,
    event: Event,
    mut handling: Handling,
    mut full: Option<Full>,
) -> Ended {
    let result = poll_fn(|cx| {
        if full.is_some_and(|full| engine.table.poll_full(full, cx.waker())) {
            return Poll::Pending;
        }
        let polled = poll(&engine, connection, &event.name, &mut handling, cx);
        full = engine::take_full();
        if polled.is_pending()
            && let Some(full) = full
            && !engine.table.poll_full(full, cx.waker())
        {
            // Drained meanwhile, and nobody else says so.
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await;
    Ended {
        connection,
        event,
        result,
        full,
    }
}

/// Polls a handler as what it is: a handler.
pub(super) fn poll(
    engine: &Engine,
    connection: ConnectionId,
    event: &str,
    handling: &mut Handling,
    cx: &mut Context<'_>,
) -> Poll<Result<Result<Output, Refusal>, Panicked>> {
    let _on_core = engine.enter_core();
    let poll = || handling.as_mut().poll(cx);
    match panics::catch(event, Some(connection), poll) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    }
}

/// Sends what a handler returned to whoever asked for it.
pub(super) fn answer(peer: &Peer, id: Option<u64>, output: &Output) -> Result<(), Refusal> {
    let Some(id) = id else {
        return Ok(());
    };
    let data = output.0.as_deref();
    let ack = Ack {
        id,
        data: data.map(|data| data as &dyn erased_serde::Serialize),
        ..Ack::default()
    };
    Ok(peer.acknowledge(&Answer::Ack(ack))?)
}

impl Core {
    /// Lets a connection's handler go on, and reads nothing more from the connection until it is
    /// done.
    pub(super) fn wait_for_handler(
        &mut self,
        (slot, line): (Slot, Line),
        (event, handling): (Event, Handling),
        full: Option<Full>,
        rest: &[u8],
    ) {
        let connection = self.local.id_of(slot);
        self.stash(slot, rest);
        if let Some(socket) = self.socket(slot) {
            socket.waits = Waits::held(line);
            let engine = self.engine.clone();
            self.handlers
                .begin(engine, connection, event, handling, full);
        }
    }

    /// Goes on with the connections whose handlers are done.
    pub(super) fn end_handlers(&mut self, now: Instant) {
        if self.handlers.tasks.is_empty() && self.handlers.ended.is_empty() {
            return;
        }
        for ended in self.handlers.take_ended() {
            let slot = ended.connection.slot();
            let is_open = self
                .socket(slot)
                .is_some_and(|socket| socket.phase == Phase::Open);
            // A close may have come between the handler's end and this.
            if is_open && self.local.id_of(slot) == ended.connection {
                self.end_handler(slot, ended, now);
            }
        }
    }

    fn end_handler(&mut self, slot: Slot, ended: Ended, now: Instant) {
        let drain_after_ms = self
            .handlers
            .under_way
            .remove(&slot)
            .and_then(|under_way| under_way.drain_after_ms);
        self.peer.id = ended.connection;
        let Event { name, id } = ended.event;
        let answered = |output| answer(&self.peer, id, &output);
        match ended.result.map(|result| result.and_then(answered)) {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => self.refuse(id, Some(&name), &refusal),
            Err(Panicked) => {
                self.metrics.closed.panicked.add(1);
                if let Some(socket) = self.socket(slot) {
                    socket.phase = Phase::Ending;
                }
                // Never refused: this is a core.
                _ = self.engine.close(ended.connection, panicked_disconnect());
                return;
            }
        }
        if let Some(after_ms) = drain_after_ms {
            // Behind what the handler has sent, which is in the mailbox.
            self.apply_all(now);
            return self.close_drained(ended.connection, after_ms, now);
        }
        if let Some(full) = ended.full.or_else(engine::take_full) {
            self.stalled.push((slot, full));
            return;
        }
        self.release(slot);
    }
}
