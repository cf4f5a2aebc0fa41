//! Members that stop reading, or read slowly, and what is found in their sockets at the end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use derive_more::AddAssign;
use proto::OpCode;
use serde::Serialize;

use super::messages::Goodbye;
use super::{Driver, ReadOutcome};
use crate::clock::to_ns;
use crate::connection::State;
use crate::inbox::Recipient;
use crate::plan::{MemberId, Plan, StreamId};
use crate::positions::{PositionBook, PositionTally, Seat};
use crate::sequence::SequenceChecker;
use crate::tally::{Counts, First, Latency, Maybe};
use crate::wire::RoomShape;
use crate::wire::throng::{self, Said};

/// What the kernel may keep for a member that will not read: as much as it begins with for
/// everybody, and it does not grow. It must be said before connecting: a kernel whose buffer
/// shrinks drops what it had promised to take, and the server's then sends it again and again.
pub(super) const SLOW_BUFFER_BYTES: usize = 64 * 1024;

/// A socket from which nothing came for so long has given all that the server had for it.
const QUIET: Duration = Duration::from_millis(300);

/// Reading everything that was left behind may take so long; a server may go on sending.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// How long to leave a silent socket alone; this is not timed.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of members that did not read. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
pub(crate) struct SlowTally {
    slow_members: u64,
    /// Those whose connection was open at the end.
    connected: u64,
    /// Those that the server closed, by code.
    closed: Counts,
    /// Those whose connection ended without a close frame.
    cut_off: u64,
    /// Deliveries that were in their sockets at the end.
    deliveries_left: u64,
    /// What was missing in between; what is missing at the end is not lost but was never read.
    skipped: u64,
    /// What was repeated or out of order or truncated.
    misdelivered: u64,
    /// What they were told about what is missing, on a wire with positions.
    gaps: Maybe<Gaps>,
    /// How old each publication was that they read while the others did.
    #[serde(skip)]
    pub(crate) age: Latency,
}

/// What is missing in slow members' sockets, by offsets. The names are the JSON's.
#[derive(AddAssign, Clone, Debug, Default, Serialize)]
struct Gaps {
    /// Publications that are not there. Of members that were closed, only those in front of others
    /// that are.
    missing: u64,
    /// Those of them that a `gap` announced.
    announced: u64,
    /// Those that nobody spoke of.
    unannounced: u64,
    /// Offsets that came again, gaps of what was sent, and whatever else was wrong.
    faults: u64,
    first_fault: First,
}

impl SlowTally {
    /// Returns whether what the slow ones received was wrong. That they did not receive everything
    /// is what the mode is about; that they were not told so is wrong where it can be told.
    pub(crate) fn is_faulty(&self) -> bool {
        let gaps = self.gaps.0.as_ref();
        self.misdelivered > 0 || gaps.is_some_and(|gaps| gaps.unannounced + gaps.faults > 0)
    }
}

impl Gaps {
    /// Returns what a member found of which so many publications at the end were not there.
    fn of(tally: PositionTally, tail: u64) -> Self {
        let unannounced = tally.offsets_missing + tail;
        Self {
            missing: tally.announced + unannounced,
            announced: tally.announced,
            unannounced,
            faults: tally.offsets_repeated + tally.wrong_messages,
            first_fault: tally.first_fault,
        }
    }
}

impl Driver<'_> {
    /// Returns the members of this thread that do not publish.
    pub(crate) fn silent_members(&self) -> Vec<MemberId> {
        let publishes = self.plan.publishing_members();
        let mut silent: Vec<_> = (0..self.members).map(MemberId).collect();
        silent.retain(|member| !publishes[member.index()]);
        silent
    }

    /// Decides, before anybody connects, that so many of the silent members will stop reading,
    /// evenly spread.
    pub(crate) fn choose_slow(&mut self, count: usize) {
        let silent = self.silent_members();
        let count = count.min(silent.len());
        // The last of each of `count` equal parts.
        let places = (1..=count).map(|part| part * silent.len() / count - 1);
        self.chosen_slow = places.map(|place| silent[place]).collect();
    }

    /// Lets those who were chosen read so many bytes a second each from now on, and answer pings as
    /// they come to them; returns their sockets' addresses, this end first.
    pub(crate) fn read_no_faster(
        &mut self,
        bytes_per_second: u64,
    ) -> Result<Vec<(SocketAddr, SocketAddr)>> {
        let now_ns = self.clock.now_ns();
        self.slow_rate = bytes_per_second;
        let mut addresses = Vec::new();
        for member in std::mem::take(&mut self.chosen_slow) {
            let connection = &mut self.connections[member.index()];
            addresses.extend(connection.addresses());
            if let Some(source) = connection.source() {
                self.readiness.poll.registry().deregister(source)?;
            }
            // Nothing is under way, so nothing is lost by not waiting for it any more.
            self.ledger.disconnect(member, now_ns);
            let room = self.ledger.room_of(member);
            let published = self.published(member);
            let seat = self.seats.get(member.index());
            self.slow.push(SlowReader {
                member,
                checker: SequenceChecker::expecting(published.clone()),
                published,
                first_stream: self.plan.rooms[room.index()].streams.start,
                shape: self.shapes.of(room).clone(),
                room: self.plan.rooms[room.index()].name.to_string(),
                positions: seat.map(|seat| (*seat, PositionBook::new(&Plan::default()))),
                end: None,
                received: 0,
                truncated: 0,
                began_ns: now_ns,
                read_bytes: 0,
                now_ns: None,
                ages_ns: Vec::new(),
                pings: Vec::new(),
            });
        }
        Ok(addresses)
    }

    /// Reads from each slow member's socket what it may have read by now.
    pub(super) fn read_slowly(&mut self, now_ns: u64) {
        if self.slow_rate == 0 {
            return;
        }
        let mut readers = std::mem::take(&mut self.slow);
        for reader in &mut readers {
            let elapsed_us = u128::from(now_ns - reader.began_ns) / 1000;
            let allowed = u128::from(self.slow_rate) * elapsed_us / 1_000_000;
            let left = allowed.saturating_sub(u128::from(reader.read_bytes));
            reader.now_ns = Some(now_ns);
            self.read_left_behind(reader, usize::try_from(left).unwrap_or(usize::MAX));
            reader.now_ns = None;
        }
        self.slow = readers;
    }

    /// Reads what is in the slow members' sockets, and says what became of them.
    pub(crate) fn read_slow(&mut self) -> SlowTally {
        let mut readers = std::mem::take(&mut self.slow);
        let end_ns = self.clock.now_ns() + to_ns(READ_PATIENCE);
        let mut quiet_ns = self.clock.now_ns() + to_ns(QUIET);
        while readers.iter().any(|reader| reader.end.is_none()) {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns.min(quiet_ns) {
                break;
            }
            let mut heard = false;
            for reader in &mut readers {
                heard |= self.read_left_behind(reader, usize::MAX);
            }
            if heard {
                quiet_ns = now_ns + to_ns(QUIET);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        let mut tally = SlowTally::default();
        for reader in readers {
            let published = self.published(reader.member);
            let since = published.iter().zip(&reader.published);
            let since = since.map(|(now, then)| u64::from(now - then)).sum();
            tally += reader.fate(since);
        }
        tally
    }

    /// Returns how many publications there are on each stream of a member's room.
    fn published(&self, member: MemberId) -> Vec<u32> {
        let room = &self.plan.rooms[self.ledger.room_of(member).index()];
        let published = |id| self.ledger.published(StreamId(id));
        room.streams.clone().map(published).collect()
    }

    /// Reads one slow member's socket once, at most so many bytes; false if nothing was there.
    fn read_left_behind(&mut self, reader: &mut SlowReader, bytes_max: usize) -> bool {
        let bytes_max = bytes_max.min(self.buffer.len());
        if reader.end.is_some() || bytes_max == 0 {
            return false;
        }
        let connection = &mut self.connections[reader.member.index()];
        match connection.read(&mut self.buffer[..bytes_max]) {
            ReadOutcome::Bytes(bytes) => {
                reader.read_bytes += bytes as u64;
                if let State::Open(inbox) = &mut connection.state
                    && inbox.receive(&mut self.buffer[..bytes], reader).is_err()
                {
                    reader.end.get_or_insert_default();
                }
                for payload in reader.pings.drain(..) {
                    connection.push(OpCode::Pong, &payload);
                }
                // Whether it can still be written to is seen by reading on.
                _ = connection.flush();
                true
            }
            ReadOutcome::Ended(_) => {
                reader.end = Some(Goodbye::default());
                true
            }
            ReadOutcome::Nothing => false,
        }
    }
}

/// A member that does not read, or slowly: takes what it reads, and what it left in its socket.
#[derive(Debug)]
pub(super) struct SlowReader {
    member: MemberId,
    /// Of each stream of its room, how many publications there were when it stopped.
    published: Vec<u32>,
    first_stream: u32,
    shape: RoomShape,
    room: String,
    checker: SequenceChecker,
    /// Where it is in its room's stream, on a wire with positions.
    positions: Option<(Seat, PositionBook)>,
    /// How its connection ended.
    end: Option<Goodbye>,
    received: u64,
    truncated: u64,
    began_ns: u64,
    read_bytes: u64,
    /// The time, while the others read too.
    now_ns: Option<u64>,
    /// How old what it read meanwhile was.
    ages_ns: Vec<u64>,
    /// The pings that are to be answered.
    pings: Vec<Vec<u8>>,
}

impl SlowReader {
    /// Returns what became of its member, where so much was published since it stopped reading.
    fn fate(self, published: u64) -> SlowTally {
        let faults = self.checker.faults;
        let is_connected = self.end.is_none();
        let code = self.end.and_then(|goodbye| goodbye.code);
        let mut fate = SlowTally {
            slow_members: 1,
            connected: u64::from(is_connected),
            cut_off: u64::from(!is_connected && code.is_none()),
            deliveries_left: self.received,
            skipped: faults.lost,
            misdelivered: faults.repeated + faults.reordered + self.truncated,
            ..SlowTally::default()
        };
        if let Some(code) = code {
            fate.closed.count(code);
        }
        for age_ns in self.ages_ns {
            fate.age.record(age_ns);
        }
        fate.gaps = Maybe(self.positions.map(|(_, book)| {
            // Whoever is connected has everything that was not skipped, up to the newest; whoever
            // was closed has no claim to what came behind.
            let known = self.received + book.tally.announced + book.tally.offsets_missing;
            let tail = if is_connected {
                published.saturating_sub(known)
            } else {
                0
            };
            Gaps::of(book.tally, tail)
        }));
        fate
    }
}

impl Recipient for SlowReader {
    fn message(&mut self, start: &[u8], message_bytes: u64) {
        let Some((delivery, stamp)) = self.shape.stamped(start, message_bytes) else {
            if let Some((seat, book)) = &mut self.positions {
                let said = throng::understand(start, &self.room);
                seat.hear(&said, start, book);
                if matches!(
                    said,
                    Said::Ack(_) | Said::Complaint { .. } | Said::Publication
                ) {
                    book.add_wrong("what nobody asked for", start);
                }
            }
            return;
        };
        let lane = stamp.stream.0.wrapping_sub(self.first_stream) as usize;
        if lane >= self.published.len() {
            return;
        }
        if let (Some(envelope), Some((seat, book))) = (&delivery.envelope, &mut self.positions) {
            seat.take(envelope.offset, book);
        }
        self.received += 1;
        let age_ns = |now_ns: u64| now_ns.saturating_sub(stamp.due_ns);
        self.ages_ns.extend(self.now_ns.map(age_ns));
        self.truncated += u64::from(!delivery.is_whole);
        self.checker.check(lane, stamp.number);
    }

    fn ping(&mut self, payload: &[u8]) {
        self.pings.push(payload.to_vec());
    }

    fn close(&mut self, payload: &[u8]) {
        self.end = Some(Goodbye::of(payload));
    }
}
