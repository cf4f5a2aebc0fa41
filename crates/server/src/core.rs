//! The core loop: one thread, its connections, and nothing shared but mailboxes and the table.
//!
//! ```text
//!   1 wait    readiness set │ mailbox │ new sockets │ tick
//!   2 read    recv into the core's one buffer, decode in place, dispatch        (read.rs)
//!   3 apply   the mailbox, in order: attach, detach, deliver, direct, close     (apply.rs)
//!   4 fan out group by room, merge, one shared buffer to each member's outbox   (rooms)
//!   5 flush   what arrives meanwhile leaves in the same write                   (send.rs)
//!   6 read    from the backlog: those that send more than their share           (read.rs)
//! ```
//!
//! Invariants: only this loop touches its connections; each step takes a slice of time and leaves
//! the rest to the next turn (share.rs); at most one read from and one write to a connection a
//! turn; the loop waits when there is nothing to do and yields to the handshakes of its runtime
//! when there is more.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use proto::event::JsonParser;
use rooms::{ConnectionId, CoreId, FlushQueue, Full, LocalLimits, LocalRooms, Slot, Slots, Wire};
use std::os::fd::AsRawFd;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::accept::admission::Permit;
use crate::app::application::{Application, CoreApplication, State};
use crate::app::connection::Peer;
use crate::app::request::Request;
use crate::clock;
use crate::config::Config;
use crate::core::flush::{Flusher, Results};
use crate::engine::{self, Engine};
use crate::kernel;
use crate::log_limit::LogLimit;
use crate::metrics::CoreMetrics;
use crate::wire::Spoken as _;

mod apply;
mod disconnects;
mod dispatch;
mod drain;
pub(crate) mod flush;
mod handlers;
mod idle;
mod inbox;
mod keepalive;
mod lines;
mod read;
mod send;
mod share;
mod socket;
mod sweep;
pub(crate) mod turns;
mod wheel;

use drain::Draining;
use handlers::Handlers;
use idle::Idle;
pub(crate) use idle::{IdleHook, Visited};
use inbox::Inbox;
use lines::Lines;
use share::{ConnectionShare, Deadline, Line};
use socket::{Socket, Stamp};
use wheel::Wheel;

/// A socket whose handshake is done, on its way from the runtime to the loop.
#[derive(Debug)]
pub(crate) struct NewSocket {
    pub(crate) stream: socket2::Socket,
    /// Bytes that the peer sent behind its request.
    pub(crate) leftover: bytes::Bytes,
    pub(crate) place: Permit,
    /// The request, if the application wants it.
    pub(crate) request: Option<Request>,
    /// State that the application keeps for the connection, if it is made already.
    pub(crate) state: Option<State>,
    /// The wire that the peer speaks.
    pub(crate) wire: Wire,
}

/// The parts of which a core is made.
pub(crate) struct CoreParts {
    pub(crate) id: CoreId,
    pub(crate) engine: Arc<Engine>,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) new_sockets: mpsc::Receiver<NewSocket>,
    pub(crate) idle_hook: Option<IdleHook>,
    pub(crate) visited: Arc<Visited>,
}

/// One core.
pub(crate) struct Core {
    id: CoreId,
    engine: Arc<Engine>,
    application: Box<dyn CoreApplication>,
    /// Messages are given to the application as they come.
    takes_messages: bool,
    config: Arc<Config>,
    metrics: Arc<CoreMetrics>,
    started: Instant,
    local: LocalRooms,
    /// By slot, like the members of `local`.
    sockets: Slots<Option<Socket>>,
    readiness: AsyncFd<mio::Poll>,
    events: mio::Events,
    /// The readiness set may have something.
    has_events: bool,
    ready: Vec<Ready>,
    lines: Lines,
    share: ConnectionShare,
    /// Connections that are held back, with the queue that was full.
    stalled: Vec<(Slot, Full)>,
    /// The one buffer that all connections are read into.
    buffer: Box<[u8]>,
    parser: JsonParser,
    /// The handle of whoever is dealt with; its id changes from connection to connection.
    peer: Peer,
    /// Handlers that wait for something.
    handlers: Handlers,
    inbox: Inbox,
    /// The last turn has left commands or fan-outs undone.
    late: bool,
    new_sockets: mpsc::Receiver<NewSocket>,
    adopted: VecDeque<NewSocket>,
    /// No socket will come any more: the listeners are closed and all handshakes done.
    handshakes_ended: bool,
    flusher: Flusher,
    /// Maximum bytes that a slow connection is written at a time.
    unsent_slice: usize,
    batch: Vec<Slot>,
    results: Results,
    wheel: Wheel,
    due: Vec<Slot>,
    /// When connections that were sent a close frame are ended, in that order.
    closing: VecDeque<(Instant, ConnectionId)>,
    /// When what waits in front of their close frames makes way, in that order.
    hurrying: VecDeque<(Instant, ConnectionId)>,
    /// Progress of a drain, once it has begun.
    draining: Option<Draining>,
    /// When the rooms are looked at for what has expired.
    sweep_at: Option<Instant>,
    /// Which of the core's shards is the next of the sweep that is due.
    sweep_next: usize,
    idle: Idle,
    /// HTTP connections that ended are work too, of which the loop sees nothing.
    visited: Arc<Visited>,
    /// Limit of the log lines about members that are too slow.
    slow_consumers: LogLimit,
    tick: Pin<Box<Sleep>>,
}

/// One entry of the readiness set.
#[derive(Clone, Copy, Debug)]
struct Ready {
    slot: Slot,
    readable: bool,
    writable: bool,
    ended: bool,
    /// The peer takes nothing any more.
    dead: bool,
}

/// Maximum bytes that are read at once. A publisher with 256 small messages under way fits four
/// times.
const READ_BUFFER_LEN: usize = 64 * 1024;

/// Maximum entries of the readiness set that are taken in one turn.
const EVENTS_MAX: usize = 1024;

/// Returns the limits that the rooms need to know.
const fn local_limits(config: &Config) -> LocalLimits {
    LocalLimits {
        rooms_per_connection_max: config.limits.rooms_per_connection_max,
        outbox_bytes_max: config.limits.outbox_bytes_max,
    }
}

/// Returns a readiness set that the runtime can wait for.
#[expect(
    deprecated,
    reason = "its successor is unsafe only because a type could change its descriptor; mio::Poll \
              has one for life"
)]
fn readiness_set() -> io::Result<AsyncFd<mio::Poll>> {
    AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)
}

impl Core {
    /// Makes a core on the thread that will run it.
    ///
    /// # Errors
    ///
    /// If the kernel gives no readiness set.
    pub(crate) fn new(parts: CoreParts, flusher: Flusher) -> io::Result<Self> {
        let CoreParts {
            id,
            engine,
            application,
            config,
            metrics,
            new_sockets,
            idle_hook,
            visited,
        } = parts;
        let now = clock::now();
        let unsent_slice = kernel::unsent_slice(&config.limits);
        let local = LocalRooms::new(id, local_limits(&config));
        // A handle that is nobody's, until the first message.
        let peer = Peer {
            id: local.nobody(),
            engine: engine.clone(),
        };
        Ok(Self {
            takes_messages: application.takes_messages(),
            application: application.on_core(peer.clone()),
            peer,
            handlers: Handlers::default(),
            wheel: Wheel::new(now, keepalive::granularity(&config.timeouts)),
            id,
            engine,
            config,
            metrics,
            started: now,
            local,
            sockets: Slots::new(),
            readiness: readiness_set()?,
            events: mio::Events::with_capacity(EVENTS_MAX),
            has_events: true,
            ready: Vec::new(),
            lines: Lines::default(),
            share: ConnectionShare::new(),
            stalled: Vec::new(),
            buffer: vec![0; READ_BUFFER_LEN].into(),
            parser: JsonParser::default(),
            inbox: Inbox::default(),
            late: false,
            new_sockets,
            adopted: VecDeque::new(),
            handshakes_ended: false,
            flusher,
            unsent_slice,
            batch: Vec::new(),
            results: Results::new(),
            due: Vec::new(),
            closing: VecDeque::new(),
            hurrying: VecDeque::new(),
            draining: None,
            sweep_at: None,
            sweep_next: 0,
            idle: Idle::new(idle_hook),
            visited,
            slow_consumers: LogLimit::default(),
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
        })
    }

    /// Runs until the core is drained.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the readiness set, which it does not while the process is sane.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        loop {
            self.turn()?;
            if self.is_drained() {
                return Ok(());
            }
            if self.has_work() {
                tokio::task::yield_now().await;
            } else {
                self.wait().await?;
            }
        }
    }

    /// Runs one turn of the loop.
    fn turn(&mut self) -> io::Result<()> {
        let _on_core = self.engine.enter_core();
        let now = clock::now();
        self.note_time(now);
        self.adopt(now);
        self.poll_readiness()?;
        self.end_handlers(now);
        let backlog_count = self.read_fresh(now);
        self.apply_commands(now);
        if !self.local.has_overflow() {
            self.local.fan_out_some(share::FAN_OUT_WORK);
        }
        self.resolve_overflow(now);
        self.note_lateness();
        self.flush();
        self.read_backlog(backlog_count, now);
        self.keep_alive(now);
        self.drain_some(now);
        self.sweep(now);
        self.idle.look(now);
        self.publish_metrics();
        turns::note_turn();
        Ok(())
    }

    /// Returns whether the next turn has something to do already.
    fn has_work(&self) -> bool {
        self.has_events
            || !self.lines.is_empty()
            || !self.adopted.is_empty()
            || self.late
            || self.local.has_flushes()
    }

    /// Returns whether a drain has ended: everybody is gone, or time is up.
    fn is_drained(&self) -> bool {
        let nobody = self.local.connection_count() == 0 && self.handshakes_ended;
        self.draining
            .as_ref()
            .is_some_and(|draining| nobody || clock::now() >= draining.deadline)
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> io::Result<()> {
        self.set_tick();
        poll_fn(|cx| self.poll_wait(cx)).await?;
        self.mailbox().awake();
        Ok(())
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ready = false;
        if let Poll::Ready(guard) = self.readiness.poll_read_ready(cx) {
            // Cleared before the set is read, so that what comes later is told again.
            guard?.clear_ready();
            self.has_events = true;
            ready = true;
        }
        while !self.handshakes_ended
            && let Poll::Ready(socket) = self.new_sockets.poll_recv(cx)
        {
            self.handshakes_ended = socket.is_none();
            self.adopted.extend(socket);
            ready = true;
        }
        ready |= self.mailbox().poll_ready(cx.waker());
        ready |= self.handlers.poll_ended(cx);
        let table = &self.engine.table;
        ready |= self
            .stalled
            .iter()
            .any(|(_, full)| !table.poll_full(*full, cx.waker()));
        ready |= self.visited.poll(cx.waker());
        if ready {
            self.idle.note_work();
        }
        ready |= self.tick.as_mut().poll(cx).is_ready();
        if ready {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Sets the timer to the next deadline: a keepalive, the end of a close, the next step of a
    /// drain, a look whether the core is idle or something has expired.
    fn set_tick(&mut self) {
        let [closing, hurrying] = [&self.closing, &self.hurrying].map(|line| Some(line.front()?.0));
        let look = self.idle.next_look(clock::now);
        let drain = self.draining.as_ref().map(Draining::next_step);
        let keepalive = self.wheel.next_due();
        let next = [keepalive, closing, hurrying, drain, look, self.sweep_at]
            .into_iter()
            .flatten()
            .min();
        // With nothing to wait for, an hour is as good as for ever.
        let next = next.unwrap_or_else(|| clock::now() + Duration::from_secs(3600));
        self.tick.as_mut().reset(next.into());
    }

    /// Says whether this turn has left commands or fan-outs undone: whoever publishes waits until
    /// it is done, or the others' publications would wait behind more and more of it.
    fn note_lateness(&mut self) {
        let late =
            !self.inbox.is_empty() || self.local.has_published() || self.local.has_overflow();
        if late != self.late {
            self.late = late;
            self.mailbox().set_late(late);
        }
        if late {
            self.metrics.late_turns.add(1);
        }
        self.share.adapt(late);
    }

    /// Takes in sockets whose handshake is done, for a slice of time.
    fn adopt(&mut self, now: Instant) {
        let mut slice = None;
        while let Some(new) = self.next_adopted() {
            self.open(new, now);
            let slice = slice.get_or_insert_with(|| Deadline::after(share::ADOPT));
            if slice.is_over(0) {
                break;
            }
        }
    }

    fn next_adopted(&mut self) -> Option<NewSocket> {
        let adopted = self.adopted.pop_front();
        adopted.or_else(|| self.new_sockets.try_recv().ok())
    }

    /// Takes in one socket.
    fn open(&mut self, new: NewSocket, now: Instant) {
        let NewSocket {
            stream,
            leftover,
            place,
            request,
            state,
            wire,
        } = new;
        let Some(id) = self.local.open_on(wire) else {
            return;
        };
        let slot = id.slot();
        let token = Token(slot.index());
        let source = stream.as_raw_fd();
        let registry = self.readiness.get_ref().registry();
        if registry
            .register(&mut SourceFd(&source), token, Interest::READABLE)
            .is_err()
        {
            self.local.close(slot, &self.engine.table);
            return;
        }
        let stamp = self.stamp(now);
        while self.sockets.len() <= slot.index() {
            self.sockets.push(None);
        }
        self.sockets[slot] = Some(Socket::new(stream, place, stamp));
        self.metrics.connections_opened.add(1);
        self.schedule_keepalive(slot, now);
        let name = self.engine.name_of(id);
        if let Some(hello) = self.engine.wire(wire).greeting(&name, &self.config) {
            self.local.push(slot, &hello, FlushQueue::Prompt);
        }
        let greeted = self.application.open(id, state, request.as_ref());
        if greeted.is_err() {
            self.metrics.closed.panicked.add(1);
            self.begin_close(slot, disconnects::panicked_disconnect(), now);
        } else if self.draining.is_some() {
            self.drain_one(id, now);
        } else if let Some(full) = engine::take_full() {
            // The hook has filled a mailbox: this connection is who caused it.
            self.hold_back((slot, Line::Fresh), full, &leftover);
        } else if !leftover.is_empty() {
            self.stash(slot, &leftover);
            self.enqueue(slot, Line::Fresh);
        }
    }

    /// Asks the readiness set which sockets have something. Edge-triggered: each is told once.
    fn poll_readiness(&mut self) -> io::Result<()> {
        self.has_events = false;
        self.metrics.system_calls.epoll_wait.add(1);
        match self
            .readiness
            .get_mut()
            .poll(&mut self.events, Some(Duration::ZERO))
        {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.ready.clear();
        self.ready.extend(self.events.iter().map(|event| Ready {
            slot: Slot(u32::try_from(event.token().0).unwrap_or(u32::MAX)),
            readable: event.is_readable(),
            writable: event.is_writable(),
            ended: event.is_read_closed() || event.is_error(),
            dead: event.is_write_closed() || event.is_error(),
        }));
        // A full answer may not be the whole of it.
        self.has_events = self.ready.len() >= EVENTS_MAX;
        Ok(())
    }

    fn publish_metrics(&self) {
        let metrics = &self.metrics;
        metrics.turns.add(1);
        metrics
            .connections
            .set(self.local.connection_count() as u64);
        metrics
            .memberships
            .set(self.local.membership_count() as u64);
        metrics.handlers.set(self.handlers.count() as u64);
        let counts = self.local.counts();
        metrics.deliveries.set(counts.deliveries);
        metrics.skipped.set(counts.skipped);
        metrics.ephemeral_dropped.set(counts.ephemeral_dropped);
        metrics.replayed.set(counts.replayed);
    }

    fn mailbox(&self) -> &rooms::Mailbox {
        self.engine.table.mailbox(self.id)
    }

    fn socket(&mut self, slot: Slot) -> Option<&mut Socket> {
        self.sockets.get_mut(slot)?.as_mut()
    }

    fn stamp(&self, now: Instant) -> Stamp {
        Stamp::at(self.started, now)
    }
}
