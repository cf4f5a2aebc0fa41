//! The Rust client, put to the test: does what the run says, and records what the application was
//! given and told.
//!
//! What the run holds against the server comes from the application's streams, and from a look at
//! the wire, `wire.rs`, that knows nothing of what the client made of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use parking_lot::Mutex;
use throng_client::{
    Connection, End, Gap, GapReason, Joined, Notice, OpenError, Pauses, Publication, PublishError,
    Room, RoomEvent, Start, State, Status, StreamError, Tap,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::record::{Acknowledged, Content, Key, Record, SharedRecord, room_name, room_number};
use crate::wire::Wire;

/// The most publications that wait for their acknowledgement. More are not taken.
pub const PUBLICATIONS_MAX: usize = 1000;

/// The most of one room that are under way at once: what is sent again must keep its order.
const IN_FLIGHT_MAX: usize = 32;

/// More than any run has: a reader that lags would miss what it is to judge.
const EVENTS_MAX: usize = 1 << 20;

/// Longer than any run: what is not acknowledged is sent again until it is.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

/// What a client is to do, and what it may take for granted.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number, which its keys begin with.
    pub number: u32,
    /// The rooms that it is to be in.
    pub rooms: Vec<u32>,
    /// How many bytes it publishes beside the key.
    pub pad_bytes: usize,
    /// Whether a member has its own publications before they are acknowledged. In rooms that skip
    /// publications for slow members it may be told of the gap later.
    pub own_before_ack: bool,
}

/// How a client connects, and how patient it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to connect: to the server, or to the network before it.
    pub address: SocketAddr,
    /// How long it waits before it comes back.
    pub pauses: Pauses,
    /// After how much silence it asks whether anybody is there.
    pub keepalive: Duration,
    /// How long that may take to be answered, and an attempt to connect up to the greeting.
    pub patience: Duration,
    /// Decides its pauses.
    pub seed: u64,
    /// Is notified of everything that the client hears.
    pub progress: Arc<Notify>,
}

/// A client. It ends when dropped.
#[derive(Debug)]
pub struct Client {
    task: Task,
    pad: String,
    connection: Connection,
    record: SharedRecord,
    progress: Arc<Notify>,
    last_number: AtomicU32,
    recording: JoinHandle<()>,
}

impl Client {
    /// Starts a client.
    ///
    /// # Errors
    ///
    /// Never for an address of this machine.
    pub fn start(task: Task, options: Options) -> Result<Self, OpenError> {
        let record = Arc::new(Mutex::new(Record::of(&task.rooms)));
        let wire = Mutex::new(Wire::new(record.clone(), task.own_before_ack));
        let url = format!("ws://{}/ws", options.address);
        let progress = options.progress.clone();
        let connection = Connection::open(
            &url,
            throng_client::Options {
                connect_timeout: options.patience,
                keepalive: Some(options.keepalive),
                pauses: options.pauses,
                pong_timeout: options.patience,
                publish_timeout: FOR_EVER,
                publish_bytes_max: usize::MAX,
                publishes_max: PUBLICATIONS_MAX,
                publishes_in_flight_max: IN_FLIGHT_MAX,
                seed: Some(options.seed),
                tap: Some(Tap::new(move |direction, text| {
                    wire.lock().see(direction, text);
                })),
                ..throng_client::Options::default()
            },
        )?;
        let rooms = task
            .rooms
            .iter()
            .map(|room| connection.room(&room_name(*room)));
        let recording = record_all(
            &connection,
            rooms.collect(),
            record.clone(),
            progress.clone(),
        );
        Ok(Self {
            pad: "x".repeat(task.pad_bytes),
            recording: tokio::spawn(recording),
            last_number: AtomicU32::new(0),
            task,
            connection,
            record,
            progress,
        })
    }

    /// Publishes to a room that it is in; false if too much waits to be acknowledged.
    pub fn publish(&self, room: u32) -> bool {
        if self.connection.unacknowledged() >= PUBLICATIONS_MAX {
            return false;
        }
        let key = Key {
            client: self.task.number,
            number: self.last_number.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let text = key.to_string();
        let content = Content {
            key,
            room,
            pad: &self.pad,
        };
        let publishing = self
            .connection
            .room(&room_name(room))
            .publish_with_key(&text, &content);
        self.record.lock().taken_count += 1;
        let (record, progress) = (self.record.clone(), self.progress.clone());
        tokio::spawn(async move {
            let outcome = publishing.await;
            record.lock().settle(room, key, outcome);
            progress.notify_one();
        });
        true
    }

    /// Returns what it was given and told so far.
    pub const fn record(&self) -> &SharedRecord {
        &self.record
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.recording.abort();
    }
}

/// Joins the rooms, and writes down what comes of them and of the connection.
fn record_all(
    connection: &Connection,
    rooms: Vec<Room>,
    record: SharedRecord,
    progress: Arc<Notify>,
) -> impl Future<Output = ()> + use<> {
    let mut events = select_all(rooms.iter().map(|room| room.events(EVENTS_MAX)));
    let mut notices = connection.notices(EVENTS_MAX);
    for room in rooms {
        // A refusal ends the room's stream, too.
        tokio::spawn(async move { room.join(Start::Now).await });
    }
    async move {
        let mut was_open = false;
        loop {
            tokio::select! {
                Some(event) = events.next() => record.lock().room_event(event),
                Some(notice) = notices.next() => record.lock().notice(notice, &mut was_open),
                else => return,
            }
            progress.notify_one();
        }
    }
}

impl Record {
    fn settle(&mut self, room: u32, key: Key, outcome: Result<throng_client::Ack, PublishError>) {
        match outcome {
            Ok(ack) => {
                let position = ack.position;
                let position = position.map(|at| self.place(room, &at.epoch, at.offset));
                let duplicate = ack.is_duplicate;
                self.acknowledged.push(Acknowledged {
                    key,
                    room,
                    position,
                    duplicate,
                });
            }
            Err(error) => {
                self.refused.push(key);
                self.complain(format!("{key}: {error}"));
            }
        }
    }

    fn room_event(&mut self, event: Result<RoomEvent, StreamError>) {
        match event {
            Ok(RoomEvent::Emission(emission)) => {
                self.complain(format!("nobody of this run emitted {emission:?}"));
            }
            Ok(RoomEvent::Gap(gap)) => self.gap(&gap),
            Ok(RoomEvent::Joined(joined)) => {
                let Joined {
                    room,
                    position,
                    reached,
                    recovered,
                    ..
                } = joined;
                let Some(room) = room_number(&room) else {
                    return;
                };
                let position = self.place(room, &position.epoch, position.offset);
                self.join(room, position, recovered, reached);
            }
            Ok(RoomEvent::Publication(publication)) => self.given(&publication),
            Err(error) => self.complain(format!("a stream has ended: {error}")),
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let Some(room) = room_number(&gap.room) else {
            return;
        };
        match &gap.offsets {
            Some(offsets) if gap.reason == GapReason::Jump => {
                self.complain(format!(
                    "{}: {offsets:?} were left out without a gap",
                    gap.room
                ));
            }
            Some(offsets) => {
                let place = self.place(room, &gap.epoch, *offsets.end());
                self.missing(room, &place.epoch, *offsets.start(), place.offset);
            }
            None => self.missing_unknown(room),
        }
    }

    fn given(&mut self, publication: &Publication) {
        let content = publication.data.decode::<Content<'_>>();
        let (Some(room), Ok(Content { key, .. })) = (room_number(&publication.room), content)
        else {
            self.complain(format!("nobody of this run published {publication:?}"));
            return;
        };
        let throng_client::Position { epoch, offset } = &publication.position;
        let position = self.place(room, epoch, *offset);
        self.publication(room, position, key);
    }

    fn notice(&mut self, notice: Result<Notice, StreamError>, was_open: &mut bool) {
        match notice {
            Ok(Notice::Status(status)) => self.status(&status, was_open),
            // What becomes of a publication, its outcome says.
            Ok(Notice::Refused(refused)) if refused.event.as_deref() == Some("msg") => {}
            Ok(Notice::Refused(refused)) if refused.retry_after.is_some() => {}
            Ok(Notice::Violation { kind, text }) => self.complain(format!("{kind}: {text}")),
            other => self.complain(format!("{other:?}")),
        }
    }

    fn status(&mut self, status: &Status, was_open: &mut bool) {
        let before = std::mem::replace(was_open, status.state == State::Open);
        match status.state {
            State::Connecting => return,
            State::Open => {
                self.connection_count += 1;
                return;
            }
            State::Closed => self.complain(format!("told not to come back: {:?}", status.end)),
            State::Waiting { .. } => {}
        }
        self.failed_attempt_count += u64::from(!before);
        match &status.end {
            Some(End::Closed(closed)) => *self.closes.entry(closed.code).or_default() += 1,
            Some(End::Silent) => self.silent_count += 1,
            _ => {}
        }
    }
}
